//! How deep what a component defines is nested, which is bounded before the validator sees it.
//!
//! The validator reads a type within a type by recursion without a limit, and what instances are made of may
//! be nested as deep as it can count, beyond which it panics. A file of a few kilobytes would end the process.
//! So each section is skimmed first. What is nested how deep is known by doing with numbers what the sections
//! do with types: each list of a component's items is a list of depths here. They are upper bounds: what comes
//! out of an instance counts as deep as the whole of it.

use super::{MAX_DEPTH, unsupported};
use crate::config;
use crate::error::Error;
use crate::info::invalid;
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentDefinedType, ComponentExternName,
    ComponentExternalKind, ComponentFuncType, ComponentImport, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ComponentTypeRef, ComponentTypeSectionReader,
    ComponentValType, CoreType, Encoding, Payload, TypeBounds,
};

/// How deep something is nested. 1: it has no parts.
type Depth = usize;

/// A core module's type has functions, and these have parameters.
const MODULE: Depth = 3;

/// First bytes in the binary format.
const TYPE_OF_COMPONENT: u8 = 0x41;
const TYPE_OF_INSTANCE: u8 = 0x42;
const DECLARES_CORE_TYPE: u8 = 0;
const DECLARES_TYPE: u8 = 1;
const DECLARES_ALIAS: u8 = 2;
const DECLARES_IMPORT: u8 = 3;

/// The depths of all components that are being read, and of the types within them.
pub(super) struct Nesting<'a> {
    wasm: &'a [u8],
    /// What is being read, from the outside to the inside; `None` for a module.
    scopes: Vec<Option<Scope>>,
}

#[derive(Default)]
struct Scope {
    types: Vec<Depth>,
    functions: Vec<Depth>,
    instances: Vec<Depth>,
    components: Vec<Depth>,
    /// Of what has been imported and exported so far.
    deepest: Depth,
}

impl Scope {
    fn list(&mut self, kind: ComponentExternalKind) -> Option<&mut Vec<Depth>> {
        match kind {
            ComponentExternalKind::Type => Some(&mut self.types),
            ComponentExternalKind::Func => Some(&mut self.functions),
            ComponentExternalKind::Instance => Some(&mut self.instances),
            ComponentExternalKind::Component => Some(&mut self.components),
            ComponentExternalKind::Module | ComponentExternalKind::Value => None,
        }
    }

    /// What there is not the validator will refuse.
    fn get(&mut self, kind: ComponentExternalKind, index: u32) -> Depth {
        match self.list(kind) {
            Some(list) => list.get(index as usize).copied().unwrap_or(1),
            None => MODULE,
        }
    }

    fn add(&mut self, kind: ComponentExternalKind, depth: Depth) {
        if let Some(list) = self.list(kind) {
            list.push(depth);
        }
    }

    fn value(&mut self, ty: ComponentValType) -> Depth {
        match ty {
            ComponentValType::Primitive(_) => 1,
            ComponentValType::Type(index) => self.get(ComponentExternalKind::Type, index),
        }
    }

    fn deepest_value(&mut self, types: impl IntoIterator<Item = ComponentValType>) -> Depth {
        types.into_iter().map(|ty| self.value(ty)).max().unwrap_or(0)
    }

    /// Something is imported or exported, as what a type says.
    fn declared(&mut self, ty: ComponentTypeRef) -> Depth {
        match ty {
            ComponentTypeRef::Module(_) => MODULE,
            ComponentTypeRef::Value(ty) => self.value(ty),
            ComponentTypeRef::Type(TypeBounds::SubResource) => 1,
            ComponentTypeRef::Func(index)
            | ComponentTypeRef::Instance(index)
            | ComponentTypeRef::Component(index)
            | ComponentTypeRef::Type(TypeBounds::Eq(index)) => {
                self.get(ComponentExternalKind::Type, index)
            }
        }
    }

    fn named(&mut self, kind: ComponentExternalKind, depth: Depth) {
        self.deepest = self.deepest.max(depth);
        self.add(kind, depth);
    }

    fn defined(&mut self, ty: &ComponentDefinedType<'_>) -> Depth {
        1 + match ty {
            ComponentDefinedType::Primitive(_)
            | ComponentDefinedType::Flags(_)
            | ComponentDefinedType::Enum(_) => 0,
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => 1,
            ComponentDefinedType::Record(fields) => {
                self.deepest_value(fields.iter().map(|(_, ty)| *ty))
            }
            ComponentDefinedType::Variant(cases) => {
                self.deepest_value(cases.iter().filter_map(|case| case.ty))
            }
            ComponentDefinedType::Tuple(types) => self.deepest_value(types.iter().copied()),
            ComponentDefinedType::Map(key, value) => self.deepest_value([*key, *value]),
            ComponentDefinedType::List(ty)
            | ComponentDefinedType::FixedLengthList(ty, _)
            | ComponentDefinedType::Option(ty) => self.value(*ty),
            ComponentDefinedType::Result { ok, err } => {
                self.deepest_value(ok.iter().chain(err).copied())
            }
            ComponentDefinedType::Future(ty) | ComponentDefinedType::Stream(ty) => {
                self.deepest_value(*ty)
            }
        }
    }

    fn function(&mut self, ty: &ComponentFuncType<'_>) -> Depth {
        let params = ty.params.iter().map(|(_, ty)| *ty);
        1 + self.deepest_value(params.chain(ty.result))
    }
}

impl<'a> Nesting<'a> {
    pub(super) fn new(wasm: &'a [u8]) -> Self {
        Self { wasm, scopes: Vec::new() }
    }

    /// Refuses a payload that defines something too deep.
    pub(super) fn check(&mut self, payload: &Payload<'_>) -> Result<(), Error> {
        match payload {
            Payload::Version { encoding, .. } => return self.begin(*encoding),
            Payload::End(_) => return self.end(),
            _ => {}
        }
        if !matches!(self.scopes.last(), Some(Some(_))) {
            return Ok(());
        }
        match payload {
            Payload::ComponentTypeSection(section) => self.types(section)?,
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias.map_err(invalid)?);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(&instance.map_err(invalid)?)?;
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    let function = function.map_err(invalid)?;
                    let scope = self.scope();
                    if let CanonicalFunction::Lift { type_index, .. } = function {
                        let depth = scope.get(ComponentExternalKind::Type, type_index);
                        scope.functions.push(depth);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let ty = import.map_err(invalid)?.ty;
                    self.declare(ty);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export.map_err(invalid)?;
                    let scope = self.scope();
                    let depth = scope.get(export.kind, export.index);
                    let shown = export.ty.map_or(0, |ty| scope.declared(ty));
                    scope.named(export.kind, depth.max(shown));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The innermost component or type that is being read.
    fn scope(&mut self) -> &mut Scope {
        if !matches!(self.scopes.last(), Some(Some(_))) {
            self.scopes.push(Some(Scope::default()));
        }
        match self.scopes.last_mut() {
            Some(Some(scope)) => scope,
            _ => unreachable!("one has just been put there"),
        }
    }

    fn begin(&mut self, encoding: Encoding) -> Result<(), Error> {
        self.scopes.push(match encoding {
            Encoding::Component => Some(Scope::default()),
            Encoding::Module => None,
        });
        bounded(self.scopes.len())?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        if let (Some(Some(inner)), Some(Some(outer))) = (self.scopes.pop(), self.scopes.last_mut())
        {
            outer.components.push(bounded(1 + inner.deepest)?);
        }
        Ok(())
    }

    fn declare(&mut self, ty: ComponentTypeRef) {
        let scope = self.scope();
        let depth = scope.declared(ty);
        scope.named(ty.kind(), depth);
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport { kind, instance_index, .. } => {
                let scope = self.scope();
                let depth = scope.get(ComponentExternalKind::Instance, *instance_index);
                scope.add(*kind, depth);
            }
            ComponentAlias::Outer { kind, count, index } => {
                let kind = match kind {
                    ComponentOuterAliasKind::Type => ComponentExternalKind::Type,
                    ComponentOuterAliasKind::Component => ComponentExternalKind::Component,
                    ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::CoreType => {
                        return;
                    }
                };
                let at = self.scopes.len().checked_sub(1 + *count as usize);
                let depth = match at.and_then(|at| self.scopes.get_mut(at)) {
                    Some(Some(scope)) => scope.get(kind, *index),
                    _ => 1,
                };
                self.scope().add(kind, depth);
            }
            ComponentAlias::CoreInstanceExport { .. } => {}
        }
    }

    fn instance(&mut self, instance: &ComponentInstance<'_>) -> Result<(), Error> {
        let scope = self.scope();
        let deepest = match instance {
            ComponentInstance::Instantiate { component_index, .. } => {
                scope.get(ComponentExternalKind::Component, *component_index)
            }
            ComponentInstance::FromExports(exports) => {
                let depths = exports.iter().map(|export| scope.get(export.kind, export.index));
                depths.max().unwrap_or(0)
            }
        };
        scope.instances.push(bounded(1 + deepest)?);
        Ok(())
    }

    fn types(&mut self, section: &ComponentTypeSectionReader<'_>) -> Result<(), Error> {
        let range = section.range();
        let bytes = self.wasm.get(range.clone()).unwrap_or_default();
        let mut reader = BinaryReader::new_features(bytes, range.start, config::wasm_features());
        for _ in 0..reader.read_var_u32().map_err(invalid)? {
            let depth = self.ty(&mut reader)?;
            self.scope().types.push(depth);
        }
        Ok(())
    }

    /// Reads a type. Those that have declarations can have types within them.
    fn ty(&mut self, reader: &mut BinaryReader<'_>) -> Result<Depth, Error> {
        let first = reader.clone().read_u8().map_err(invalid)?;
        if first == TYPE_OF_COMPONENT || first == TYPE_OF_INSTANCE {
            reader.read_u8().map_err(invalid)?;
            return self.declarations(reader);
        }
        let ty = reader.read::<ComponentType<'_>>().map_err(invalid)?;
        let scope = self.scope();
        bounded(match &ty {
            ComponentType::Defined(ty) => scope.defined(ty),
            ComponentType::Func(ty) => scope.function(ty),
            // The other two have been read above.
            ComponentType::Resource { .. }
            | ComponentType::Component(_)
            | ComponentType::Instance(_) => 1,
        })
    }

    fn declarations(&mut self, reader: &mut BinaryReader<'_>) -> Result<Depth, Error> {
        self.begin(Encoding::Component)?;
        for _ in 0..reader.read_var_u32().map_err(invalid)? {
            let first = reader.clone().read_u8().map_err(invalid)?;
            if first == DECLARES_IMPORT {
                reader.read_u8().map_err(invalid)?;
                let import = reader.read::<ComponentImport<'_>>().map_err(invalid)?;
                self.declare(import.ty);
                continue;
            }
            match reader.read_u8().map_err(invalid)? {
                DECLARES_CORE_TYPE => {
                    reader.read::<CoreType<'_>>().map_err(invalid)?;
                }
                DECLARES_TYPE => {
                    let depth = self.ty(reader)?;
                    self.scope().types.push(depth);
                }
                DECLARES_ALIAS => {
                    let alias = reader.read::<ComponentAlias<'_>>().map_err(invalid)?;
                    self.alias(&alias);
                }
                // An export. Anything else is no declaration, which reading it as one shows.
                _ => {
                    reader.read::<ComponentExternName<'_>>().map_err(invalid)?;
                    let ty = reader.read::<ComponentTypeRef>().map_err(invalid)?;
                    self.declare(ty);
                }
            }
        }
        let inner = self.scopes.pop().flatten();
        bounded(1 + inner.map_or(0, |scope| scope.deepest))
    }
}

fn bounded(depth: Depth) -> Result<Depth, Error> {
    if depth > MAX_DEPTH {
        return Err(unsupported(format!(
            "its types, instances or components are nested deeper than {MAX_DEPTH} levels"
        )));
    }
    Ok(depth)
}
