//! Workers that somebody else has taken over: they get no further than their own guests' calls.

use super::line::Line;
use super::message::{Ask, Call, MAX_ASKED, Part, Reply, Told};
use super::remote::Remote;
use super::worker::Worker;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::exports::Prepared;
use crate::host::{Host, WASI};
use crate::host_functions::{Body, HostFunctions, IntoHostFunction};
use crate::machine::{Begun, Machine, Progress, Step};
use crate::stop::Target;
use sandgrain_abi::message::{Command, Outcome};
use sandgrain_abi::types::FuncType;
use sandgrain_wasi::{Wasi, WasiConfig};
use std::io;
use std::os::unix::net::UnixStream;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

/// Bytes of the guest's memory, and the most that it can have.
const SIZE: u64 = 65536;

/// The worker's end of a line.
struct Player(Line);

impl Player {
    fn say(&mut self, told: &Told) {
        // Whoever was told enough does not listen any more.
        let _ = self.0.send(told, &[], || Ok::<_, io::Error>(()));
    }

    fn asked(&mut self) -> Option<Ask> {
        self.0.receive(MAX_ASKED, || Ok::<_, io::Error>(())).ok()
    }

    fn reply(&mut self) -> Option<Reply> {
        self.0.receive(MAX_ASKED, || Ok::<_, io::Error>(())).ok()
    }
}

fn played(
    script: impl FnOnce(&mut Player) + Send + 'static,
) -> (Remote, std::os::fd::OwnedFd, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let (worker, control) = Worker::played(Line::new(ours));
    let player = spawn(move || script(&mut Player(Line::new(theirs))));
    (Remote::played(worker, SIZE), control, player)
}

/// A host with one function, which fills some of its caller's memory, and WASI.
fn host() -> Host {
    fn ty<M, F: IntoHostFunction<M>>(_: &F) -> FuncType {
        F::func_type()
    }
    let fill = |caller: &mut Caller<'_>, address: u32, len: u32| {
        caller.bytes(address, len).map(|bytes| bytes.fill(7))
    };
    let mut functions = HostFunctions::default();
    functions.add("host", "fill", ty(&fill), Body::Now(fill.into_call()));
    let back = |caller: &mut Caller<'_>| {
        let command = Command::GetGlobal { instance: 0, export: "g".to_owned() };
        let _ = caller.execute(Prepared { command, attachments: Vec::new() });
        caller.bytes(0, 0).map(|_| ())
    };
    functions.add("host", "back", ty(&back), Body::Now(back.into_call()));
    let wasi = Some(Wasi::new(WasiConfig::new()));
    Host { functions, wasi, max_depth: 1, ..Host::default() }
}

fn command() -> Command {
    Command::Call { instance: 0, export: "f".to_owned(), args: Vec::new() }
}

/// What becomes of a call in a guest whose worker does as the script says when it is asked for it.
fn call(script: impl FnOnce(&mut Player) + Send + 'static) -> Result<Outcome> {
    let (mut remote, _control, player) = played(|player| {
        assert!(matches!(player.asked(), Some(Ask::Step { .. })));
        script(player);
    });
    let result = remote.execute(&command(), &mut host());
    drop(remote);
    player.join().expect("the player");
    result.map(|progress| match progress {
        Progress::Done(outcome) => outcome,
        Progress::Waiting => panic!("it waits"),
    })
}

fn done() -> Told {
    Told::Left {
        stats: Default::default(),
        outcome: Some(Outcome::Returned(Vec::new())),
        attachments: vec![],
        is_reset: false,
    }
}

fn fill(address: i32, len: i32, size: Option<u64>, parts: Vec<Part>) -> Told {
    use sandgrain_abi::Value::I32;
    Told::Call(Call { function: 0, args: vec![I32(address), I32(len)], size, parts, again: false })
}

#[track_caller]
fn ends_the_guest(what: &str, result: Result<Outcome>) {
    match result {
        Err(Error::Guest(_) | Error::Host(_)) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_call_is_answered_with_what_was_changed() {
    let result = call(|player| {
        player.say(&fill(10, 4, Some(SIZE), Vec::new()));
        assert!(matches!(player.reply(), Some(Reply::Fetch(range)) if range == (10..14)));
        player.say(&Told::Bytes(vec![7, 0, 0, 7]));
        match player.reply() {
            Some(Reply::Answer { parts, .. }) => {
                assert_eq!((parts[0].address, &parts[0].bytes[..]), (11, &[7, 7][..]));
                assert_eq!(parts.len(), 1, "no more than was changed");
            }
            other => panic!("{other:?}"),
        }
        player.say(&done());
    });
    assert_eq!(result.expect("an outcome"), Outcome::Returned(Vec::new()));
}

fn step() -> Step {
    Step::Execute(command())
}

/// Neither answers a call nor ends it, until its line is closed.
fn says_nothing(player: &mut Player) {
    assert!(matches!(player.asked(), Some(Ask::Step { .. })));
    assert!(player.reply().is_none());
}

#[test]
fn what_takes_longer_than_a_moment_goes_on_where_it_is_executed() {
    let (mut remote, _control, player) = played(|player| {
        for call in [false, true] {
            assert!(matches!(player.asked(), Some(Ask::Step { .. })));
            if call {
                player.say(&fill(10, 0, Some(SIZE), Vec::new()));
                assert!(matches!(player.reply(), Some(Reply::Answer { .. })));
            } else {
                sleep(Duration::from_millis(50));
            }
            player.say(&done());
        }
    });
    let is_done = |progress| matches!(progress, Ok(Progress::Done(Outcome::Returned(_))));
    // Nothing of it for 50 ms, though the guest took no time; and then a call that somebody else has to answer.
    for _ in 0..2 {
        let begun = remote.begin(&step());
        assert!(matches!(begun, Ok(Begun::UnderWay)), "{begun:?}");
        assert!(is_done(step().run(&mut remote, &mut host())));
    }
    // That one calls is remembered for a while.
    assert!(matches!(remote.begin(&step()), Ok(Begun::Not)));
    drop(remote);
    player.join().expect("the player");
}

#[test]
fn a_call_that_nobody_goes_on_with_ends_with_its_guest() {
    let (mut remote, control, player) = played(says_nothing);
    assert!(matches!(remote.begin(&step()), Ok(Begun::UnderWay)));
    // No other line can be had, by which to say that the guest is not needed any more.
    drop(control);
    drop(remote);
    player.join().expect("the player");
}

#[test]
fn a_worker_that_is_asked_for_a_moment_and_talks_nonsense_is_killed() {
    let (mut remote, _control, player) = played(|player| {
        assert!(matches!(player.asked(), Some(Ask::Step { .. })));
        player.say(&Told::Number(5));
    });
    let result = match remote.begin(&step()) {
        // It took its time.
        Ok(Begun::UnderWay) => step().run(&mut remote, &mut host()).map(|_| ()),
        other => other.map(|_| ()),
    };
    let text = result.expect_err("no answer").to_string();
    assert!(text.contains("is lost") && remote.is_lost(), "{text}");
    drop(remote);
    player.join().expect("the player");
}

#[test]
fn answers_to_other_questions_cost_the_worker_its_life() {
    for told in [
        Told::Done,
        Told::Flag(true),
        Told::Number(5),
        Told::Loaded(1, 2),
        Told::Bytes(vec![1]),
        Told::Pages(Default::default()),
    ] {
        let what = format!("{told:?}");
        let error = call(move |player| player.say(&told)).expect_err("no answer");
        let text = error.to_string();
        assert!(matches!(error, Error::Host(_)) && text.contains("is lost"), "{what}: {text}");
    }
}

#[test]
fn memories_that_cannot_be_are_refused() {
    for size in [SIZE + 1, u64::MAX, 1 << 40] {
        let refused = call(move |player| {
            player.say(&fill(0, 1, Some(size), Vec::new()));
            assert!(matches!(player.reply(), Some(Reply::Over)));
            player.say(&done());
        });
        ends_the_guest(&format!("{size} bytes"), refused);
    }
    let beyond = call(|player| {
        let parts = vec![Part { address: SIZE - 1, bytes: vec![1; 2] }];
        player.say(&fill(0, 1, Some(SIZE), parts));
        assert!(matches!(player.reply(), Some(Reply::Over)));
        player.say(&done());
    });
    ends_the_guest("a part beyond the end", beyond);
}

#[test]
fn bytes_that_were_not_asked_for_are_refused() {
    for bytes in [vec![], vec![1; 3], vec![1; 5], vec![1; 1 << 20]] {
        let what = format!("{} bytes for 4", bytes.len());
        let refused = call(move |player| {
            player.say(&fill(0, 4, Some(SIZE), Vec::new()));
            player.reply();
            player.say(&Told::Bytes(bytes));
            // A host function's error goes to the guest; another one is its end.
            player.reply();
            player.say(&done());
        });
        match refused {
            // The host function has got an error in place of bytes, and the guest was told.
            Ok(Outcome::Returned(_)) | Err(Error::Guest(_) | Error::Host(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn functions_that_were_never_given_are_not_called() {
    for function in [2, 77, WASI - 1, WASI + 1000, u32::MAX] {
        let refused = call(move |player| {
            player.say(&Told::Call(Call {
                function,
                args: Vec::new(),
                size: None,
                parts: Vec::new(),
                again: false,
            }));
            assert!(matches!(player.reply(), Some(Reply::Over)), "{function}");
            player.say(&done());
        });
        ends_the_guest(&format!("function {function}"), refused);
    }
}

#[test]
fn wasi_without_the_bytes_it_needs_gets_what_it_asks_for() {
    let result = call(|player| {
        let number = sandgrain_wasi::Wasi::lookup("clock_time_get").expect("a function").index();
        use sandgrain_abi::Value::{I32, I64};
        player.say(&Told::Call(Call {
            function: WASI + u32::from(number),
            args: vec![I32(0), I64(0), I32(64)],
            size: Some(SIZE),
            parts: Vec::new(),
            again: true,
        }));
        assert!(matches!(player.reply(), Some(Reply::Fetch(range)) if range == (64..72)));
        player.say(&Told::Bytes(vec![0; 8]));
        assert!(matches!(player.reply(), Some(Reply::Answer { parts, .. }) if !parts.is_empty()));
        player.say(&done());
    });
    result.expect("an outcome");
}

/// A call of the host function that calls the guest, which the host has it do.
fn call_back(player: &mut Player) {
    let (args, size, parts) = (Vec::new(), Some(SIZE), Vec::new());
    player.say(&Told::Call(Call { function: 1, args, size, parts, again: false }));
    assert!(matches!(player.reply(), Some(Reply::Execute { .. })));
}

fn within(size: Option<u64>) -> Told {
    let outcome = Outcome::Returned(vec![sandgrain_abi::Value::I32(1)]);
    Told::Within { outcome, attachments: Vec::new(), size }
}

#[test]
fn a_call_within_a_call_is_answered() {
    let result = call(|player| {
        call_back(player);
        // Calls in the middle of it are answered as others are.
        player.say(&fill(10, 0, Some(SIZE), Vec::new()));
        assert!(matches!(player.reply(), Some(Reply::Answer { .. })));
        player.say(&within(Some(SIZE)));
        assert!(matches!(player.reply(), Some(Reply::Answer { .. })));
        player.say(&done());
    });
    assert_eq!(result.expect("an outcome"), Outcome::Returned(Vec::new()));
}

#[test]
fn what_ends_in_the_middle_of_a_call_within_ends_the_guest() {
    for size in [None, Some(SIZE + 1), Some(u64::MAX)] {
        let refused = call(move |player| {
            call_back(player);
            player.say(&within(size));
            // It is told that this is over, or nothing any more.
            assert!(matches!(player.reply(), Some(Reply::Over) | None));
            player.say(&done());
        });
        ends_the_guest(&format!("a memory of {size:?}"), refused);
    }
    for told in [done(), Told::Done, Told::Bytes(vec![1]), Told::Number(1)] {
        let what = format!("{told:?}");
        let refused = call(move |player| {
            call_back(player);
            player.say(&told);
        });
        ends_the_guest(&what, refused);
    }
    let unasked = call(|player| player.say(&within(None)));
    ends_the_guest("the end of a call within that there was not", unasked);
    let closed = call(call_back);
    ends_the_guest("a line that is closed", closed);
}

#[test]
fn a_worker_that_does_not_stop_is_killed() {
    let (mut remote, _control, player) = played(says_nothing);
    let target = remote.target();
    target.clear();
    let stopping = spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        target.stop();
    });
    let error = remote.execute(&command(), &mut host()).expect_err("no end by itself");
    assert!(error.to_string().contains("does not stop a guest"), "{error}");
    stopping.join().expect("a thread");
    drop(remote);
    player.join().expect("the player");
}

#[test]
fn a_worker_that_calls_without_end_ends_when_its_guest_is_stopped() {
    let (mut remote, _control, player) = played(|player| {
        player.asked();
        loop {
            player.say(&fill(0, 0, Some(SIZE), Vec::new()));
            match player.reply() {
                Some(Reply::Answer { .. }) => {}
                // Told that it is over, it goes on as before, and is killed for it.
                Some(_) => player.say(&fill(0, 0, Some(SIZE), Vec::new())),
                None => return,
            }
        }
    });
    let target = remote.target();
    target.clear();
    let control = crate::stop::Control::new(remote.target());
    let mut host = host();
    host.control = std::sync::Arc::downgrade(&control);
    host.cancel = control.begin(&crate::stop::Watchdog::new(), None);
    let stopping = spawn({
        let control = std::sync::Arc::clone(&control);
        move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            control.interrupt();
        }
    });
    let error = remote.execute(&command(), &mut host).expect_err("no end by itself");
    assert!(matches!(error, Error::Interrupted), "{error}");
    stopping.join().expect("a thread");
    drop(remote);
    player.join().expect("the player");
}

#[test]
fn any_number_of_pages_can_be_counted_in_bytes() {
    let (remote, _control, player) = played(|player| {
        assert!(matches!(player.asked(), Some(Ask::Resident(1))));
        player.say(&Told::Number(u64::MAX));
    });
    let pages = remote.resident_pages().expect("a number").expect("pages");
    assert!(pages.checked_mul(4096).and_then(|bytes| bytes.checked_add(1 << 20)).is_some());
    drop(remote);
    player.join().expect("the player");
}
