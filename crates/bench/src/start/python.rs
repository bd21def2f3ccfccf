//! CPython, from a snapshot in which it has imported its libraries and is about to read its program.

use super::figures::Floor;
use super::sandboxes::{fresh_vm, round_trip, settle};
use super::turns::{Block, Member, Sample};
use sandgrain::wasi::{Input, Output, WasiConfig};
use sandgrain::{Engine, Error, Module, Policy, Pool, Result, Sandbox, Snapshot};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// What it is called in reports.
pub(super) const NAME: &str = "CPython evaluating 6*7";

/// What the interpreter runs: imports, and what it reads.
const PROGRAM: &str =
    "import sys, os, json, re, collections, dataclasses, datetime, math; exec(sys.stdin.read())";
/// What it reads. It leaves without tearing the interpreter down, which takes longer than all the rest.
const REQUEST: &str = "print(6 * 7, flush=True); os._exit(0)";

fn config() -> WasiConfig {
    WasiConfig::new()
        .args(["python", "-c", PROGRAM])
        // Else it would ask for random bytes, which all that go on from the snapshot would share.
        .env("PYTHONHASHSEED", "0")
        .stdin(Input::Bytes(REQUEST.into()))
        .stdout(Output::Capture)
        .stderr(Output::Capture)
}

/// Goes on to the program's end.
fn finish(sandbox: &mut Sandbox) -> Result<()> {
    let code = sandbox.run()?;
    let (out, err) = (sandbox.take_stdout(), sandbox.take_stderr());
    if code == 0 && &out[..] == b"42\n" {
        return Ok(());
    }
    let err = String::from_utf8_lossy(&err).into_owned();
    Err(Error::Host(format!("CPython ended with {code}, having printed {out:?}: {err:?}")))
}

/// With its libraries imported.
fn snapshot(engine: &Engine, python: &Path) -> Result<Snapshot> {
    let module = Module::open(engine, python)?;
    let mut first = Sandbox::builder(&module).wasi(config()).build()?;
    match first.run_to_input()? {
        None => first.snapshot(),
        Some(code) => Err(Error::Host(format!(
            "{} ended with {code} before it read its program; try: the one of tools/fetch-python",
            python.display()
        ))),
    }
}

fn pool(snapshot: &Snapshot, policy: Policy) -> Result<Arc<Pool>> {
    let builder = Pool::builder(snapshot).policy(policy).parked(1..=1).memory(1 << 30);
    let builder = builder.configure(|builder| builder.wasi(config()));
    // In the middle of a run no pages can be touched ahead but by going on with it.
    Ok(Arc::new(builder.warm_up(|sandbox| Ok(finish(sandbox)?)).build()?))
}

/// A VM of a pool's for each sample.
fn parked(name: &'static str, snapshot: &Snapshot, policy: Policy) -> Result<Member> {
    let pool = pool(snapshot, policy)?;
    settle(&pool, 1);
    let own = Arc::clone(&pool);
    let sample: Sample = Box::new(move || {
        let misses = pool.stats().misses;
        let started = Instant::now();
        let mut sandbox = pool.take("bench")?;
        finish(&mut sandbox)?;
        let taken = started.elapsed();
        drop(sandbox);
        Ok((pool.stats().misses == misses).then_some(taken))
    });
    let mut member = Member::new(name, Floor::RoundTrip, vec![sample]);
    if policy == Policy::Fresh {
        member.settle = Box::new(move || settle(&own, 1));
    }
    Ok(member)
}

fn from_snapshot(snapshot: &Snapshot) -> Member {
    let snapshot = snapshot.clone();
    let sample: Sample = Box::new(move || {
        let started = Instant::now();
        let mut sandbox = snapshot.sandbox().wasi(config()).build()?;
        finish(&mut sandbox)?;
        Ok(Some(started.elapsed()))
    });
    Member::new("from a snapshot", Floor::FreshVm, vec![sample])
}

/// All of it without a snapshot.
fn from_nothing(engine: &Engine, python: &Path) -> Result<Member> {
    let module = Module::open(engine, python)?;
    let sample: Sample = Box::new(move || {
        let started = Instant::now();
        let mut sandbox = Sandbox::builder(&module).wasi(config()).build()?;
        finish(&mut sandbox)?;
        Ok(Some(started.elapsed()))
    });
    Ok(Member::new("from nothing", Floor::FreshVm, vec![sample]))
}

/// Its ways, with the module that `tools/fetch-python` fetches.
pub(super) fn block(engine: &Engine, python: &Path) -> Result<Block> {
    let snapshot = snapshot(engine, python)?;
    let members = vec![
        round_trip(1)?,
        parked("parked, fresh", &snapshot, Policy::Fresh)?,
        parked("after a reset", &snapshot, Policy::Reset)?,
        fresh_vm()?,
        from_snapshot(&snapshot),
        from_nothing(engine, python)?,
    ];
    Ok(Block { function: NAME, callers: 1, parked: 1, members })
}
