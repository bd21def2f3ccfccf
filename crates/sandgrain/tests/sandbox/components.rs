//! Components: calls in and out, values of all types, resources, errors.

use crate::support::{is_emulated, module, on_both, vm};
use sandgrain::component::{Abort, Lift, Lower, Val, Writer};
use sandgrain::{Error, Limits, Sandbox};
use std::sync::{Arc, Mutex};

sandgrain::record! {
    /// How to greet.
    #[derive(Clone, Debug, PartialEq)]
    struct Options {
        loud: bool,
        how_often: Option<u32>,
    }
}

sandgrain::variant! {
    /// Why not.
    #[derive(Clone, Debug, PartialEq)]
    enum Refusal {
        Empty,
        TooLong(u32),
    }
}

/// Passes what it is called with on to the host, and back.
const ECHO: &str = r#"(component
    (import "example:host/echo@1.0.0" (instance $host
        (export "number" (func (param "n" u32) (result u32)))
        (export "text" (func (param "s" string) (result string)))
        (export "bytes" (func (param "b" (list u8)) (result (list u8))))
        (type $options' (record (field "loud" bool) (field "how-often" (option u32))))
        (export "options" (type $options (eq $options')))
        (type $refusal' (variant (case "empty") (case "too-long" u32)))
        (export "refusal" (type $refusal (eq $refusal')))
        (export "greet" (func (param "name" string) (param "options" $options)
            (result (result string (error $refusal)))))))
    (alias export $host "options" (type $options))
    (alias export $host "refusal" (type $refusal))
    (alias export $host "number" (func $number))
    (alias export $host "text" (func $text))
    (alias export $host "bytes" (func $bytes))
    (alias export $host "greet" (func $greet))
    (core module $memory
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get 3)))
            (block $fits
                (br_if $fits (i32.le_u (global.get $next)
                    (i32.mul (memory.size) (i32.const 65536))))
                (drop (memory.grow (i32.add (i32.const 1)
                    (i32.div_u (local.get 3) (i32.const 65536))))))
            (local.get $at)))
    (core instance $memory (instantiate $memory))
    (core func $number' (canon lower (func $number)))
    (core func $text' (canon lower (func $text) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $bytes' (canon lower (func $bytes) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $greet' (canon lower (func $greet) (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core module $code
        (import "host" "number" (func $number (param i32) (result i32)))
        (import "host" "text" (func $text (param i32 i32 i32)))
        (import "host" "bytes" (func $bytes (param i32 i32 i32)))
        (import "host" "greet" (func $greet (param i32 i32 i32 i32 i32 i32)))
        (func (export "number") (param i32) (result i32)
            (i32.add (call $number (local.get 0)) (i32.const 1)))
        (func (export "text") (param i32 i32) (result i32)
            (call $text (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
        (func (export "bytes") (param i32 i32) (result i32)
            (call $bytes (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16))
        (func (export "greet") (param i32 i32 i32 i32 i32) (result i32)
            (call $greet (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (i32.const 16))
            (i32.const 16))
        (func (export "trap") unreachable))
    (core instance $code (instantiate $code (with "host" (instance
        (export "number" (func $number')) (export "text" (func $text'))
        (export "bytes" (func $bytes')) (export "greet" (func $greet'))))))
    (func $number2 (param "n" u32) (result u32) (canon lift (core func $code "number")))
    (func $text2 (param "s" string) (result string)
        (canon lift (core func $code "text") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (func $bytes2 (param "b" (list u8)) (result (list u8))
        (canon lift (core func $code "bytes") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (func (export "number") (param "n" u32) (result u32) (canon lift (core func $code "number")))
    (func (export "trap") (canon lift (core func $code "trap")))
    (instance $api
        (export "text" (func $text2)) (export "bytes" (func $bytes2)) (export "number" (func $number2)))
    (export "example:api/all@0.1.0" (instance $api))
    (func (export "greet") (param "name" string) (param "options" $options)
        (result (result string (error $refusal)))
        (canon lift (core func $code "greet") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc")))))"#;

const HOST: &str = "example:host/echo@1.0.0";

fn greet(name: String, options: Options) -> Result<String, Refusal> {
    match name.len() {
        0 => Err(Refusal::Empty),
        len @ 20.. => Err(Refusal::TooLong(len as u32)),
        _ => Ok(format!("{name}{}", "!".repeat(options.how_often.unwrap_or(1) as usize))),
    }
}

fn echo(engine: &sandgrain::Engine) -> sandgrain::SandboxBuilder {
    Sandbox::builder(&module(engine, ECHO))
        .component_function(HOST, "number", |n: u32| n * 2)
        .component_function(HOST, "text", |text: String| text)
        .component_function(HOST, "bytes", |bytes: Vec<u8>| bytes)
        .component_function(HOST, "greet", greet)
}

#[test]
fn functions_are_called_with_rusts_own_values() {
    on_both(|engine| {
        let mut sandbox = echo(engine).build().expect("a sandbox");
        let n: u32 = sandbox.call_component("number", (20u32,)).expect("a number");
        assert_eq!(n, 41);
        let text = "Grüße, 世界";
        let back: String =
            sandbox.call_component("example:api/all@0.1.0#text", (text,)).expect("a text");
        assert_eq!(back, text);
        let options = Options { loud: true, how_often: Some(3) };
        let greet = |sandbox: &mut Sandbox, name: &str| {
            sandbox
                .call_component::<_, Result<String, Refusal>>("greet", (name, options.clone()))
                .expect("a greeting")
        };
        assert_eq!(greet(&mut sandbox, "Ada"), Ok("Ada!!!".to_owned()));
        assert_eq!(greet(&mut sandbox, ""), Err(Refusal::Empty));
        assert_eq!(greet(&mut sandbox, &"x".repeat(30)), Err(Refusal::TooLong(30)));
    });
}

#[test]
fn functions_are_called_with_values_known_at_run_time() {
    on_both(|engine| {
        let mut sandbox = echo(engine).build().expect("a sandbox");
        let main = sandbox.main();
        let options = Val::Record(vec![
            ("loud".to_owned(), Val::Bool(false)),
            ("how-often".to_owned(), Val::Option(None)),
        ]);
        let args = [Val::String("Ada".to_owned()), options];
        let result = sandbox.call_component_values(main, "greet", &args).expect("a greeting");
        let greeting = Val::String("Ada!".to_owned());
        assert_eq!(result, Some(Val::Result(Ok(Some(Box::new(greeting))))));
        let wrong = sandbox.call_component_values(main, "greet", &args[..1]);
        assert!(matches!(wrong, Err(Error::BadCall(_))), "{wrong:?}");
        let wrong = sandbox.call_component_values(main, "number", &[Val::S8(1)]);
        assert!(matches!(&wrong, Err(Error::BadCall(text)) if text.contains("u32")), "{wrong:?}");
        let missing = sandbox.call_component::<_, u32>("numbers", (1u32,));
        assert!(
            matches!(&missing, Err(Error::BadCall(text)) if text.contains("number")),
            "{missing:?}"
        );
        let other = sandbox.call_component::<_, String>("number", (1u32,));
        assert!(
            matches!(&other, Err(Error::BadCall(text)) if text.contains("func(n: u32) -> u32")),
            "{other:?}"
        );
    });
}

#[test]
fn large_values_pass_in_both_directions() {
    on_both(|engine| {
        let limits = Limits::default().memory(512 << 20).call_bytes(256 << 20);
        let mut sandbox = echo(engine).limits(limits).build().expect("a sandbox");
        // The emulation of a CPU takes its time over 64 MiB.
        let largest = if is_emulated() { 1 << 20 } else { 64 << 20 };
        for len in [0, 1, 4095, 4096, 16383, 16384, 65535, 65536, largest] {
            let bytes: Vec<u8> = (0..len).map(|n: u32| (n ^ n >> 8) as u8).collect();
            let back: Vec<u8> = sandbox
                .call_component("example:api/all@0.1.0#bytes", (&bytes,))
                .unwrap_or_else(|error| panic!("{len} bytes: {error}"));
            assert!(back == bytes, "{len} bytes");
        }
    });
}

#[test]
fn a_host_function_can_read_where_the_bytes_are() {
    on_both(|engine| {
        let mut sandbox = echo(engine)
            .component_function_in_place(HOST, "bytes", |args| {
                let bytes: &[u8] = Lift::lift(args)?;
                let mut out = Writer::new();
                bytes[..bytes.len() / 2].lower(&mut out);
                Ok(out)
            })
            .build()
            .expect("a sandbox");
        for len in [2, 10_000, 100_000] {
            let bytes = vec![7u8; len];
            let half: Vec<u8> = sandbox
                .call_component("example:api/all@0.1.0#bytes", (&bytes,))
                .expect("half of them");
            assert_eq!(half.len(), len / 2);
        }
    });
}

#[test]
fn what_a_call_passes_is_limited() {
    on_both(|engine| {
        let limits = Limits::default().call_bytes(1 << 20);
        let mut sandbox = echo(engine).limits(limits).build().expect("a sandbox");
        let bytes = vec![1u8; 2 << 20];
        let result = sandbox.call_component::<_, Vec<u8>>("example:api/all@0.1.0#bytes", (&bytes,));
        assert!(matches!(result, Err(Error::Limit { .. })), "{result:?}");
    });
}

#[test]
fn a_host_function_can_end_the_call() {
    on_both(|engine| {
        let fails = |_: u32| -> Result<u32, Abort> { Err(Abort::new("no more numbers")) };
        let mut sandbox =
            echo(engine).component_function(HOST, "number", fails).build().expect("a sandbox");
        let result = sandbox.call_component::<_, u32>("number", (1u32,));
        match result {
            Err(Error::HostFunction { function, source }) => {
                assert!(function.ends_with("number"), "{function}");
                assert_eq!(source.to_string(), "no more numbers");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_component_that_has_trapped_is_not_entered_again() {
    on_both(|engine| {
        let mut sandbox = echo(engine).build().expect("a sandbox");
        let trapped = sandbox.call_component::<_, ()>("trap", ());
        assert!(matches!(trapped, Err(Error::Trap(_))), "{trapped:?}");
        let again = sandbox.call_component::<_, u32>("number", (1u32,));
        assert!(matches!(&again, Err(Error::Trap(_))), "{again:?}");
    });
}

#[test]
fn a_component_that_has_returned_what_is_no_value_is_not_entered_again() {
    const NO_CHAR: &str = r#"(component
        (core module $code
            (func (export "no-char") (result i32) (i32.const 0xd800))
            (func (export "number") (result i32) (i32.const 1)))
        (core instance $code (instantiate $code))
        (func (export "no-char") (result char) (canon lift (core func $code "no-char")))
        (func (export "number") (result u32) (canon lift (core func $code "number"))))"#;
    on_both(|engine| {
        let mut sandbox = Sandbox::builder(&module(engine, NO_CHAR)).build().expect("a sandbox");
        let number = sandbox.call_component::<_, u32>("number", ());
        assert!(matches!(number, Ok(1)), "{number:?}");
        let trapped = sandbox.call_component::<_, char>("no-char", ());
        assert!(
            matches!(&trapped, Err(Error::Trap(trap)) if trap.message.contains("char")),
            "{trapped:?}"
        );
        let again = sandbox.call_component::<_, u32>("number", ());
        assert!(matches!(&again, Err(Error::Trap(_))), "{again:?}");
    });
}

#[test]
fn what_nothing_satisfies_is_listed() {
    on_both(|engine| {
        let module = module(engine, ECHO);
        match Sandbox::builder(&module).component_function(HOST, "number", |n: u64| n).build() {
            Err(Error::Imports(errors)) => {
                assert_eq!(errors.len(), 4, "{errors:?}");
                assert!(errors[0].problem.contains("func(n: u32) -> u32"), "{errors:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn snapshots_of_components_go_on() {
    let sandbox = echo(vm()).build().expect("a sandbox");
    let snapshot = sandbox.snapshot().expect("a snapshot");
    let calls = Arc::new(Mutex::new(0));
    for _ in 0..3 {
        let count = Arc::clone(&calls);
        let number = move |n: u32| {
            *count.lock().expect("the count") += 1;
            n + 1
        };
        let mut sandbox = snapshot
            .sandbox()
            .component_function(HOST, "greet", greet)
            .component_function(HOST, "bytes", |bytes: Vec<u8>| bytes)
            .component_function(HOST, "text", |text: String| text)
            .component_function(HOST, "number", number)
            .build()
            .expect("a sandbox of the snapshot");
        assert_eq!(sandbox.call_component::<_, u32>("number", (5u32,)).expect("a number"), 7);
    }
    assert_eq!(*calls.lock().expect("the count"), 3);
    let missing = snapshot.sandbox().build();
    assert!(matches!(&missing, Err(Error::Imports(list)) if list.len() == 4), "{missing:?}");
}
