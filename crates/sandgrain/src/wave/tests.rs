//! Values and calls as text.

use super::{find_export, parse_call, parse_value, print};
use crate::error::Error;
use proptest::prelude::*;
use sandgrain_abi::component::{
    Case, ComponentInfo, Field, Function, FunctionType, Resource, ResourceHandle, ResourceOrigin,
    Type, TypeDef, Types, Val,
};

#[path = "../../../abi/tests/component/shapes.rs"]
mod shapes;

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.to_owned(), ty }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn function(path: &[&str], params: &[(&str, Type)]) -> Function {
    let params = params.iter().map(|(name, ty)| field(name, *ty)).collect();
    Function { path: texts(path), ty: FunctionType { params, result: None } }
}

const D: fn(u32) -> Type = Type::Defined;

/// Types of which each test takes some.
fn types() -> Types {
    let case = |name: &str, ty| Case { name: name.to_owned(), ty };
    Types {
        defs: vec![
            TypeDef::Option(Type::Bool),
            TypeDef::Record(vec![field("loud", D(0)), field("count", Type::U8)]),
            TypeDef::List(Type::U8),
            TypeDef::Variant(vec![case("none", None), case("many", Some(Type::U32))]),
            TypeDef::Enum(texts(&["red", "true"])),
            TypeDef::Flags(texts(&["a", "b", "inf"])),
            TypeDef::Result { ok: Some(Type::String), err: None },
            TypeDef::Tuple(vec![Type::Char, Type::F64]),
            TypeDef::Option(D(0)),
            TypeDef::FixedList(Type::U8, 2),
            TypeDef::Record(vec![field("loud", D(0))]),
        ],
        resources: vec![Resource { path: texts(&["file"]), origin: ResourceOrigin::Imported }],
    }
}

fn value(text: &str, ty: Type) -> Val {
    parse_value(text, ty, &types()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn said(error: Error) -> String {
    match error {
        Error::BadCall(what) => what,
        other => panic!("{other}"),
    }
}

fn refused(text: &str, ty: Type) -> String {
    said(parse_value(text, ty, &types()).expect_err(text))
}

fn some(value: Val) -> Val {
    Val::Option(Some(Box::new(value)))
}

#[test]
fn values_of_each_type() {
    let loud = |loud: Val, count| {
        Val::Record(vec![("loud".to_owned(), loud), ("count".to_owned(), Val::U8(count))])
    };
    for (text, ty, expected) in [
        ("true", Type::Bool, Val::Bool(true)),
        ("-128", Type::S8, Val::S8(-128)),
        ("18446744073709551615", Type::U64, Val::U64(u64::MAX)),
        ("-inf", Type::F32, Val::F32(f32::NEG_INFINITY)),
        ("1.5e3", Type::F64, Val::F64(1500.0)),
        (r"'\u{1F980}'", Type::Char, Val::Char('🦀')),
        (r#""a\"\\\n\u{e9}""#, Type::String, Val::String("a\"\\\né".to_owned())),
        ("some(true)", D(0), some(Val::Bool(true))),
        ("true", D(0), some(Val::Bool(true))),
        ("none", D(0), Val::Option(None)),
        ("some(none)", D(8), some(Val::Option(None))),
        ("{loud: true, count: 3}", D(1), loud(some(Val::Bool(true)), 3)),
        ("{count: 3, loud: none}", D(1), loud(Val::Option(None), 3)),
        ("{ count : 3, } // no more", D(1), loud(Val::Option(None), 3)),
        ("[1, 2, 255]", D(2), Val::Bytes(vec![1, 2, 255])),
        ("[]", D(2), Val::Bytes(vec![])),
        ("[1, 2]", D(9), Val::Bytes(vec![1, 2])),
        ("%none", D(3), Val::Variant("none".to_owned(), None)),
        ("many(7)", D(3), Val::Variant("many".to_owned(), Some(Box::new(Val::U32(7))))),
        ("red", D(4), Val::Enum("red".to_owned())),
        ("%true", D(4), Val::Enum("true".to_owned())),
        ("{}", D(5), Val::Flags(vec![])),
        ("{b, a}", D(5), Val::Flags(texts(&["a", "b"]))),
        ("{%inf}", D(5), Val::Flags(texts(&["inf"]))),
        ("ok(\"x\")", D(6), Val::Result(Ok(Some(Box::new(Val::String("x".to_owned())))))),
        ("\"x\"", D(6), Val::Result(Ok(Some(Box::new(Val::String("x".to_owned())))))),
        ("err", D(6), Val::Result(Err(None))),
        ("('x', 1)", D(7), Val::Tuple(vec![Val::Char('x'), Val::F64(1.0)])),
        ("{:}", D(10), Val::Record(vec![("loud".to_owned(), Val::Option(None))])),
    ] {
        assert_eq!(value(text, ty), expected, "{text}");
    }
    assert!(matches!(value("nan", Type::F32), Val::F32(nan) if nan.is_nan()));
}

#[test]
fn errors_say_where_and_what() {
    for (text, ty, words) in [
        ("256", Type::U8, "column 1: 256 is no u8"),
        ("1.5", Type::S32, "column 1: 1.5 is no s32"),
        ("\"x\"", Type::Char, "column 1: \"x\" is no char"),
        ("[1, 2, 300]", D(2), "column 8: 300 is no u8"),
        ("[1, 2", D(2), "column 6: unexpected end"),
        ("[1, 2] 3", D(2), "column 8: trailing characters"),
        ("[1, ?]", D(2), "column 5: invalid token"),
        (
            "{lout: true, count: 1}",
            D(1),
            "column 8: record { loud: option<bool>, count: u8 } has no field \"lout\"",
        ),
        ("{loud: true}", D(1), "column 1: the field \"count\" is missing"),
        ("{count: 1, count: 2}", D(1), "duplicate field"),
        ("few", D(3), "column 1: few is no variant { none, many(u32) }"),
        ("many", D(3), "column 1: \"many\" needs a value: many(u32)"),
        ("%none(1)", D(3), "column 7: \"none\" has no value"),
        ("none", D(3), "column 1: none is no variant"),
        ("blue", D(4), "column 1: blue is no enum { red, true }"),
        ("{c}", D(5), "column 1: flags { a, b, inf } has no \"c\""),
        ("err(1)", D(6), "column 5: \"err\" has no value"),
        ("('x')", D(7), "column 1: ('x') is no tuple<char, f64>"),
        ("[1]", D(9), "column 1: [1] is no list<u8, 2>"),
        ("1", Type::Own(0), "column 1: a resource (own<file>) has no text"),
        ("{loud: true,\n count: -1}", D(1), "line 2, column 9: -1 is no u8"),
        (r#""\u{d800}""#, Type::String, "invalid character escape"),
    ] {
        let said = refused(text, ty);
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn no_value_is_nested_without_bounds() {
    let text = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(refused(&text, D(2)).contains("nesting too deep"));
}

#[test]
fn an_error_is_short() {
    let long = "x".repeat(1_000_000);
    assert!(refused(&format!("\"{long}\""), Type::U8).len() < 2_000);
    assert!(refused(&long, D(4)).len() < 2_000);
    // Each names the one before twice.
    let mut types = Types { defs: vec![TypeDef::List(Type::U8)], ..Types::default() };
    types.defs.extend((0..60).map(|level| TypeDef::Tuple(vec![D(level), D(level)])));
    let said = said(parse_value("1", D(60), &types).expect_err("no tuple"));
    assert!(said.len() < 2_000, "{said}");
}

#[test]
fn handles_are_shown_by_their_numbers() {
    let handle = Val::Resource(ResourceHandle { number: 7, owned: true });
    assert_eq!(
        print(&Val::Tuple(vec![handle, Val::HostResource(3)])),
        "(<resource 7>, <resource 3>)"
    );
}

fn exports(functions: Vec<Function>) -> ComponentInfo {
    ComponentInfo { types: types(), exports: functions, ..ComponentInfo::default() }
}

fn greeter() -> ComponentInfo {
    exports(vec![
        function(&["greet"], &[("name", Type::String), ("how", D(1)), ("why", D(0))]),
        function(&["ns:pkg/iface@1.0.0", "greet"], &[]),
        function(&["ns:pkg/iface@1.0.0", "only"], &[]),
        function(&["ns:pkg/other", "twice"], &[]),
        function(&["ns:else/other", "twice"], &[]),
        function(&["outer", "inner", "deep"], &[("x", Type::U8)]),
        function(&["ns:pkg/iface@1.0.0", "[method]file.size"], &[]),
        function(&["ns:pkg/iface@2.0.0", "newer"], &[]),
        function(&["ns:pkg/iface@2.0.0", "only"], &[]),
    ])
}

#[test]
fn a_call_has_a_name_and_arguments() {
    let info = greeter();
    let (function, args) =
        parse_call("greet(\"Ada\", {loud: true, count: 1}, none)", &info).expect("a call");
    assert_eq!(function.path, ["greet"]);
    assert_eq!(args[0], Val::String("Ada".to_owned()));
    assert_eq!(args.len(), 3);
    // Last ones can be left out, if they are options.
    let (_, args) = parse_call(" greet ( \"Ada\", {count: 1} ) ", &info).expect("a call");
    assert_eq!(args[2], Val::Option(None));
    for text in ["newer()", "newer( )", "newer ( // nothing\n ) "] {
        let (function, args) = parse_call(text, &info).expect(text);
        assert_eq!((function.path[1].as_str(), args.len()), ("newer", 0));
    }
}

#[test]
fn wrong_arguments_are_named_with_their_place() {
    let info = greeter();
    for (text, words) in [
        ("greet", "in parentheses"),
        ("deep(256)", "column 6: 256 is no u8"),
        ("deep()", "column 6: 0 arguments for 1 parameters of func(x: u8)"),
        ("deep(1, 2)", "column 9: 2 arguments for 1 parameters"),
        ("deep(1", "unexpected end"),
        ("deep(1) 2", "column 9: trailing"),
        ("newer() 2", "empty tuple"),
        ("deep[1](2)", "no exported function \"deep[1]\""),
    ] {
        let said = said(parse_call(text, &info).expect_err(text));
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn an_export_has_several_names() {
    let info = greeter();
    let (v1, v2) = ("ns:pkg/iface@1.0.0", "ns:pkg/iface@2.0.0");
    for (name, path) in [
        ("greet", &["greet"][..]),
        ("iface.greet", &[v1, "greet"]),
        ("iface#greet", &[v1, "greet"]),
        ("ns:pkg/iface.greet", &[v1, "greet"]),
        ("ns:pkg/iface@1.0.0#greet", &[v1, "greet"]),
        ("ns:pkg/iface@1.0.0.greet", &[v1, "greet"]),
        ("ns:pkg/iface.greet@1.0.0", &[v1, "greet"]),
        ("ns:pkg/iface.only@2.0.0", &[v2, "only"]),
        ("newer", &[v2, "newer"]),
        ("ns:else/other.twice", &["ns:else/other", "twice"]),
        ("deep", &["outer", "inner", "deep"]),
        ("inner.deep", &["outer", "inner", "deep"]),
        ("outer.inner.deep", &["outer", "inner", "deep"]),
        ("outer#inner#deep", &["outer", "inner", "deep"]),
        ("[method]file.size", &[v1, "[method]file.size"]),
        ("iface#[method]file.size", &[v1, "[method]file.size"]),
    ] {
        let found = find_export(name, &info).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.path, path, "{name}");
    }
}

#[test]
fn an_unknown_or_ambiguous_name_lists_what_there_is() {
    let info = greeter();
    for name in ["nobody", "other.greet", "pkg/iface.greet", "size", "outer.deep", "", "."] {
        let said = said(find_export(name, &info).expect_err(name));
        assert!(said.contains(&format!("no exported function {name:?}")), "{said}");
        assert!(said.contains("; ns:pkg/iface@1.0.0#greet: func(); "), "{said}");
    }
    for (name, one, other) in [
        ("twice", "ns:pkg/other#twice", "ns:else/other#twice"),
        ("other.twice", "ns:pkg/other#twice", "ns:else/other#twice"),
        ("only", "ns:pkg/iface@1.0.0#only", "ns:pkg/iface@2.0.0#only"),
        ("ns:pkg/iface.only", "ns:pkg/iface@1.0.0#only", "ns:pkg/iface@2.0.0#only"),
    ] {
        let said = said(find_export(name, &info).expect_err(name));
        assert!(said.contains("several") && said.contains(one) && said.contains(other), "{said}");
        assert!(!said.contains("deep"), "{said}");
    }
    let none = exports(vec![]);
    assert!(said(find_export("f", &none).expect_err("nothing")).contains("exports no functions"));
    let many = exports((0..30).map(|at| function(&[&format!("f{at}")], &[])).collect());
    let said = said(find_export("f", &many).expect_err("unknown"));
    assert!(said.contains("f19: func(); and 10 more") && !said.contains("f20"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_printed_is_read_again((types, ty, value) in shapes::typed_value(false)) {
        let text = print(&value);
        let read = parse_value(&text, ty, &types);
        let read = read.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert!(shapes::same(&read, &value), "{}", text);
        // As an argument too.
        let mut info = exports(vec![Function {
            path: texts(&["f"]),
            ty: FunctionType { params: vec![field("x", ty)], result: None },
        }]);
        info.types = types;
        let (_, args) = parse_call(&format!("f({text})"), &info).expect("a call");
        prop_assert!(shapes::same(&args[0], &value), "{}", text);
    }

    #[test]
    fn no_text_panics((types, ty, value) in shapes::typed_value(true), at: usize, with in "[(){}\\[\\]:,%'\"a-z0-9\\\\ -]{0,3}") {
        let mut text = print(&value);
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        text.insert_str(places[at % places.len()], &with);
        let _ = parse_value(&text, ty, &types);
        let _ = parse_call(&text, &greeter());
    }
}
