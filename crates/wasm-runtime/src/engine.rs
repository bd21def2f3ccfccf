//! The engine and the few things that it asks of an operating system.

use crate::memory::Memories;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sandgrain_abi::layout;
use sandgrain_abi::message::Boot;
use sandgrain_guest::single::Single;
use sandgrain_guest::trap;
use wasmtime::{Collector, Config, CustomCodeMemory, Engine, Result};

/// Builds the engine with the settings that compiled code was made for; the engine checks them against
/// each module.
pub fn engine(boot: &Boot) -> Result<Engine> {
    FEATURES.replace(boot.cpu_features.clone());
    let mut config = Config::new();
    config.signals_based_traps(true);
    config.memory_init_cow(false);
    config.memory_reservation(layout::MEMORY_RESERVATION);
    config.memory_guard_size(layout::MEMORY_GUARD);
    let stack = usize::try_from(boot.wasm_stack)?;
    config.max_wasm_stack(stack);
    // There are no such stacks here, but the engine wants none of them smaller than the one there is.
    config.async_stack_size(stack.max(2 << 20));
    config.collector(Collector::DeferredReferenceCounting);
    config.with_host_memory(Arc::new(Memories));
    config.with_custom_code_memory(Some(Arc::new(MappedCode)));
    // SAFETY: the host names what the VM's CPU has; the guest's own CPUID can show more than that.
    unsafe {
        config.detect_host_feature(has_feature);
    }
    Engine::new(&config)
}

static FEATURES: Single<Vec<String>> = Single::new(Vec::new());

fn has_feature(name: &str) -> Option<bool> {
    let features = FEATURES.replace(Vec::new());
    let found = features.iter().any(|feature| feature == name);
    FEATURES.replace(features);
    Some(found)
}

/// Code that the host has mapped already: text executable, the rest readable, none of it writable.
struct MappedCode;

impl CustomCodeMemory for MappedCode {
    fn required_alignment(&self) -> usize {
        layout::PAGE_SIZE as usize
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> Result<()> {
        Ok(())
    }
}

/// The engine's thread-local values, of the one thread there is.
static LOCALS: [Single<*mut u8>; 2] =
    [const { Single::new(core::ptr::null_mut()) }, const { Single::new(core::ptr::null_mut()) }];

// SAFETY: the engine's hooks have these names, and no one else defines them; so for the two below.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    LOCALS[slot].get()
}

// SAFETY: see `wasmtime_tls_get`.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    LOCALS[slot].replace(value);
}

// SAFETY: see `wasmtime_tls_get`.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: trap::Handler) -> i32 {
    trap::set_handler(handler);
    0
}
