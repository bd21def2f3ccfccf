//! What is said of a value that is not of the type that is asked for.

use super::shapes;
use sandgrain_abi::component::{Case, Field, ResourceHandle, Type, TypeDef, Types, Val, Writer};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn types() -> Types {
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let case = |name: &str, ty| Case { name: name.to_owned(), ty };
    Types {
        defs: vec![
            TypeDef::List(Type::U32),
            TypeDef::Record(vec![field("x", Type::U8), field("y", Type::Defined(0))]),
            TypeDef::Variant(vec![case("a", None), case("b", Some(Type::String))]),
            TypeDef::Enum(texts(&["red", "green"])),
            TypeDef::Flags(texts(&["f", "g"])),
            TypeDef::Tuple(vec![Type::Bool, Type::Char]),
            TypeDef::FixedList(Type::U8, 3),
            TypeDef::Result { ok: Some(Type::Defined(3)), err: None },
            TypeDef::Option(Type::Defined(1)),
            TypeDef::List(Type::Bool),
            TypeDef::FixedList(Type::String, 1),
        ],
        resources: shapes::resources(),
    }
}

fn said(ty: Type, value: Val) -> String {
    types().lower(&value, ty, &mut Writer::new()).expect_err("another type").to_string()
}

fn boxed(value: Val) -> Option<Box<Val>> {
    Some(Box::new(value))
}

#[test]
fn the_type_and_the_value_s_kind_are_named() {
    let d = Type::Defined;
    let text = || Val::String("x".to_owned());
    for (ty, value, words) in [
        (Type::U8, Val::S8(1), "a value of the type u8 is asked for, this is a s8"),
        (Type::String, Val::Char('x'), "the type string is asked for, this is a char"),
        (d(0), text(), "the type list<u32> is asked for, this is a string"),
        (d(0), Val::Bytes(vec![]), "the type list<u32> is asked for, this is a list of u8"),
        (d(0), Val::List(vec![Val::U32(1), Val::U8(1)]), "element 1: a value of the type u32"),
        (d(9), Val::List(vec![Val::Bool(true), text()]), "element 1: a value of the type bool"),
        (d(5), Val::Tuple(vec![Val::Bool(true)]), "the type tuple<bool, char> is asked for"),
        (d(5), Val::Tuple(vec![Val::Bool(true), text()]), "element 1: a value of the type char"),
        (d(6), Val::Bytes(vec![1, 2]), "the type list<u8, 3> is asked for"),
        (d(10), Val::List(vec![Val::U8(1)]), "element 0: a value of the type string"),
        (d(99), text(), "(an unknown type)"),
        (Type::Own(0), Val::Resource(ResourceHandle { number: 1, owned: true }), "own<r>"),
        (Type::Own(1), Val::HostResource(1), "this is a resource"),
    ] {
        let said = said(ty, value);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn the_place_within_a_value_is_named() {
    let record = |y| Val::Record(vec![("x".to_owned(), Val::U8(1)), ("y".to_owned(), y)]);
    let wrong = record(Val::List(vec![Val::U32(1), Val::Bool(true)]));
    let said = said(Type::Defined(8), Val::Option(boxed(wrong)));
    assert_eq!(
        said,
        "field \"y\": element 1: a value of the type u32 is asked for, this is a bool"
    );
}

#[test]
fn names_that_there_are_not_are_named_with_those_that_there_are() {
    let d = Type::Defined;
    for (ty, value, words) in [
        (d(2), Val::Variant("c".to_owned(), None), "\"c\" is none of variant { a, b(string) }"),
        (d(3), Val::Enum("blue".to_owned()), "\"blue\" is none of enum { red, green }"),
        (d(4), Val::Flags(texts(&["f", "h"])), "\"h\" is none of flags { f, g }"),
        (d(1), Val::Record(vec![("x".to_owned(), Val::U8(1))]), "the fields of record { x: u8, y"),
    ] {
        let said = said(ty, value);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn values_of_cases_are_asked_for_or_refused() {
    let d = Type::Defined;
    let variant = |name: &str, value| Val::Variant(name.to_owned(), value);
    for (ty, value, words) in [
        (d(2), variant("a", boxed(Val::U8(1))), "the case \"a\" has no value"),
        (d(2), variant("b", None), "\"b\" has a value, of the type string, which is missing"),
        (d(2), variant("b", boxed(Val::U8(1))), "case \"b\": a value of the type string"),
        (d(7), Val::Result(Ok(None)), "\"ok\" has a value, of the type enum { red, green }"),
        (d(7), Val::Result(Err(boxed(Val::U8(1)))), "the case \"err\" has no value"),
        (d(7), Val::Result(Ok(boxed(Val::U8(1)))), "case \"ok\": a value of the type enum"),
    ] {
        let said = said(ty, value);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn what_is_borrowed_cannot_be_given_away() {
    let borrowed = Val::Resource(ResourceHandle { number: 1, owned: false });
    assert!(said(Type::Own(1), borrowed.clone()).contains("cannot be given away"));
    // What is owned can be lent, and stays.
    let owned = Val::Resource(ResourceHandle { number: 1, owned: true });
    for value in [borrowed, owned] {
        let mut out = Writer::new();
        types().lower(&value, Type::Borrow(1), &mut out).expect("a handle");
        assert_eq!(out.finish().0.resources, [ResourceHandle { number: 1, owned: false }]);
    }
}

/// A component can name its types over and over, at any length.
#[test]
fn what_is_said_is_short() {
    let mut types = Types { defs: vec![TypeDef::List(Type::U8)], ..Types::default() };
    let twice = |level| TypeDef::Tuple(vec![Type::Defined(level), Type::Defined(level)]);
    types.defs.extend((0..60).map(twice));
    types.defs.push(TypeDef::Enum(vec!["x".repeat(1_000_000)]));
    for number in [60, 61] {
        let said = types.lower(&Val::U8(1), Type::Defined(number), &mut Writer::new());
        let said = said.expect_err("another type").to_string();
        assert!(said.len() < 400 && said.contains("..."), "{said}");
    }
    let name = "y\u{1b}[2J".repeat(1_000_000);
    let said = types.lower(&Val::Enum(name), Type::Defined(61), &mut Writer::new());
    let said = said.expect_err("another case").to_string();
    assert!(said.len() < 2_000 && !said.contains('\u{1b}'), "{said}");
}
