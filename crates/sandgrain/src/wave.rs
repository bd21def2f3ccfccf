//! Values and calls of components as text: WAVE, WebAssembly's value encoding.
//!
//! ```
//! use sandgrain::wave;
//! use sandgrain_abi::component::{Type, TypeDef, Types, Val};
//!
//! # fn main() -> sandgrain::Result<()> {
//! let types = Types { defs: vec![TypeDef::List(Type::Char)], ..Types::default() };
//! let value = wave::parse_value("['a', '\\n']", Type::Defined(0), &types)?;
//! assert_eq!(value, Val::List(vec![Val::Char('a'), Val::Char('\n')]));
//! assert_eq!(wave::print(&value), "['a', '\\n']");
//! # Ok(())
//! # }
//! ```

mod names;
mod print;
mod read;

pub use names::find_export;

use crate::error::{Error, Result};
use read::{Problem, Source};
use sandgrain_abi::component::{ComponentInfo, Function, Type, Types, Val};
use std::fmt;
use wasm_wave::parser::{ParserError, ParserErrorKind};
use wasm_wave::untyped::UntypedValue;
use wasm_wave::writer::Writer;

/// Reads a value of a type.
///
/// # Errors
/// [`Error::BadCall`] with the place in the text, if it is none.
pub fn parse_value(text: &str, ty: Type, types: &Types) -> Result<Val> {
    let value = || {
        let parsed = UntypedValue::parse(text).map_err(|error| Problem::parse(&error))?;
        Source { text, types }.value(parsed.node(), ty)
    };
    value().map_err(|problem| problem.within(text, 0))
}

/// Reads a call such as `greet("Ada", {loud: true})`: the export that is called, and the arguments. How an
/// export can be named [`find_export`] says. Fields and last arguments that are options can be left out.
///
/// # Errors
/// [`Error::BadCall`], with the place in the text if it is none; and as [`find_export`].
pub fn parse_call<'a>(text: &str, info: &'a ComponentInfo) -> Result<(&'a Function, Vec<Val>)> {
    let Some(open) = text.find('(') else {
        return Err(Error::BadCall(format!(
            "a call is a function's name and its arguments in parentheses: {}(...)",
            sandgrain_abi::text::printable(text.trim())
        )));
    };
    let function = find_export(text[..open].trim(), info)?;
    let args = &text[open..];
    let values = arguments(args, function, &info.types);
    let values = values.map_err(|problem| problem.within(text, open))?;
    Ok((function, values))
}

fn arguments(
    text: &str,
    function: &Function,
    types: &Types,
) -> std::result::Result<Vec<Val>, Problem> {
    let source = Source { text, types };
    match UntypedValue::parse(text) {
        Ok(parsed) => {
            let nodes = parsed.node().as_tuple().map_err(|error| Problem::parse(&error))?;
            source.arguments(&nodes.collect::<Vec<_>>(), text.len() - 1, function)
        }
        // A tuple has elements; a function can do without arguments.
        Err(error) if is_empty(&error, text) => source.arguments(&[], text.len() - 1, function),
        Err(error) => Err(Problem::parse(&error)),
    }
}

fn is_empty(error: &ParserError, text: &str) -> bool {
    let span = error.span();
    error.kind() == ParserErrorKind::EmptyTuple
        && span.start == 0
        && text.get(span.end..).is_some_and(|rest| rest.trim().is_empty())
}

/// A value as text, from which [`parse_value`] reads the same one again. A handle of a resource has no such
/// text; it is shown by its number.
#[must_use]
pub fn print(value: &Val) -> String {
    Printed(value).to_string()
}

struct Printed<'a>(&'a Val);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Writer::new(f).write_value(&print::Shown::Val(self.0)).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests;
