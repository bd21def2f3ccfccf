//! What runs components.

use sandgrain::compile;
use sandgrain_abi::component::{ComponentInfo, Function, Val};

/// Why something was not done.
#[derive(Debug)]
pub enum Failure {
    /// The component is refused.
    Refused(compile::Error),
    /// Something is not there that it imports, or is another thing.
    Unlinkable(String),
    /// What ran has trapped: a trap's words.
    Trap(String),
    /// Anything else.
    Other(String),
}

/// What runs components: VMs, or the engine in this process.
pub trait Platform: Sync {
    /// A compiled component.
    type Component: Clone;
    /// An instance of one, apart from all others.
    type Instance;

    /// Validates and compiles a component in binary or text format.
    fn compile(&self, wasm_or_wat: &[u8]) -> Result<Self::Component, Failure>;

    /// What is known of it.
    fn info<'a>(&self, component: &'a Self::Component) -> &'a ComponentInfo;

    /// Instantiates a component that imports nothing.
    fn instantiate(&self, component: &Self::Component) -> Result<Self::Instance, Failure>;

    /// Calls what it exports.
    fn call(
        &self,
        instance: &mut Self::Instance,
        function: &Function,
        args: &[Val],
    ) -> Result<Option<Val>, Failure>;
}
