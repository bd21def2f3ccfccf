//! The engine in the VM against the same engine in this process: random modules, whose functions give
//! the same results, trap in the same places, and leave the same globals and memories.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::{Corpus, fuzz_target};
use sandgrain::types::{ExternType, ValType};
use sandgrain::{Engine, Error, Limits, Module, Sandbox, TrapCode, Value};
use sandgrain_fuzz::{noise, write_seeds};
use std::sync::LazyLock;
use std::time::Duration;
use wasm_smith::Config;

/// What a function may do before it is made to trap: a bound for endless loops that both sides share.
const STEPS: u32 = 1000;
/// Bytes of each memory, at the most.
const MEMORY: u64 = 4 << 20;

static ENGINES: LazyLock<[Engine; 2]> = LazyLock::new(|| {
    let builder = || Engine::builder().without_cache();
    [
        builder().build().expect("comparing engines needs /dev/kvm"),
        builder().dangerously_without_vm().build().expect("the reference engine"),
    ]
});

fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let mut config = Config::arbitrary(u)?;
    // Nothing that a sandbox has not got, or that CPUs do differently.
    config.max_imports = 0;
    config.threads_enabled = false;
    config.relaxed_simd_enabled = false;
    config.canonicalize_nans = true;
    // Everything can be called and looked at.
    config.export_everything = true;
    config.max_memories = config.max_memories.min(3);
    config.max_memory32_bytes = MEMORY;
    config.max_memory64_bytes = MEMORY.into();
    config.max_tables = config.max_tables.min(5);
    config.max_table_elements = 1000;
    config.max_funcs = config.max_funcs.min(30);
    config.max_types = config.max_types.min(50);
    config.max_instructions = config.max_instructions.min(200);
    Ok(config)
}

/// A module, and arguments for its functions.
fn module(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut module = wasm_smith::Module::new(config(u)?, u)?;
    // It has only valid functions, which is all that this asks for.
    module.ensure_termination(STEPS).map_err(|_| arbitrary::Error::IncorrectFormat)?;
    Ok(module.to_bytes())
}

/// An argument; `None` if only the module could make one.
fn argument(u: &mut Unstructured<'_>, ty: ValType) -> Result<Option<Value>> {
    Ok(Some(match ty {
        ValType::I32 => Value::I32(u.arbitrary()?),
        ValType::I64 => Value::I64(u.arbitrary()?),
        ValType::F32 => Value::F32(u.arbitrary()?),
        ValType::F64 => Value::F64(u.arbitrary()?),
        ValType::V128 => Value::V128(u.arbitrary()?),
        ValType::Ref { nullable: true, heap } => Value::Null(heap),
        ValType::Ref { .. } => return Ok(None),
    }))
}

/// Whether to go on after something that both did.
enum Next {
    Both,
    /// The two ended in what no engine promises, and may differ from here on.
    Neither,
}

/// Compares what both gave.
fn compare<T: std::fmt::Debug>(
    what: &str,
    results: [sandgrain::Result<T>; 2],
) -> (Next, Option<[T; 2]>) {
    if results.iter().any(is_vague) {
        return (Next::Neither, None);
    }
    match results {
        [Ok(vm), Ok(process)] => (Next::Both, Some([vm, process])),
        [Err(Error::Trap(vm)), Err(Error::Trap(process))] => {
            assert_eq!(vm, process, "{what}");
            (Next::Both, None)
        }
        [Err(vm), Err(process)] => {
            assert_eq!(vm.name(), process.name(), "{what}: {vm} / {process}");
            assert!(!vm.is_final(), "{what}: {vm}");
            (Next::Both, None)
        }
        [vm, process] => panic!("{what}: the VM's engine {vm:?}, the process's {process:?}"),
    }
}

/// Whether an end depends on what no engine promises: on speed, or how much stack there is.
fn is_vague<T>(result: &sandgrain::Result<T>) -> bool {
    match result {
        Err(Error::Trap(trap)) => trap.code == TrapCode::StackOverflow,
        Err(Error::Deadline(_)) => true,
        _ => false,
    }
}

fn run(u: &mut Unstructured<'_>, wasm: &[u8]) -> Result<()> {
    let modules = [0, 1].map(|side: usize| Module::new(&ENGINES[side], wasm));
    let (_, Some(modules)) = compare("compiling", modules) else { return Ok(()) };
    let limits = Limits::default()
        .memory(MEMORY)
        .table_elements(2000)
        .deadline(Some(Duration::from_secs(5)));
    let sandboxes =
        modules.each_ref().map(|module| Sandbox::builder(module).limits(limits.clone()).build());
    let (_, Some(mut both)) = compare("instantiating", sandboxes) else { return Ok(()) };
    let info = modules[0].info();
    for export in &info.exports {
        let ExternType::Func(ty) = &export.ty else { continue };
        let args: Option<Vec<Value>> =
            ty.params.iter().map(|ty| argument(u, *ty)).collect::<Result<_>>()?;
        let Some(args) = args else { continue };
        let what = format!("{:?} of {args:?}", export.name);
        let results = both.each_mut().map(|sandbox| {
            let main = sandbox.main();
            sandbox.call_values(main, &export.name, &args)
        });
        let (next, values) = compare(&what, results);
        if let Some([vm, process]) = values {
            assert_eq!(vm, process, "{what}");
        }
        if let Next::Neither = next {
            return Ok(());
        }
        compare_state(info, &mut both);
    }
    Ok(())
}

/// Globals and memories.
fn compare_state(info: &sandgrain::types::ModuleInfo, both: &mut [Sandbox; 2]) {
    for export in &info.exports {
        match &export.ty {
            ExternType::Global(_) => {
                let [vm, process] = both.each_mut().map(|sandbox| {
                    let main = sandbox.main();
                    sandbox.global(main, &export.name).expect("a global")
                });
                assert_eq!(vm, process, "global {:?}", export.name);
            }
            ExternType::Memory(ty) => {
                // All of what it had at first; where it grew, reading there fails on both or neither.
                let first = ty.minimum * ty.page_size;
                for range in [0..first, first..first + (1 << 16)] {
                    let [vm, process] = both.each_mut().map(|sandbox| {
                        let main = sandbox.main();
                        sandbox.read_memory(main, &export.name, range.clone()).ok()
                    });
                    assert!(vm == process, "memory {:?}, bytes {range:x?}", export.name);
                }
            }
            _ => {}
        }
    }
}

fuzz_target!(init: write_seeds(|| (0..64).map(|number| noise(number, 4096)).collect()), |data: &[u8]| -> Corpus {
    let mut u = Unstructured::new(data);
    let Ok(wasm) = module(&mut u) else { return Corpus::Reject };
    match run(&mut u, &wasm) {
        Ok(()) => Corpus::Keep,
        Err(_) => Corpus::Reject,
    }
});
