//! What the host learns of a module without running it.

use crate::support::compiler;
use sandgrain_abi::types::{Export, Import, ModuleInfo};
use sandgrain_abi::{ExternType, FuncType, GlobalType, HeapType, MemoryType, TableType, ValType};

fn info(text: &str) -> ModuleInfo {
    let artifact = compiler().compile(text.as_bytes()).expect("compiles");
    assert_eq!(&compiler().check(text.as_bytes()).expect("valid"), artifact.info());
    artifact.module_info().expect("a module").clone()
}

fn reference(nullable: bool, heap: HeapType) -> ValType {
    ValType::Ref { nullable, heap }
}

fn memory(minimum: u64, maximum: Option<u64>, memory64: bool) -> MemoryType {
    MemoryType { minimum, maximum, page_size: 65_536, memory64, shared: false }
}

#[test]
fn every_kind_of_import_and_export() {
    let info = info(
        r#"(module $everything
      (type $sig (func (param i32 i64 f32 f64 v128) (result externref)))
      (import "env" "f" (func $f (type $sig)))
      (import "env" "m" (memory $m 1 2))
      (import "env" "t" (table $t 3 4 funcref))
      (import "env" "g" (global $g (mut i64)))
      (import "env" "e" (tag $e (param f32)))
      (import "other" "f" (func))
      (memory $own i64 5 6)
      (memory $hidden 7)
      (func $start)
      (start $start)
      (export "f" (func $f))
      (export "m" (memory $m))
      (export "own" (memory $own))
      (export "t" (table $t))
      (export "g" (global $g))
      (export "e" (tag $e)))"#,
    );
    let f = ExternType::Func(FuncType {
        params: vec![ValType::I32, ValType::I64, ValType::F32, ValType::F64, ValType::V128],
        results: vec![reference(true, HeapType::Extern)],
    });
    let m = ExternType::Memory(memory(1, Some(2), false));
    let t = ExternType::Table(TableType {
        element: reference(true, HeapType::Func),
        minimum: 3,
        maximum: Some(4),
    });
    let g = ExternType::Global(GlobalType { value: ValType::I64, mutable: true });
    let e = ExternType::Tag(FuncType { params: vec![ValType::F32], results: vec![] });
    let import = |module: &str, name: &str, ty: &ExternType| Import {
        module: module.to_owned(),
        name: name.to_owned(),
        ty: ty.clone(),
    };
    assert_eq!(
        info.imports,
        [
            import("env", "f", &f),
            import("env", "m", &m),
            import("env", "t", &t),
            import("env", "g", &g),
            import("env", "e", &e),
            import("other", "f", &ExternType::Func(FuncType::default())),
        ]
    );
    let export = |name: &str, ty: &ExternType| Export { name: name.to_owned(), ty: ty.clone() };
    let own = memory(5, Some(6), true);
    assert_eq!(
        info.exports,
        [
            export("f", &f),
            export("m", &m),
            export("own", &ExternType::Memory(own)),
            export("t", &t),
            export("g", &g),
            export("e", &e),
        ]
    );
    assert_eq!(info.memories, [own, memory(7, None, false)]);
    assert_eq!(info.name.as_deref(), Some("everything"));
    assert!(info.has_start);
}

#[test]
fn repeated_imports_keep_their_order() {
    let info = info(
        r#"(module
      (import "a" "x" (func))
      (import "b" "y" (func))
      (import "a" "x" (func (param i32))))"#,
    );
    let names: Vec<_> = info.imports.iter().map(|i| (i.module.as_str(), i.name.as_str())).collect();
    assert_eq!(names, [("a", "x"), ("b", "y"), ("a", "x")]);
    assert_eq!(info.name, None);
    assert!(!info.has_start);
}

#[test]
fn references_are_known_by_their_family() {
    let info = info(
        r#"(module
      (rec (type $node (struct (field (ref null $node)))))
      (type $bytes (array i8))
      (type $fn (func (param (ref $node))))
      (func (export "concrete") (param (ref $node) (ref null $bytes) (ref $fn) (ref null $fn)))
      (func (export "abstract") (param anyref eqref i31ref structref arrayref (ref any)
        funcref externref exnref))
      (func (export "bottom") (param nullref nullfuncref nullexternref nullexnref))
      (func $f (param (ref $node)))
      (elem declare func $f)
      (global (export "global") (ref $fn) (ref.func $f))
      (table (export "table") 1 (ref null $bytes)))"#,
    );
    let params = |name: &str| match info.export(name) {
        Some(ExternType::Func(ty)) => ty.params.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        params("concrete"),
        [
            reference(false, HeapType::ConcreteAny),
            reference(true, HeapType::ConcreteAny),
            reference(false, HeapType::ConcreteFunc),
            reference(true, HeapType::ConcreteFunc),
        ]
    );
    let mut expected: Vec<_> =
        [HeapType::Any, HeapType::Eq, HeapType::I31, HeapType::Struct, HeapType::Array]
            .map(|heap| reference(true, heap))
            .to_vec();
    expected.push(reference(false, HeapType::Any));
    expected.extend(
        [HeapType::Func, HeapType::Extern, HeapType::Exn].map(|heap| reference(true, heap)),
    );
    assert_eq!(params("abstract"), expected);
    assert_eq!(
        params("bottom"),
        [HeapType::None, HeapType::NoFunc, HeapType::NoExtern, HeapType::NoExn]
            .map(|heap| reference(true, heap))
    );
    assert_eq!(
        info.export("global"),
        Some(&ExternType::Global(GlobalType {
            value: reference(false, HeapType::ConcreteFunc),
            mutable: false
        }))
    );
    assert!(matches!(
        info.export("table"),
        Some(ExternType::Table(TableType {
            element: ValType::Ref { nullable: true, heap: HeapType::ConcreteAny },
            ..
        }))
    ));
}

#[test]
fn a_malformed_name_section_is_only_a_comment() {
    let mut wasm = wat::parse_str("(module (func (export \"f\")))").expect("text");
    // A custom section `name` with a module name that claims more bytes than there are.
    wasm.extend_from_slice(&[0, 8, 4, b'n', b'a', b'm', b'e', 0, 1, 200]);
    let artifact = compiler().compile(&wasm).expect("compiles");
    assert_eq!(artifact.module_info().expect("a module").name, None);
}
