//! The functions, and what is known of them beyond the WIT.

use std::fmt::Write as _;

use wit_parser::{
    Function, FunctionKind, InterfaceId, PackageId, Resolve, Type, TypeDefKind, TypeId, WorldItem,
};

use crate::names;
use crate::types::Types;

/// The worlds whose imports are offered.
const WORLDS: &[(&str, &str)] = &[("cli", "imports"), ("http", "imports")];

/// The errors that have a type of their own in the bindings, in which a trap fits too. A function of the
/// interface turns them back, `convert_` and the error's name.
const TRAPPABLE: &[(&str, &str)] = &[
    ("wasi:io/streams", "stream-error"),
    ("wasi:filesystem/types", "error-code"),
    ("wasi:sockets/network", "error-code"),
    ("wasi:http/types", "error-code"),
    ("wasi:http/types", "header-error"),
];

/// The functions that are answered by one in `overrides`, of the same name, which sees to limits and grants.
const OVERRIDES: &[(&str, &str)] = &[
    ("wasi:io/poll", "poll"),
    ("wasi:io/streams", "[method]input-stream.read"),
    ("wasi:io/streams", "[method]input-stream.blocking-read"),
    ("wasi:io/streams", "[resource-drop]input-stream"),
    ("wasi:io/streams", "[method]output-stream.write"),
    ("wasi:io/streams", "[resource-drop]output-stream"),
    ("wasi:cli/stdin", "get-stdin"),
    ("wasi:cli/stdout", "get-stdout"),
    ("wasi:cli/stderr", "get-stderr"),
    ("wasi:http/types", "[method]incoming-body.stream"),
    ("wasi:filesystem/types", "[method]descriptor.open-at"),
    ("wasi:filesystem/types", "[resource-drop]descriptor"),
    ("wasi:random/random", "get-random-bytes"),
    ("wasi:random/random", "get-random-u64"),
    ("wasi:random/insecure", "get-insecure-random-bytes"),
    ("wasi:random/insecure", "get-insecure-random-u64"),
    ("wasi:random/insecure-seed", "insecure-seed"),
    ("wasi:sockets/tcp-create-socket", "create-tcp-socket"),
    ("wasi:sockets/tcp", "[method]tcp-socket.accept"),
    ("wasi:sockets/tcp", "[resource-drop]tcp-socket"),
    ("wasi:sockets/udp-create-socket", "create-udp-socket"),
    ("wasi:sockets/udp", "[resource-drop]udp-socket"),
    ("wasi:sockets/ip-name-lookup", "resolve-addresses"),
    ("wasi:sockets/ip-name-lookup", "[method]resolve-address-stream.resolve-next-address"),
    ("wasi:sockets/ip-name-lookup", "[resource-drop]resolve-address-stream"),
];

/// A function of an interface, or the dropping of one of its resources.
enum Item<'a> {
    Function(&'a Function),
    Drop(&'a str),
}

/// The whole of the generated code.
pub fn generate(resolve: &Resolve) -> String {
    let interfaces = interfaces(resolve);
    let mut types = Types::new(resolve);
    // Names of resource types, those among them that stand for another type.
    let mut resource_names = Vec::new();
    for id in &interfaces {
        for (name, ty) in &resolve.interfaces[*id].types {
            if matches!(resolve.types[types.resolved(*ty)].kind, TypeDefKind::Resource) {
                resource_names.push((names::interface(resolve, *id), name, *ty));
                if types.resolved(*ty) == *ty {
                    types.resources.push(*ty);
                }
            }
        }
    }
    let mut overridden = 0;
    let (mut calls, mut table) = (String::new(), String::new());
    let mut number = 0;
    for (place, id) in interfaces.iter().enumerate() {
        for item in items(resolve, *id) {
            let (params, result) = signature(&item);
            overridden += usize::from(is_overridden(resolve, *id, &item));
            let code = call(resolve, &mut types, *id, &item, number);
            calls.push_str(&code);
            let params: Vec<String> = params.iter().map(|ty| types.shape(ty)).collect();
            let result = result.map_or("None".into(), |ty| format!("Some({})", types.shape(&ty)));
            writeln!(
                table,
                "Entry {{ interface: {place}, name: {:?}, params: &[{}], result: {result}, prepare: call_{number} }},",
                name(&item),
                params.join(", "),
            )
            .unwrap();
            number += 1;
        }
    }
    assert_eq!(overridden, OVERRIDES.len(), "a function of OVERRIDES is not in the WIT");

    let mut out = String::new();
    let versioned: Vec<String> =
        interfaces.iter().map(|id| names::versioned(resolve, *id)).collect();
    write!(out, "pub(super) static INTERFACES: &[&str] = &{versioned:#?};\n\n").unwrap();
    let resources = resource_names.iter().map(|(interface, name, ty)| {
        format!("({interface:?}, {name:?}, {}),\n", types.resource(*ty))
    });
    let resources: String = resources.collect();
    write!(out, "pub(super) static RESOURCES: &[(&str, &str, usize)] = &[\n{resources}];\n\n")
        .unwrap();
    write!(out, "pub(super) static TABLE: &[Entry] = &[\n{table}];\n\n").unwrap();
    out + &calls + &types.code
}

/// The interfaces that the worlds import, each once.
fn interfaces(resolve: &Resolve) -> Vec<InterfaceId> {
    let mut found = Vec::new();
    for (package, world) in WORLDS {
        let world = resolve.packages[self::package(resolve, package)].worlds[*world];
        for item in resolve.worlds[world].imports.values() {
            match item {
                WorldItem::Interface { id, .. } if !found.contains(id) => found.push(*id),
                WorldItem::Interface { .. } => {}
                _ => panic!("WASI 0.2 is imported in interfaces"),
            }
        }
    }
    found
}

fn package(resolve: &Resolve, name: &str) -> PackageId {
    let found = resolve
        .packages
        .iter()
        .find(|(_, package)| package.name.namespace == "wasi" && package.name.name == name);
    found.unwrap_or_else(|| panic!("the WIT has no package wasi:{name}")).0
}

fn items(resolve: &Resolve, id: InterfaceId) -> Vec<Item<'_>> {
    let interface = &resolve.interfaces[id];
    let functions = interface.functions.values().map(Item::Function);
    let drops = interface.types.iter().filter_map(|(name, ty)| {
        let is_resource = matches!(resolve.types[*ty].kind, TypeDefKind::Resource);
        is_resource.then_some(Item::Drop(name))
    });
    functions.chain(drops).collect()
}

fn name(item: &Item<'_>) -> String {
    match item {
        Item::Function(function) => function.name.clone(),
        Item::Drop(name) => format!("[resource-drop]{name}"),
    }
}

/// The types of the parameters, a dropped handle's own one left out, and that of the result.
fn signature(item: &Item<'_>) -> (Vec<Type>, Option<Type>) {
    match item {
        Item::Function(function) => {
            (function.params.iter().map(|param| param.ty).collect(), function.result)
        }
        Item::Drop(..) => (Vec::new(), None),
    }
}

fn is_overridden(resolve: &Resolve, id: InterfaceId, item: &Item<'_>) -> bool {
    let (interface, name) = (names::interface(resolve, id), name(item));
    OVERRIDES.iter().any(|(i, n)| *i == interface && *n == name)
}

/// The function that reads the arguments of a call and makes what answers it.
fn call(
    resolve: &Resolve,
    types: &mut Types<'_>,
    id: InterfaceId,
    item: &Item<'_>,
    number: usize,
) -> String {
    let (package, _) = names::parts(resolve, id);
    let view = match package {
        "io" => "&mut state.table",
        "random" => "state.wasi.random()",
        "cli" => "&mut state.cli()",
        "clocks" => "&mut state.clocks()",
        "filesystem" => "&mut state.filesystem()",
        "sockets" => "&mut state.sockets()",
        "http" => "&mut state.http()",
        other => panic!("nothing answers wasi:{other}"),
    };
    let (params, result) = signature(item);
    let mut lifted: Vec<String> = params.iter().map(|ty| types.lift(ty)).collect();
    if let Item::Drop(..) = item {
        lifted.push("Resource::new_own(from.handle()?)".into());
    }
    let mut code = format!(
        "/// `{}` of `{}`.\nfn call_{number}({}from: &mut Reader<'_>) -> Result<Prepared, DecodeError> {{\n",
        name(item),
        names::versioned(resolve, id),
        if lifted.is_empty() { "_" } else { "" },
    );
    let mut args = Vec::new();
    for (at, value) in lifted.iter().enumerate() {
        writeln!(code, "let arg{at} = {value};").unwrap();
        args.push(format!("arg{at}"));
    }
    code.push_str("Ok(prepared(move |state| Box::pin(async move {\n");
    // Some of the library's methods take for granted that a handle is of its type, and some look only when
    // it is too late.
    let mut checks: Vec<Option<String>> = params.iter().map(|ty| types.check(ty)).collect();
    if let Item::Drop(..) = item {
        checks.push(Some("check(&state.table, value)?;".into()));
    }
    for (at, check) in checks.iter().enumerate() {
        if let Some(check) = check {
            writeln!(code, "{{ let value = &arg{at}; {check} }}").unwrap();
        }
    }
    let (object, method) = path(resolve, id, item);
    // A refusal for want of a grant is told by the paths, which the call takes away.
    let mut tell = "";
    if package == "filesystem" && error(types, resolve, result.as_ref()).is_some() {
        let paths = args.iter().zip(&params).filter(|(_, ty)| matches!(ty, Type::String));
        let paths: Vec<String> = paths.map(|(arg, _)| format!("{arg}.as_bytes()")).collect();
        writeln!(code, "let paths = named_paths(&[{}]);", paths.join(", ")).unwrap();
        tell = "state.tell_of_file(&value, &paths); ";
    }
    if is_overridden(resolve, id, item) {
        let own = match object.as_str() {
            "" => method,
            resource => format!("{}_{method}", names::snake(resource)),
        };
        args.insert(0, "state".into());
        writeln!(code, "let result = overrides::{own}({}).await;", args.join(", ")).unwrap();
        if error(types, resolve, result.as_ref()).is_some() {
            writeln!(code, "let view = {view};").unwrap();
        }
    } else {
        let object = names::camel(&object);
        let module = names::module(resolve, id);
        args.insert(0, "&mut *view".into());
        write!(
            code,
            "let view = {view};\nlet result = Called({module}::Host{object}::{method}({})).settle().await;\n",
            args.join(", ")
        )
        .unwrap();
    }
    code.push_str("let mut writer = Writer::new();\nlet out = &mut writer;\n");
    match error(types, resolve, result.as_ref()) {
        Some((ok, err, convert)) => {
            let ok = match ok {
                Some(ty) => format!("Ok(value) => {{ out.u8(0); {} }}", types.lower(&ty)),
                None => "Ok(()) => out.u8(0),".into(),
            };
            let err = types.lower(&err);
            write!(
                code,
                "match result {{\n{ok}\nErr(error) => {{ let value = {convert}(&mut *view, error)?; {tell}out.u8(1); {err} }}\n}}\n"
            )
            .unwrap();
        }
        None => match result {
            Some(ty) => write!(code, "let value = result?;\n{}\n", types.lower(&ty)).unwrap(),
            None => code.push_str("let () = result?;\nlet _ = out;\n"),
        },
    }
    code + "Ok(writer)\n})))\n}\n\n"
}

/// The resource that a function belongs to, if to one, and the function's name in Rust.
fn path(resolve: &Resolve, id: InterfaceId, item: &Item<'_>) -> (String, String) {
    let function = match item {
        Item::Drop(name) => return ((*name).to_owned(), "drop".to_owned()),
        Item::Function(function) => function,
    };
    let resource = |id: TypeId| names::name(&resolve.types[id]).to_owned();
    match function.kind {
        FunctionKind::Freestanding => (String::new(), names::snake(&function.name)),
        FunctionKind::Constructor(ty) => (resource(ty), "new".to_owned()),
        FunctionKind::Method(ty) | FunctionKind::Static(ty) => {
            (resource(ty), names::snake(function.item_name()))
        }
        _ => panic!("{} of {} is async", function.name, names::interface(resolve, id)),
    }
}

/// For a result with a trappable error: the types of its values, and the function that turns the error back.
fn error(
    types: &Types<'_>,
    resolve: &Resolve,
    result: Option<&Type>,
) -> Option<(Option<Type>, Type, String)> {
    let Type::Id(id) = result? else { return None };
    let TypeDefKind::Result(result) = &resolve.types[types.resolved(*id)].kind else { return None };
    let err @ Type::Id(id) = result.err? else { return None };
    let def = &resolve.types[types.resolved(id)];
    let (interface, name) = (names::interface(resolve, names::owner(def)), names::name(def));
    if !TRAPPABLE.contains(&(interface.as_str(), name)) {
        return None;
    }
    let module = names::module(resolve, names::owner(def));
    Some((result.ok, err, format!("{module}::Host::convert_{}", names::snake(name))))
}
