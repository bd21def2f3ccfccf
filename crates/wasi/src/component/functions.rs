//! The functions of WASI 0.2, by name and by number, and their types.

use sandgrain_abi::DecodeError;
use sandgrain_abi::component::{FunctionType, Reader, ResourceOrigin, Type, TypeDef, Types};

use super::generated::{INTERFACES, Prepared, RESOURCES, TABLE};

/// A function of WASI 0.2 that a component imports. It can only be one that exists.
///
/// To drop a resource of the host is one too, under the name `[resource-drop]` and the resource type's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function(u16);

/// What is generated for a function.
pub(super) struct Entry {
    /// The place of its interface among all.
    pub(super) interface: usize,
    pub(super) name: &'static str,
    pub(super) params: &'static [Shape],
    pub(super) result: Option<Shape>,
    pub(super) prepare: fn(&mut Reader<'_>) -> Result<Prepared, DecodeError>,
}

/// What a type looks like. Resource types have numbers.
pub(super) enum Shape {
    Plain(Type),
    Own(usize),
    Borrow(usize),
    List(&'static Shape),
    Option(&'static Shape),
    Result(Option<&'static Shape>, Option<&'static Shape>),
    Tuple(&'static [Shape]),
    Record(&'static [(&'static str, Shape)]),
    Variant(&'static [(&'static str, Option<&'static Shape>)]),
    Enum(&'static [&'static str]),
    Flags(&'static [&'static str]),
}

/// The interfaces that are answered, such as `wasi:io/streams@0.2.12`. A component may have been built for
/// any other 0.2 of them.
pub fn interfaces() -> &'static [&'static str] {
    INTERFACES
}

impl Function {
    /// The function with this name in an instance that a component imports, such as
    /// `[method]input-stream.read` in `wasi:io/streams@0.2.3`.
    ///
    /// Any version 0.2 is taken, as all of them are compatible, and a function that is not known is none.
    /// What a function's type is in the component is for [`has_type`](Self::has_type) to say.
    pub fn lookup(instance: &str, name: &str) -> Option<Self> {
        // Names are resolved when a component is linked, never in a call.
        let interface = unversioned(instance)?;
        if let Some(resource) = name.strip_prefix("[resource-drop]") {
            return Self::lookup_drop(interface, resource);
        }
        Self::find(interface, name)
    }

    /// The dropping of a resource type, which an interface may name without defining it.
    fn lookup_drop(interface: &str, name: &str) -> Option<Self> {
        let number = resource(interface, name)?;
        // The first interface that has it defines it, and its first name is its own.
        RESOURCES.iter().filter(|(_, _, n)| *n == number).find_map(|(interface, name, _)| {
            Self::find(interface, &format!("[resource-drop]{name}"))
        })
    }

    fn find(interface: &str, name: &str) -> Option<Self> {
        let is_it = |entry: &Entry| {
            entry.name == name && unversioned(INTERFACES[entry.interface]) == Some(interface)
        };
        Self::from_index(u16::try_from(TABLE.iter().position(is_it)?).ok()?)
    }

    /// The function with this number, for a caller that sends numbers instead of names.
    pub fn from_index(index: u16) -> Option<Self> {
        TABLE.get(usize::from(index)).map(|_| Self(index))
    }

    /// The number of this function. It is stable only within one build.
    pub fn index(self) -> u16 {
        self.0
    }

    /// All functions.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..TABLE.len()).map(|index| Self(index as u16))
    }

    /// The name of this function in its instance.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The instance with the version that is answered, such as `wasi:io/streams@0.2.12`.
    pub fn instance(self) -> &'static str {
        INTERFACES[self.entry().interface]
    }

    /// Whether a component has the same type for it. Only then may it be called: arguments and results travel
    /// in the shape of their types.
    ///
    /// For the dropping of a resource, which has no type of its own, none is asked for.
    pub fn has_type(self, ty: &FunctionType, types: &Types) -> bool {
        let Entry { params, result, .. } = self.entry();
        let params = params.iter().map(Some).chain([result.as_ref()]);
        let given = ty.params.iter().map(|param| Some(param.ty)).chain([ty.result]);
        ty.params.len() == self.entry().params.len()
            && params.zip(given).all(|(shape, ty)| is_same(shape, ty, types))
    }

    /// Reads the arguments of a call.
    pub(super) fn prepare(self, args: &mut Reader<'_>) -> Result<Prepared, DecodeError> {
        (self.entry().prepare)(args)
    }

    pub(super) fn params(self) -> &'static [Shape] {
        self.entry().params
    }

    pub(super) fn result(self) -> Option<&'static Shape> {
        self.entry().result.as_ref()
    }

    /// The resource type, if this is the dropping of one.
    pub(super) fn drops(self) -> Option<usize> {
        resource(unversioned(self.instance())?, self.name().strip_prefix("[resource-drop]")?)
    }

    fn entry(self) -> &'static Entry {
        &TABLE[usize::from(self.0)]
    }
}

/// Whether a name is that of a resource type of the host, such as `wasi:io/streams@0.2.3` and `input-stream`.
pub fn is_resource(instance: &str, name: &str) -> bool {
    unversioned(instance).is_some_and(|interface| resource(interface, name).is_some())
}

/// The resource types, each with the instance that defines it.
pub fn resources() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.iter().filter_map(|entry| {
        Some((INTERFACES[entry.interface], entry.name.strip_prefix("[resource-drop]")?))
    })
}

/// An interface's name without its version, which has to be a 0.2.
fn unversioned(instance: &str) -> Option<&str> {
    let (interface, version) = instance.split_once('@')?;
    let patch = version.strip_prefix("0.2.")?;
    let is_number = !patch.is_empty() && patch.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then_some(interface)
}

pub(super) fn resource(interface: &str, name: &str) -> Option<usize> {
    let found = RESOURCES.iter().find(|(i, n, _)| *i == interface && *n == name)?;
    Some(found.2)
}

impl Shape {
    /// Whether a component's type is the same.
    fn is(&self, ty: Type, types: &Types) -> bool {
        let def = match (self, ty) {
            (Self::Plain(plain), ty) => return *plain == ty,
            (Self::Own(resource), Type::Own(number))
            | (Self::Borrow(resource), Type::Borrow(number)) => {
                return is_resource_number(*resource, number, types);
            }
            (_, ty) => types.def(ty),
        };
        let Some(def) = def else { return false };
        match (self, def) {
            (Self::List(shape), TypeDef::List(ty)) | (Self::Option(shape), TypeDef::Option(ty)) => {
                shape.is(*ty, types)
            }
            (Self::Result(ok, err), TypeDef::Result { ok: ok_ty, err: err_ty }) => {
                is_same(*ok, *ok_ty, types) && is_same(*err, *err_ty, types)
            }
            (Self::Tuple(shapes), TypeDef::Tuple(tys)) => {
                all(shapes, tys, |shape, ty| shape.is(*ty, types))
            }
            (Self::Record(shapes), TypeDef::Record(fields)) => {
                all(shapes, fields, |(name, shape), field| {
                    *name == field.name && shape.is(field.ty, types)
                })
            }
            (Self::Variant(shapes), TypeDef::Variant(cases)) => {
                all(shapes, cases, |(name, shape), case| {
                    *name == case.name && is_same(*shape, case.ty, types)
                })
            }
            (Self::Enum(shapes), TypeDef::Enum(names))
            | (Self::Flags(shapes), TypeDef::Flags(names)) => {
                all(shapes, names, |shape, name| shape == name)
            }
            _ => false,
        }
    }
}

/// Whether the items are equally many, and each pair of them passes a check.
fn all<A, B>(a: &[A], b: &[B], mut check: impl FnMut(&A, &B) -> bool) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| check(a, b))
}

fn is_same(shape: Option<&Shape>, ty: Option<Type>, types: &Types) -> bool {
    match (shape, ty) {
        (None, None) => true,
        (Some(shape), Some(ty)) => shape.is(ty, types),
        _ => false,
    }
}

fn is_resource_number(expected: usize, number: u32, types: &Types) -> bool {
    let Some(found) = types.resources.get(number as usize) else { return false };
    let [instance, name] = found.path.as_slice() else { return false };
    let found_number = unversioned(instance).and_then(|interface| resource(interface, name));
    found.origin == ResourceOrigin::Imported && found_number == Some(expected)
}
