//! Rust's structs and enums as a component's records, variants, enums and flags.

/// Makes a struct the Rust type of a component's record with the same fields: its names in kebab case, in the same
/// order. Any number of other attributes may stand before it.
///
/// ```
/// sandgrain::record! {
///     /// How to greet.
///     #[derive(Debug)]
///     pub struct Options {
///         /// Whether to shout.
///         pub loud: bool,
///         /// How many times; once, if it does not say.
///         pub how_often: Option<u32>,
///     }
/// }
/// let quiet = Options { loud: false, how_often: None };
/// # let _ = quiet;
/// ```
#[macro_export]
macro_rules! record {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $ty:ty),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $ty),*
        }

        impl $name {
            fn is_record(
                ty: $crate::component::Type,
                types: &$crate::component::Types,
                checks: &[(&str, &dyn Fn($crate::component::Type) -> bool)],
            ) -> bool {
                match types.def(ty) {
                    Some($crate::component::TypeDef::Record(fields)) => {
                        fields.len() == checks.len()
                            && fields.iter().zip(checks).all(|(field, (name, check))| {
                                $crate::component::is_name(&field.name, name) && check(field.ty)
                            })
                    }
                    _ => false,
                }
            }
        }

        impl $crate::component::Lower for $name {
            fn is_of(ty: $crate::component::Type, types: &$crate::component::Types) -> bool {
                Self::is_record(ty, types, &[
                    $((stringify!($field), &|ty| <$ty as $crate::component::Lower>::is_of(ty, types))),*
                ])
            }

            fn lower(&self, out: &mut $crate::component::Writer) {
                $($crate::component::Lower::lower(&self.$field, out);)*
            }
        }

        impl<'a> $crate::component::Lift<'a> for $name {
            fn is_of(ty: $crate::component::Type, types: &$crate::component::Types) -> bool {
                Self::is_record(ty, types, &[
                    $((stringify!($field), &|ty| {
                        <$ty as $crate::component::Lift<'a>>::is_of(ty, types)
                    })),*
                ])
            }

            fn lift(
                from: &mut $crate::component::Reader<'a>,
            ) -> ::core::result::Result<Self, $crate::component::DecodeError> {
                Ok(Self { $($field: <$ty as $crate::component::Lift<'a>>::lift(from)?),* })
            }
        }
    };
}

/// Makes an enum the Rust type of a component's variant or enum with the same cases: its names in kebab case, in the
/// same order. A case has one value or none.
///
/// ```
/// sandgrain::variant! {
///     /// Why nobody was greeted.
///     #[derive(Debug)]
///     pub enum GreetError {
///         /// There was no name.
///         EmptyName,
///         /// It was too long: how long it was.
///         TooLong(u32),
///     }
/// }
/// # let _ = (GreetError::EmptyName, GreetError::TooLong(1));
/// ```
#[macro_export]
macro_rules! variant {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$case_attribute:meta])* $case:ident $(($ty:ty))?),* $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $name {
            $($(#[$case_attribute])* $case $(($ty))?),*
        }

        impl $name {
            const CASES: &'static [&'static str] = &[$(stringify!($case)),*];

            fn is_variant(
                ty: $crate::component::Type,
                types: &$crate::component::Types,
                checks: &[&dyn Fn(Option<$crate::component::Type>) -> bool],
            ) -> bool {
                match types.def(ty) {
                    Some($crate::component::TypeDef::Variant(cases)) => {
                        cases.len() == checks.len()
                            && cases.iter().zip(Self::CASES).zip(checks).all(|((case, name), check)| {
                                $crate::component::is_name(&case.name, name) && check(case.ty)
                            })
                    }
                    Some($crate::component::TypeDef::Enum(names)) => {
                        names.len() == checks.len()
                            && names.iter().zip(Self::CASES).zip(checks).all(|((case, name), check)| {
                                $crate::component::is_name(case, name) && check(None)
                            })
                    }
                    _ => false,
                }
            }
        }

        impl $crate::component::Lower for $name {
            fn is_of(ty: $crate::component::Type, types: &$crate::component::Types) -> bool {
                Self::is_variant(ty, types, &[$(
                    $crate::__case_check!(Lower, types $(, $ty)?)
                ),*])
            }

            fn lower(&self, out: &mut $crate::component::Writer) {
                let mut number = 0;
                $(
                    #[allow(unused_variables, reason = "a case without a value binds nothing")]
                    if let $crate::__case_pattern!(value, $case $(, $ty)?) = self {
                        out.u32(number);
                        $(<$ty as $crate::component::Lower>::lower(value, out);)?
                        return;
                    }
                    number += 1;
                )*
                let _ = number;
            }
        }

        impl<'a> $crate::component::Lift<'a> for $name {
            fn is_of(ty: $crate::component::Type, types: &$crate::component::Types) -> bool {
                Self::is_variant(ty, types, &[$(
                    $crate::__case_check!(Lift, types $(, $ty)?)
                ),*])
            }

            fn lift(
                from: &mut $crate::component::Reader<'a>,
            ) -> ::core::result::Result<Self, $crate::component::DecodeError> {
                let case = from.u32()?;
                let mut number = 0;
                $(
                    if case == number {
                        return Ok(Self::$case $((<$ty as $crate::component::Lift<'a>>::lift(from)?))?);
                    }
                    number += 1;
                )*
                let _ = number;
                Err(from.error("a case of a variant"))
            }
        }
    };
}

/// The check of a case's value.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_check {
    ($direction:ident, $types:ident) => {
        &|ty: Option<$crate::component::Type>| ty.is_none()
    };
    ($direction:ident, $types:ident, $ty:ty) => {
        &|ty: Option<$crate::component::Type>| {
            ty.is_some_and(|ty| <$ty as $crate::component::$direction>::is_of(ty, $types))
        }
    };
}

/// The pattern of a case.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_pattern {
    ($value:ident, $case:ident) => {
        Self::$case
    };
    ($value:ident, $case:ident, $ty:ty) => {
        Self::$case($value)
    };
}

/// Whether a name of WIT's, in kebab case, is the same as one of Rust's, in snake or camel case.
#[doc(hidden)]
#[must_use]
pub fn is_name(wit: &str, rust: &str) -> bool {
    let letters = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    letters(wit) == letters(rust)
}
