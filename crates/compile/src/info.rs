//! Validation of modules, and what the host learns of one by it.

use crate::config;
use crate::error::Error;
use sandgrain_abi::text;
use sandgrain_abi::types::{Export, Import, ModuleInfo};
use sandgrain_abi::{ExternType, FuncType, GlobalType, HeapType, MemoryType, TableType, ValType};
use wasmparser::types::{EntityType, Types, TypesRef};
use wasmparser::{
    AbstractHeapType, CompositeInnerType, FuncValidatorAllocations, KnownCustom, Name, Parser,
    Payload, RefType, UnpackedIndex, ValidPayload, Validator,
};

/// Validates a module in binary format, function bodies included, and describes it.
pub(crate) fn validate(wasm: &[u8]) -> Result<ModuleInfo, Error> {
    let mut validator = Validator::new_with_features(config::wasm_features());
    let mut parser = Parser::new(0);
    parser.set_features(config::wasm_features());
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut info = ModuleInfo::default();
    let mut imported_memories = 0;
    let mut allocations = FuncValidatorAllocations::default();
    for payload in parser.parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        if let Some(types) = check(&mut validator, &payload, &mut allocations)? {
            let types = types.as_ref();
            info.imports = describe_imports(types, &imports);
            info.exports = describe_exports(types, &exports);
            info.memories = (imported_memories..types.memory_count())
                .map(|index| memory_type(types.memory_at(index)))
                .collect();
        }
        // The validator has accepted these sections, so reading them again finds no errors.
        match payload {
            Payload::ImportSection(section) => {
                imported_memories = self::imported_memories(&section)?;
                imports = section.into_imports().collect::<Result<_, _>>().map_err(invalid)?;
            }
            Payload::ExportSection(section) => {
                exports = section.into_iter().collect::<Result<_, _>>().map_err(invalid)?;
            }
            Payload::StartSection { .. } => info.has_start = true,
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    info.name = info.name.or_else(|| module_name(names));
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

/// Validates what a payload holds. At the end of a module or component this gives its types.
pub(crate) fn check(
    validator: &mut Validator,
    payload: &Payload<'_>,
    allocations: &mut FuncValidatorAllocations,
) -> Result<Option<Types>, Error> {
    match validator.payload(payload).map_err(invalid)? {
        ValidPayload::Func(function, body) => {
            let mut validator = function.into_validator(std::mem::take(allocations));
            validator.validate(&body).map_err(invalid)?;
            *allocations = validator.into_allocations();
            Ok(None)
        }
        ValidPayload::End(types) => Ok(Some(types)),
        _ => Ok(None),
    }
}

/// How many memories a module imports.
pub(crate) fn imported_memories(
    section: &wasmparser::ImportSectionReader<'_>,
) -> Result<u32, Error> {
    let mut count = 0;
    for import in section.clone().into_imports() {
        let import = import.map_err(invalid)?;
        count += u32::from(matches!(import.ty, wasmparser::TypeRef::Memory(_)));
    }
    Ok(count)
}

/// The module's own name. The section is only a comment, so what is malformed is ignored.
fn module_name(names: wasmparser::NameSectionReader<'_>) -> Option<String> {
    names.into_iter().map_while(Result::ok).find_map(|name| match name {
        Name::Module { name, .. } => Some(name.to_owned()),
        _ => None,
    })
}

pub(crate) fn invalid(error: wasmparser::Error) -> Error {
    let message = match error.missing_wasm_feature() {
        Some(feature) => {
            let names: Vec<_> = feature
                .iter_names()
                .map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"))
                .collect();
            let names = names.join(", ");
            format!("uses the proposal {names}, which is switched off: {}", error.message())
        }
        None => error.message().to_owned(),
    };
    // Some messages explain themselves on further lines.
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    // Some quote the module's names, which are not to reach a terminal as they are.
    Error::Invalid { offset: error.offset(), message: text::escaped(&message) }
}

fn describe_imports(types: TypesRef<'_>, imports: &[wasmparser::Import<'_>]) -> Vec<Import> {
    let describe = |import: &wasmparser::Import<'_>| {
        let ty = extern_type(types, types.entity_type_from_import(import)?);
        Some(Import { module: import.module.to_owned(), name: import.name.to_owned(), ty })
    };
    imports.iter().filter_map(describe).collect()
}

fn describe_exports(types: TypesRef<'_>, exports: &[wasmparser::Export<'_>]) -> Vec<Export> {
    let describe = |export: &wasmparser::Export<'_>| {
        let ty = extern_type(types, types.entity_type_from_export(export)?);
        Some(Export { name: export.name.to_owned(), ty })
    };
    exports.iter().filter_map(describe).collect()
}

fn extern_type(types: TypesRef<'_>, ty: EntityType) -> ExternType {
    match ty {
        EntityType::Func(id) | EntityType::FuncExact(id) => ExternType::Func(func_type(types, id)),
        EntityType::Tag(id) => ExternType::Tag(func_type(types, id)),
        EntityType::Memory(ty) => ExternType::Memory(memory_type(ty)),
        EntityType::Table(ty) => ExternType::Table(TableType {
            element: ref_type(types, ty.element_type),
            minimum: ty.initial,
            maximum: ty.maximum,
        }),
        EntityType::Global(ty) => ExternType::Global(GlobalType {
            value: val_type(types, ty.content_type),
            mutable: ty.mutable,
        }),
    }
}

fn func_type(types: TypesRef<'_>, id: wasmparser::types::CoreTypeId) -> FuncType {
    match &types[id].composite_type.inner {
        CompositeInnerType::Func(ty) => FuncType {
            params: ty.params().iter().map(|ty| val_type(types, *ty)).collect(),
            results: ty.results().iter().map(|ty| val_type(types, *ty)).collect(),
        },
        // The validator has checked that functions and tags have function types.
        _ => FuncType::default(),
    }
}

pub(crate) fn memory_type(ty: wasmparser::MemoryType) -> MemoryType {
    MemoryType {
        minimum: ty.initial,
        maximum: ty.maximum,
        // The validator accepts no page size beyond 2^16.
        page_size: 1 << ty.page_size_log2.unwrap_or(16),
        memory64: ty.memory64,
        shared: ty.shared,
    }
}

fn val_type(types: TypesRef<'_>, ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(ty) => ref_type(types, ty),
    }
}

fn ref_type(types: TypesRef<'_>, ty: RefType) -> ValType {
    let heap = match ty.heap_type() {
        wasmparser::HeapType::Abstract { ty, .. } => abstract_heap_type(ty),
        wasmparser::HeapType::Concrete(index) | wasmparser::HeapType::Exact(index) => {
            concrete_heap_type(types, index)
        }
    };
    ValType::Ref { nullable: ty.is_nullable(), heap }
}

fn abstract_heap_type(ty: AbstractHeapType) -> HeapType {
    match ty {
        AbstractHeapType::Func => HeapType::Func,
        AbstractHeapType::Extern => HeapType::Extern,
        AbstractHeapType::Any => HeapType::Any,
        AbstractHeapType::None => HeapType::None,
        AbstractHeapType::NoExtern => HeapType::NoExtern,
        AbstractHeapType::NoFunc => HeapType::NoFunc,
        AbstractHeapType::Eq => HeapType::Eq,
        AbstractHeapType::Struct => HeapType::Struct,
        AbstractHeapType::Array => HeapType::Array,
        AbstractHeapType::I31 => HeapType::I31,
        AbstractHeapType::Exn => HeapType::Exn,
        AbstractHeapType::NoExn => HeapType::NoExn,
        AbstractHeapType::Cont | AbstractHeapType::NoCont => HeapType::Cont,
    }
}

fn concrete_heap_type(types: TypesRef<'_>, index: UnpackedIndex) -> HeapType {
    let id = match index {
        UnpackedIndex::Id(id) => id,
        UnpackedIndex::Module(index) => types.core_type_at_in_module(index),
        // The validator resolves these before it gives out types.
        UnpackedIndex::RecGroup(_) => return HeapType::ConcreteAny,
    };
    match types[id].composite_type.inner {
        CompositeInnerType::Func(_) => HeapType::ConcreteFunc,
        CompositeInnerType::Array(_) | CompositeInnerType::Struct(_) => HeapType::ConcreteAny,
        CompositeInnerType::Cont(_) => HeapType::Cont,
    }
}
