//! What a component writes to its standard output and error.

use crate::support::{module, name_of, on_both};
use sandgrain::wasi::{Output, WasiConfig};
use sandgrain::{Engine, Limits, Sandbox};
use std::io::Read;

/// Says what it is told: to its standard output, or to its standard error. The limit of one write is 4096 bytes.
const PROGRAM: &str = r#"(component
    (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
    (alias export $errors "error" (type $error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $error (type $error'))
        (export "error" (type $error'' (eq $error')))
        (export "output-stream" (type $stream (sub resource)))
        (type $failed' (variant (case "last-operation-failed" (own $error'')) (case "closed")))
        (export "stream-error" (type $failed (eq $failed')))
        (export "[method]output-stream.blocking-write-and-flush"
            (func (param "self" (borrow $stream)) (param "contents" (list u8))
                (result (result (error $failed)))))))
    (alias export $streams "output-stream" (type $stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $stream (type $stream'))
        (export "output-stream" (type $stream'' (eq $stream')))
        (export "get-stdout" (func (result (own $stream''))))))
    (import "wasi:cli/stderr@0.2.0" (instance $stderr
        (alias outer 1 $stream (type $stream'))
        (export "output-stream" (type $stream'' (eq $stream')))
        (export "get-stderr" (func (result (own $stream''))))))
    (core module $memory
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $memory (instantiate $memory))
    (core func $stdout' (canon lower (func $stdout "get-stdout")))
    (core func $stderr' (canon lower (func $stderr "get-stderr")))
    (core func $write' (canon lower
        (func $streams "[method]output-stream.blocking-write-and-flush")
        (memory (core memory $memory "memory"))))
    (core func $drop' (canon resource.drop $stream))
    (core module $code
        (import "host" "stdout" (func $stdout (result i32)))
        (import "host" "stderr" (func $stderr (result i32)))
        (import "host" "write" (func $write (param i32 i32 i32 i32)))
        (import "host" "drop" (func $drop (param i32)))
        (import "memory" "memory" (memory 1))
        (func $say (param $stream i32) (param $at i32) (param $len i32)
            (call $write (local.get $stream) (local.get $at) (local.get $len) (i32.const 16))
            (if (i32.load8_u (i32.const 16)) (then unreachable))
            (call $drop (local.get $stream)))
        (func (export "say") (param i32 i32)
            (call $say (call $stdout) (local.get 0) (local.get 1)))
        (func (export "complain") (param i32 i32)
            (call $say (call $stderr) (local.get 0) (local.get 1))))
    (core instance $code (instantiate $code
        (with "memory" (instance $memory))
        (with "host" (instance
            (export "stdout" (func $stdout')) (export "stderr" (func $stderr'))
            (export "write" (func $write')) (export "drop" (func $drop'))))))
    (func (export "say") (param "text" string)
        (canon lift (core func $code "say") (memory (core memory $memory "memory"))
            (realloc (core func $memory "realloc"))))
    (func (export "complain") (param "text" string)
        (canon lift (core func $code "complain") (memory (core memory $memory "memory"))
            (realloc (core func $memory "realloc")))))"#;

fn program(engine: &Engine, config: WasiConfig, limits: Limits) -> Sandbox {
    let sandbox = Sandbox::builder(&module(engine, PROGRAM)).wasi(config).limits(limits).build();
    sandbox.unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn call(sandbox: &mut Sandbox, name: &str, text: &str) {
    sandbox.call_component::<_, ()>(name, (text,)).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_a_component_writes_is_captured() {
    on_both(|engine| {
        let config = WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture);
        let mut sandbox = program(engine, config, Limits::default());
        call(&mut sandbox, "say", "one\n");
        call(&mut sandbox, "complain", "oh no\n");
        call(&mut sandbox, "say", "two\n");
        assert_eq!(sandbox.take_stdout(), "one\ntwo\n");
        assert_eq!(sandbox.take_stderr(), "oh no\n");
        assert_eq!((sandbox.take_stdout(), sandbox.take_stderr()), ("".into(), "".into()));
        call(&mut sandbox, "say", "three\n");
        assert_eq!((sandbox.take_stdout(), sandbox.take_stderr()), ("three\n".into(), "".into()));
    });
}

#[test]
fn what_a_component_writes_goes_through_pipes() {
    on_both(|engine| {
        let (mut said, stdout) = std::io::pipe().expect("a pipe");
        let (mut complained, stderr) = std::io::pipe().expect("a pipe");
        let config = WasiConfig::new().stdout(Output::pipe(stdout)).stderr(Output::pipe(stderr));
        let mut sandbox = program(engine, config, Limits::default());
        let mut first = [0; 4];
        call(&mut sandbox, "say", "now\n");
        // It has been written when the call is over, not when the sandbox is.
        said.read_exact(&mut first).expect("a pipe");
        assert_eq!(&first, b"now\n");
        call(&mut sandbox, "complain", "oh no\n");
        call(&mut sandbox, "say", "then\n");
        drop(sandbox);
        let rest = |pipe: &mut std::io::PipeReader| {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("a pipe");
            text
        };
        assert_eq!(rest(&mut said), "then\n");
        assert_eq!(rest(&mut complained), "oh no\n");
    });
}

#[test]
fn what_a_component_writes_without_being_granted_a_stream_goes_nowhere() {
    on_both(|engine| {
        let mut sandbox = program(engine, WasiConfig::new(), Limits::default());
        call(&mut sandbox, "say", "one\n");
        call(&mut sandbox, "complain", "oh no\n");
        assert_eq!((sandbox.take_stdout(), sandbox.take_stderr()), ("".into(), "".into()));
    });
}

#[test]
fn what_a_component_writes_stops_at_its_limit() {
    on_both(|engine| {
        for name in ["say", "complain"] {
            let config = WasiConfig::new().stdout(Output::Capture).stderr(Output::Capture);
            let mut sandbox = program(engine, config, Limits::default().stdout(10).stderr(10));
            call(&mut sandbox, name, "1234567");
            let (error, text) = name_of(sandbox.call_component::<_, ()>(name, ("890ab",)));
            assert!(error == "limit" && text.contains("10 bytes"), "{text}");
            let output = if name == "say" { sandbox.take_stdout() } else { sandbox.take_stderr() };
            assert_eq!(output, "1234567890", "all that is allowed is there");
        }
    });
}
