//! Two guests alike: one has its memory, the other only a window of what each call touches.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use sandgrain_wasi::{Access, Cancel, Error, Input, Output, Reach, Reply, Wasi, WasiConfig};
use tempfile::TempDir;

/// The directories of both: one that they share and may only read, and one of their own that they may write.
pub const SHARED: u64 = 3;
pub const OWN: u64 = 4;

pub struct Pair {
    pub memory: Vec<u8>,
    /// The functions that have succeeded.
    pub succeeded: BTreeSet<&'static str>,
    /// How long a call may wait before it is given up in both ways.
    pub patience: Duration,
    /// What the last call was said to touch.
    pub reach: Reach,
    direct: Wasi,
    windowed: Wasi,
    own: [TempDir; 2],
    _shared: TempDir,
    noise: u64,
}

impl Pair {
    pub fn new(memory: Vec<u8>) -> Self {
        let [shared, one, other] = [(); 3].map(|()| directory());
        let wasi = |own: &TempDir| {
            let config = WasiConfig::new()
                .args(["program", "", "-x"])
                .env("KEY", "value")
                .env("EMPTY", "")
                .preopen(shared.path(), "/shared/directory", Access::ReadOnly)
                .preopen(own.path(), "/own", Access::ReadWrite)
                .stdin(Input::Bytes((0..200).collect()))
                .stdout(Output::Capture)
                .stderr(Output::Capture);
            Wasi::new(config)
        };
        Self {
            memory,
            succeeded: BTreeSet::new(),
            patience: Duration::from_secs(60),
            reach: Reach::default(),
            direct: wasi(&one),
            windowed: wasi(&other),
            own: [one, other],
            _shared: shared,
            noise: 1,
        }
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes a call in both ways, and checks that both answer and leave the memory alike.
    pub fn call(&mut self, name: &str, args: &[u64]) -> Result<Reply, Error> {
        let (result, back) = self.both(name, args);
        // What an error leaves in results and buffers is not specified, and nobody looks there.
        if matches!(result, Ok(Reply::Value(0))) {
            assert!(self.memory == back, "{name}{args:?} leaves another memory");
        }
        result
    }

    /// The same for a call that each time gives something else: that is not compared.
    pub fn call_freely(&mut self, name: &str, args: &[u64]) -> Result<Reply, Error> {
        self.both(name, args).0
    }

    /// The result, and the memory that the call in the window leads to.
    fn both(&mut self, name: &str, args: &[u64]) -> (Result<Reply, Error>, Vec<u8>) {
        let function = Wasi::lookup(name).expect(name);
        let before = self.memory.clone();
        // No other function waits.
        let patience = (name == "poll_oneoff").then_some(self.patience);
        let cancel = || match patience {
            Some(patience) => Cancel::new().with_deadline(Instant::now() + patience),
            None => Cancel::new(),
        };
        let direct = self.direct.call(function, args, &mut self.memory, &cancel());

        let sizes = self.windowed.list_sizes();
        let content = |range: Range<u64>| {
            assert!(range.start < range.end && range.end - range.start <= 64 << 10, "{range:?}");
            Ok::<_, Infallible>(before[bytes(&range)].to_vec())
        };
        let reach = function.reach(args, before.len() as u64, &sizes, content);
        let reach = reach.unwrap_or_else(|never| match never {});
        // What the call must not look at is noise, so that it would notice if it did.
        let noise = self.noise(before.len());
        let mut window = noise.clone();
        for range in reach.read.iter().chain(&reach.lent).map(bytes) {
            window[range.clone()].copy_from_slice(&before[range]);
        }
        let lent = window.clone();
        let windowed = self.windowed.call(function, args, &mut window, &cancel());
        let mut back = before.clone();

        // A timer may be late once and in time the other time.
        let timed = |result: &Result<Reply, Error>| matches!(result, Err(Error::Cancelled));
        if !timed(&direct) && !timed(&windowed) {
            assert_eq!(format!("{direct:?}"), format!("{windowed:?}"), "{name}{args:?} answers");
        }
        if let (Ok(Reply::Value(errno)), Ok(Reply::Value(_))) = (&direct, &windowed) {
            // Whatever the answer is, nothing else gets written. After a trap it may have been.
            let touched = || reach.lent.iter().chain(&reach.filled).map(bytes);
            unchanged_outside(&lent, &window, touched()).expect(name);
            unchanged_outside(&before, &self.memory, touched()).expect(name);
            let filled = reach.filled_by(*errno, &window);
            for range in reach.lent.iter().chain(&filled).map(bytes) {
                back[range.clone()].copy_from_slice(&window[range]);
            }
            for range in filled.iter().map(bytes).filter(|range| range.len() >= 32) {
                assert!(noise[range.clone()] != window[range], "{name} has not filled its buffer");
            }
            if *errno == 0 {
                self.succeeded.insert(function.name());
            }
        }
        self.reach = reach;
        (direct, back)
    }

    /// Checks that both have written the same, to their streams and to their directories.
    pub fn finish(self) {
        assert_eq!(self.direct.stdout(), self.windowed.stdout());
        assert_eq!(self.direct.stderr(), self.windowed.stderr());
        let [one, other] = self.own.each_ref().map(|dir| content(dir.path()));
        assert_eq!(one, other);
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut next = || {
            self.noise = self.noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (self.noise >> 56) as u8
        };
        // Drawing each byte anew would take the most time of a test with a large memory.
        let block: Vec<u8> = (0..length.min(10_007)).map(|_| next()).collect();
        block.into_iter().cycle().take(length).collect()
    }
}

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), (0..=255).collect::<Vec<u8>>()).unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/g"), "text").unwrap();
    symlink("d/g", dir.path().join("l")).unwrap();
    dir
}

/// What a directory holds: for each path a file's content, a link's target, or nothing.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
        let metadata = entry.metadata().unwrap();
        let bytes = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_string().unwrap().into_bytes()
        } else if metadata.is_dir() {
            let inside = content(&path).into_iter();
            all.extend(inside.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
            Vec::new()
        } else if metadata.len() > 1 << 20 {
            // A hole, made by a write far behind the end.
            metadata.len().to_le_bytes().to_vec()
        } else {
            fs::read(&path).unwrap()
        };
        all.insert(name, bytes);
    }
    all
}

fn unchanged_outside(
    before: &[u8],
    after: &[u8],
    ranges: impl Iterator<Item = Range<usize>>,
) -> Result<(), String> {
    let mut masked = after.to_vec();
    for range in ranges {
        masked[range.clone()].copy_from_slice(&before[range]);
    }
    match before.iter().zip(&masked).position(|(one, other)| one != other) {
        None => Ok(()),
        Some(at) => Err(format!("the byte at {at} was written and is not in the call's reach")),
    }
}

fn bytes(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}
