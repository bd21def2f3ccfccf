//! What tools/runtime-order watches: calls of modules and components in VMs that are new, as they mostly are.

use sandgrain::types::ExternType;
use sandgrain::wasi::{Output, WasiConfig};
use sandgrain::{Engine, Module, Sandbox, Snapshot};

/// Calls of a module: nothing, with arguments, of a host function, one that grows its memory.
const MODULE: &str = r#"(module
  (import "host" "f" (func $f (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "nothing"))
  (func (export "add") (param i32 i64 f32 f64) (result i32) (local.get 0))
  (func (export "ask") (param i32) (result i32) (call $f (local.get 0)))
  (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#;

/// Prints a line, and ends.
const PROGRAM: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
    let engine = Engine::builder().available_tss(emulated).without_cache().build()?;
    let module = Module::new(&engine, MODULE.as_bytes())?;
    let host = |builder: sandgrain::SandboxBuilder| builder.function("host", "f", |n: u32| n + 1);
    let snapshot = host(Sandbox::builder(&module)).build()?.snapshot()?;
    let new = || host(snapshot.sandbox()).build();
    new()?.call::<(), ()>("nothing", ())?;
    new()?.call::<_, u32>("add", (1u32, 2u64, 3f32, 4f64))?;
    new()?.call::<_, u32>("ask", 1u32)?;
    let mut grown = new()?;
    grown.call::<(), u32>("grow", ())?;
    let main = grown.main();
    grown.read_memory(main, "memory", 0..4)?;

    let program = Module::new(&engine, PROGRAM.as_bytes())?;
    assert!(matches!(program.export("_start"), Some(ExternType::Func(_))));
    let wasi = || WasiConfig::new().stdout(Output::Capture);
    let snapshot = Sandbox::builder(&program).wasi(wasi()).build()?.snapshot()?;
    snapshot.sandbox().wasi(wasi()).build()?.run()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bytes = include_bytes!("../../../examples/components/rust/http.wasm");
    let component = Module::new(&engine, bytes)?;
    let snapshot = Sandbox::builder(&component).wasi(wasi()).build()?.snapshot()?;
    answer(&runtime, &snapshot, "GET", "/hello")?;
    answer(&runtime, &snapshot, "POST", "/echo")?;
    Ok(())
}

fn answer(
    runtime: &tokio::runtime::Runtime,
    snapshot: &Snapshot,
    method: &str,
    path: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut sandbox = snapshot.sandbox().wasi(WasiConfig::new()).build()?;
    let body = http_body_util::Full::new(bytes::Bytes::from_static(b"hello"));
    let request =
        http::Request::builder().method(method).uri(path).header("host", "here").body(body)?;
    let response = runtime.block_on(sandbox.answer_http(request))?;
    assert_eq!(response.status(), 200);
    Ok(())
}
