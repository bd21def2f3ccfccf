//! Validation of components, and what the host learns of one by it.

mod instances;
mod interface;
mod nesting;

use crate::config;
use crate::error::Error;
use crate::info::{self, invalid, memory_type};
use instances::{Component, Item, Kind, Op, Program};
use interface::Interface;
use nesting::Nesting;
use sandgrain_abi::component::ComponentInfo;
use std::panic::AssertUnwindSafe;
use wasmparser::types::Types;
use wasmparser::{
    ComponentAlias, ComponentExport, ComponentImport, ComponentInstance, ComponentOuterAliasKind,
    Encoding, FromReader, FuncValidatorAllocations, Instance, Parser, Payload, SectionLimited,
    Validator,
};

/// How deep components may be within others: in the file, when they are instantiated, and how deep an
/// instance may be within others.
const MAX_DEPTH: usize = 100;

pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::Unsupported { message: message.into() }
}

/// Validates a component in binary format, function bodies included, and describes it.
pub(crate) fn validate(wasm: &[u8]) -> Result<ComponentInfo, Error> {
    unless_it_panics("the validator", || read(wasm))
}

/// Does work on a component, over some of which the validator is known to panic, valid ones among them. Where
/// panics abort, so do these.
pub(crate) fn unless_it_panics<T>(
    who: &str,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    // Nothing that the work has changed is used after a panic.
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(unsupported(format!("{who} has a defect that it runs into; see the panic's message")))
    })
}

fn read(wasm: &[u8]) -> Result<ComponentInfo, Error> {
    let mut validator = Validator::new_with_features(config::wasm_features());
    let mut parser = Parser::new(0);
    parser.set_features(config::wasm_features());
    let mut allocations = FuncValidatorAllocations::default();
    let mut nesting = Nesting::new(wasm);
    let mut reader = Reader::default();
    let mut types = None;
    for payload in parser.parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        // Before the validator, which counts on it.
        nesting.check(&payload)?;
        let end = info::check(&mut validator, &payload, &mut allocations)?;
        // The last one that ends is the outermost.
        types = end.or(types);
        reader.read(&payload, types.as_ref())?;
    }
    // The parser ends with a payload that ends the component, or with an error.
    let types = types.ok_or_else(|| unsupported("it has no end"))?;

    let mut interface = Interface::new(types.as_ref());
    for name in &reader.imports {
        interface.import(name)?;
    }
    for name in &reader.exports {
        interface.export(name)?;
    }
    let mut info = interface.finish();
    info.memories = instances::memories(&reader.program)?;
    Ok(info)
}

/// What of a component's sections decides about the instances in it.
#[derive(Default)]
struct Reader<'a> {
    program: Program<'a>,
    /// What is being read: the number of a component, or of a module.
    open: Vec<Open>,
    /// The outermost component's.
    imports: Vec<&'a str>,
    exports: Vec<&'a str>,
}

enum Open {
    Component(usize),
    Module {
        number: usize,
        /// How many of its memories are not its own.
        imported: u32,
    },
}

impl<'a> Reader<'a> {
    /// Takes what a payload says, which the validator has accepted: reading it again finds no errors.
    fn read(&mut self, payload: &Payload<'a>, ended: Option<&Types>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.begin(*encoding);
                return Ok(());
            }
            Payload::End(_) => {
                self.end(ended);
                return Ok(());
            }
            _ => {}
        }
        let number = match self.open.last_mut() {
            Some(Open::Module { imported, .. }) => {
                if let Payload::ImportSection(section) = payload {
                    *imported += info::imported_memories(section)?;
                }
                return Ok(());
            }
            Some(Open::Component(number)) => *number,
            None => return Ok(()),
        };
        let component = &mut self.program.components[number];
        let outermost = self.open.len() == 1;
        match payload {
            Payload::InstanceSection(section) => component.each(section, instantiate_module)?,
            Payload::ComponentInstanceSection(section) => component.each(section, instantiate)?,
            Payload::ComponentAliasSection(section) => component.each(section, alias)?,
            Payload::ComponentImportSection(section) => {
                component.each(section, |import: ComponentImport<'a>| {
                    if outermost {
                        self.imports.push(import.name.name);
                    }
                    Kind::of(import.ty.kind()).map(|kind| Op::Import(kind, import.name.name))
                })?;
            }
            Payload::ComponentExportSection(section) => {
                component.each(section, |export: ComponentExport<'a>| {
                    if outermost {
                        self.exports.push(export.name.name);
                    }
                    item(export.name.name, export.kind, export.index).map(Op::Export)
                })?;
            }
            Payload::ComponentTypeSection(section) => component.size += section.count() as usize,
            Payload::CoreTypeSection(section) => component.size += section.count() as usize,
            Payload::ComponentCanonicalSection(section) => {
                component.size += section.count() as usize;
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, encoding: Encoding) {
        let Program { components, modules } = &mut self.program;
        let (op, open) = match encoding {
            Encoding::Component => {
                components.push(Component::default());
                let number = components.len() - 1;
                (Op::Component(number), Open::Component(number))
            }
            Encoding::Module => {
                modules.push(Vec::new());
                let number = modules.len() - 1;
                (Op::Module(number), Open::Module { number, imported: 0 })
            }
        };
        if let Some(Open::Component(outer)) = self.open.last() {
            components[*outer].push(op);
        }
        self.open.push(open);
    }

    fn end(&mut self, ended: Option<&Types>) {
        if let (Some(Open::Module { number, imported }), Some(types)) = (self.open.pop(), ended) {
            let types = types.as_ref();
            let own = (imported..types.memory_count()).map(|at| memory_type(types.memory_at(at)));
            self.program.modules[number] = own.collect();
        }
    }
}

impl<'a> Component<'a> {
    /// Takes what each item of a section does, if that is anything.
    fn each<T: FromReader<'a>>(
        &mut self,
        section: &SectionLimited<'a, T>,
        mut op: impl FnMut(T) -> Option<Op<'a>>,
    ) -> Result<(), Error> {
        self.size += section.count() as usize;
        for item in section.clone() {
            if let Some(op) = op(item.map_err(invalid)?) {
                self.push(op);
            }
        }
        Ok(())
    }
}

fn item(name: &str, kind: wasmparser::ComponentExternalKind, index: u32) -> Option<Item<'_>> {
    Kind::of(kind).map(|kind| Item { name, kind, index })
}

fn instantiate_module<'a>(instance: Instance<'a>) -> Option<Op<'a>> {
    match instance {
        Instance::Instantiate { module_index, .. } => Some(Op::InstantiateModule(module_index)),
        Instance::FromExports(_) => None,
    }
}

fn instantiate<'a>(instance: ComponentInstance<'a>) -> Option<Op<'a>> {
    Some(match instance {
        ComponentInstance::Instantiate { component_index, args } => {
            let args = args.iter().filter_map(|arg| item(arg.name, arg.kind, arg.index));
            Op::Instantiate { component: component_index, args: args.collect() }
        }
        ComponentInstance::FromExports(exports) => {
            let items = exports.iter();
            Op::Bundle(items.filter_map(|e| item(e.name.name, e.kind, e.index)).collect())
        }
    })
}

fn alias<'a>(alias: ComponentAlias<'a>) -> Option<Op<'a>> {
    match alias {
        ComponentAlias::InstanceExport { kind, instance_index, name } => {
            Kind::of(kind).map(|kind| Op::AliasExport { kind, instance: instance_index, name })
        }
        ComponentAlias::Outer { kind, count, index } => {
            let kind = match kind {
                ComponentOuterAliasKind::CoreModule => Kind::Module,
                ComponentOuterAliasKind::Component => Kind::Component,
                ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return None,
            };
            Some(Op::AliasOuter { kind, count, index })
        }
        ComponentAlias::CoreInstanceExport { .. } => None,
    }
}
