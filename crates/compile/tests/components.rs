//! What the host learns of a component without running it.

use crate::support::{compiler, component_info as info};
use sandgrain_abi::component::{
    Case, ComponentInfo, Field, Function, FunctionType, Resource, ResourceOrigin, Type, TypeDef,
};

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.to_owned(), ty }
}

fn case(name: &str, ty: Option<Type>) -> Case {
    Case { name: name.to_owned(), ty }
}

fn function(path: &[&str], params: &[(&str, Type)], result: Option<Type>) -> Function {
    let params = params.iter().map(|(name, ty)| field(name, *ty)).collect();
    let path = path.iter().map(|name| (*name).to_owned()).collect();
    Function { path, ty: FunctionType { params, result } }
}

fn resource(path: &[&str], origin: ResourceOrigin) -> Resource {
    Resource { path: path.iter().map(|name| (*name).to_owned()).collect(), origin }
}

/// Each function's path with dots, and its type in words.
fn shown(info: &ComponentInfo, functions: &[Function]) -> Vec<String> {
    let show = |function: &Function| {
        format!("{}: {}", function.path.join("."), info.types.display_function(&function.ty))
    };
    functions.iter().map(show).collect()
}

#[test]
fn nothing() {
    assert_eq!(info("(component)"), ComponentInfo::default());
}

#[test]
fn every_plain_type() {
    let info = info(
        r#"(component (import "f" (func
          (param "a" bool) (param "b" s8) (param "c" u8) (param "d" s16) (param "e" u16) (param "f" s32)
          (param "g" u32) (param "h" s64) (param "i" u64) (param "j" f32) (param "k" f64) (param "l" char)
          (result string))))"#,
    );
    let params = [
        ("a", Type::Bool),
        ("b", Type::S8),
        ("c", Type::U8),
        ("d", Type::S16),
        ("e", Type::U16),
        ("f", Type::S32),
        ("g", Type::U32),
        ("h", Type::S64),
        ("i", Type::U64),
        ("j", Type::F32),
        ("k", Type::F64),
        ("l", Type::Char),
    ];
    assert_eq!(info.imports, [function(&["f"], &params, Some(Type::String))]);
    assert_eq!(info.exports, []);
    assert!(info.types.defs.is_empty());
}

#[test]
fn every_kind_of_definition() {
    let info = info(
        r#"(component (import "i" (instance
          (type $point' (record (field "x" s32) (field "y" s32)))
          (export "point" (type $point (eq $point')))
          (type $shape' (variant (case "dot" $point) (case "none")))
          (export "shape" (type $shape (eq $shape')))
          (type $color' (enum "red" "green"))
          (export "color" (type $color (eq $color')))
          (type $set' (flags "a" "b" "c"))
          (export "set" (type $set (eq $set')))
          (export "f" (func
            (param "list" (list $shape))
            (param "tuple" (tuple $color u8))
            (param "option" (option $set))
            (param "results" (tuple (result) (result u8) (result (error u8)) (result u8 (error u8))))
            (result (list u8)))))))"#,
    );
    let d = Type::Defined;
    assert_eq!(
        info.types.defs,
        [
            TypeDef::Record(vec![field("x", Type::S32), field("y", Type::S32)]),
            TypeDef::Variant(vec![case("dot", Some(d(0))), case("none", None)]),
            TypeDef::List(d(1)),
            TypeDef::Enum(vec!["red".to_owned(), "green".to_owned()]),
            TypeDef::Tuple(vec![d(3), Type::U8]),
            TypeDef::Flags(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]),
            TypeDef::Option(d(5)),
            TypeDef::Result { ok: None, err: None },
            TypeDef::Result { ok: Some(Type::U8), err: None },
            TypeDef::Result { ok: None, err: Some(Type::U8) },
            TypeDef::Result { ok: Some(Type::U8), err: Some(Type::U8) },
            TypeDef::Tuple(vec![d(7), d(8), d(9), d(10)]),
            TypeDef::List(Type::U8),
        ]
    );
    let params = [("list", d(2)), ("tuple", d(4)), ("option", d(6)), ("results", d(11))];
    assert_eq!(info.imports, [function(&["i", "f"], &params, Some(d(12)))]);
}

#[test]
fn the_same_type_is_defined_once() {
    let info = info(
        r#"(component
          (type $a (list string))
          (import "a" (type $a1 (eq $a)))
          (import "b" (type $a2 (eq $a1)))
          (import "f" (func (param "x" $a1) (param "y" $a2) (param "z" (list string))))
          (import "i" (instance
            (alias outer 1 $a2 (type $a3))
            (export "c" (type $a4 (eq $a3)))
            (export "g" (func (result (option $a4)))))))"#,
    );
    assert_eq!(info.types.defs, [TypeDef::List(Type::String), TypeDef::Option(Type::Defined(0))]);
    assert_eq!(
        shown(&info, &info.imports),
        [
            "f: func(x: list<string>, y: list<string>, z: list<string>)",
            "i.g: func() -> option<list<string>>"
        ]
    );
}

#[test]
fn instances_within_instances() {
    let info = info(
        r#"(component
          (import "a:b/outer@1.2.3" (instance
            (export "inner" (instance
              (export "innermost" (instance (export "f" (func (param "x" u8)))))
              (export "g" (func))))))
          (core module $m (func (export "h")))
          (core instance $m (instantiate $m))
          (func $h (canon lift (core func $m "h")))
          (instance $one (export "f" (func $h)))
          (instance $two (export "one" (instance $one)) (export "g" (func $h)))
          (export "two" (instance $two))
          (export "direct" (func $h)))"#,
    );
    assert_eq!(
        shown(&info, &info.imports),
        ["a:b/outer@1.2.3.inner.innermost.f: func(x: u8)", "a:b/outer@1.2.3.inner.g: func()"]
    );
    assert_eq!(
        shown(&info, &info.exports),
        ["two.one.f: func()", "two.g: func()", "direct: func()"]
    );
    assert!(info.export(&["two", "one", "f"]).is_some());
    assert!(info.export(&["two", "f"]).is_none());
}

/// A component that imports a resource type with all kinds of functions, and exports one of its own.
const RESOURCES: &str = r#"(component
  (import "host:store/files" (instance $files
    (export "file" (type $file (sub resource)))
    (export "[constructor]file" (func (param "path" string) (result (own $file))))
    (export "[method]file.size" (func (param "self" (borrow $file)) (result u64)))
    (export "[static]file.merge" (func (param "a" (own $file)) (param "b" (own $file))
      (result (own $file))))))
  (import "plain" (type $plain (sub resource)))
  (import "use-plain" (func $use-plain (param "x" (borrow $plain))))
  (alias export $files "file" (type $file))
  (core module $m
    (func (export "make") (result i32) unreachable)
    (func (export "size") (param i32) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (type $own' (resource (rep i32)))
  (type $hidden (resource (rep i32)))
  (func $make (result (own $own')) (canon lift (core func $i "make")))
  (func $size (param "self" (borrow $own')) (result u32) (canon lift (core func $i "size")))
  (func $take (param "file" (own $file)) (result u32) (canon lift (core func $i "size")))
  (component $inner
    (import "own" (type $own (sub resource)))
    (import "file" (type $file (sub resource)))
    (import "make" (func $make (result (own $own))))
    (import "size" (func $size (param "self" (borrow $own)) (result u32)))
    (import "take" (func $take (param "file" (own $file)) (result u32)))
    (export $own' "own" (type $own))
    (export "[constructor]own" (func $make) (func (result (own $own'))))
    (export "[method]own.size" (func $size) (func (param "self" (borrow $own')) (result u32)))
    (export "take" (func $take)))
  (instance $exported (instantiate $inner
    (with "own" (type $own')) (with "file" (type $file))
    (with "make" (func $make)) (with "size" (func $size)) (with "take" (func $take))))
  (export "made:here/things" (instance $exported)))"#;

#[test]
fn resources_are_known_by_identity() {
    let info = info(RESOURCES);
    assert_eq!(
        info.types.resources,
        [
            resource(&["host:store/files", "file"], ResourceOrigin::Imported),
            resource(&["plain"], ResourceOrigin::Imported),
            resource(&["made:here/things", "own"], ResourceOrigin::Defined),
        ]
    );
    assert!(info.types.defs.is_empty());
    let (file, plain, own) = (0, 1, 2);
    let i = "host:store/files";
    assert_eq!(
        info.imports,
        [
            function(&[i, "[constructor]file"], &[("path", Type::String)], Some(Type::Own(file))),
            function(&[i, "[method]file.size"], &[("self", Type::Borrow(file))], Some(Type::U64)),
            function(
                &[i, "[static]file.merge"],
                &[("a", Type::Own(file)), ("b", Type::Own(file))],
                Some(Type::Own(file))
            ),
            function(&["use-plain"], &[("x", Type::Borrow(plain))], None),
        ]
    );
    let i = "made:here/things";
    assert_eq!(
        info.exports,
        [
            function(&[i, "[constructor]own"], &[], Some(Type::Own(own))),
            function(&[i, "[method]own.size"], &[("self", Type::Borrow(own))], Some(Type::U32)),
            function(&[i, "take"], &[("file", Type::Own(file))], Some(Type::U32)),
        ]
    );
}

/// The name that something is exported under is not what it is.
#[test]
fn a_resource_under_two_names_is_one() {
    let info = info(
        r#"(component
          (import "r" (type $r (sub resource)))
          (export $again "again" (type $r))
          (type $own' (resource (rep i32)))
          (export $own "own" (type $own'))
          (export $other "other" (type $own'))
          (core module $m (func (export "f") (param i32) unreachable))
          (core instance $i (instantiate $m))
          (func $f (param "x" (own $r)) (canon lift (core func $i "f")))
          (func $g (param "x" (own $own')) (canon lift (core func $i "f")))
          (export "a" (func $f) (func (param "x" (own $again))))
          (export "b" (func $g) (func (param "x" (own $own))))
          (export "c" (func $g) (func (param "x" (own $other)))))"#,
    );
    assert_eq!(
        info.types.resources,
        [resource(&["r"], ResourceOrigin::Imported), resource(&["own"], ResourceOrigin::Defined)]
    );
    let params: Vec<Type> = info.exports.iter().map(|f| f.ty.params[0].ty).collect();
    assert_eq!(params, [Type::Own(0), Type::Own(1), Type::Own(1)]);
}

/// Each instance of a component has its own resource types; an argument's stays what it is.
#[test]
fn resources_of_two_instances_are_two() {
    let info = info(
        r#"(component
          (import "r" (type $r (sub resource)))
          (component $c
            (import "r" (type $r (sub resource)))
            (type $own' (resource (rep i32)))
            (export $own "own" (type $own'))
            (export $again "again" (type $r))
            (core module $m (func (export "f") (param i32) unreachable))
            (core instance $i (instantiate $m))
            (func $f (param "x" (own $own')) (canon lift (core func $i "f")))
            (func $g (param "x" (own $r)) (canon lift (core func $i "f")))
            (export "f" (func $f) (func (param "x" (own $own))))
            (export "g" (func $g) (func (param "x" (own $again)))))
          (instance $a (instantiate $c (with "r" (type $r))))
          (instance $b (instantiate $c (with "r" (type $r))))
          (export "a" (instance $a))
          (export "b" (instance $b)))"#,
    );
    assert_eq!(
        info.types.resources,
        [
            resource(&["r"], ResourceOrigin::Imported),
            resource(&["a", "own"], ResourceOrigin::Defined),
            resource(&["b", "own"], ResourceOrigin::Defined),
        ]
    );
    let params: Vec<Type> = info.exports.iter().map(|f| f.ty.params[0].ty).collect();
    assert_eq!(params, [Type::Own(1), Type::Own(0), Type::Own(2), Type::Own(0)]);
}

#[test]
fn what_only_a_component_could_use_is_left_out() {
    let info = info(
        r#"(component
          (core module $m)
          (instance $i (export "m" (core module $m)))
          (export "m" (core module $m))
          (export "i" (instance $i)))"#,
    );
    assert_eq!(info, ComponentInfo::default());
}

#[test]
fn the_order_is_the_files() {
    let info = info(
        r#"(component
          (import "z" (func))
          (import "a" (func))
          (import "m" (func))
          (core module $m (func (export "h")))
          (core instance $m (instantiate $m))
          (func $z (canon lift (core func $m "h")))
          (export "y" (func $z))
          (export "b" (func $z)))"#,
    );
    assert_eq!(shown(&info, &info.imports), ["z: func()", "a: func()", "m: func()"]);
    assert_eq!(shown(&info, &info.exports), ["y: func()", "b: func()"]);
}

/// The engine that loads what the host's has compiled makes the same of it.
#[test]
fn an_engine_with_the_same_settings_runs_the_code() {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};
    let features = crate::support::features_here();
    let engine = Engine::new(&sandgrain_compile::engine_config(&features)).expect("engine");
    let artifact =
        compiler().compile(crate::support::SMALL_COMPONENT.as_bytes()).expect("compiles");
    // SAFETY: the compiler has just made this code.
    let component = unsafe { Component::deserialize(&engine, artifact.code()) }.expect("loads");
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &component).expect("instance");
    let add = instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, "add").expect("add");
    assert_eq!(add.call(&mut store, (40, 2)).expect("call"), (42,));
}
