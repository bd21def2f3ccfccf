//! WAVE's syntax trees as values of a component's types.
//!
//! WAVE's crate could do this itself, but would pass over fields that a record does not have, and its errors
//! do not know the types' names.

use crate::error::Error;
use sandgrain_abi::component::{Case, Field, Function, Type, TypeDef, Types, Val};
use sandgrain_abi::text::printable;
use std::str::FromStr;
use wasm_wave::ast::{Node, NodeType};
use wasm_wave::parser::ParserError;

/// What is wrong with a text, and where.
#[derive(Debug)]
pub(super) struct Problem {
    /// Bytes before the place.
    at: usize,
    what: String,
}

impl Problem {
    pub(super) fn parse(error: &ParserError) -> Self {
        let what = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        Self { at: error.span().start, what: printable(&what) }
    }

    /// The error, when the text begins at a byte of a longer one.
    pub(super) fn within(self, text: &str, start: usize) -> Error {
        let before = text.get(..start + self.at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        let place = if text.contains('\n') { format!("line {line}, ") } else { String::new() };
        Error::BadCall(format!("{place}column {column}: {}", self.what))
    }
}

type Read<T> = Result<T, Problem>;

/// A text that is read.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) types: &'a Types,
}

impl Source<'_> {
    fn problem(&self, node: &Node, what: String) -> Problem {
        Problem { at: node.span().start, what }
    }

    /// The node is something else than what is asked for.
    fn mismatch(&self, node: &Node, ty: Type) -> Problem {
        let found = self.text.get(node.span()).unwrap_or_default();
        let what = format!("{} is no {}", printable(found), self.types.summary(ty));
        self.problem(node, what)
    }

    fn number<T: FromStr>(&self, node: &Node, ty: Type) -> Read<T> {
        node.as_number(self.text).map_err(|_| self.mismatch(node, ty))
    }

    pub(super) fn value(&self, node: &Node, ty: Type) -> Read<Val> {
        Ok(match ty {
            Type::Bool => Val::Bool(node.as_bool().map_err(|_| self.mismatch(node, ty))?),
            Type::S8 => Val::S8(self.number(node, ty)?),
            Type::U8 => Val::U8(self.number(node, ty)?),
            Type::S16 => Val::S16(self.number(node, ty)?),
            Type::U16 => Val::U16(self.number(node, ty)?),
            Type::S32 => Val::S32(self.number(node, ty)?),
            Type::U32 => Val::U32(self.number(node, ty)?),
            Type::S64 => Val::S64(self.number(node, ty)?),
            Type::U64 => Val::U64(self.number(node, ty)?),
            Type::F32 => Val::F32(self.number(node, ty)?),
            Type::F64 => Val::F64(self.number(node, ty)?),
            Type::Char => match node.ty() {
                NodeType::Char => {
                    Val::Char(node.as_char(self.text).map_err(|error| Problem::parse(&error))?)
                }
                _ => return Err(self.mismatch(node, ty)),
            },
            Type::String => match node.ty() {
                NodeType::String | NodeType::MultilineString => {
                    let text = node.as_str(self.text).map_err(|error| Problem::parse(&error))?;
                    Val::String(text.into_owned())
                }
                _ => return Err(self.mismatch(node, ty)),
            },
            Type::Own(_) | Type::Borrow(_) => {
                let what = format!("a resource ({}) has no text", self.types.summary(ty));
                return Err(self.problem(node, what));
            }
            Type::Defined(_) => match self.types.def(ty) {
                Some(def) => self.defined(node, ty, def)?,
                None => return Err(self.mismatch(node, ty)),
            },
        })
    }

    fn defined(&self, node: &Node, ty: Type, def: &TypeDef) -> Read<Val> {
        let mismatch = |_| self.mismatch(node, ty);
        Ok(match def {
            TypeDef::List(element) => {
                let items: Vec<_> = node.as_list().map_err(mismatch)?.collect();
                self.list(&items, *element)?
            }
            TypeDef::FixedList(element, len) => {
                let items: Vec<_> = node.as_list().map_err(mismatch)?.collect();
                if items.len() != *len as usize {
                    return Err(self.mismatch(node, ty));
                }
                self.list(&items, *element)?
            }
            TypeDef::Record(fields) => self.record(node, ty, fields)?,
            TypeDef::Tuple(types) => {
                let items = node.as_tuple().map_err(mismatch)?;
                if items.len() != types.len() {
                    return Err(self.mismatch(node, ty));
                }
                let values = items.zip(types).map(|(node, ty)| self.value(node, *ty));
                Val::Tuple(values.collect::<Read<_>>()?)
            }
            TypeDef::Variant(cases) => self.variant(node, ty, cases)?,
            TypeDef::Enum(names) => {
                let name = node.as_enum(self.text).map_err(mismatch)?;
                if !names.iter().any(|known| known == name) {
                    return Err(self.mismatch(node, ty));
                }
                Val::Enum(name.to_owned())
            }
            TypeDef::Option(of) => Val::Option(match node.ty() {
                NodeType::OptionNone => None,
                NodeType::OptionSome => {
                    let some = node.as_option().map_err(mismatch)?;
                    self.payload(node, "some", Some(*of), some)?
                }
                // `some` need not be written.
                _ if self.can_stand_alone(*of) => Some(Box::new(self.value(node, *of)?)),
                _ => return Err(self.mismatch(node, ty)),
            }),
            TypeDef::Result { ok, err } => Val::Result(match node.ty() {
                NodeType::ResultOk | NodeType::ResultErr => {
                    match node.as_result().map_err(mismatch)? {
                        Ok(value) => Ok(self.payload(node, "ok", *ok, value)?),
                        Err(value) => Err(self.payload(node, "err", *err, value)?),
                    }
                }
                // Neither need `ok`.
                _ => match ok {
                    Some(of) if self.can_stand_alone(*of) => {
                        Ok(Some(Box::new(self.value(node, *of)?)))
                    }
                    _ => return Err(self.mismatch(node, ty)),
                },
            }),
            TypeDef::Flags(names) => self.flags(node, ty, names)?,
        })
    }

    /// Whether a value of a type is not taken for an option or result around it.
    fn can_stand_alone(&self, ty: Type) -> bool {
        !matches!(self.types.def(ty), Some(TypeDef::Option(_) | TypeDef::Result { .. }))
    }

    fn list(&self, items: &[&Node], element: Type) -> Read<Val> {
        if element == Type::U8 {
            let bytes = items.iter().map(|node| self.number(node, element));
            return Ok(Val::Bytes(bytes.collect::<Read<_>>()?));
        }
        let values = items.iter().map(|node| self.value(node, element));
        Ok(Val::List(values.collect::<Read<_>>()?))
    }

    fn record(&self, node: &Node, ty: Type, fields: &[Field]) -> Read<Val> {
        let given: Vec<_> =
            node.as_record(self.text).map_err(|_| self.mismatch(node, ty))?.collect();
        for (name, value) in &given {
            if !fields.iter().any(|field| field.name == *name) {
                let what = format!("{} has no field {name:?}", self.types.summary(ty));
                return Err(self.problem(value, what));
            }
        }
        let field = |field: &Field| {
            let given = given.iter().find(|(name, _)| *name == field.name);
            let value = match given {
                Some((_, value)) => self.value(value, field.ty)?,
                None => self.left_out(field.ty).ok_or_else(|| {
                    let what = format!("the field {:?} is missing", field.name);
                    self.problem(node, what)
                })?,
            };
            Ok((field.name.clone(), value))
        };
        Ok(Val::Record(fields.iter().map(field).collect::<Read<_>>()?))
    }

    fn left_out(&self, ty: Type) -> Option<Val> {
        matches!(self.types.def(ty), Some(TypeDef::Option(_))).then_some(Val::Option(None))
    }

    fn variant(&self, node: &Node, ty: Type, cases: &[Case]) -> Read<Val> {
        // What else would be a keyword is a case's name here.
        let (name, value) = node.as_variant(self.text).map_err(|_| self.mismatch(node, ty))?;
        match cases.iter().find(|case| case.name == name) {
            Some(case) => {
                Ok(Val::Variant(name.to_owned(), self.payload(node, name, case.ty, value)?))
            }
            None => Err(self.mismatch(node, ty)),
        }
    }

    fn payload(
        &self,
        node: &Node,
        case: &str,
        ty: Option<Type>,
        value: Option<&Node>,
    ) -> Read<Option<Box<Val>>> {
        match (ty, value) {
            (None, None) => Ok(None),
            (Some(ty), Some(value)) => Ok(Some(Box::new(self.value(value, ty)?))),
            (Some(ty), None) => {
                let ty = self.types.summary(ty);
                Err(self.problem(node, format!("{case:?} needs a value: {case}({ty})")))
            }
            (None, Some(value)) => Err(self.problem(value, format!("{case:?} has no value"))),
        }
    }

    fn flags(&self, node: &Node, ty: Type, names: &[String]) -> Read<Val> {
        let given = node.as_flags(self.text).map_err(|_| self.mismatch(node, ty))?;
        let given: Vec<_> = given.map(|name| name.strip_prefix('%').unwrap_or(name)).collect();
        if let Some(unknown) = given.iter().find(|name| !names.iter().any(|n| n == *name)) {
            let what = format!("{} has no {unknown:?}", self.types.summary(ty));
            return Err(self.problem(node, what));
        }
        let set = names.iter().filter(|name| given.contains(&name.as_str()));
        Ok(Val::Flags(set.cloned().collect()))
    }

    /// The arguments of a function; `end` is where another could be.
    pub(super) fn arguments(
        &self,
        nodes: &[&Node],
        end: usize,
        function: &Function,
    ) -> Read<Vec<Val>> {
        let params = &function.ty.params;
        let count = |at: usize| {
            let ty = self.types.summary_of_function(&function.ty);
            let (given, params) = (nodes.len(), params.len());
            let what = format!("{given} arguments for {params} parameters of {ty}");
            Problem { at, what }
        };
        if let Some(more) = nodes.get(params.len()) {
            return Err(count(more.span().start));
        }
        let mut values = Vec::with_capacity(params.len());
        for (at, param) in params.iter().enumerate() {
            values.push(match nodes.get(at) {
                Some(node) => self.value(node, param.ty)?,
                None => self.left_out(param.ty).ok_or_else(|| count(end))?,
            });
        }
        Ok(values)
    }
}
