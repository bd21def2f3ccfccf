//! Programs that are called as CGI programs are.

use crate::client::{get, post};
use crate::host::{Host, program};

/// A program that prints a text.
fn printing(text: &str, then: &str) -> String {
    let length = text.len();
    let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 2)
          (data (i32.const 100) "{escaped}")
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 100))
            (i32.store (i32.const 4) (i32.const {length}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            {then}))"#
    )
}

/// Prints a head, then its input.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "Content-Type: text/plain\n\n")
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
  (func (export "_start")
    (call $print (i32.const 100) (i32.const 26))
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 32768))
      (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (if (i32.load (i32.const 8)) (then
        (call $print (i32.const 1024) (i32.load (i32.const 8)))
        (br $more))))))"#;

/// Prints its arguments and its environment, each behind a NUL.
const TELLS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 100) "Content-Type: text/plain\n\n")
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $print (i32.const 100) (i32.const 26))
    (drop (call $args_sizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 1024) (i32.const 65536)))
    (call $print (i32.const 65536) (i32.load (i32.const 20)))
    (drop (call $env_sizes (i32.const 16) (i32.const 20)))
    (drop (call $env (i32.const 1024) (i32.const 131072)))
    (call $print (i32.const 131072) (i32.load (i32.const 20)))))"#;

fn manifest(keys: &str) -> String {
    format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "programs"
        [[trigger.http]]
        route = "/p/:name/..."
        component = "program"
        executor = {{ type = "wagi" }}
        [component.program]
        source = "{{dir}}/program.wasm"
        environment = {{ OWN = "kept", PATH_INFO = "not this" }}
        {keys}
        "#
    )
}

async fn serve(text: &str, keys: &str) -> Host {
    let programs = tempfile::tempdir().unwrap();
    program(programs.path(), "program.wasm", text);
    let host =
        Host::start(&manifest(keys).replace("{dir}", &programs.path().display().to_string())).await;
    drop(programs);
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_prints_is_the_answer() {
    let host =
        serve(&printing("Status: 201 Made\nContent-Type: text/x\nX-Own: a\n\nbody\n", ""), "")
            .await;
    let answer = get(host.address(), "/p/x").await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (201, "body\n"));
    assert_eq!((answer.header("content-type"), answer.header("x-own")), ("text/x", "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_its_input() {
    let host = serve(ECHO, "").await;
    for size in [0, 1, 70_000, 2_000_000] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let answer = post(host.address(), "/p/x", &body).await.unwrap();
        assert!(answer.is_complete && answer.body == body, "{size}: {}", answer.body.len());
    }
    assert_eq!(host.failures("").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_of_its_request() {
    for policy in ["fresh", "reset"] {
        let host = serve(TELLS, &format!("pool = {{ policy = \"{policy}\" }}")).await;
        for round in 0..3 {
            let path = format!("/p/ada/rest/{round}?a=1&b=%41");
            let text = get(host.address(), &path).await.unwrap().text();
            let said: Vec<_> = text.split('\0').collect();
            assert_eq!(said[..3], ["/p/ada", "a=1", "b=A"], "{text}");
            for expected in [
                "OWN=kept".to_owned(),
                "REQUEST_METHOD=GET".to_owned(),
                format!("PATH_INFO=/rest/{round}"),
                "SCRIPT_NAME=/p/ada".to_owned(),
                "QUERY_STRING=a=1&b=%41".to_owned(),
                "X_PATH_MATCH_NAME=ada".to_owned(),
                "HTTP_HOST=test".to_owned(),
                "GATEWAY_INTERFACE=CGI/1.1".to_owned(),
            ] {
                assert!(said.contains(&&*expected), "no {expected} in {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_a_failure_of_the_program() {
    for (text, then, kind) in [
        ("no head at all", "", "no_answer"),
        ("Status: 99 Bad\n\n", "", "no_answer"),
        ("", "", "no_answer"),
        ("", "(call $exit (i32.const 3))", "no_answer"),
        ("", "unreachable", "trap"),
    ] {
        let host = serve(&printing(text, then), "").await;
        let answer = get(host.address(), "/p/x").await.unwrap();
        assert_eq!(answer.status, 502, "{text:?} {then:?}");
        assert_eq!(host.failures(kind).await, 1.0, "{text:?} {then:?}");
        assert_eq!(host.failures("").await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_after_its_head_breaks_its_answer_off() {
    for then in ["(call $exit (i32.const 3))", "unreachable"] {
        let host = serve(&printing("Content-Type: text/plain\n\nhalf", then), "").await;
        let answer = get(host.address(), "/p/x").await.unwrap();
        // Where the failure was known before anything was sent, that is the answer.
        let answer = (answer.status, answer.is_complete);
        assert!(matches!(answer, (200, false) | (502, true)), "{then}: {answer:?}");
        assert_eq!(host.failures("").await, 1.0, "{then}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_beyond_the_limit_breaks_off() {
    let text = format!("Content-Type: text/plain\n\n{}", "x".repeat(20_000));
    let host = serve(&printing(&text, ""), "limits = { response_body = \"10K\" }").await;
    let answer = get(host.address(), "/p/x").await.unwrap();
    assert!(!answer.is_complete && answer.body.len() <= 10240);
    assert_eq!(host.failures("limit").await, 1.0);
}
