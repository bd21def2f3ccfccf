//! What a call is said to touch, and how much is looked at to say it.
#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]

use std::convert::Infallible;
use std::ops::Range;

use sandgrain_wasi::{Function, ListSizes, Reach, Wasi, WasiConfig};

fn function(name: &str) -> Function {
    Wasi::lookup(name).unwrap()
}

/// The reach of a call in a memory that is as long as memories get, and all zeros.
fn reach(name: &str, args: &[u64]) -> Reach {
    let zeros =
        |range: Range<u64>| Ok::<_, Infallible>(vec![0; (range.end - range.start) as usize]);
    let reach = function(name).reach(args, 1 << 32, &ListSizes::default(), zeros);
    reach.unwrap_or_else(|never| match never {})
}

#[test]
fn small_results_are_lent() {
    assert_eq!(reach("fd_filestat_get", &[0, 8]).lent, [8..72]);
    assert_eq!(reach("fd_fdstat_get", &[0, 8]).lent, [8..32]);
    assert_eq!(reach("fd_prestat_get", &[3, 8]).lent, [8..16]);
    assert_eq!(reach("path_open", &[3, 0, 100, 5, 0, 0, 0, 0, 16]).lent, [16..20]);
}

#[test]
fn only_the_low_half_of_a_slot_counts() {
    assert_eq!(reach("fd_tell", &[0, (7 << 32) + 8]).lent, [8..16]);
}

#[test]
fn ranges_that_touch_become_one() {
    assert_eq!(reach("args_sizes_get", &[12, 8]).lent, [8..16]);
    assert_eq!(reach("args_sizes_get", &[8, 10]).lent, [8..14]);
    assert_eq!(reach("args_sizes_get", &[24, 8]).lent, [8..12, 24..28]);
    assert_eq!(reach("path_rename", &[3, 104, 6, 3, 100, 4]).read, [100..110]);
}

#[test]
fn what_is_not_in_memory_is_left_out() {
    assert_eq!(reach("fd_filestat_get", &[0, u64::from(u32::MAX)]), Reach::default());
    assert_eq!(reach("path_unlink_file", &[3, 0xffff_fff0, 17]), Reach::default());
    assert_eq!(reach("path_unlink_file", &[3, 0xffff_fff0, 16]).read, [0xffff_fff0..1 << 32]);
}

#[test]
fn a_wrong_number_of_arguments_touches_nothing() {
    assert_eq!(reach("random_get", &[8]), Reach::default());
    assert_eq!(reach("fd_write", &[1, 8, 1, 16, 32]), Reach::default());
}

#[test]
fn a_successful_call_has_filled_what_it_says() {
    let readlink = reach("path_readlink", &[3, 100, 1, 16, 50, 8]);
    assert_eq!(readlink.filled, [16..66]);
    let mut memory = vec![0; 100];
    memory[8] = 10;
    assert_eq!(readlink.filled_by(0, &memory), [16..26]);
    // It cannot say that it has filled more than there was.
    memory[9] = 1;
    assert_eq!(readlink.filled_by(0, &memory), [16..66]);
    assert_eq!(readlink.filled_by(28, &memory), []);
    assert_eq!(readlink.filled_by(0, &[]), []);
    assert_eq!(reach("random_get", &[16, 50]).filled_by(0, &[]), [16..66]);
}

/// How many bytes of a list of empty buffers are looked at, and the longest piece of them.
fn looked_at(count: u64) -> (u64, u64) {
    let (mut sum, mut longest) = (0, 0);
    let zeros = |range: Range<u64>| {
        let bytes = range.end - range.start;
        (sum, longest) = (sum + bytes, longest.max(bytes));
        Ok::<_, Infallible>(vec![0; bytes as usize])
    };
    let args = [1, 64, count, 8];
    let Ok(_) = function("fd_write").reach(&args, 1 << 32, &ListSizes::default(), zeros);
    (sum, longest)
}

#[test]
fn a_list_is_looked_at_in_pieces() {
    assert_eq!(looked_at(0), (0, 0));
    assert_eq!(looked_at(3), (24, 24));
    assert_eq!(looked_at(16 << 20), (128 << 20, 64 << 10));
}

#[test]
fn a_list_that_the_call_refuses_is_not_looked_at() {
    assert_eq!(looked_at((16 << 20) + 1), (0, 0));
    assert_eq!(looked_at(u64::from(u32::MAX)), (0, 0));
    let poll = reach("poll_oneoff", &[0, 4096, u64::from(u32::MAX), 8]);
    assert!(poll.read.is_empty() && poll.lent == [8..12], "{poll:?}");
}

#[test]
fn a_buffer_that_the_call_refuses_is_left_out() {
    let entry = |length: u32| {
        let bytes = [64_u32.to_le_bytes(), length.to_le_bytes()].concat();
        let content = |_| Ok::<_, Infallible>(bytes.clone());
        let Ok(reach) =
            function("fd_write").reach(&[1, 8, 1, 0], 1 << 32, &ListSizes::default(), content);
        reach.read
    };
    // The list counts too.
    let most = (128 << 20) - 8;
    assert_eq!(entry(most), [8..16, 64..64 + u64::from(most)]);
    assert_eq!(entry(most + 1), [8..16]);
}

#[test]
fn paths_that_the_call_refuses_are_left_out() {
    let most = 128 << 20;
    assert_eq!(reach("path_unlink_file", &[3, 64, most]).read, [64..64 + most]);
    assert_eq!(reach("path_unlink_file", &[3, 64, most + 1]).read, []);
    // Two paths together.
    assert_eq!(reach("path_symlink", &[0, most, 3, most + 64, 1]).read, [0..most]);
}

#[test]
fn who_cannot_give_the_content_hears_of_it() {
    let content = |_| Err("no memory at hand");
    let result = function("fd_read").reach(&[0, 8, 1, 0], 65_536, &ListSizes::default(), content);
    assert_eq!(result, Err("no memory at hand"));
}

#[test]
fn sizes_of_lists_are_those_that_the_guest_is_told() {
    let config = WasiConfig::new().args(["a", "", "ccc"]).env("K", "v").inherit_env(true);
    let mut wasi = Wasi::new(config);
    let sizes = wasi.list_sizes();
    let mut memory = vec![0; 8];
    for kind in ["args", "environ"] {
        let told = function(&format!("{kind}_sizes_get"));
        wasi.call(told, &[0, 4], &mut memory, &Default::default()).unwrap();
        let [count, bytes] =
            [0, 4].map(|at| u64::from(u32::from_le_bytes(memory[at..at + 4].try_into().unwrap())));
        let get = function(&format!("{kind}_get"));
        let Ok(reach) = get.reach(&[64, 1 << 20], 1 << 32, &sizes, |_| Ok::<_, Infallible>(vec![]));
        assert_eq!(reach.filled, [64..64 + 4 * count, 1 << 20..(1 << 20) + bytes]);
    }
}

#[test]
fn sizes_of_lists_are_empty_if_nothing_can_be_given() {
    let config = WasiConfig::new().arg("a").preopen(
        "/does/not/exist",
        "/",
        sandgrain_wasi::Access::ReadOnly,
    );
    assert_eq!(Wasi::new(config).list_sizes(), ListSizes::default());
}
