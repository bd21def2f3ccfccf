//! A guest in plain host memory. The benchmark has one too.

use sandgrain_wasi::{Cancel, Error, Reply, Wasi, WasiConfig};

pub const SUCCESS: i32 = 0;

pub const READ: u64 = 1 << 1;
pub const WRITE: u64 = 1 << 6;

/// Where the helpers put results, paths, buffer lists and data.
pub const OUT: usize = 0;
pub const PATH: usize = 512;
pub const IOVS: usize = 2048;
pub const DATA: usize = 4096;

pub struct Guest {
    pub wasi: Wasi,
    pub memory: Vec<u8>,
    pub cancel: Cancel,
}

impl Guest {
    pub fn new(config: WasiConfig) -> Self {
        Self { wasi: Wasi::new(config), memory: vec![0; 1 << 16], cancel: Cancel::new() }
    }

    pub fn try_call(&mut self, name: &str, args: &[u64]) -> Result<Reply, Error> {
        let function = Wasi::lookup(name).unwrap_or_else(|| panic!("no function {name}"));
        self.wasi.call(function, args, &mut self.memory, &self.cancel)
    }

    pub fn call(&mut self, name: &str, args: &[u64]) -> i32 {
        match self.try_call(name, args) {
            Ok(Reply::Value(errno)) => errno,
            other => panic!("{name}{args:?}: {other:?}"),
        }
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) -> u64 {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        bytes.len() as u64
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.memory[at..at + 4].try_into().unwrap())
    }

    pub fn open(&mut self, dir: u32, path: &str, oflags: u64, rights: u64) -> Result<u32, i32> {
        let length = self.put(PATH, path.as_bytes());
        let args = [dir.into(), 1, PATH as u64, length, oflags, rights, rights, 0, OUT as u64];
        match self.call("path_open", &args) {
            SUCCESS => Ok(self.u32(OUT)),
            errno => Err(errno),
        }
    }

    /// Subscribes to one clock, from now on.
    pub fn clock(&mut self, at: usize, nanoseconds: u64) {
        self.put(at, &[0; 48]);
        self.put(at, &7_u64.to_le_bytes());
        self.put(at + 16, &1_u32.to_le_bytes());
        self.put(at + 24, &nanoseconds.to_le_bytes());
    }
}
