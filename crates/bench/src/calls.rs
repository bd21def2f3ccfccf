//! Calls and creation, beside what the hypervisor takes for the least of each.

use crate::floor::Floor;
use crate::report::Goal;
use crate::{Group, Member, Scale};
use sandgrain::{Engine, Module, Result, Sandbox};
use std::time::Instant;

/// The smallest module that can be called, with and without a call to the host.
const MODULE: &[u8] = br#"
(module
  (import "host" "nothing" (func $nothing))
  (func (export "empty"))
  (func (export "host_call") (call $nothing)))
"#;

/// The smallest module with a result.
const RESULT: &[u8] = br#"(module (func (export "result") (result i32) (i32.const 42)))"#;

/// A warm call, beside a bare exit.
pub(crate) fn calls(engine: &Engine) -> Result<Group> {
    let mut round_trip = Floor::new()?.start()?;
    let module = Module::new(engine, MODULE)?;
    let sandbox = || Sandbox::builder(&module).function("host", "nothing", || ()).build();
    let (mut empty, mut host_call) = (sandbox()?, sandbox()?);
    let members = vec![
        Member {
            name: "exit round trip",
            goal: Goal::Floor,
            exits: None,
            time: Box::new(move || round_trip.once()),
        },
        Member {
            name: "empty call",
            goal: Goal::AtMost(1.3),
            exits: None,
            time: Box::new(move || {
                let started = Instant::now();
                empty.call::<(), ()>("empty", ())?;
                Ok(started.elapsed())
            }),
        },
        Member {
            name: "call with a host call",
            goal: Goal::None,
            exits: None,
            time: Box::new(move || {
                let started = Instant::now();
                host_call.call::<(), ()>("host_call", ())?;
                Ok(started.elapsed())
            }),
        },
    ];
    Ok(Group { name: "calls", scale: Scale::Calls, members })
}

/// From nothing to a first result, the engine and the compiled module at hand, beside the smallest VM.
/// Taking the VM down again is not counted for either.
pub(crate) fn creation(engine: &Engine) -> Result<Group> {
    let floor = Floor::new()?;
    let module = Module::new(engine, RESULT)?;
    let members = vec![
        Member {
            name: "smallest VM to first exit",
            goal: Goal::Floor,
            exits: None,
            time: Box::new(move || floor.first_exit()),
        },
        Member {
            name: "nothing to first result",
            goal: Goal::None,
            exits: None,
            time: Box::new(move || {
                let started = Instant::now();
                let mut sandbox = Sandbox::new(&module)?;
                sandbox.call::<(), u32>("result", ())?;
                Ok(started.elapsed())
            }),
        },
    ];
    Ok(Group { name: "creation", scale: Scale::Creations, members })
}
