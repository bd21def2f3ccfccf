//! The Wasm runtime: the program that runs in ring 3 of Sandgrain's VMs.
//!
//! It initialises the engine, tells the host that it is ready, and from then on does what the host
//! commands: instantiate compiled code that lies in its address space, call exports, read and set
//! globals. What WebAssembly asks for that only the host has, it asks the host for.
#![no_std]
#![no_main]

extern crate alloc;

mod engine;
mod memory;
mod vm;

use sandgrain_abi::message::Boot;
use sandgrain_abi::{Command, Request};
use sandgrain_executor::{Instances, Sizes};
use sandgrain_guest::channel;

sandgrain_guest::main!(run);

fn run(boot: Boot) -> ! {
    let mut instances = match engine::engine(&boot) {
        Ok(engine) => Instances::new(&engine, sizes(&boot), vm::Vm),
        Err(error) => channel::give_up(format_args!("the engine does not start: {error:?}")),
    };
    let mut request = Request::Ready;
    loop {
        request = match channel::ask::<Command>(&request) {
            Ok(command) => Request::Done(instances.execute(command)),
            Err(error) => channel::give_up(format_args!("command: {error}")),
        };
    }
}

fn sizes(boot: &Boot) -> Sizes {
    Sizes {
        memory: boot.max_memory,
        memories: boot.max_memories,
        tables: boot.max_tables,
        table_elements: boot.max_table_elements,
        instances: boot.max_instances,
    }
}
