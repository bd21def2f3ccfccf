//! Calls with any arguments end in a window as they do in the whole memory.

use std::time::Duration;

use proptest::prelude::*;
use sandgrain_wasi::Function;

use crate::support::pair::{Pair, SHARED};
use crate::support::{READ, WRITE};

/// Where [`plausible`] finds paths, lists of buffers and subscriptions. Memories end before, behind or
/// amid them.
const PATHS: usize = 1024;
const LISTS: usize = 1152;
const SUBSCRIPTIONS: usize = 1280;
const NAMES: [&str; 8] = ["f", "d", "l", "d/g", "new", "n2", "..", "d/.//g"];

/// Numbers that tend to hurt, addresses that are aligned, next to any number.
fn slot() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..8,
        4 => (0_u64..200).prop_map(|at| at * 8),
        2 => 0_u64..1600,
        1 => prop::sample::select(vec![
            u64::MAX, 1 << 63, 0xffff_ffff, 0xffff_fff8, 0x8000_0000, 0x1_0000_0000, 65_536,
            (128 << 20) + 1, (16 << 20) + 1,
        ]),
        1 => any::<u64>(),
    ]
}

fn calls() -> impl Strategy<Value = Vec<(u16, bool, Vec<u64>)>> {
    let call = (0..Function::all().len() as u16, any::<bool>(), prop::collection::vec(slot(), 9));
    prop::collection::vec(call, 1..60)
}

fn memory() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![3 => 0_u32..8, 3 => 0_u32..1600, 1 => any::<u32>()];
    let words =
        prop_oneof![1 => Just(0_usize), 1 => 1_usize..64, 2 => 250_usize..400, 4 => Just(400)];
    let words = words.prop_flat_map(move |words| prop::collection::vec(word.clone(), words));
    words.prop_map(|words| {
        let mut memory: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = memory.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        for (index, name) in NAMES.iter().enumerate() {
            put(PATHS + index * 8, name.as_bytes());
        }
        let buffers = [[8, 0], [64, 16], [72, 200], [0, 0], [600, 10_000], [1, 1], [9, 0], [0, 1]];
        for (index, buffer) in buffers.iter().enumerate() {
            put(LISTS + index * 8, &buffer.map(u32::to_le_bytes).concat());
        }
        for (index, [kind, what]) in [[2, 1], [0, 1], [1, 0], [1, 5]].iter().enumerate() {
            let at = SUBSCRIPTIONS + index * 48;
            put(at, &[0; 48]);
            put(at + 8, &[*kind]);
            put(at + 16, &[*what]);
        }
        memory
    })
}

/// Makes the arguments such that the call may well succeed.
fn plausible(name: &str, args: &mut [u64]) {
    let (paths, dirs): (&[usize], &[usize]) = match name {
        "path_symlink" => (&[0, 3], &[2]),
        "path_link" => (&[2, 5], &[0, 4]),
        "path_rename" => (&[1, 4], &[0, 3]),
        "path_filestat_get" | "path_filestat_set_times" | "path_open" => (&[2], &[0]),
        name if name.starts_with("path_") => (&[1], &[0]),
        "fd_readdir" => (&[], &[0]),
        _ => (&[], &[]),
    };
    for &at in paths {
        let index = (args[at] % NAMES.len() as u64) as usize;
        args[at] = (PATHS + index * 8) as u64;
        args[at + 1] = NAMES[index].len() as u64;
    }
    for &at in dirs {
        args[at] = SHARED + args[at] % 2;
    }
    if name.starts_with("fd_") && dirs.is_empty() {
        args[0] %= 8;
    }
    match name {
        "fd_read" | "fd_write" | "fd_pread" | "fd_pwrite" => {
            args[1] = LISTS as u64 + args[1] % 8 * 8;
            args[2] %= 5;
            if let [_, _, _, offset, _] = args {
                *offset %= 300;
            }
        }
        "poll_oneoff" => {
            args[0] = SUBSCRIPTIONS as u64 + args[0] % 4 * 48;
            args[1] %= 1200;
            args[2] %= 5;
        }
        "fd_readdir" | "path_readlink" => {
            let buf = args.len() - if name == "path_readlink" { 3 } else { 4 };
            args[buf] %= 1000;
            args[buf + 1] %= 300;
        }
        "path_open" => {
            args[4] = [0, 1, 2, 8][(args[4] % 4) as usize];
            args[5] = [READ, READ | WRITE][(args[5] % 2) as usize];
            (args[6], args[7]) = (0, args[7] % 2);
        }
        "path_filestat_set_times" => args[6] %= 6,
        "fd_seek" => (args[1], args[2]) = (args[1] % 400, args[2] % 3),
        // Else there would soon be no descriptor left.
        "fd_close" | "fd_renumber" => args[0] += 5,
        _ => {}
    }
    if let "path_filestat_get" | "path_filestat_set_times" | "path_link" | "path_open" = name {
        args[1] %= 2;
    }
    let results = ["path_open", "path_readlink", "fd_seek", "fd_tell", "fd_readdir", "poll_oneoff"];
    let moves = ["fd_read", "fd_write", "fd_pread", "fd_pwrite"];
    if name.ends_with("_get") || results.contains(&name) || moves.contains(&name) {
        let Some(last) = args.last_mut() else { return };
        *last = *last % 150 * 8;
    }
}

/// What these return is another time another, and not the same in both guests' directories.
const FREE: [&str; 6] = [
    "clock_time_get",
    "fd_filestat_get",
    "fd_readdir",
    "path_filestat_get",
    "poll_oneoff",
    "random_get",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_calls_end_in_a_window_as_in_the_memory(calls in calls(), memory in memory()) {
        let mut pair = Pair::new(memory);
        // Some wait for what never comes.
        pair.patience = Duration::from_millis(5);
        for (index, likely, mut slots) in calls {
            let function = Function::from_index(index).unwrap();
            let name = function.name();
            let args = &mut slots[..function.params().len()];
            if likely {
                plausible(name, args);
            }
            // A file of a petabyte is none of this test's business.
            if name == "fd_filestat_set_size" && args[1] > 1 << 20 {
                continue;
            }
            let _ = match FREE.contains(&name) {
                true => pair.call_freely(name, args),
                false => pair.call(name, args),
            };
        }
        pair.finish();
    }
}
