//! Imports, and what satisfies them.

use crate::support::{module, on_both};
use sandgrain::wasi::WasiConfig;
use sandgrain::{Error, ImportError, Sandbox};

fn errors(result: sandgrain::Result<Sandbox>) -> Vec<ImportError> {
    match result {
        Err(Error::Imports(errors)) => errors,
        other => panic!("{other:?}"),
    }
}

fn name(error: &ImportError) -> String {
    let (module, name) = error.import.as_ref().expect("an import");
    format!("{module}.{name}")
}

#[test]
fn all_unknown_imports_are_listed() {
    on_both(|engine| {
        let module = module(
            engine,
            r#"(module
                (import "host" "known" (func))
                (import "host" "one" (func (param i32)))
                (import "other" "two" (global i32))
                (import "env" "memory" (memory 1))
                (import "env" "table" (table 1 funcref))
                (import "wasi_snapshot_preview1" "fd_write"
                    (func (param i32 i32 i32 i32) (result i32)))
                (func (export "f")))"#,
        );
        let found = errors(Sandbox::builder(&module).function("host", "known", || {}).build());
        let names: Vec<_> = found.iter().map(name).collect();
        assert_eq!(
            names,
            ["host.one", "other.two", "env.memory", "env.table", "wasi_snapshot_preview1.fd_write"]
        );
        assert_eq!(found[4].problem, "WASI is not granted");
        let text = Error::Imports(found).to_string();
        assert!(names.iter().all(|name| text.contains(name.as_str())), "{text}");
    });
}

#[test]
fn a_function_of_wasi_that_there_is_not() {
    on_both(|engine| {
        let module = module(engine, r#"(module (import "wasi_snapshot_preview1" "fork" (func)))"#);
        let found = errors(Sandbox::builder(&module).wasi(WasiConfig::new()).build());
        assert!(found[0].problem.contains("no such function"), "{found:?}");
    });
}

#[test]
fn an_import_of_the_wrong_type() {
    on_both(|engine| {
        for (import, host) in [
            ("(func (param i64) (result i32))", "(func (param i32) (result i32))"),
            ("(func (param i32))", ""),
            ("(func (param i32 i32) (result i32))", ""),
            ("(global i32)", ""),
            ("(memory 1)", ""),
        ] {
            let wat = format!(r#"(module (import "host" "f" {import}))"#);
            let module = module(engine, &wat);
            let result = Sandbox::builder(&module).function("host", "f", |n: i32| n).build();
            let found = errors(result);
            assert_eq!((found.len(), &*name(&found[0])), (1, "host.f"), "{found:?}");
            assert!(found[0].problem.contains("the module wants"), "{host}: {found:?}");
        }
    });
}

#[test]
fn wasi_with_the_wrong_type() {
    on_both(|engine| {
        let wat = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64))))"#;
        let module = module(engine, wat);
        let found = errors(Sandbox::builder(&module).wasi(WasiConfig::new()).build());
        assert!(found[0].problem.contains("the module wants the type"), "{found:?}");
    });
}

const LIBRARY: &str = r#"(module
    (memory (export "memory") 1)
    (global (export "count") (mut i32) (i32.const 0))
    (table (export "table") 2 funcref)
    (func (export "next") (result i32)
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (i32.load (i32.const 0))))"#;

#[test]
fn a_preloaded_module_satisfies_imports() {
    on_both(|engine| {
        let library = module(engine, LIBRARY);
        let main = module(
            engine,
            r#"(module
                (import "library" "next" (func $next (result i32)))
                (import "library" "memory" (memory 1))
                (import "library" "count" (global $count (mut i32)))
                (import "library" "table" (table 2 funcref))
                (func (export "twice") (result i32)
                    (drop (call $next))
                    (global.set $count (call $next))
                    (i32.add (i32.load (i32.const 0)) (global.get $count))))"#,
        );
        let mut sandbox =
            Sandbox::builder(&main).preload("library", &library).build().expect("a sandbox");
        assert_eq!(sandbox.call::<_, u32>("twice", ()).expect("a call"), 4);
        assert_eq!(sandbox.call::<_, u32>("twice", ()).expect("a call"), 8);
    });
}

#[test]
fn an_import_of_the_wrong_kind_or_type_from_another_module() {
    on_both(|engine| {
        let library = module(engine, LIBRARY);
        for import in [
            r#"(import "library" "next" (global i32))"#,
            r#"(import "library" "memory" (func))"#,
            r#"(import "library" "next" (func (param i64)))"#,
            r#"(import "library" "count" (global (mut i64)))"#,
            r#"(import "library" "memory" (memory 2))"#,
            r#"(import "library" "table" (table 3 funcref))"#,
            r#"(import "library" "missing" (func))"#,
        ] {
            let main = module(engine, &format!("(module {import})"));
            let found = errors(Sandbox::builder(&main).preload("library", &library).build());
            assert_eq!(found.len(), 1, "{import}: {found:?}");
        }
    });
}

#[test]
fn a_module_can_be_linked_against_one_that_runs() {
    on_both(|engine| {
        let library = module(engine, LIBRARY);
        let user = module(
            engine,
            r#"(module (import "library" "next" (func $next (result i32)))
                (func (export "next") (result i32) (call $next)))"#,
        );
        let mut sandbox = Sandbox::new(&library).expect("a sandbox");
        let main = sandbox.main();
        sandbox.register("library", main);
        let second = sandbox.instantiate(&user).expect("an instance");
        assert_eq!(sandbox.call::<_, u32>("next", ()).expect("a call"), 1);
        let values = sandbox.call_values(second, "next", &[]).expect("a call");
        assert_eq!(values, [sandgrain::Value::I32(2)]);
    });
}

#[test]
fn modules_of_two_engines_do_not_mix() {
    let [first, second] = [crate::support::vm(), crate::support::reference()];
    let (main, other) = (module(first, "(module)"), module(second, "(module)"));
    let result = Sandbox::builder(&main).preload("other", &other).build();
    assert!(matches!(result, Err(Error::BadCall(_))), "{result:?}");
}
