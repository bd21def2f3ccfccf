//! The module `spectest`, which the scripts import from, and the sandbox that each script gets.

use sandgrain::{Engine, Limits, Module, Result, Sandbox};

/// What the specification says about it. Its functions print; nobody reads that here.
const MODULE: &[u8] = br#"
(module
  (import "host" "print" (func $print))
  (import "host" "print_i32" (func $print_i32 (param i32)))
  (import "host" "print_i64" (func $print_i64 (param i64)))
  (import "host" "print_f32" (func $print_f32 (param f32)))
  (import "host" "print_f64" (func $print_f64 (param f64)))
  (import "host" "print_i32_f32" (func $print_i32_f32 (param i32 f32)))
  (import "host" "print_f64_f64" (func $print_f64_f64 (param f64 f64)))
  (export "print" (func $print))
  (export "print_i32" (func $print_i32))
  (export "print_i64" (func $print_i64))
  (export "print_f32" (func $print_f32))
  (export "print_f64" (func $print_f64))
  (export "print_i32_f32" (func $print_i32_f32))
  (export "print_f64_f64" (func $print_f64_f64))
  (global (export "global_i32") i32 (i32.const 666))
  (global (export "global_i64") i64 (i64.const 666))
  (global (export "global_f32") f32 (f32.const 666.6))
  (global (export "global_f64") f64 (f64.const 666.6))
  (table (export "table") 10 20 funcref)
  (table (export "table64") i64 10 20 funcref)
  (memory (export "memory") 1 2))
"#;

/// What scripts run on.
pub struct Platform {
    pub engine: Engine,
    spectest: Module,
}

impl Platform {
    pub fn new(engine: Engine) -> Result<Self> {
        let spectest = Module::new(&engine, MODULE)?;
        Ok(Self { engine, spectest })
    }

    /// A sandbox with `spectest`, and with room for all that one script instantiates.
    pub fn sandbox(&self) -> Result<Sandbox> {
        let mut sandbox = Sandbox::builder(&self.spectest)
            .function("host", "print", || ())
            .function("host", "print_i32", |_: i32| ())
            .function("host", "print_i64", |_: i64| ())
            .function("host", "print_f32", |_: f32| ())
            .function("host", "print_f64", |_: f64| ())
            .function("host", "print_i32_f32", |_: i32, _: f32| ())
            .function("host", "print_f64_f64", |_: f64, _: f64| ())
            .limits(limits())
            .build()?;
        let main = sandbox.main();
        sandbox.register("spectest", main);
        Ok(sandbox)
    }
}

/// Memories beyond this many bytes are what some scripts ask for; `exceptions` lists those.
fn limits() -> Limits {
    Limits::default()
        .memory(64 << 20)
        .extra_memories(250)
        .extra_code(2 << 30)
        .heap(256 << 20)
        .table_elements(20_000_000)
        .tables(10_000)
        .instances(10_000)
}
