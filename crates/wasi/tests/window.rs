//! A call does in a window of what it touches what it does in the whole memory.
#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]

use std::collections::BTreeSet;

use sandgrain_wasi::{Error, Function, Reply};

use crate::support::pair::{OWN, Pair, SHARED};
use crate::support::{BADF, DATA, INVAL, IOVS, NOMEM, OUT, PATH, PATH2, READ, WRITE};

const LEN: usize = 1 << 16;
const END: u64 = LEN as u64;
/// A descriptor of a file, once one is open.
const FILE: u64 = 5;

fn pair() -> Pair {
    Pair::new((0..LEN).map(|at| at as u8 | 1).collect())
}

fn succeed(pair: &mut Pair, name: &str, args: &[u64]) {
    let reply = pair.call(name, args);
    assert!(matches!(reply, Ok(Reply::Value(0))), "{name}{args:?}: {reply:?}");
}

fn fails_with(pair: &mut Pair, errno: i32, name: &str, args: &[u64]) {
    let reply = pair.call(name, args);
    assert!(matches!(reply, Ok(Reply::Value(it)) if it == errno), "{name}{args:?}: {reply:?}");
}

fn traps(pair: &mut Pair, name: &str, args: &[u64]) {
    let reply = pair.call(name, args);
    assert!(matches!(reply, Err(Error::Trap(_))), "{name}{args:?}: {reply:?}");
}

/// Puts a path where [`path`] finds it, and returns its address and length.
fn path_at(pair: &mut Pair, at: usize, path: &str) -> [u64; 2] {
    pair.put(at, path.as_bytes());
    [at as u64, path.len() as u64]
}

fn path(pair: &mut Pair, path: &str) -> [u64; 2] {
    path_at(pair, PATH, path)
}

/// Puts a list of buffers, addresses and lengths, and returns its address and length.
fn list(pair: &mut Pair, buffers: &[[u32; 2]]) -> [u64; 2] {
    pair.put(
        IOVS,
        &buffers.as_flattened().iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>(),
    );
    [IOVS as u64, buffers.len() as u64]
}

fn open(pair: &mut Pair, dir: u64, name: &str, rights: u64) {
    let [at, length] = path(pair, name);
    succeed(pair, "path_open", &[dir, 1, at, length, 0, rights, rights, 0, OUT as u64]);
}

/// Puts a subscription: to a clock, to reading or to writing.
fn subscribe(pair: &mut Pair, at: usize, kind: u8, what: u32, nanoseconds: u64) {
    pair.put(at, &[0; 48]);
    pair.put(at, &u64::from(kind).wrapping_add(77).to_le_bytes());
    pair.put(at + 8, &[kind]);
    pair.put(at + 16, &what.to_le_bytes());
    pair.put(at + 24, &nanoseconds.to_le_bytes());
}

const CLOCK: u8 = 0;
const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const MONOTONIC: u32 = 1;
const HOUR: u64 = 3_600_000_000_000;

#[test]
fn every_function_finds_in_a_window_all_that_it_needs() {
    let mut pair = pair();
    let out = OUT as u64;
    let data = DATA as u64;
    lists(&mut pair, out, data);
    files(&mut pair, out, data);
    paths(&mut pair, out, data);
    for count in [1, 2, 3, 4] {
        subscribe(&mut pair, PATH, CLOCK, MONOTONIC, 0);
        subscribe(&mut pair, PATH + 48, CLOCK, MONOTONIC, HOUR);
        subscribe(&mut pair, PATH + 96, READABLE, 0, 0);
        subscribe(&mut pair, PATH + 144, WRITABLE, 1, 0);
        succeed(&mut pair, "poll_oneoff", &[PATH as u64, data, count, out]);
    }
    fails_with(&mut pair, INVAL, "poll_oneoff", &[PATH as u64, data, 0, out]);
    succeed(&mut pair, "sched_yield", &[]);
    assert!(matches!(pair.call("proc_exit", &[200]), Ok(Reply::Exit(200))));

    // These never succeed.
    let refused = ["fd_allocate", "fd_fdstat_set_rights", "proc_exit", "proc_raise"];
    let refused = refused
        .into_iter()
        .chain(Function::all().map(Function::name).filter(|name| name.starts_with("sock_")));
    let all: BTreeSet<_> = Function::all().map(Function::name).collect();
    let missing: Vec<_> = all.difference(&pair.succeeded).copied().collect();
    assert_eq!(missing.into_iter().collect::<BTreeSet<_>>(), refused.collect());
    pair.finish();
}

/// Calls about what the guest was given.
fn lists(pair: &mut Pair, out: u64, data: u64) {
    for kind in ["args", "environ"] {
        succeed(pair, &format!("{kind}_sizes_get"), &[out, out + 4]);
        succeed(pair, &format!("{kind}_get"), &[out, data]);
    }
    succeed(pair, "clock_res_get", &[1, out]);
    pair.call_freely("clock_time_get", &[1, 0, out]).unwrap();
    pair.call_freely("random_get", &[data, 1000]).unwrap();
    for fd in [0, 1, SHARED] {
        succeed(pair, "fd_fdstat_get", &[fd, out]);
    }
    for fd in [SHARED, OWN] {
        succeed(pair, "fd_prestat_get", &[fd, out]);
        succeed(pair, "fd_prestat_dir_name", &[fd, data, 1000]);
    }
}

fn files(pair: &mut Pair, out: u64, data: u64) {
    let [iovs, one] = list(pair, &[[DATA as u32, 100]]);
    for fd in [1, 2] {
        succeed(pair, "fd_write", &[fd, iovs, one, out]);
    }
    succeed(pair, "fd_read", &[0, iovs, one, out]);
    open(pair, SHARED, "f", READ);
    succeed(pair, "fd_filestat_get", &[FILE, out]);
    succeed(pair, "fd_fdstat_get", &[FILE, out]);
    succeed(pair, "fd_read", &[FILE, iovs, one, out]);
    succeed(pair, "fd_pread", &[FILE, iovs, one, 200, out]);
    succeed(pair, "fd_tell", &[FILE, out]);
    succeed(pair, "fd_seek", &[FILE, 7, 1, out]);
    succeed(pair, "fd_advise", &[FILE, 0, 10, 0]);
    succeed(pair, "fd_readdir", &[SHARED, data, 1000, 0, out]);
    succeed(pair, "fd_readdir", &[SHARED, data, 60, 1, out]);
    succeed(pair, "fd_close", &[FILE]);
    open(pair, OWN, "f", READ | WRITE);
    succeed(pair, "fd_write", &[FILE, iovs, one, out]);
    succeed(pair, "fd_pwrite", &[FILE, iovs, one, 300, out]);
    succeed(pair, "fd_filestat_set_size", &[FILE, 350]);
    succeed(pair, "fd_filestat_set_times", &[FILE, 1, 2, 5]);
    succeed(pair, "fd_fdstat_set_flags", &[FILE, 1]);
    succeed(pair, "fd_datasync", &[FILE]);
    succeed(pair, "fd_sync", &[FILE]);
    open(pair, SHARED, "f", READ);
    succeed(pair, "fd_renumber", &[FILE + 1, FILE]);
    succeed(pair, "fd_close", &[FILE]);
}

fn paths(pair: &mut Pair, out: u64, data: u64) {
    let [at, length] = path(pair, "f");
    succeed(pair, "path_filestat_get", &[SHARED, 0, at, length, out]);
    succeed(pair, "path_filestat_set_times", &[OWN, 0, at, length, 3, 4, 5]);
    let [to, to_length] = path_at(pair, PATH2, "hard");
    succeed(pair, "path_link", &[OWN, 0, at, length, OWN, to, to_length]);
    let [to, to_length] = path_at(pair, PATH2, "moved");
    succeed(pair, "path_rename", &[OWN, at, length, OWN, to, to_length]);
    let [at, length] = path(pair, "moved");
    succeed(pair, "path_unlink_file", &[OWN, at, length]);
    let [at, length] = path(pair, "new");
    succeed(pair, "path_create_directory", &[OWN, at, length]);
    succeed(pair, "path_remove_directory", &[OWN, at, length]);
    succeed(pair, "path_symlink", &[to, to_length, OWN, at, length]);
    let [at, length] = path(pair, "l");
    for room in [1000, 2] {
        succeed(pair, "path_readlink", &[SHARED, at, length, data, room, out]);
    }
}

#[test]
fn only_the_first_buffer_with_room_is_used() {
    let mut pair = pair();
    let data = DATA as u32;
    let buffers = [[7, 0], [u32::MAX, 0], [data, 40], [data + 100, 40], [u32::MAX, 40]];
    let [iovs, count] = list(&mut pair, &buffers);
    succeed(&mut pair, "fd_read", &[0, iovs, count, OUT as u64]);
    assert_eq!(pair.reach.read, [iovs..iovs + 24]);
    assert_eq!(pair.reach.filled, [u64::from(data)..u64::from(data) + 40]);
    succeed(&mut pair, "fd_write", &[1, iovs, count, OUT as u64]);
    assert_eq!(pair.reach.read, [iovs..iovs + 24, u64::from(data)..u64::from(data) + 40]);
    pair.finish();
}

#[test]
fn a_list_may_go_on_behind_the_end_of_memory() {
    let mut pair = pair();
    let last = LEN - 24;
    pair.put(last, &[0; 8]);
    pair.put(last + 8, &[[0, 16, 0, 0], [5, 0, 0, 0]].concat());
    for count in [2, 3, 4, 1000, (16 << 20) - 1] {
        succeed(&mut pair, "fd_read", &[0, last as u64, count, OUT as u64]);
        succeed(&mut pair, "fd_write", &[1, last as u64, count, OUT as u64]);
    }
    pair.put(last + 8, &[0; 16]);
    traps(&mut pair, "fd_read", &[0, last as u64, 4, OUT as u64]);
    // More than the library looks through.
    let too_many = (16 << 20) + 1;
    assert!(pair.call("fd_read", &[0, last as u64, too_many, OUT as u64]).is_ok());
    assert!(pair.reach.read.is_empty());
    pair.finish();
}

#[test]
fn a_buffer_may_end_behind_the_end_of_memory_if_it_is_not_filled() {
    let mut pair = pair();
    // That much is left of the input.
    let [iovs, one] = list(&mut pair, &[[DATA as u32, 150]]);
    succeed(&mut pair, "fd_read", &[0, iovs, one, OUT as u64]);
    let [iovs, one] = list(&mut pair, &[[END as u32 - 50, 1000]]);
    succeed(&mut pair, "fd_read", &[0, iovs, one, OUT as u64]);
    traps(&mut pair, "fd_write", &[1, iovs, one, OUT as u64]);
    succeed(&mut pair, "fd_readdir", &[SHARED, END - 500, 1000, 0, OUT as u64]);
    let [at, length] = path(&mut pair, "l");
    succeed(&mut pair, "path_readlink", &[SHARED, at, length, END - 3, 1000, OUT as u64]);
    traps(&mut pair, "path_readlink", &[SHARED, at, length, END - 2, 1000, OUT as u64]);
    succeed(&mut pair, "fd_prestat_dir_name", &[OWN, END - 4, 1000]);
    traps(&mut pair, "fd_prestat_dir_name", &[OWN, END - 3, 1000]);
    pair.finish();
}

#[test]
fn events_may_be_fewer_than_the_room_for_them() {
    let mut pair = pair();
    subscribe(&mut pair, PATH, CLOCK, MONOTONIC, HOUR);
    subscribe(&mut pair, PATH + 48, WRITABLE, 1, 0);
    succeed(&mut pair, "poll_oneoff", &[PATH as u64, END - 32, 2, OUT as u64]);
    // The first that is bad decides, before any that is not in memory.
    subscribe(&mut pair, LEN - 48, READABLE, 99, 0);
    fails_with(&mut pair, BADF, "poll_oneoff", &[END - 48, DATA as u64, 2, OUT as u64]);
    subscribe(&mut pair, LEN - 48, READABLE, 0, 0);
    traps(&mut pair, "poll_oneoff", &[END - 48, DATA as u64, 2, OUT as u64]);
    pair.finish();
}

#[test]
fn what_a_call_reads_and_writes_may_overlap() {
    let mut pair = pair();
    let [iovs, one] = list(&mut pair, &[[IOVS as u32 - 8, 60]]);
    // The list is in the buffer, and so is the number of bytes.
    for at in [iovs - 8, iovs, iovs + 4, iovs + 48, iovs + 52] {
        succeed(&mut pair, "fd_read", &[0, iovs, one, at]);
        list(&mut pair, &[[IOVS as u32 - 8, 30]]);
    }
    let [at, length] = path(&mut pair, "l");
    succeed(&mut pair, "path_readlink", &[SHARED, at, length, at, 100, at + 4]);
    let [at, length] = path(&mut pair, "f");
    succeed(&mut pair, "path_filestat_get", &[SHARED, 0, at, length, at - 32]);
    succeed(&mut pair, "args_get", &[OUT as u64, OUT as u64 + 4]);
    succeed(&mut pair, "environ_sizes_get", &[OUT as u64, OUT as u64]);
    subscribe(&mut pair, PATH, WRITABLE, 1, 0);
    subscribe(&mut pair, PATH + 48, WRITABLE, 2, 0);
    succeed(&mut pair, "poll_oneoff", &[PATH as u64, PATH as u64 + 80, 2, PATH as u64 + 96]);
    pair.finish();
}

#[test]
fn a_directory_name_brings_nothing_back_but_itself() {
    let mut pair = pair();
    pair.put(DATA, &[9; 100]);
    succeed(&mut pair, "fd_prestat_dir_name", &[OWN, DATA as u64, 100]);
    assert_eq!(&pair.memory[DATA..DATA + 5], b"/own\x09");
    pair.finish();
}

#[test]
fn long_paths_are_refused_alike() {
    let mut pair = Pair::new(vec![b'a'; 100_000]);
    for name in ["path_create_directory", "path_unlink_file", "path_remove_directory"] {
        for length in [4096, 4097, 100_000] {
            let reply = pair.call(name, &[OWN, 0, length]);
            assert!(matches!(reply, Ok(Reply::Value(errno)) if errno != 0), "{name}: {reply:?}");
        }
        traps(&mut pair, name, &[OWN, 64, 100_000]);
        // The length alone is too much.
        fails_with(&mut pair, NOMEM, name, &[OWN, 64, (128 << 20) + 1]);
    }
    pair.finish();
}
