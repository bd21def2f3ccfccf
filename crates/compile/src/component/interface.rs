//! What a component imports and exports: functions and the types that they are made of.

use super::{MAX_DEPTH, unsupported};
use crate::error::Error;
use sandgrain_abi::component::{
    Case, ComponentInfo, Field, Function, FunctionType, Resource, ResourceOrigin, Type, TypeDef,
};
use sandgrain_abi::text::printable;
use std::collections::HashMap;
use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType,
    ComponentFuncTypeId, ComponentItem, ComponentValType, ResourceId,
};
use wasmparser::names::KebabString;
use wasmparser::types::{TypeIdentifier, TypesRef};

/// What the description may take, in bytes, about. An instance in an instance has its functions again in each
/// place, so that a small component can have very many; the large ones that there are have a tenth of this.
const MAX_SIZE: usize = 16 << 20;

/// What each part of a description takes at the least.
const PART: usize = 64;

pub(super) struct Interface<'a> {
    types: TypesRef<'a>,
    info: ComponentInfo,
    /// Definitions that there are, by what they are.
    numbers: HashMap<TypeDef, u32>,
    /// What was made of the validator's types.
    known: HashMap<ComponentDefinedTypeId, Type>,
    resources: HashMap<ResourceId, u32>,
    /// What the description still may take.
    room: usize,
}

impl<'a> Interface<'a> {
    pub(super) fn new(types: TypesRef<'a>) -> Self {
        Self {
            types,
            info: ComponentInfo::default(),
            numbers: HashMap::new(),
            known: HashMap::new(),
            resources: HashMap::new(),
            room: MAX_SIZE,
        }
    }

    pub(super) fn finish(self) -> ComponentInfo {
        self.info
    }

    pub(super) fn import(&mut self, name: &'a str) -> Result<(), Error> {
        match self.types.component_item_for_import(name) {
            Some(item) => self.item(ResourceOrigin::Imported, item, &mut vec![name]),
            None => Ok(()),
        }
    }

    pub(super) fn export(&mut self, name: &'a str) -> Result<(), Error> {
        match self.types.component_item_for_export(name) {
            Some(item) => self.item(ResourceOrigin::Defined, item, &mut vec![name]),
            None => Ok(()),
        }
    }

    /// Takes what is imported or exported under a path.
    fn item(
        &mut self,
        origin: ResourceOrigin,
        item: &ComponentItem,
        path: &mut Vec<&'a str>,
    ) -> Result<(), Error> {
        match item.ty {
            ComponentEntityType::Func(id) => {
                let function = Function { path: self.path(path)?, ty: self.function(id, path)? };
                match origin {
                    ResourceOrigin::Imported => self.info.imports.push(function),
                    ResourceOrigin::Defined => self.info.exports.push(function),
                }
            }
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                self.resource(id.resource(), origin, path)?;
            }
            // Other types are taken where a function uses them.
            ComponentEntityType::Type { .. } => {}
            ComponentEntityType::Instance(id) => {
                if path.len() >= MAX_DEPTH {
                    return Err(unsupported(format!(
                        "the instance {} is within more than {MAX_DEPTH} others",
                        shown(path)
                    )));
                }
                for (name, item) in &self.get(id)?.exports {
                    self.charge(PART)?;
                    path.push(name);
                    self.item(origin, item, path)?;
                    path.pop();
                }
            }
            ComponentEntityType::Module(_)
            | ComponentEntityType::Component(_)
            | ComponentEntityType::Value(_)
                if origin == ResourceOrigin::Imported =>
            {
                let what = match item.ty {
                    ComponentEntityType::Module(_) => "core module",
                    ComponentEntityType::Component(_) => "component",
                    _ => "value",
                };
                return Err(unsupported(format!(
                    "it imports the {what} {}, but a host gives only functions and resources",
                    shown(path)
                )));
            }
            // What only another component could use.
            ComponentEntityType::Module(_)
            | ComponentEntityType::Component(_)
            | ComponentEntityType::Value(_) => {}
        }
        Ok(())
    }

    /// What the validator knows of a type. Unlike by indexing, this does not borrow `self`.
    fn get<T: TypeIdentifier>(&self, id: T) -> Result<&'a T::Data, Error> {
        self.types.get(id).ok_or_else(|| unsupported("it names a type that there is not"))
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        self.room = self.room.checked_sub(bytes).ok_or_else(|| {
            let limit = MAX_SIZE >> 20;
            unsupported(format!("the description of its interface is larger than {limit} MiB"))
        })?;
        Ok(())
    }

    fn name(&mut self, name: &str) -> Result<String, Error> {
        self.charge(PART + name.len())?;
        Ok(name.to_owned())
    }

    fn path(&mut self, path: &[&str]) -> Result<Vec<String>, Error> {
        path.iter().map(|name| self.name(name)).collect()
    }

    fn function(&mut self, id: ComponentFuncTypeId, path: &[&str]) -> Result<FunctionType, Error> {
        let ty = self.get(id)?;
        if ty.async_ {
            return Err(unsupported(format!("the function {} is async", shown(path))));
        }
        let mut params = Vec::with_capacity(ty.params.len());
        for (name, ty) in &ty.params {
            params.push(Field { name: self.name(name.as_str())?, ty: self.ty(*ty)? });
        }
        let result = ty.result.map(|ty| self.ty(ty)).transpose()?;
        Ok(FunctionType { params, result })
    }

    fn ty(&mut self, ty: ComponentValType) -> Result<Type, Error> {
        let id = match ty {
            ComponentValType::Primitive(ty) => return primitive(ty),
            ComponentValType::Type(id) => id,
        };
        if let Some(ty) = self.known.get(&id) {
            return Ok(*ty);
        }
        let ty = self.defined(id)?;
        self.charge(PART)?;
        self.known.insert(id, ty);
        Ok(ty)
    }

    /// The validator lets no type be nested deeper than 100 levels, so that this recursion has an end.
    fn defined(&mut self, id: ComponentDefinedTypeId) -> Result<Type, Error> {
        let def = match self.get(id)? {
            ComponentDefinedType::Primitive(ty) => return primitive(*ty),
            ComponentDefinedType::Own(id) => {
                return Ok(Type::Own(self.resource(
                    id.resource(),
                    ResourceOrigin::Defined,
                    &[],
                )?));
            }
            ComponentDefinedType::Borrow(id) => {
                let number = self.resource(id.resource(), ResourceOrigin::Defined, &[])?;
                return Ok(Type::Borrow(number));
            }
            ComponentDefinedType::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for (name, ty) in &record.fields {
                    fields.push(Field { name: self.name(name.as_str())?, ty: self.ty(*ty)? });
                }
                TypeDef::Record(fields)
            }
            ComponentDefinedType::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for (name, case) in &variant.cases {
                    cases
                        .push(Case { name: self.name(name.as_str())?, ty: self.payload(case.ty)? });
                }
                TypeDef::Variant(cases)
            }
            ComponentDefinedType::List { element, .. } => TypeDef::List(self.ty(*element)?),
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                TypeDef::FixedList(self.ty(*element)?, *length)
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.charge(PART * tuple.types.len())?;
                let types = tuple.types.iter().map(|ty| self.ty(*ty));
                TypeDef::Tuple(types.collect::<Result<_, _>>()?)
            }
            ComponentDefinedType::Flags(names) => TypeDef::Flags(self.names(names)?),
            ComponentDefinedType::Enum(names) => TypeDef::Enum(self.names(names)?),
            ComponentDefinedType::Option { ty, .. } => TypeDef::Option(self.ty(*ty)?),
            ComponentDefinedType::Result { ok, err, .. } => {
                TypeDef::Result { ok: self.payload(*ok)?, err: self.payload(*err)? }
            }
            ComponentDefinedType::Map { .. } => return Err(unsupported("it uses the type map")),
            ComponentDefinedType::Future { .. } => {
                return Err(unsupported("it uses the type future"));
            }
            ComponentDefinedType::Stream { .. } => {
                return Err(unsupported("it uses the type stream"));
            }
        };
        if let Some(number) = self.numbers.get(&def) {
            return Ok(Type::Defined(*number));
        }
        let number = self.info.types.defs.len() as u32;
        self.numbers.insert(def.clone(), number);
        self.info.types.defs.push(def);
        Ok(Type::Defined(number))
    }

    fn payload(&mut self, ty: Option<ComponentValType>) -> Result<Option<Type>, Error> {
        ty.map(|ty| self.ty(ty)).transpose()
    }

    fn names<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n KebabString>,
    ) -> Result<Vec<String>, Error> {
        names.into_iter().map(|name| self.name(name.as_str())).collect()
    }

    /// The number of a resource type. The first place where it is imported or exported gives it its path; one
    /// that a function uses before is exported nowhere.
    fn resource(
        &mut self,
        id: ResourceId,
        origin: ResourceOrigin,
        path: &[&str],
    ) -> Result<u32, Error> {
        if let Some(number) = self.resources.get(&id) {
            return Ok(*number);
        }
        self.charge(PART)?;
        let number = self.info.types.resources.len() as u32;
        let path = self.path(path)?;
        self.info.types.resources.push(Resource { path, origin });
        self.resources.insert(id, number);
        Ok(number)
    }
}

fn primitive(ty: PrimitiveValType) -> Result<Type, Error> {
    Ok(match ty {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => {
            return Err(unsupported("it uses the type error-context"));
        }
    })
}

/// A path for an error: the component's own words, which are not to reach a terminal as they are.
fn shown(path: &[&str]) -> String {
    format!("\"{}\"", printable(&path.join(".")))
}
