//! Which values may stand where a type is asked for.

use sandgrain_abi::{HeapType, ValType, Value};

fn nullable(heap: HeapType) -> ValType {
    ValType::Ref { nullable: true, heap }
}

#[test]
fn a_null_is_of_every_type_of_its_hierarchy() {
    let null = Value::Null(HeapType::Any);
    for heap in [HeapType::Any, HeapType::Eq, HeapType::None, HeapType::ConcreteAny] {
        assert!(null.is_a(nullable(heap)), "{heap:?}");
    }
}

#[test]
fn a_null_is_of_no_type_of_another_hierarchy() {
    let tops = [HeapType::Func, HeapType::Extern, HeapType::Any, HeapType::Exn, HeapType::Cont];
    for of in tops {
        for heap in tops.into_iter().filter(|heap| *heap != of) {
            assert!(!Value::Null(of).is_a(nullable(heap)), "{of:?} as {heap:?}");
        }
    }
}

#[test]
fn a_null_is_of_no_type_without_null() {
    let ty = ValType::Ref { nullable: false, heap: HeapType::Func };
    assert!(!Value::Null(HeapType::Func).is_a(ty));
}
