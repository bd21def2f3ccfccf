//! Which functions there are, and of which types.

use sandgrain_abi::component::{
    Case, Field, FunctionType, Resource, ResourceOrigin, Type, TypeDef, Types,
};
use sandgrain_wasi::component::{Function, interfaces, is_resource, resources};

#[test]
fn every_function_is_found_under_its_name_and_number() {
    let mut count = 0;
    for function in Function::all() {
        assert_eq!(Function::lookup(function.instance(), function.name()), Some(function));
        assert_eq!(Function::from_index(function.index()), Some(function));
        count += 1;
    }
    assert!(count > 150, "{count}");
    assert_eq!(Function::from_index(u16::MAX), None);
}

#[test]
fn all_versions_0_2_are_one() {
    for version in ["0.2.0", "0.2.3", "0.2.12", "0.2.99"] {
        let instance = format!("wasi:io/streams@{version}");
        let function = Function::lookup(&instance, "[method]input-stream.read").unwrap();
        assert_eq!(function.instance(), "wasi:io/streams@0.2.12");
    }
    for version in ["0.3.0", "0.20.1", "1.2.0", "0.2", "0.2.", "0.2.x", "0.2.0-rc-2023-11-10"] {
        let instance = format!("wasi:io/streams@{version}");
        assert_eq!(Function::lookup(&instance, "[method]input-stream.read"), None, "{version}");
    }
    assert_eq!(Function::lookup("wasi:io/streams", "[method]input-stream.read"), None);
}

#[test]
fn a_function_that_there_is_not_is_none() {
    assert_eq!(Function::lookup("wasi:io/streams@0.2.0", "[method]input-stream.rewind"), None);
    assert_eq!(Function::lookup("wasi:nn/graph@0.2.0", "load"), None);
    assert_eq!(Function::lookup("wasi:cli/run@0.2.0", "run"), None);
    assert_eq!(Function::lookup("wasi:io/streams@0.2.0", "[resource-drop]stream"), None);
}

#[test]
fn resources_are_dropped_under_each_of_their_names() {
    let drop = |instance: &str, name: &str| {
        Function::lookup(instance, &format!("[resource-drop]{name}")).unwrap()
    };
    let fields = drop("wasi:http/types@0.2.0", "fields");
    assert_eq!(drop("wasi:http/types@0.2.0", "headers"), fields);
    assert_eq!(drop("wasi:http/types@0.2.0", "trailers"), fields);
    let error = drop("wasi:io/error@0.2.0", "error");
    assert_eq!(drop("wasi:http/types@0.2.0", "io-error"), error);
    assert_eq!(error.instance(), "wasi:io/error@0.2.12");
    assert!(is_resource("wasi:http/types@0.2.7", "headers"));
    assert!(!is_resource("wasi:http/types@0.2.7", "method"));
    for (instance, name) in resources() {
        drop(instance, name);
    }
}

#[test]
fn every_interface_of_the_commands_and_the_proxys_worlds_is_there() {
    let names: Vec<&str> =
        interfaces().iter().map(|name| name.split('@').next().unwrap()).collect();
    for name in [
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/wall-clock",
        "wasi:filesystem/types",
        "wasi:filesystem/preopens",
        "wasi:http/types",
        "wasi:http/outgoing-handler",
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:random/random",
        "wasi:random/insecure",
        "wasi:random/insecure-seed",
        "wasi:sockets/network",
        "wasi:sockets/instance-network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
        "wasi:sockets/ip-name-lookup",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

/// The types of a component that imports `blocking-read`, its resources under these paths.
fn reading(stream: &[&str], cases: &[(&str, Option<Type>)]) -> (FunctionType, Types) {
    let resource = |path: &[&str]| Resource {
        path: path.iter().map(|name| (*name).to_owned()).collect(),
        origin: ResourceOrigin::Imported,
    };
    let cases = cases.iter().map(|(name, ty)| Case { name: (*name).to_owned(), ty: *ty }).collect();
    let types = Types {
        defs: vec![
            TypeDef::List(Type::U8),
            TypeDef::Variant(cases),
            TypeDef::Result { ok: Some(Type::Defined(0)), err: Some(Type::Defined(1)) },
        ],
        resources: vec![resource(stream), resource(&["wasi:io/error@0.2.3", "error"])],
    };
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let params = vec![field("self", Type::Borrow(0)), field("len", Type::U64)];
    (FunctionType { params, result: Some(Type::Defined(2)) }, types)
}

const STREAM: &[&str] = &["wasi:io/streams@0.2.3", "input-stream"];
const CASES: &[(&str, Option<Type>)] =
    &[("last-operation-failed", Some(Type::Own(1))), ("closed", None)];

fn is_taken((ty, types): &(FunctionType, Types)) -> bool {
    let name = "[method]input-stream.blocking-read";
    Function::lookup("wasi:io/streams@0.2.3", name).unwrap().has_type(ty, types)
}

#[test]
fn the_same_type_is_taken() {
    assert!(is_taken(&reading(STREAM, CASES)));
    // Another interface that has the resource under a name.
    assert!(is_taken(&reading(&["wasi:http/types@0.2.3", "input-stream"], CASES)));
}

#[test]
fn another_type_is_not_taken() {
    assert!(!is_taken(&reading(STREAM, &CASES[..1])));
    assert!(!is_taken(&reading(STREAM, &[CASES[1], CASES[0]])));
    assert!(!is_taken(&reading(STREAM, &[("failed", Some(Type::Own(1))), CASES[1]])));
    assert!(!is_taken(&reading(STREAM, &[("last-operation-failed", None), CASES[1]])));
    assert!(!is_taken(&reading(&["wasi:io/streams@0.2.3", "output-stream"], CASES)));
    assert!(!is_taken(&reading(&["input-stream"], CASES)));

    let mut changed = reading(STREAM, CASES);
    changed.0.params[1].ty = Type::U32;
    assert!(!is_taken(&changed));
    let mut changed = reading(STREAM, CASES);
    changed.0.params[0].ty = Type::Own(0);
    assert!(!is_taken(&changed));
    let mut changed = reading(STREAM, CASES);
    changed.0.params.pop();
    assert!(!is_taken(&changed));
    let mut changed = reading(STREAM, CASES);
    changed.0.result = None;
    assert!(!is_taken(&changed));
    let mut changed = reading(STREAM, CASES);
    changed.1.resources[0].origin = ResourceOrigin::Defined;
    assert!(!is_taken(&changed));
}
