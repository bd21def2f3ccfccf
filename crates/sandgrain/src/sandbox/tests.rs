//! Answers that no honest guest gives. What runs in the VM is not trusted: its word about how a command
//! ended is checked like any other.

use super::*;
use crate::guest::GuestImage;
use crate::learned::PageSet;
use crate::reference::Reference;
use sandgrain_abi::Encode;
use sandgrain_abi::layout::PAGE_SIZE;
use sandgrain_abi::message::{Fault, Frame, TrapCode};
use sandgrain_abi::types::HeapType;
use std::sync::OnceLock;

const MODULE: &str = r#"(module
    (memory (export "memory") 1)
    (global (export "number") (mut i32) (i32.const 7))
    (global (export "function") (mut funcref) (ref.null func))
    (global (export "object") (mut anyref) (ref.null any))
    (func (export "nothing"))
    (func (export "answer") (result i32) (i32.const 42))
    (func (export "two") (result i32 i64) (i32.const 1) (i64.const 2))
    (func (export "take") (param funcref))
    (func (export "give") (result funcref) (ref.null func))
    (func (export "some") (result (ref any)) (ref.i31 (i32.const 1))))"#;

fn module() -> &'static Module {
    static COMPILED: OnceLock<Module> = OnceLock::new();
    COMPILED.get_or_init(|| {
        // In QEMU's emulation, with its quirk.
        let emulated = std::env::var_os("SANDGRAIN_TEST_AVAILABLE_TSS").is_some();
        let engine = Engine::builder().without_cache().available_tss(emulated).build();
        Module::new(&engine.expect("an engine with KVM"), MODULE.as_bytes()).expect("a module")
    })
}

/// A machine that answers one command with what it is told, and the others with what they lead to.
struct Forger {
    honest: Box<dyn Machine>,
    answer: Option<Outcome>,
}

impl Machine for Forger {
    fn load(&mut self, module: &Module) -> Result<(u64, u64)> {
        self.honest.load(module)
    }

    fn attach(&mut self, attachments: Vec<Vec<u8>>) {
        self.honest.attach(attachments);
    }

    fn take_attached(&mut self) -> Vec<Vec<u8>> {
        self.honest.take_attached()
    }

    fn execute(&mut self, command: &Command, host: &mut Host) -> Result<Progress> {
        match self.answer.take() {
            // As it comes out of a VM: only what can be encoded can arrive.
            Some(forged) => {
                let mut bytes = Vec::new();
                forged.encode_to(&mut bytes);
                Ok(Progress::Done(Outcome::decode_from(&bytes).expect("an outcome")))
            }
            None => self.honest.execute(command, host),
        }
    }

    fn resume(&mut self, host: &mut Host) -> Result<Progress> {
        self.honest.resume(host)
    }

    fn memory(&mut self, number: u32) -> Result<Box<dyn LinearMemory + '_>> {
        self.honest.memory(number)
    }

    fn stats(&mut self) -> &mut Stats {
        self.honest.stats()
    }

    fn resident_pages(&self) -> Result<Option<u64>> {
        self.honest.resident_pages()
    }

    fn touched(&self, image: &GuestImage) -> Result<PageSet> {
        self.honest.touched(image)
    }

    fn capture(&self) -> Result<Option<GuestImage>> {
        self.honest.capture()
    }

    fn reset(&mut self, image: &GuestImage) -> Result<bool> {
        self.honest.reset(image)
    }
}

/// A sandbox whose guest answers the next command with this.
fn forged(answer: Outcome) -> Sandbox {
    let mut sandbox = Sandbox::new(module()).expect("a sandbox");
    // Nobody asks this one for anything: it takes the place for a moment.
    let none = Reference::new(&wasmtime::Engine::default(), &Limits::default(), &[]);
    let honest = std::mem::replace(&mut sandbox.machine, Box::new(none));
    sandbox.machine = Box::new(Forger { honest, answer: Some(answer) });
    sandbox
}

fn works(sandbox: &mut Sandbox) {
    assert_eq!(sandbox.call::<_, u32>("answer", ()).expect("a call"), 42);
}

fn next_sandbox_works() {
    works(&mut Sandbox::new(module()).expect("a sandbox"));
}

/// One thing that a sandbox is asked for.
type Ask = fn(&mut Sandbox) -> Result<()>;

fn call(name: &str, sandbox: &mut Sandbox) -> Result<()> {
    sandbox.call_values(sandbox.main(), name, &[]).map(drop)
}

const ASKS: &[(&str, Ask)] = &[
    ("nothing", |sandbox| call("nothing", sandbox)),
    ("answer", |sandbox| call("answer", sandbox)),
    ("a typed answer", |sandbox| sandbox.call::<_, u32>("answer", ()).map(drop)),
    ("two", |sandbox| call("two", sandbox)),
    ("give", |sandbox| call("give", sandbox)),
    ("some", |sandbox| call("some", sandbox)),
    ("run", |sandbox| sandbox.call::<(), ()>("nothing", ())),
    ("number", |sandbox| sandbox.global(sandbox.main(), "number").map(drop)),
    ("function", |sandbox| sandbox.global(sandbox.main(), "function").map(drop)),
    ("object", |sandbox| sandbox.global(sandbox.main(), "object").map(drop)),
    ("set", |sandbox| sandbox.set_global(sandbox.main(), "number", Value::I32(1))),
    ("read", |sandbox| sandbox.read_memory(sandbox.main(), "memory", 0..1).map(drop)),
    ("write", |sandbox| sandbox.write_memory(sandbox.main(), "memory", 0, b"x")),
    ("instantiate", |sandbox| sandbox.instantiate(module()).map(drop)),
];

/// Answers that are wrong, whatever was asked, but for the names given.
fn wrong_answers() -> Vec<(Outcome, &'static [&'static str])> {
    use Value::{F64, FuncRef, GcRef, I32, I64, Null};
    let returned = Outcome::Returned;
    vec![
        (Outcome::Instantiated(0), &[]),
        (Outcome::Instantiated(2), &[]),
        (Outcome::Instantiated(u32::MAX), &[]),
        (Outcome::Memory(0), &["read", "write"]),
        // There is no such memory: an empty one, which has no byte 0.
        (Outcome::Memory(u32::MAX), &["read", "write"]),
        (returned(vec![]), &["nothing", "run", "set"]),
        (returned(vec![I32(1)]), &["answer", "a typed answer", "number"]),
        (returned(vec![I64(1)]), &[]),
        (returned(vec![F64(u64::MAX)]), &[]),
        (returned(vec![I32(1), I32(2)]), &[]),
        (returned(vec![I64(1), I32(2)]), &[]),
        (returned(vec![I32(1), I64(2), I64(3)]), &[]),
        (returned(vec![I32(1); 100_000]), &[]),
        (returned(vec![FuncRef(u32::MAX)]), &["give", "function"]),
        (returned(vec![Null(HeapType::Func)]), &["give", "function"]),
        // The function's result is one that is never null.
        (returned(vec![Null(HeapType::Any)]), &["object"]),
        (returned(vec![GcRef(HeapType::Struct)]), &["some", "object"]),
        (returned(vec![GcRef(HeapType::Extern)]), &[]),
        (returned(vec![Value::V128(1)]), &[]),
        (Outcome::Trapped(sandgrain_abi::Trap { fault: Fault::Host, frames: vec![] }), &[]),
    ]
}

#[test]
fn an_answer_of_the_wrong_kind_ends_the_sandbox() {
    for (answer, right) in wrong_answers() {
        for (name, ask) in ASKS.iter().filter(|(name, _)| !right.contains(name)) {
            let mut sandbox = forged(answer.clone());
            let error = ask(&mut sandbox).expect_err(name);
            assert!(matches!(error, Error::Guest(_)), "{name}: {answer:?}: {error}");
            assert!(error.is_final() && error.to_string().len() < 2000, "{name}: {error}");
            let again = ask(&mut sandbox).expect_err(name);
            assert!(matches!(again, Error::Ended(_)), "{name}: {again}");
        }
    }
    next_sandbox_works();
}

#[test]
fn a_refusal_a_limit_or_a_trap_is_the_answer_to_anything_and_no_end() {
    let trap = sandgrain_abi::Trap {
        fault: Fault::Wasm { code: TrapCode::Unreachable, message: String::new() },
        frames: vec![],
    };
    for answer in [
        Outcome::Refused("because".to_owned()),
        Outcome::Limited("because".to_owned()),
        Outcome::Trapped(trap),
    ] {
        for (name, ask) in ASKS {
            let mut sandbox = forged(answer.clone());
            let error = ask(&mut sandbox).expect_err(name);
            match (&answer, &error) {
                (Outcome::Refused(_), Error::BadCall(_) | Error::Imports(_))
                | (Outcome::Limited(_), Error::Limit { .. })
                | (Outcome::Trapped(_), Error::Trap(_)) => {}
                _ => panic!("{name}: {answer:?}: {error}"),
            }
            works(&mut sandbox);
        }
    }
    next_sandbox_works();
}

#[test]
fn an_instance_that_the_guest_made_up_is_only_its_own_trouble() {
    let mut sandbox = forged(Outcome::Instantiated(1));
    // The number is the next one, so the host has to believe it.
    let instance = sandbox.instantiate(module()).expect("an instance, says the guest");
    let error = sandbox.call_values(instance, "answer", &[]).expect_err("there is none");
    assert!(matches!(error, Error::BadCall(_)), "{error}");
    works(&mut sandbox);
    next_sandbox_works();
}

#[test]
fn a_memory_that_the_guest_made_up_is_an_empty_one() {
    // Memory 1 is the guest's own too: its engine's, for collected values.
    for number in [2, 1000, u32::MAX] {
        let mut sandbox = forged(Outcome::Memory(number));
        let main = sandbox.main();
        let error = sandbox.read_memory(main, "memory", 0..1).expect_err("no byte");
        assert!(matches!(error, Error::BadCall(_)), "{error}");
        let mut sandbox = forged(Outcome::Memory(number));
        let error = sandbox.write_memory(main, "memory", 0, b"x").expect_err("no byte");
        assert!(matches!(error, Error::BadCall(_)), "{error}");
        works(&mut sandbox);
    }
    next_sandbox_works();
}

#[test]
fn a_function_that_the_guest_made_up_cannot_be_passed_back() {
    let mut sandbox = forged(Outcome::Returned(vec![Value::FuncRef(9999)]));
    let main = sandbox.main();
    let made_up = sandbox.call_values(main, "give", &[]).expect("a function, says the guest");
    let error = sandbox.call_values(main, "take", &made_up).expect_err("there is none");
    assert!(matches!(error, Error::BadCall(_)), "{error}");
    works(&mut sandbox);
    next_sandbox_works();
}

#[test]
fn an_error_of_an_earlier_call_is_not_the_error_of_this_one() {
    let fault = sandgrain_abi::Trap { fault: Fault::Host, frames: vec![] };
    let mut sandbox = forged(Outcome::Trapped(fault));
    // As after a guest that was told to end its call and returned instead.
    sandbox.host.failure = Some(Error::Exit(0));
    let error = sandbox.call::<_, u32>("answer", ()).expect_err("no host function was called");
    assert!(matches!(error, Error::Guest(_)), "{error}");
    next_sandbox_works();
}

#[test]
fn what_a_guest_tells_is_kept_and_shown_in_part() {
    let text = || "\u{1b}é".repeat(1 << 17);
    let frame = Frame { module: Some(text()), function: 1, name: Some(text()), offset: None };
    let fault = Fault::Wasm { code: TrapCode::Other, message: text() };
    for answer in [
        Outcome::Trapped(sandgrain_abi::Trap { fault, frames: vec![frame; 100] }),
        Outcome::Refused(text()),
        Outcome::Limited(text()),
    ] {
        for (name, ask) in ASKS {
            let error = ask(&mut forged(answer.clone())).expect_err(name);
            let shown = error.to_string();
            assert!(shown.len() < 10_000, "{name}: {} bytes", shown.len());
            assert!(shown.contains("..."), "{name}: {shown}");
            if let Error::Trap(trap) = error {
                let lines: Vec<String> = trap.backtrace().collect();
                assert_eq!(lines.len(), sandgrain_abi::Trap::MAX_FRAMES);
                assert!(lines.iter().all(|line| line.len() < 10_000), "{name}");
            }
        }
    }
    next_sandbox_works();
}

#[test]
fn what_calls_only_read_is_not_learned_as_written() {
    // Of eight pages that are its own in the image, one is written to.
    let data: String =
        (1..9).map(|page| format!(r#"(data (i32.const {}) "x")"#, page * PAGE_SIZE)).collect();
    let read: String =
        (1..9).map(|page| format!("(i32.load (i32.const {})) drop ", page * PAGE_SIZE)).collect();
    let text = format!(
        r#"(module (memory 1) {data} (func (export "f") {read} (i32.store (i32.const {PAGE_SIZE}) (i32.const 1))))"#
    );
    let module = Module::new(module().engine(), text.as_bytes()).expect("a module");
    let snapshot = Sandbox::new(&module).expect("a sandbox").snapshot().expect("a snapshot");
    let mut written = Vec::new();
    while snapshot.state().learned.is_curious() {
        let mut sandbox = snapshot.sandbox().build().expect("another sandbox");
        sandbox.call::<(), ()>("f", ()).expect("nothing");
        drop(sandbox);
        written.push(snapshot.state().learned.set().0.written.clone());
    }
    assert!(written.len() > 1 && !written[0].is_empty());
    assert!(written.iter().all(|pages| *pages == written[0]), "{written:x?}");
}
