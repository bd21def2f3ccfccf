//! The public library, with VMs.

use crate::platform::{Failure, Platform};
use sandgrain::component::{ComponentInfo, Function, Val};
use sandgrain::{Engine, Error, Limits, Module, Sandbox, Trap, TrapCode, compile};

/// Runs each instance in a sandbox of its own.
pub struct InVm {
    engine: Engine,
}

#[derive(Clone)]
pub struct Component {
    module: Module,
    info: ComponentInfo,
}

impl InVm {
    pub fn new() -> Result<Self, String> {
        // In QEMU's emulation, with its quirk.
        let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
        let engine = Engine::builder().without_cache().available_tss(emulated).build();
        engine.map(|engine| Self { engine }).map_err(|error| error.to_string())
    }
}

impl Platform for InVm {
    type Component = Component;
    type Instance = Sandbox;

    fn compile(&self, wasm_or_wat: &[u8]) -> Result<Component, Failure> {
        let module = Module::new(&self.engine, wasm_or_wat).map_err(failure)?;
        let info = module.component_info().cloned();
        let info = info.ok_or(Failure::Refused(compile::Error::IsModule))?;
        Ok(Component { module, info })
    }

    fn info<'a>(&self, component: &'a Component) -> &'a ComponentInfo {
        &component.info
    }

    fn instantiate(&self, component: &Component) -> Result<Sandbox, Failure> {
        Sandbox::builder(&component.module).limits(limits()).build().map_err(failure)
    }

    fn call(
        &self,
        sandbox: &mut Sandbox,
        function: &Function,
        args: &[Val],
    ) -> Result<Option<Val>, Failure> {
        let main = sandbox.main();
        sandbox.call_component_values(main, &function.path.join("#"), args).map_err(failure)
    }
}

/// Small memories, so that a VM is quickly made, and many instances in each component.
fn limits() -> Limits {
    Limits::default().memory(16 << 20).tables(1000).instances(1000)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Module(error) => Failure::Refused(error),
        Error::Imports(_) => Failure::Unlinkable(error.to_string()),
        Error::Trap(Trap { code: TrapCode::Other, message, .. }) => Failure::Trap(message),
        Error::Trap(Trap { code, .. }) => Failure::Trap(code.to_string()),
        other => Failure::Other(format!("{}: {other}", other.name())),
    }
}
