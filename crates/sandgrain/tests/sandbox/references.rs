//! References that pass between host and guest.

use crate::support::vm;
use sandgrain::{Module, Sandbox, Value};

const MODULE: &[u8] = br#"
(module
  (global (export "kept") (mut anyref) (ref.null any))
  (func $one (export "one") (result funcref) (ref.func $one))
  (func $other (export "other") (result funcref) (ref.func $other))
  (func (export "outward") (param anyref) (result externref)
    (extern.convert_any (local.get 0))))
"#;

fn sandbox() -> Sandbox {
    let module = Module::new(vm(), MODULE).expect("a module");
    Sandbox::new(&module).expect("a sandbox")
}

fn call(sandbox: &mut Sandbox, name: &str, args: &[Value]) -> Value {
    let main = sandbox.main();
    sandbox.call_values(main, name, args).expect("a result")[0]
}

#[test]
fn a_function_keeps_its_number() {
    let mut sandbox = sandbox();
    let one = call(&mut sandbox, "one", &[]);
    let other = call(&mut sandbox, "other", &[]);
    assert_ne!(one, other);
    // More often than functions are kept for the host.
    for _ in 0..70_000 {
        assert_eq!(call(&mut sandbox, "one", &[]), one);
    }
}

#[test]
fn a_value_of_the_host_can_be_an_argument_of_an_internal_type() {
    let value = Value::ExternRef(7);
    assert_eq!(call(&mut sandbox(), "outward", &[value]), value);
}

#[test]
fn a_value_of_the_host_can_be_kept_in_a_global_of_an_internal_type() {
    let mut sandbox = sandbox();
    let main = sandbox.main();
    sandbox.set_global(main, "kept", Value::ExternRef(7)).expect("it is set");
    assert_eq!(sandbox.global(main, "kept").expect("it is there"), Value::ExternRef(7));
}
