//! Resources: those that a component defines, with handles at the host; and the host's, with handles in a component.

use crate::support::{module, on_both};
use sandgrain::component::{ResourceHandle, Val};
use sandgrain::{BoxError, Engine, Error, Sandbox, SandboxBuilder};
use std::sync::{Arc, Mutex};

/// Counters of its own, and how many have been dropped.
const COUNTERS: &str = r#"(component
    (core module $counters
        (global $dropped (export "dropped") (mut i32) (i32.const 0))
        (func (export "drop") (param i32)
            (if (i32.eq (local.get 0) (i32.const 666)) (then unreachable))
            (global.set $dropped (i32.add (global.get $dropped) (i32.const 1))))
        (func (export "count") (result i32) (global.get $dropped)))
    (core instance $counters (instantiate $counters))
    (type $counter' (resource (rep i32) (dtor (core func $counters "drop"))))
    (core func $new (canon resource.new $counter'))
    (core func $rep (canon resource.rep $counter'))
    (core func $drop (canon resource.drop $counter'))
    (core module $code
        (import "counter" "new" (func $new (param i32) (result i32)))
        (import "counter" "rep" (func $rep (param i32) (result i32)))
        (import "counter" "drop" (func $drop (param i32)))
        (func (export "new") (param i32) (result i32) (call $new (local.get 0)))
        (func (export "get") (param i32) (result i32) (local.get 0))
        (func (export "take") (param i32) (result i32) (local $n i32)
            (local.set $n (call $rep (local.get 0)))
            (call $drop (local.get 0))
            (local.get $n))
        (func (export "forge") (result i32) (i32.const 77)))
    (core instance $code (instantiate $code (with "counter" (instance
        (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
    (export $counter "counter" (type $counter'))
    (func (export "[constructor]counter") (param "n" u32) (result (own $counter))
        (canon lift (core func $code "new")))
    (func (export "[method]counter.get") (param "self" (borrow $counter)) (result u32)
        (canon lift (core func $code "get")))
    (func (export "take") (param "counter" (own $counter)) (result u32)
        (canon lift (core func $code "take")))
    (func (export "forge") (result (own $counter)) (canon lift (core func $code "forge")))
    (func (export "dropped") (result u32) (canon lift (core func $counters "count"))))"#;

fn counters(engine: &Engine) -> Sandbox {
    Sandbox::new(&module(engine, COUNTERS)).expect("a sandbox")
}

fn call(sandbox: &mut Sandbox, name: &str, args: &[Val]) -> Result<Option<Val>, Error> {
    sandbox.call_component_values(sandbox.main(), name, args)
}

#[track_caller]
fn counter(sandbox: &mut Sandbox, n: u32) -> ResourceHandle {
    match call(sandbox, "[constructor]counter", &[Val::U32(n)]) {
        Ok(Some(Val::Resource(handle))) => handle,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn number(sandbox: &mut Sandbox, name: &str, args: &[Val]) -> u32 {
    match call(sandbox, name, args) {
        Ok(Some(Val::U32(n))) => n,
        other => panic!("{name}: {other:?}"),
    }
}

/// The call is refused, the component is well.
#[track_caller]
fn is_refused<T: std::fmt::Debug>(sandbox: &mut Sandbox, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::BadCall(_))), "{result:?}");
    let handle = counter(sandbox, 5);
    assert_eq!(number(sandbox, "[method]counter.get", &[Val::Resource(handle)]), 5);
    sandbox.drop_resource(handle).expect("dropped");
}

#[test]
fn a_components_resource_is_made_used_and_dropped() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let handles = [10, 20, 30].map(|n| counter(&mut sandbox, n));
        for (handle, n) in handles.into_iter().zip([10, 20, 30]) {
            assert!(handle.owned);
            for _ in 0..3 {
                let value = [Val::Resource(handle)];
                assert_eq!(number(&mut sandbox, "[method]counter.get", &value), n);
            }
        }
        assert_eq!(number(&mut sandbox, "dropped", &[]), 0);
        sandbox.drop_resource(handles[1]).expect("dropped");
        assert_eq!(number(&mut sandbox, "dropped", &[]), 1);
        assert_eq!(number(&mut sandbox, "take", &[Val::Resource(handles[0])]), 10);
        assert_eq!(number(&mut sandbox, "dropped", &[]), 2);
        let last = [Val::Resource(handles[2])];
        assert_eq!(number(&mut sandbox, "[method]counter.get", &last), 30);
    });
}

#[test]
fn a_resource_that_was_dropped_is_refused() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let handle = counter(&mut sandbox, 1);
        sandbox.drop_resource(handle).expect("dropped");
        let again = sandbox.drop_resource(handle);
        is_refused(&mut sandbox, again);
        for name in ["[method]counter.get", "take"] {
            let used = call(&mut sandbox, name, &[Val::Resource(handle)]);
            is_refused(&mut sandbox, used);
        }
    });
}

#[test]
fn a_resource_that_was_given_away_is_refused() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let handle = counter(&mut sandbox, 1);
        assert_eq!(number(&mut sandbox, "take", &[Val::Resource(handle)]), 1);
        for name in ["[method]counter.get", "take"] {
            let used = call(&mut sandbox, name, &[Val::Resource(handle)]);
            is_refused(&mut sandbox, used);
        }
        let dropped = sandbox.drop_resource(handle);
        is_refused(&mut sandbox, dropped);
    });
}

#[test]
fn forged_handles_are_refused() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let handle = counter(&mut sandbox, 1);
        for number in [handle.number + 1, 1000, u32::MAX] {
            for owned in [true, false] {
                let forged = ResourceHandle { number, owned };
                for name in ["[method]counter.get", "take"] {
                    let used = call(&mut sandbox, name, &[Val::Resource(forged)]);
                    is_refused(&mut sandbox, used);
                }
                let dropped = sandbox.drop_resource(forged);
                is_refused(&mut sandbox, dropped);
            }
        }
        let lent = Val::Resource(ResourceHandle { owned: false, ..handle });
        let given = call(&mut sandbox, "take", std::slice::from_ref(&lent));
        is_refused(&mut sandbox, given);
        assert_eq!(number(&mut sandbox, "[method]counter.get", &[lent]), 1);
        for other in [Val::HostResource(0), Val::U32(0), Val::String(String::new())] {
            let used = call(&mut sandbox, "take", &[other]);
            is_refused(&mut sandbox, used);
        }
    });
}

#[test]
fn a_destructor_that_traps_is_a_trap() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let handle = counter(&mut sandbox, 666);
        let dropped = sandbox.drop_resource(handle);
        assert!(matches!(dropped, Err(Error::Trap(_))), "{dropped:?}");
    });
}

#[test]
fn a_handle_that_a_component_makes_up_is_a_trap() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let forged = call(&mut sandbox, "forge", &[]);
        assert!(matches!(forged, Err(Error::Trap(_))), "{forged:?}");
    });
}

#[test]
fn the_resources_that_a_host_keeps_are_limited() {
    on_both(|engine| {
        let mut sandbox = counters(engine);
        let mut handles = Vec::new();
        let error = loop {
            match call(&mut sandbox, "[constructor]counter", &[Val::U32(1)]) {
                Ok(Some(Val::Resource(handle))) => handles.push(handle),
                other => break other,
            }
            assert!(handles.len() <= 1 << 20, "no limit");
        };
        assert!(matches!(error, Err(Error::Limit { .. })), "{error:?}");
        let last = handles[handles.len() - 1];
        sandbox.drop_resource(last).expect("dropped");
        counter(&mut sandbox, 2);
    });
}

/// Does with the host's things whatever it is told.
const THINGS: &str = r#"(component
    (import "test:host/things" (instance $host
        (export "thing" (type $thing (sub resource)))
        (export "make" (func (param "n" u32) (result (own $thing))))
        (export "look" (func (param "thing" (borrow $thing)) (result u32)))
        (export "take" (func (param "thing" (own $thing))))))
    (alias export $host "thing" (type $thing))
    (alias export $host "make" (func $make))
    (alias export $host "look" (func $look))
    (alias export $host "take" (func $take))
    (core func $make' (canon lower (func $make)))
    (core func $look' (canon lower (func $look)))
    (core func $take' (canon lower (func $take)))
    (core func $drop' (canon resource.drop $thing))
    (core module $code
        (import "host" "make" (func $make (param i32) (result i32)))
        (import "host" "look" (func $look (param i32) (result i32)))
        (import "host" "take" (func $take (param i32)))
        (import "host" "drop" (func $drop (param i32)))
        (global $kept (mut i32) (i32.const 0))
        (func (export "make-and-look") (param i32) (result i32) (local $thing i32) (local $n i32)
            (local.set $thing (call $make (local.get 0)))
            (local.set $n (call $look (local.get $thing)))
            (call $drop (local.get $thing))
            (local.get $n))
        (func (export "make-and-give") (param i32) (call $take (call $make (local.get 0))))
        (func (export "make-many") (param i32)
            (loop $more
                (if (local.get 0)
                    (then
                        (call $drop (call $make (local.get 0)))
                        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                        (br $more)))))
        (func (export "keep") (param i32) (global.set $kept (local.get 0)))
        (func (export "look-at-kept") (result i32) (call $look (global.get $kept)))
        (func (export "give-kept") (call $take (global.get $kept)))
        (func (export "drop-kept") (call $drop (global.get $kept)))
        (func (export "return-kept") (result i32) (global.get $kept))
        (func (export "borrow") (param i32) (result i32) (local $n i32)
            (local.set $n (call $look (local.get 0)))
            (call $drop (local.get 0))
            (local.get $n))
        (func (export "hold") (param i32))
        (func (export "give-borrowed") (param i32) (call $take (local.get 0))))
    (core instance $code (instantiate $code (with "host" (instance
        (export "make" (func $make')) (export "look" (func $look'))
        (export "take" (func $take')) (export "drop" (func $drop'))))))
    (func (export "make-and-look") (param "n" u32) (result u32)
        (canon lift (core func $code "make-and-look")))
    (func (export "make-and-give") (param "n" u32) (canon lift (core func $code "make-and-give")))
    (func (export "make-many") (param "n" u32) (canon lift (core func $code "make-many")))
    (func (export "keep") (param "thing" (own $thing)) (canon lift (core func $code "keep")))
    (func (export "look-at-kept") (result u32) (canon lift (core func $code "look-at-kept")))
    (func (export "give-kept") (canon lift (core func $code "give-kept")))
    (func (export "drop-kept") (canon lift (core func $code "drop-kept")))
    (func (export "return-kept") (result (own $thing)) (canon lift (core func $code "return-kept")))
    (func (export "borrow") (param "thing" (borrow $thing)) (result u32)
        (canon lift (core func $code "borrow")))
    (func (export "hold") (param "thing" (borrow $thing)) (canon lift (core func $code "hold")))
    (func (export "give-borrowed") (param "thing" (borrow $thing))
        (canon lift (core func $code "give-borrowed"))))"#;

const HOST: &str = "test:host/things";

/// What happened to the host's things, as text.
type Log = Arc<Mutex<Vec<String>>>;

fn thing(args: &[Val]) -> Result<u32, BoxError> {
    match args {
        [Val::HostResource(n)] => Ok(*n),
        other => Err(format!("{other:?}").into()),
    }
}

fn described(engine: &Engine, log: &Log) -> SandboxBuilder {
    let note = |what: &'static str| {
        let log = Arc::clone(log);
        move |n: u32| log.lock().expect("no panic").push(format!("{what} {n}"))
    };
    let (made, looked, took, dropped) =
        (note("made"), note("looked"), note("took"), note("dropped"));
    Sandbox::builder(&module(engine, THINGS))
        .component_resource(HOST, "thing", dropped)
        .component_function_values(HOST, "make", move |args| match args {
            [Val::U32(n)] => {
                made(*n);
                Ok(Some(Val::HostResource(*n)))
            }
            other => Err(format!("{other:?}").into()),
        })
        .component_function_values(HOST, "look", move |args| {
            let n = thing(args)?;
            looked(n);
            Ok(Some(Val::U32(n + 1)))
        })
        .component_function_values(HOST, "take", move |args| {
            took(thing(args)?);
            Ok(None)
        })
}

fn things(engine: &Engine) -> (Sandbox, Log) {
    let log = Log::default();
    let sandbox = described(engine, &log).build();
    (sandbox.unwrap_or_else(|error| panic!("{error}")), log)
}

#[track_caller]
fn happened(log: &Log, expected: &[&str]) {
    assert_eq!(std::mem::take(&mut *log.lock().expect("no panic")), expected);
}

#[test]
fn a_component_borrows_out_and_drops_the_hosts_resource() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        assert_eq!(number(&mut sandbox, "make-and-look", &[Val::U32(7)]), 8);
        happened(&log, &["made 7", "looked 7", "dropped 7"]);
    });
}

#[test]
fn what_a_component_gives_to_the_host_is_not_dropped() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        call(&mut sandbox, "make-and-give", &[Val::U32(7)]).expect("a call");
        happened(&log, &["made 7", "took 7"]);
        call(&mut sandbox, "keep", &[Val::HostResource(9)]).expect("a call");
        call(&mut sandbox, "give-kept", &[]).expect("a call");
        call(&mut sandbox, "keep", &[Val::HostResource(10)]).expect("a call");
        let returned = call(&mut sandbox, "return-kept", &[]).expect("a call");
        assert_eq!(returned, Some(Val::HostResource(10)));
        happened(&log, &["took 9"]);
    });
}

#[test]
fn a_component_keeps_what_it_is_given_between_calls() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        call(&mut sandbox, "keep", &[Val::HostResource(9)]).expect("a call");
        assert_eq!(number(&mut sandbox, "look-at-kept", &[]), 10);
        happened(&log, &["looked 9"]);
        call(&mut sandbox, "drop-kept", &[]).expect("a call");
        happened(&log, &["dropped 9"]);
    });
}

#[test]
fn every_drop_is_told_once_and_in_order() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        call(&mut sandbox, "make-many", &[Val::U32(300)]).expect("a call");
        let log = log.lock().expect("no panic");
        let of = |what: &str| {
            let events = log.iter().filter_map(|event| event.strip_prefix(what));
            events.map(|n| n.trim().parse::<u32>().expect("a number")).collect::<Vec<_>>()
        };
        let all: Vec<u32> = (1..=300).rev().collect();
        assert_eq!(of("made"), all);
        assert_eq!(of("dropped"), all);
    });
}

#[test]
fn what_a_component_is_lent_it_can_lend_on() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        assert_eq!(number(&mut sandbox, "borrow", &[Val::HostResource(3)]), 4);
        happened(&log, &["looked 3"]);
    });
}

#[test]
fn a_component_that_keeps_what_it_was_lent_traps() {
    on_both(|engine| {
        let (mut sandbox, log) = things(engine);
        let held = call(&mut sandbox, "hold", &[Val::HostResource(3)]);
        assert!(matches!(held, Err(Error::Trap(_))), "{held:?}");
        happened(&log, &[]);
    });
}

#[test]
fn what_a_component_does_with_handles_that_it_has_not_is_a_trap() {
    on_both(|engine| {
        for name in ["look-at-kept", "give-kept", "drop-kept", "return-kept"] {
            // What it has kept is nothing so far.
            let (mut sandbox, log) = things(engine);
            let used = call(&mut sandbox, name, &[]);
            assert!(matches!(used, Err(Error::Trap(_))), "{name}: {used:?}");
            happened(&log, &[]);
            // It is gone when it is used again.
            let (mut sandbox, log) = things(engine);
            call(&mut sandbox, "keep", &[Val::HostResource(9)]).expect("a call");
            call(&mut sandbox, "drop-kept", &[]).expect("a call");
            let used = call(&mut sandbox, name, &[]);
            assert!(matches!(used, Err(Error::Trap(_))), "{name}: {used:?}");
            happened(&log, &["dropped 9"]);
        }
        let (mut sandbox, log) = things(engine);
        let given = call(&mut sandbox, "give-borrowed", &[Val::HostResource(9)]);
        assert!(matches!(given, Err(Error::Trap(_))), "{given:?}");
        happened(&log, &[]);
    });
}

#[test]
fn a_resource_type_that_is_not_given_is_listed() {
    on_both(|engine| {
        let built = Sandbox::builder(&module(engine, THINGS)).build();
        match built {
            Err(Error::Imports(errors)) => {
                let found = errors.iter().any(|error| error.problem.contains("resource type"));
                assert!(found, "{errors:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_import_cannot_take_a_resource_of_the_components_own() {
    // By the component model's rules: imports come before what a component defines, and name only imported types.
    // So no host function borrows one; the host gets them as results, and hands them to exports.
    on_both(|engine| {
        let text = r#"(component
            (type $own (resource (rep i32)))
            (import "look" (func (param "thing" (borrow $own)))))"#;
        let error = sandgrain::Module::new(engine, text.as_bytes()).expect_err("it is not valid");
        assert!(matches!(error, Error::Module(_)), "{error:?}");
    });
}
