//! What is checked before the guest is asked, and of what it answers.

use crate::engine::Engine;
use crate::error::{Error, Result, described};
use crate::limits::Limits;
use crate::machine::plan;
use crate::module::{Interface, Module};
use sandgrain_abi::types::{ExternType, ValType};
use sandgrain_abi::value::Value;
use std::sync::Arc;

/// Checks that a module can be in a sandbox of this engine with these limits.
pub(crate) fn module(engine: &Engine, module: &Module, limits: &Limits) -> Result<()> {
    if !Arc::ptr_eq(&engine.inner, &module.engine().inner) {
        return Err(Error::BadCall(
            "the modules of a sandbox are of different engines; compile them with the same".into(),
        ));
    }
    for ty in &module.info().memories {
        let minimum = ty.minimum.saturating_mul(ty.page_size);
        if minimum > plan::capacity(ty, limits.memory) {
            return Err(Error::Limit {
                what: "a linear memory",
                limit: format!("{} bytes", limits.memory),
                detail: format!("the module asks for {minimum} bytes from the start"),
            });
        }
    }
    Ok(())
}

/// Checks a call against the module; the types of its results.
pub(crate) fn call(module: &Interface, name: &str, args: &[Value]) -> Result<Vec<ValType>> {
    let ty = match module.export(name) {
        Some(ExternType::Func(ty)) => ty,
        other => return Err(no_export(module, name, other, "function")),
    };
    if args.len() != ty.params.len() || !args.iter().zip(&ty.params).all(|(arg, ty)| arg.is_a(*ty))
    {
        return Err(Error::BadCall(format!(
            "{name:?} has the type {ty}; it was called with {args:?}"
        )));
    }
    Ok(ty.results.clone())
}

/// Whether the guest may return such a value. It is untrusted, so its word is checked too.
pub(crate) fn fits(value: &Value, ty: ValType) -> bool {
    match (value, ty) {
        (Value::GcRef(of), ValType::Ref { heap, .. }) => of.top() == heap.top(),
        _ => value.is_a(ty),
    }
}

/// The error for an export that is not there, or is something else.
pub(crate) fn no_export(
    module: &Interface,
    name: &str,
    found: Option<&ExternType>,
    wanted: &str,
) -> Error {
    if let Some(found) = found {
        return Error::BadCall(format!(
            "the export {name:?} is a {}, not a {wanted}",
            found.kind()
        ));
    }
    let exports = &module.info().exports;
    let same: Vec<&str> = exports
        .iter()
        .filter(|export| export.ty.kind() == wanted)
        .map(|export| export.name.as_str())
        .collect();
    let listed = same.iter().take(20).map(described).collect::<Vec<_>>();
    let more = if same.len() > listed.len() { ", ..." } else { "" };
    Error::BadCall(if same.is_empty() {
        format!("the module exports no {wanted} at all; {name:?} was asked for")
    } else {
        format!("the module exports no {wanted} {name:?}; it has {}{more}", listed.join(", "))
    })
}
