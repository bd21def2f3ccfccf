//! What a worker says is anybody's: whatever it is, it ends in a value or an error, and the next sandbox works.

use super::line::Line;
use super::message::{Ask, Beginning, Call, Control, MAX_TOLD, Part, Reply, Run, Told};
use super::window::{Rooms, Source, Window};
use super::worker::{MAX_IDLE, Worker};
use crate::error::{Error, Result};
use crate::learned::PageSet;
use crate::limits::Limits;
use crate::linear_memory::LinearMemory;
use proptest::prelude::*;
use sandgrain_abi::message::{Command, HostReply, Outcome};
use sandgrain_abi::{Encode, Value};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn encoded(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode_to(&mut bytes);
    bytes
}

fn round_trip<M: Encode + std::fmt::Debug>(message: &M) {
    let bytes = encoded(message);
    let again = M::decode_from(&bytes).expect("what was encoded");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
    for end in 0..bytes.len() {
        M::decode_from(&bytes[..end]).expect_err("a part of it");
    }
}

fn parts() -> Vec<Part> {
    vec![Part { address: 8, bytes: b"abc".to_vec() }, Part { address: 99, bytes: Vec::new() }]
}

#[test]
fn messages_are_read_as_they_were_written() {
    let pages = PageSet {
        written: vec![4096..8192, 20480..24576],
        read: vec![0..4096, 12288..16384],
        large: vec![2 << 20..4 << 20, 8 << 20..10 << 20],
    };
    let command =
        Some(Command::Call { instance: 1, export: "f".into(), args: vec![Value::I32(1)] });
    for ask in [
        Ask::Image { number: 1, places: Vec::new(), limits: Limits::default(), guest: vec![1, 2] },
        Ask::Forget(2),
        Ask::Make { guest: 3, image: 1, pages: pages.clone() },
        Ask::Step { guest: 3, turn: 7, command, attachments: vec![Run(vec![1, 2])], reset: true },
        Ask::Step { guest: 3, turn: 8, command: None, attachments: vec![], reset: false },
        Ask::Load { guest: 3, code: vec![0x90; 5], text: 1..4 },
        Ask::Reset(3),
        Ask::Touched(3),
        Ask::Resident(3),
        Ask::Size { guest: 3, memory: 0 },
        Ask::Read { guest: 3, memory: 0, range: 5..6 },
        Ask::Write { guest: 3, memory: 0, parts: parts() },
        Ask::Close(3),
    ] {
        round_trip(&ask);
    }
    let call = Call { function: 1, args: vec![], size: Some(65536), parts: parts(), again: true };
    for told in [
        Told::Done,
        Told::Failed(Error::Guest("broke".to_owned()).into()),
        Told::Loaded(1, 2),
        Told::Flag(true),
        Told::Pages(pages),
        Told::Number(5),
        Told::Bytes(vec![1]),
        Told::Left {
            stats: Default::default(),
            outcome: Some(Outcome::Returned(vec![])),
            attachments: vec![],
            is_reset: true,
        },
        Told::Call(call),
        Told::Within {
            outcome: Outcome::Returned(vec![]),
            attachments: vec![Run(vec![1])],
            size: Some(65536),
        },
    ] {
        round_trip(&told);
    }
    for reply in [
        Reply::Fetch(1..2),
        Reply::Answer { reply: HostReply::Abort, parts: parts(), attachments: vec![] },
        Reply::Later,
        Reply::Over,
        Reply::Execute {
            command: Command::GetGlobal { instance: 1, export: "g".into() },
            parts: parts(),
            attachments: vec![Run(vec![1])],
        },
    ] {
        round_trip(&reply);
    }
    round_trip(&Control::Line { background: true });
    round_trip(&Control::Stop { guest: 1, turn: 2 });
    round_trip(&Beginning::Failed("no".to_owned()));
}

#[test]
fn errors_are_the_same_on_the_other_side() {
    let limit = || Error::Limit {
        what: crate::guest::NO_ROOM_FOR_CODE,
        limit: "5 bytes".to_owned(),
        detail: "six do not fit".to_owned(),
    };
    for error in [Error::Guest("a".to_owned()), Error::Host("b".to_owned()), limit()] {
        let text = error.to_string();
        let failure = match Told::decode_from(&encoded(&Told::Failed(error.into()))) {
            Ok(Told::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        };
        assert_eq!(Error::from(failure).to_string(), text);
    }
}

#[test]
fn no_text_of_a_worker_reaches_a_terminal_raw() {
    let hostile = Error::Host("\u{1b}[31m".repeat(1 << 16));
    let text = Error::from(super::message::Failure::from(hostile)).to_string();
    assert!(text.len() < 20_000 && !text.contains('\u{1b}'), "{}", text.len());
}

#[test]
fn figures_of_a_worker_can_be_added_up() {
    let mut bytes = vec![7];
    bytes.extend([0xff; 5 * 8]);
    // No outcome, no attachments, and no reset.
    bytes.extend([0; 6]);
    let Ok(Told::Left { stats, .. }) = Told::decode_from(&bytes) else { panic!("figures") };
    let mut sum = stats;
    for _ in 0..1000 {
        sum += stats;
    }
}

proptest! {
    #[test]
    fn any_bytes_of_a_worker_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Told::decode_from(&bytes);
        let _ = Beginning::decode_from(&bytes);
    }
}

/// Sends bytes as a worker that has them from somewhere else would, and closes the line.
fn heard(bytes: Vec<u8>) -> io::Result<Told> {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let writer = std::thread::spawn(move || {
        let mut theirs = theirs;
        // The other end may have heard enough before all of it is sent.
        let _ = theirs.write_all(&bytes);
    });
    let heard = Line::new(ours).receive::<Told, io::Error>(MAX_TOLD, || Ok(()));
    writer.join().expect("a thread");
    heard
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}

#[test]
fn frames_that_are_no_frames_are_refused() {
    let done = encoded(&Told::Done);
    assert!(matches!(heard(frame(&done)), Ok(Told::Done)));
    let large = frame(&encoded(&Told::Bytes(vec![7; 1 << 20])));
    assert!(matches!(heard(large), Ok(Told::Bytes(bytes)) if bytes.len() == 1 << 20));
    for (bytes, expected) in [
        (Vec::new(), io::ErrorKind::UnexpectedEof),
        (vec![1, 0, 0], io::ErrorKind::UnexpectedEof),
        (frame(&done)[..4].to_vec(), io::ErrorKind::UnexpectedEof),
        (u32::MAX.to_le_bytes().to_vec(), io::ErrorKind::InvalidData),
        ((MAX_TOLD as u32 + 1).to_le_bytes().to_vec(), io::ErrorKind::InvalidData),
        (frame(&[99]), io::ErrorKind::InvalidData),
        ([frame(&done), frame(&done)].concat(), io::ErrorKind::InvalidData),
    ] {
        let error = heard(bytes.clone()).expect_err("no frame");
        assert_eq!(error.kind(), expected, "{bytes:?}: {error}");
    }
}

#[test]
fn what_has_arrived_in_part_is_waited_for_no_longer_than_said() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let mut line = Line::new(ours);
    let mut receive = |millis| {
        let until = Instant::now() + Duration::from_millis(millis);
        line.receive_until::<Told>(MAX_TOLD, until)
    };
    assert!(receive(1).expect("a line").is_none());
    let message = frame(&encoded(&Told::Number(5)));
    for half in message.chunks(message.len() / 2) {
        assert!(receive(1).expect("a line").is_none());
        theirs.write_all(half).expect("room");
    }
    assert!(matches!(receive(10_000), Ok(Some(Told::Number(5)))));
    drop(theirs);
    let error = receive(10_000).expect_err("no line");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn what_there_is_no_room_for_is_sent_later() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let (mut ours, mut theirs) = (Line::new(ours), Line::new(theirs));
    let large = Told::Bytes(vec![7; 2 << 20]);
    assert!(!ours.begin_to_send(&large).expect("a line"));
    let reader = std::thread::spawn(move || {
        let told: io::Result<Told> = theirs.receive(MAX_TOLD, || Ok::<_, io::Error>(()));
        (told, theirs)
    });
    ours.go_on_sending::<io::Error>(|| Ok(())).expect("a line");
    let (told, _theirs) = reader.join().expect("a thread");
    assert!(matches!(told, Ok(Told::Bytes(bytes)) if bytes.len() == 2 << 20));
    // What has room is sent whole.
    assert!(ours.begin_to_send(&Told::Done).expect("a line"));
}

#[test]
fn of_lines_that_nobody_talks_on_no_more_are_kept_than_are_of_use() {
    fn is_open(mut end: &UnixStream) -> bool {
        end.set_nonblocking(true).expect("a socket");
        // Nothing was ever said.
        end.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
    let pair = || UnixStream::pair().expect("a pair");
    let (ours, theirs) = pair();
    let (worker, _control) = Worker::played(Line::new(ours));
    let mut foreground = vec![theirs];
    let mut background = Vec::new();
    for (ends, is_background) in [(&mut foreground, false), (&mut background, true)] {
        for _ in 0..MAX_IDLE + 5 {
            let (ours, theirs) = pair();
            worker.keep(Line::new(ours), is_background);
            ends.push(theirs);
        }
        let open: Vec<bool> = ends.iter().map(is_open).collect();
        assert!(open[..MAX_IDLE].iter().all(|open| *open), "{open:?}");
        assert!(!open[MAX_IDLE..].iter().any(|open| *open), "{open:?}");
    }
}

/// A memory that is somewhere else, of which every piece that is asked for is written down.
struct Elsewhere {
    bytes: Vec<u8>,
    asked: Vec<Range<usize>>,
}

impl Source for &mut Elsewhere {
    fn fetch(&mut self, range: Range<usize>) -> Result<Vec<u8>> {
        self.asked.push(range.clone());
        Ok(self.bytes[range].to_vec())
    }

    fn change(&mut self, parts: Vec<Part>) -> Result<()> {
        for Part { address, bytes } in parts {
            let start = address as usize;
            self.bytes[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

fn elsewhere(size: usize) -> Elsewhere {
    Elsewhere { bytes: (0..size).map(|at| (at % 251) as u8).collect(), asked: Vec::new() }
}

#[test]
fn a_window_gets_each_byte_once_and_gives_changes_back() {
    let (mut memory, rooms) = (elsewhere(10_000), Rooms::default());
    let known = vec![Part { address: 100, bytes: memory.bytes[100..200].to_vec() }];
    let mut window = Window::new(&mut memory, &rooms, 10_000, known).expect("a window");
    window.bytes(150..160).expect("known bytes")[0] = 255;
    assert_eq!(window.bytes(50..250).expect("bytes")[100], 255, "changes stay");
    window.bytes(240..260).expect("bytes").fill(0);
    window.whole()[9_000..9_010].copy_from_slice(b"0123456789");
    window.filled(vec![9_000..9_005, 9_005..9_010], vec![8_000..8_001, 8_002..8_003]);
    assert!(matches!(window.bytes(9_999..10_001), Err(Error::BadCall(_))));
    window.give_back().expect("changes");
    drop(window);
    assert_eq!(memory.asked, [50..100, 200..250, 250..260]);
    let mut expected = elsewhere(10_000).bytes;
    expected[150] = 255;
    expected[240..260].fill(0);
    expected[9_000..9_010].copy_from_slice(b"0123456789");
    assert_eq!(memory.bytes, expected);
}

#[test]
fn a_window_shows_nothing_of_the_one_before_it() {
    let rooms = Rooms::default();
    for size in [300_000, 200_000] {
        let mut memory = elsewhere(size);
        let mut window = Window::new(&mut memory, &rooms, size, Vec::new()).expect("a window");
        assert!(window.whole().iter().all(|byte| *byte == 0));
        window.bytes(0..10).expect("bytes");
        window.bytes(5_000..190_000).expect("bytes");
        window.whole()[199_990..].fill(1);
        window.filled(Vec::new(), vec![199_990..199_995, 199_995..size as u64]);
    }
}

#[test]
fn parts_of_a_worker_that_overlap_or_lie_beyond_are_refused() {
    let rooms = Rooms::default();
    let part = |address, len| Part { address, bytes: vec![1; len] };
    for parts in [
        vec![part(0, 10), part(5, 10)],
        vec![part(5, 10), part(0, 10)],
        vec![part(5, 10), part(5, 10)],
        vec![part(95, 6)],
        vec![part(u64::MAX, 1)],
        vec![part(u64::MAX - 1, 10)],
    ] {
        let mut memory = elsewhere(100);
        let text = format!("{parts:?}");
        let window = Window::new(&mut memory, &rooms, 100, parts);
        assert!(matches!(window.err(), Some(Error::Guest(_))), "{text}");
    }
}

proptest! {
    #[test]
    fn a_window_is_the_memory(
        actions in prop::collection::vec((0..5000_usize, 0..700_usize, any::<Option<u8>>()), 0..30),
    ) {
        let (mut memory, rooms) = (elsewhere(5700), Rooms::default());
        let mut expected = memory.bytes.clone();
        let mut window = Window::new(&mut memory, &rooms, 5700, Vec::new()).expect("a window");
        for (start, len, value) in actions {
            let bytes = window.bytes(start..start + len).expect("bytes");
            prop_assert_eq!(&*bytes, &expected[start..start + len]);
            if let Some(value) = value {
                bytes.fill(value);
                expected[start..start + len].fill(value);
            }
        }
        window.give_back().expect("changes");
        drop(window);
        prop_assert_eq!(memory.bytes, expected);
    }
}
