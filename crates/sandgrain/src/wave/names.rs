//! How the functions that a component exports are named.

use crate::error::{Error, Result};
use sandgrain_abi::component::{ComponentInfo, Function};
use sandgrain_abi::text::printable;

/// How many functions an error lists.
const LISTED: usize = 20;

/// The function that is exported under a name: `greet`, or with its instance before it, as in
/// `ns:pkg/iface@1.0.0#greet`, where the version, and what is before the last part, can be left out, and the
/// separator can be a dot. Functions of instances in instances have all their names in a row.
///
/// # Errors
/// [`Error::BadCall`] if there is none, or if several have this name and none has no other. It lists what there
/// is.
pub fn find_export<'a>(name: &str, info: &'a ComponentInfo) -> Result<&'a Function> {
    let exports = || info.exports.iter();
    // A full name is never ambiguous.
    let exact = |function: &&Function| {
        [function.path.join("#"), function.path.join(".")].iter().any(|full| full == name)
    };
    if let Some(function) = exports().find(exact) {
        return Ok(function);
    }
    let found: Vec<_> = exports().filter(|function| can_be_called(&function.path, name)).collect();
    match found.as_slice() {
        [function] => Ok(function),
        [] if info.exports.is_empty() => {
            Err(Error::BadCall("the component exports no functions".to_owned()))
        }
        [] => {
            let all: Vec<_> = exports().collect();
            let what = format!("no exported function {:?}; there are: ", printable(name));
            Err(Error::BadCall(what + &list(&all, info)))
        }
        several => {
            let what = format!("{:?} is the name of several functions: ", printable(name));
            Err(Error::BadCall(what + &list(several, info)))
        }
    }
}

fn list(functions: &[&Function], info: &ComponentInfo) -> String {
    let shown = functions.iter().take(LISTED).map(|function| {
        let ty = info.types.summary_of_function(&function.ty);
        format!("{}: {ty}", printable(&function.path.join("#")))
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = functions.len().checked_sub(LISTED) {
        text += &format!("; and {more} more");
    }
    text
}

/// Whether a function can be called by a name that is not its full one.
fn can_be_called(path: &[String], name: &str) -> bool {
    let Some((function, instances)) = path.split_last() else { return false };
    if name == function {
        return true;
    }
    let Some(instance) = instances.last() else { return false };
    let (unversioned, version) = match instance.rsplit_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (instance.as_str(), None),
    };
    let last = unversioned.rsplit('/').next().unwrap_or(unversioned);
    // WAVE itself has the version at the end.
    let versioned = version.map(|version| format!("@{version}"));
    let prefix = name
        .strip_suffix(function.as_str())
        .or_else(|| name.strip_suffix(versioned.as_deref()?)?.strip_suffix(function.as_str()));
    let prefix = prefix.and_then(|prefix| prefix.strip_suffix(['.', '#']));
    let at_the_end = versioned.is_some_and(|version| name.ends_with(&version));
    prefix.is_some_and(|prefix| {
        prefix == unversioned || prefix == last || (prefix == instance && !at_the_end)
    })
}
