//! Rust's own types travel like the values that are known only at run time.

use sandgrain_abi::component::{Lift, Lower, Reader, Type, TypeDef, Types, Val, Writer};
use std::fmt::Debug;

/// Both ways for one value: as a Rust type, and as what is known only at run time.
fn both<T>(types: &Types, ty: Type, value: &T, val: &Val)
where
    T: Lower + for<'a> Lift<'a> + PartialEq + Debug,
{
    assert!(<T as Lower>::is_of(ty, types) && <T as Lift>::is_of(ty, types), "{value:?}");
    let mut of_rust = Writer::new();
    value.lower(&mut of_rust);
    let mut of_val = Writer::new();
    types.lower(val, ty, &mut of_val).expect("a value");
    let (payload, attachments) = of_rust.finish();
    assert_eq!((payload.clone(), attachments.clone()), of_val.finish(), "{value:?}");
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    let mut reader = Reader::new(&payload.body, &attachments, &[], 1 << 20);
    assert_eq!(T::lift(&mut reader).as_ref(), Ok(value));
    reader.finish().expect("nothing is left");
    let mut reader = Reader::new(&payload.body, &attachments, &[], 1 << 20);
    assert_eq!(types.lift(ty, &mut reader).as_ref(), Ok(val));
}

fn types() -> Types {
    Types {
        defs: vec![
            TypeDef::List(Type::U8),
            TypeDef::List(Type::S32),
            TypeDef::List(Type::String),
            TypeDef::Option(Type::Char),
            TypeDef::Result { ok: Some(Type::Bool), err: None },
            TypeDef::Result { ok: None, err: Some(Type::String) },
            TypeDef::Tuple(vec![Type::F64, Type::Defined(1)]),
            TypeDef::Tuple(vec![Type::U64]),
            TypeDef::List(Type::Defined(6)),
        ],
        resources: vec![],
    }
}

#[test]
fn the_same_bytes() {
    let types = types();
    let d = Type::Defined;
    let boxed = |val| Some(Box::new(val));
    both(&types, Type::Bool, &true, &Val::Bool(true));
    both(&types, Type::S8, &-1_i8, &Val::S8(-1));
    both(&types, Type::U16, &65_535_u16, &Val::U16(65_535));
    both(&types, Type::S64, &i64::MIN, &Val::S64(i64::MIN));
    both(&types, Type::F32, &1.5_f32, &Val::F32(1.5));
    both(&types, Type::Char, &'é', &Val::Char('é'));
    both(&types, Type::String, &"text".to_owned(), &Val::String("text".to_owned()));
    both(&types, d(0), &vec![1_u8, 2], &Val::Bytes(vec![1, 2]));
    both(&types, d(0), &vec![9_u8; 50_000], &Val::Bytes(vec![9; 50_000]));
    both(&types, d(1), &vec![-1_i32, 7], &Val::List(vec![Val::S32(-1), Val::S32(7)]));
    both(&types, d(1), &vec![1_i32; 9_000], &Val::List(vec![Val::S32(1); 9_000]));
    both(&types, d(2), &vec!["a".to_owned()], &Val::List(vec![Val::String("a".to_owned())]));
    both(&types, d(3), &Some('x'), &Val::Option(boxed(Val::Char('x'))));
    both(&types, d(3), &None::<char>, &Val::Option(None));
    both(&types, d(4), &Ok::<bool, ()>(true), &Val::Result(Ok(boxed(Val::Bool(true)))));
    both(&types, d(4), &Err::<bool, ()>(()), &Val::Result(Err(None)));
    let text = Val::String("no".to_owned());
    both(&types, d(5), &Err::<(), String>("no".to_owned()), &Val::Result(Err(boxed(text))));
    let tuple = Val::Tuple(vec![Val::F64(0.5), Val::List(vec![])]);
    both(&types, d(6), &(0.5_f64, Vec::<i32>::new()), &tuple);
    both(&types, d(7), &(7_u64,), &Val::Tuple(vec![Val::U64(7)]));
    both(&types, d(8), &vec![(0.5_f64, Vec::<i32>::new())], &Val::List(vec![tuple]));
}

#[test]
fn other_types_are_told_apart() {
    let types = types();
    let d = Type::Defined;
    assert!(!<u8 as Lift>::is_of(Type::S8, &types));
    assert!(!<Vec<u8> as Lift>::is_of(d(1), &types));
    assert!(!<(f64,) as Lift>::is_of(d(6), &types));
    assert!(!<Result<(), ()> as Lift>::is_of(d(4), &types));
    assert!(!<Result<bool, String> as Lower>::is_of(d(4), &types));
    assert!(!<Option<u8> as Lower>::is_of(d(3), &types));
    assert!(!<() as Lower>::is_of(Type::Bool, &types));
    assert!(<&[u8] as Lift>::is_of(d(0), &types) && <&str as Lift>::is_of(Type::String, &types));
}

/// What is lent from the guest's memory is not copied.
#[test]
fn borrowed_runs_take_nothing_from_the_budget() {
    let mut out = Writer::new();
    "x".repeat(100_000).lower(&mut out);
    let (payload, attachments) = out.finish();
    let attachments: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
    let mut reader = Reader::new(&payload.body, &attachments, &[], 0);
    let text = <&str>::lift(&mut reader).expect("a string");
    assert_eq!((text.len(), text.as_ptr()), (100_000, attachments[0].as_ptr()));
    let mut reader = Reader::new(&payload.body, &attachments, &[], 99_999);
    String::lift(&mut reader).expect_err("too large");
    assert!(reader.is_over_budget());
}
