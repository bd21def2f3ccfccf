//! Which linear memories an instance of a component has.

use crate::support::component_info;
use sandgrain_compile::engine_config;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The first size of each memory, in pages, after comparing with what the engine says.
fn memories(text: &str) -> Vec<u64> {
    let info = component_info(text);
    let engine = Engine::new(&engine_config(&[])).expect("engine");
    let component = Component::new(&engine, wat::parse_str(text).expect("text")).expect("compiles");
    let required = component.resources_required().expect("known");
    assert_eq!(required.num_memories as usize, info.memories.len(), "{text}");
    let sizes = info.memories.iter().map(|memory| memory.minimum);
    assert_eq!(required.max_initial_memory_size, sizes.max(), "{text}");
    info.memories.iter().map(|memory| memory.minimum).collect()
}

#[test]
fn a_module_that_is_not_instantiated_has_none() {
    assert_eq!(memories("(component (core module (memory 1)))"), []);
}

#[test]
fn one_for_each_instance() {
    let text = r#"(component
      (core module $a (memory (export "m") 1 3) (memory i64 2))
      (core module $b (import "a" "m" (memory 1)) (memory 3))
      (core instance $a1 (instantiate $a))
      (core instance (instantiate $b (with "a" (instance $a1))))
      (core instance (instantiate $a)))"#;
    assert_eq!(memories(text), [1, 2, 3, 1, 2]);
    let info = component_info(text);
    let types: Vec<_> = info.memories.iter().map(|m| (m.maximum, m.memory64)).collect();
    let (a, b) = ([(Some(3), false), (None, true)], [(None, false)]);
    assert_eq!(types, [&a[..], &b, &a].concat());
}

#[test]
fn a_nested_component_has_its_own_each_time() {
    let text = r#"(component
      (component $c
        (core module $m (memory 1))
        (core instance (instantiate $m)))
      (instance (instantiate $c))
      (component $d
        (alias outer 1 $c (component $c))
        (instance (instantiate $c))
        (instance (instantiate $c)))
      (instance (instantiate $d)))"#;
    assert_eq!(memories(text), [1, 1, 1]);
}

#[test]
fn modules_and_components_as_arguments() {
    let text = r#"(component
      (core module $one (memory 1))
      (core module $two (memory 2))
      (component $twice
        (import "m" (core module $m))
        (core instance (instantiate $m))
        (core instance (instantiate $m)))
      (component $apply
        (import "c" (component $c (import "m" (core module))))
        (import "m" (core module $m))
        (instance (instantiate $c (with "m" (core module $m)))))
      (instance (instantiate $twice (with "m" (core module $two))))
      (instance (instantiate $apply
        (with "c" (component $twice)) (with "m" (core module $one)))))"#;
    assert_eq!(memories(text), [2, 2, 1, 1]);
}

#[test]
fn modules_out_of_instances() {
    let text = r#"(component
      (component $c
        (core module $m (memory 7))
        (core module $n (memory 8))
        (instance $inner (export "n" (core module $n)))
        (export $m2 "m" (core module $m))
        (core instance (instantiate $m2))
        (export "inner" (instance $inner)))
      (instance $c (instantiate $c))
      (alias export $c "inner" (instance $inner))
      (alias export $inner "n" (core module $n))
      (core instance (instantiate $n))
      (alias export $c "m" (core module $m))
      (core instance (instantiate $m)))"#;
    assert_eq!(memories(text), [7, 8, 7]);
}

#[test]
fn modules_of_an_outer_component() {
    let text = r#"(component
      (core module $m (memory 4))
      (component $c
        (component $d
          (alias outer 2 $m (core module $m))
          (core instance (instantiate $m)))
        (instance (instantiate $d))
        (core module $later (memory 5)))
      (core module $n (memory 6))
      (instance (instantiate $c)))"#;
    assert_eq!(memories(text), [4]);
}

/// What the engine puts between two components moves bytes, and has no memory of its own.
#[test]
fn adapters_have_none() {
    let text = r#"(component
      (component $callee
        (core module $m
          (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
          (func (export "f") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func (export "f") (param "s" string)
          (canon lift (core func $i "f") (memory (core memory $i "memory"))
            (realloc (core func $i "realloc")))))
      (component $caller
        (import "f" (func $f (param "s" string)))
        (core module $libc (memory (export "memory") 2) (func (export "g")))
        (core instance $libc (instantiate $libc))
        (core func $f' (canon lower (func $f) (memory (core memory $libc "memory"))))
        (core module $m (import "" "f" (func (param i32 i32))))
        (core instance (instantiate $m (with "" (instance (export "f" (func $f'))))))
        (func (export "g") (canon lift (core func $libc "g"))))
      (instance $callee (instantiate $callee))
      (instance (instantiate $caller (with "f" (func $callee "f")))))"#;
    assert_eq!(memories(text), [1, 2]);
}
