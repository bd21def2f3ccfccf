//! Counts what each operation on a sandbox asks of KVM: its calls, exits and page faults. Times differ
//! from machine to machine and from run to run; these counts do so only where the code does.
//!
//! The kernel has to be one that can be asked, and nobody else may use KVM meanwhile: `cargo xtask counts`
//! runs this in the emulated machine, where both is so.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the table is this program's purpose")]

mod counts;
mod kernel;
mod pools;
mod table;

use counts::Counts;
use kernel::Kernel;
use sandgrain::{Engine, Module, Result, Sandbox, SandboxBuilder};

/// How often everything is done. What a process does only once comes before.
const ROUNDS: usize = 5;

/// Calls that are counted together where one is like the next.
const CALLS: u32 = 100;

/// What is called. `touch` writes to each page of the memory's second mebibyte.
const MODULE: &[u8] = br#"
(module
  (import "host" "nothing" (func $nothing))
  (memory 16 1024)
  (func (export "empty"))
  (func (export "host_call") (call $nothing))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "touch") (param i32) (local $at i32)
    (local.set $at (i32.const 1048576))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get 0)))
        (i32.store8 (local.get $at) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
        (br $next)))))
"#;

fn main() -> Result<()> {
    let kernel = Kernel::open()?;
    // In QEMU's emulation, with its quirk.
    let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    let engine = Engine::builder().without_cache().available_tss(emulated).build()?;
    let module = Module::new(&engine, MODULE)?;
    round(&kernel, &module)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(&kernel, &module)?);
    }
    print!("{}", table::table(&rounds));
    Ok(())
}

/// Operations in their order, and what each has asked for.
type Done = Vec<(&'static str, Counts)>;

/// Does everything once, with sandboxes of its own.
fn round(kernel: &Kernel, module: &Module) -> Result<Done> {
    let mut done = Vec::new();
    let mut count = |name, times, operation: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let before = kernel.read()?;
        operation()?;
        done.push((name, kernel.read()?.since(&before).each_of(times)));
        Ok(())
    };
    alone(&mut count, module)?;
    pools::from_snapshots(&mut count, module)?;
    Ok(done)
}

/// Counts an operation, which is done so many times.
type Count<'a> = &'a mut dyn FnMut(&'static str, u32, &mut dyn FnMut() -> Result<()>) -> Result<()>;

/// A sandbox without snapshots and pools.
fn alone(count: Count, module: &Module) -> Result<()> {
    let mut made = None;
    count("create a sandbox", 1, &mut || {
        made = Some(granted(Sandbox::builder(module)).build()?);
        Ok(())
    })?;
    let mut sandbox = made.ok_or_else(|| kernel::failed("no sandbox was made"))?;
    count("first call", 1, &mut || sandbox.call("empty", ()))?;
    count("warm call", CALLS, &mut || {
        (0..CALLS).try_for_each(|_| sandbox.call::<(), ()>("empty", ()))
    })?;
    count("first call with a host call", 1, &mut || sandbox.call("host_call", ()))?;
    count("warm call with a host call", CALLS, &mut || {
        (0..CALLS).try_for_each(|_| sandbox.call::<(), ()>("host_call", ()))
    })?;
    // Whatever a call of it needs for the first time.
    sandbox.call::<u32, u32>("grow", 0)?;
    sandbox.call::<u32, ()>("touch", 0)?;
    count("memory.grow by 1 MiB", 1, &mut || sandbox.call::<u32, u32>("grow", 16).map(|_| ()))?;
    count("touch its 256 pages", 1, &mut || sandbox.call("touch", 256u32))?;
    let mut last = Some(sandbox);
    count("drop the sandbox", 1, &mut || {
        drop(last.take());
        Ok(())
    })
}

/// With what the module imports.
fn granted(builder: SandboxBuilder) -> SandboxBuilder {
    builder.function("host", "nothing", || ())
}
