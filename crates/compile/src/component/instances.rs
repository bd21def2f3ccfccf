//! Which linear memories an instance of a component has: of each core module as many as it is instantiated.
//!
//! Components instantiate modules and other components, which they define, take as arguments, or get out of
//! instances. Which they are is known without running anything, by doing what the sections say in order, with
//! nothing but modules, components and instances. A small component can make very many instances, by components
//! that each make two of another; so there is a limit, which also bounds what the engine has to compile.

use super::{MAX_DEPTH, unsupported};
use crate::error::Error;
use sandgrain_abi::MemoryType;
use std::collections::HashMap;
use wasmparser::ComponentExternalKind;

/// How many items a component may have, counting those of components in it as often as they are instantiated.
/// Composed programs have thousands.
const MAX_ITEMS: usize = 100_000;

/// What decides which instances there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Component,
    Instance,
}

impl Kind {
    pub(super) fn of(kind: ComponentExternalKind) -> Option<Self> {
        match kind {
            ComponentExternalKind::Module => Some(Self::Module),
            ComponentExternalKind::Component => Some(Self::Component),
            ComponentExternalKind::Instance => Some(Self::Instance),
            ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Type => None,
        }
    }
}

/// Something with a name: an argument or an export.
pub(super) struct Item<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) index: u32,
}

/// One step of instantiating a component.
pub(super) enum Op<'a> {
    Module(usize),
    Component(usize),
    Import(Kind, &'a str),
    InstantiateModule(u32),
    Instantiate { component: u32, args: Vec<Item<'a>> },
    Bundle(Vec<Item<'a>>),
    AliasExport { kind: Kind, instance: u32, name: &'a str },
    AliasOuter { kind: Kind, count: u32, index: u32 },
    Export(Item<'a>),
}

/// A component as the file defines it.
#[derive(Default)]
pub(super) struct Component<'a> {
    ops: Vec<Op<'a>>,
    /// How many items its sections have, whatever they are, with those in lists.
    pub(super) size: usize,
}

impl<'a> Component<'a> {
    pub(super) fn push(&mut self, op: Op<'a>) {
        if let Op::Instantiate { args: items, .. } | Op::Bundle(items) = &op {
            self.size += items.len();
        }
        self.ops.push(op);
    }
}

/// All components and modules of a file; the first component is the outermost.
#[derive(Default)]
pub(super) struct Program<'a> {
    pub(super) components: Vec<Component<'a>>,
    /// The memories that each module defines.
    pub(super) modules: Vec<Vec<MemoryType>>,
}

/// The memories of an instance of the outermost component, in the order in which they are made.
pub(super) fn memories(program: &Program<'_>) -> Result<Vec<MemoryType>, Error> {
    let mut machine = Machine {
        program,
        scopes: Vec::new(),
        instances: Vec::new(),
        memories: Vec::new(),
        room: MAX_ITEMS,
    };
    machine.instantiate(0, None, None, 0)?;
    Ok(machine.memories)
}

#[derive(Clone, Copy)]
enum Value {
    Module(usize),
    /// A component, and the scope that it was defined in.
    Component(usize, Option<usize>),
    Instance(usize),
    /// Comes from the host.
    Unknown,
}

/// What a component that is being instantiated has so far.
#[derive(Default)]
struct Scope {
    outer: Option<usize>,
    modules: Vec<Value>,
    components: Vec<Value>,
    instances: Vec<Value>,
}

impl Scope {
    fn of(&mut self, kind: Kind) -> &mut Vec<Value> {
        match kind {
            Kind::Module => &mut self.modules,
            Kind::Component => &mut self.components,
            Kind::Instance => &mut self.instances,
        }
    }
}

type Exports<'a> = HashMap<&'a str, Value>;

struct Machine<'p, 'a> {
    program: &'p Program<'a>,
    scopes: Vec<Scope>,
    instances: Vec<Exports<'a>>,
    memories: Vec<MemoryType>,
    /// Items that there still may be.
    room: usize,
}

impl<'a> Machine<'_, 'a> {
    /// Instantiates a component, and gives what it exports. The outermost has no arguments.
    fn instantiate(
        &mut self,
        number: usize,
        outer: Option<usize>,
        args: Option<Exports<'a>>,
        depth: usize,
    ) -> Result<Exports<'a>, Error> {
        if depth >= MAX_DEPTH {
            return Err(unsupported(format!(
                "its instances are nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let program = self.program;
        let component = program.components.get(number).ok_or_else(unclear)?;
        self.charge(1 + component.size)?;
        let scope = self.scopes.len();
        self.scopes.push(Scope { outer, ..Scope::default() });
        let mut exports = HashMap::new();
        for op in &component.ops {
            let (kind, value) = match op {
                Op::Module(module) => (Kind::Module, Value::Module(*module)),
                Op::Component(number) => (Kind::Component, Value::Component(*number, Some(scope))),
                Op::Import(kind, name) => {
                    let known = args.as_ref().and_then(|args| args.get(name).copied());
                    (*kind, known.unwrap_or(Value::Unknown))
                }
                Op::InstantiateModule(index) => {
                    let Value::Module(module) = self.value(scope, Kind::Module, *index)? else {
                        return Err(unclear());
                    };
                    let memories = program.modules.get(module).ok_or_else(unclear)?;
                    self.charge(memories.len())?;
                    self.memories.extend(memories);
                    continue;
                }
                Op::Instantiate { component, args } => {
                    let component = self.value(scope, Kind::Component, *component)?;
                    let Value::Component(number, outer) = component else { return Err(unclear()) };
                    let args = self.items(scope, args)?;
                    let exports = self.instantiate(number, outer, Some(args), depth + 1)?;
                    (Kind::Instance, self.instance(exports))
                }
                Op::Bundle(items) => {
                    let exports = self.items(scope, items)?;
                    (Kind::Instance, self.instance(exports))
                }
                Op::AliasExport { kind, instance, name } => {
                    let value = match self.value(scope, Kind::Instance, *instance)? {
                        Value::Instance(number) => {
                            *self.instances[number].get(name).ok_or_else(unclear)?
                        }
                        _ => Value::Unknown,
                    };
                    (*kind, value)
                }
                Op::AliasOuter { kind, count, index } => {
                    let mut from = scope;
                    for _ in 0..*count {
                        from = self.scopes[from].outer.ok_or_else(unclear)?;
                    }
                    (*kind, self.value(from, *kind, *index)?)
                }
                Op::Export(Item { name, kind, index }) => {
                    let value = self.value(scope, *kind, *index)?;
                    exports.insert(*name, value);
                    // An export is also another name for what it exports.
                    (*kind, value)
                }
            };
            self.scopes[scope].of(kind).push(value);
        }
        Ok(exports)
    }

    fn charge(&mut self, items: usize) -> Result<(), Error> {
        self.room = self.room.checked_sub(items).ok_or_else(|| {
            unsupported(format!("instantiated, it has more than {MAX_ITEMS} items"))
        })?;
        Ok(())
    }

    fn instance(&mut self, exports: Exports<'a>) -> Value {
        self.instances.push(exports);
        Value::Instance(self.instances.len() - 1)
    }

    fn items(&mut self, scope: usize, items: &[Item<'a>]) -> Result<Exports<'a>, Error> {
        let value = |item: &Item<'a>| Ok((item.name, self.value(scope, item.kind, item.index)?));
        items.iter().map(value).collect()
    }

    fn value(&mut self, scope: usize, kind: Kind, index: u32) -> Result<Value, Error> {
        self.scopes[scope].of(kind).get(index as usize).copied().ok_or_else(unclear)
    }
}

/// The validator does not let this happen, except for what the host would give, which is refused before.
fn unclear() -> Error {
    unsupported("which modules it instantiates is not known without running it")
}
