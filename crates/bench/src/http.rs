//! A component that answers HTTP requests, beside the same on wasmtime in this process.

mod in_process;

use crate::report::Goal;
use crate::start::settle;
use crate::{Group, Member, Scale, Timed, host_error};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Empty;
use in_process::{Allocator, InProcess};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Engine, Limits, Module, Policy, Pool, Result, Sandbox, SandboxBuilder, Snapshot};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The example in Rust.
const COMPONENT: &[u8] = include_bytes!("../../../examples/components/rust/http.wasm");

/// Whoever asks.
const TENANT: &str = "bench";

/// So often a pool may have no VM in time, before that is an error.
const MISSES: usize = 100;

/// Requests that show a pool what they touch.
const LESSONS: usize = 8;

fn request() -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("/hello");
    request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("example.com"));
    request
}

fn check(response: &Response<Bytes>) -> Result<()> {
    if response.status() == 200 && response.body() == "Hello, world!" {
        return Ok(());
    }
    Err(host_error("the HTTP example", &format_args!("it answered {response:?}")))
}

fn granted(builder: SandboxBuilder) -> SandboxBuilder {
    builder.wasi(WasiConfig::new())
}

/// Has a sandbox answer, which is what is timed by whoever calls.
fn ask(runtime: &Runtime, sandbox: &mut Sandbox) -> Result<()> {
    check(&runtime.block_on(sandbox.answer_http(request()))?)
}

/// What the ways to answer in a VM start from.
struct Ways {
    runtime: Rc<Runtime>,
    snapshot: Snapshot,
}

impl Ways {
    fn member(name: &'static str, (time, exits): (Timed, u64)) -> Member {
        Member { name, goal: Goal::None, exits: Some(exits), time }
    }

    /// One VM, request after request.
    fn warm(&self) -> Result<(Timed, u64)> {
        let runtime = Rc::clone(&self.runtime);
        let mut sandbox = granted(self.snapshot.sandbox()).build()?;
        ask(&runtime, &mut sandbox)?;
        ask(&runtime, &mut sandbox)?;
        let exits = sandbox.stats().exits;
        let once = move || {
            let started = Instant::now();
            ask(&runtime, &mut sandbox)?;
            Ok(started.elapsed())
        };
        Ok((after_its_own(once), exits))
    }

    fn pool(&self, policy: Policy, most: usize) -> Result<Pool> {
        let pool = Pool::builder(&self.snapshot).policy(policy).parked(1..=1).at_most(most);
        let pool = pool.configure(granted).build()?;
        for _ in 0..LESSONS {
            settle_for(policy, &pool);
            ask(&self.runtime, &mut *pool.take(TENANT)?)?;
        }
        Ok(pool)
    }

    /// One VM, which is what it was at the start for each request: from one request to the next.
    fn reset(&self) -> Result<(Timed, u64)> {
        let (runtime, pool) = (Rc::clone(&self.runtime), self.pool(Policy::Reset, 1)?);
        let exits = {
            let mut sandbox = pool.take(TENANT)?;
            ask(&runtime, &mut sandbox)?;
            sandbox.stats().exits
        };
        let once = move || {
            let started = Instant::now();
            let mut sandbox = pool.take(TENANT)?;
            ask(&runtime, &mut sandbox)?;
            drop(sandbox);
            Ok(started.elapsed())
        };
        Ok((after_its_own(once), exits))
    }

    /// A VM for each request, which has waited for it. Taking it down again is not counted.
    fn fresh(&self) -> Result<(Timed, u64)> {
        let (runtime, pool) = (Rc::clone(&self.runtime), self.pool(Policy::Fresh, 4)?);
        let once = move || {
            for _ in 0..MISSES {
                settle(&pool, 1);
                let misses = pool.stats().misses;
                let started = Instant::now();
                let mut sandbox = pool.take(TENANT)?;
                ask(&runtime, &mut sandbox)?;
                let taken = started.elapsed();
                if pool.stats().misses == misses {
                    return Ok((taken, sandbox.stats().exits));
                }
            }
            Err(host_error("a pool", &"it had no VM in time; try: with less load on the machine"))
        };
        let (_, exits) = once()?;
        Ok((Box::new(move || once().map(|(taken, _)| taken)), exits))
    }
}

/// Waits until the pool has nothing more to do. One that resets its VMs has none parked.
fn settle_for(policy: Policy, pool: &Pool) {
    if policy == Policy::Fresh {
        settle(pool, 1);
    }
}

/// Each is measured right after another of its kind: pools do much in between.
fn after_its_own(mut once: impl FnMut() -> Result<Duration> + 'static) -> Timed {
    Box::new(move || {
        once()?;
        once()
    })
}

/// A hello, answered in a VM and in this process. The floor has an instance for each request, as servers do
/// that run handlers without a VM.
pub(crate) fn hello(engine: &Engine) -> Result<Group> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = Rc::new(runtime.map_err(|error| host_error("a runtime of tokio's", &error))?);
    let in_process = |allocator| -> Result<Timed> {
        let (process, runtime) = (InProcess::new(engine, allocator)?, Rc::clone(&runtime));
        Ok(after_its_own(move || {
            let started = Instant::now();
            check(&runtime.block_on(process.answer(request()))?)?;
            Ok(started.elapsed())
        }))
    };
    let floor = |name, goal, time| Member { name, goal, exits: None, time };
    let module = Module::new(engine, COMPONENT)?;
    let first = Sandbox::builder(&module).limits(Limits::default().memory(64 << 20));
    let ways = Ways { runtime: Rc::clone(&runtime), snapshot: granted(first).build()?.snapshot()? };
    let members = vec![
        floor("hello, in process", Goal::Floor, in_process(Allocator::Pooling)?),
        floor("hello, in process, on demand", Goal::None, in_process(Allocator::OnDemand)?),
        Ways::member("hello, warm VM", ways.warm()?),
        Ways::member("hello, VM reset after each", ways.reset()?),
        Ways::member("hello, parked VM for each", ways.fresh()?),
    ];
    // A VM for each takes milliseconds to be parked, if not to answer.
    Ok(Group { name: "HTTP hello", scale: Scale::Creations, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_answers_and_the_vms_by_one_exit() {
        let engine = crate::engine().expect("benchmarks need a hypervisor");
        let group = hello(&engine).expect("the group can be set up");
        for mut member in group.members {
            (member.time)().unwrap_or_else(|error| panic!("{}: {error}", member.name));
            let in_a_vm = member.name.contains("VM");
            assert_eq!(member.exits, in_a_vm.then_some(1), "{}", member.name);
        }
    }
}
