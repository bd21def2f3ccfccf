//! The engine's settings, which host and guest must share.

use crate::isa;
use std::num::NonZeroUsize;
use wasmtime::{
    Collector, Config, OptLevel, RegallocAlgorithm, Strategy, WasmBacktraceDetails, WasmFeatures,
};

/// The engine that compiles, and the only one that can load what it compiles.
pub const ENGINE_VERSION: &str = "wasmtime 48.0.8";

/// What code is generated for, whatever this process runs on.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Address space that each linear memory is given, in bytes: what 32 bits can address, so that the
/// code needs no bounds checks.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Address space after [`MEMORY_RESERVATION`] that must stay unmapped, in bytes: accesses with
/// constant offsets below it need no bounds checks either.
pub const MEMORY_GUARD: u64 = 32 << 20;

/// Whether modules can use what needs a garbage collector: `externref`, structs, arrays and
/// exceptions. The one switch for it. Artifacts say which features and collector they were compiled
/// for and a runtime that lacks one refuses all of them, so this is on exactly if the runtime is
/// built with wasmtime's `gc` and `gc-drc`.
pub const GC: bool = true;

/// The proposals that modules and components can use: those of WebAssembly 3.0 that need nothing but one
/// thread, and of the component model what needs no async functions.
///
/// Named one by one rather than left to the engine's defaults, because those depend on which of
/// wasmtime's Cargo features anything in the same build enables.
#[must_use]
pub fn wasm_features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3;
    // One vCPU, one thread; and a shared memory could change while a host function reads it.
    features.remove(WasmFeatures::THREADS);
    features.set(WasmFeatures::GC_TYPES, GC);
    features.set(WasmFeatures::EXCEPTIONS, GC);
    features.insert(WasmFeatures::COMPONENT_MODEL);
    features
}

/// The settings of the engine, for code that may use the CPU features `cpu_features` (the
/// hypervisor's names; those that no generated code uses are ignored).
///
/// The compiler uses them, the runtime in the guest must use the same ones except for those that
/// only a compiler has, and so must an engine that runs modules in process for comparison.
#[must_use]
pub fn engine_config(cpu_features: &[String]) -> Config {
    let mut config = Config::new();

    // A target that is named, even if it is the host's, stops the compiler from using whatever this
    // CPU offers: code uses what `cpu_features` allows and nothing else.
    if let Err(error) = config.target(TARGET) {
        // Only an unknown name fails. The engine would then report the missing features, not crash.
        tracing::error!(%error, "the compiler does not know its only target");
    }
    isa::enable(&mut config, cpu_features);

    config.strategy(Strategy::Cranelift);
    // Compiled once and run many times: compile time is the smaller cost.
    config.cranelift_opt_level(OptLevel::Speed);
    config.cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking);
    config.parallel_compilation(true);

    config.wasm_features(WasmFeatures::all().difference(wasm_features()), false);
    config.wasm_features(wasm_features(), true);
    if GC {
        config.collector(Collector::DeferredReferenceCounting);
    }

    // Out-of-bounds accesses hit unmapped pages and become traps, which costs the code nothing.
    // Collected heaps inherit all four settings of memories.
    config.signals_based_traps(true);
    config.memory_reservation(MEMORY_RESERVATION);
    config.memory_guard_size(MEMORY_GUARD);
    // Memories beyond the reservation (64-bit ones) may move when they grow; no others ever do.
    config.memory_may_move(true);
    // The guest has no files to map memory images from: the image of the whole VM does that job, so
    // data segments are copied when a module is instantiated.
    config.memory_init_cow(false);
    // Tables are filled on use, which keeps instantiation short.
    config.table_lazy_init(true);

    // Backtraces need the map from code to the module's offsets. File names and lines would need
    // DWARF and a reader for it in the guest; said explicitly, as otherwise an environment variable
    // decides. Native unwinding is for debuggers, which do not see into a VM.
    config.wasm_backtrace_max_frames(NonZeroUsize::new(20));
    config.generate_address_map(true);
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.native_unwind_info(false);
    config.debug_info(false);

    // Deadlines come from the host, which stops the vCPU; neither counts in the code, which would
    // cost time.
    config.consume_fuel(false);
    config.epoch_interruption(false);
    // The component model's async functions, which the guest's engine is not built with. Artifacts are
    // checked for it.
    config.concurrency_support(false);
    config.shared_memory(false);
    config
}
