//! What several test files need.

mod guest;
pub mod pair;

use sandgrain_wasi::{Error, Reply};

pub use guest::*;

pub const BADF: i32 = 8;
pub const EXIST: i32 = 20;
pub const INVAL: i32 = 28;
pub const MFILE: i32 = 33;
pub const NOENT: i32 = 44;
pub const NOMEM: i32 = 48;
pub const NOTDIR: i32 = 54;
pub const NOTEMPTY: i32 = 55;
pub const NOTSOCK: i32 = 57;
pub const NOTSUP: i32 = 58;
pub const PERM: i32 = 63;
pub const SPIPE: i32 = 70;

pub const O_CREAT: u64 = 1;
pub const O_DIRECTORY: u64 = 2;
pub const O_EXCL: u64 = 4;
pub const O_TRUNC: u64 = 8;

/// Where the helpers put a second path.
pub const PATH2: usize = 1024;

impl Guest {
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.memory[at..at + 8].try_into().unwrap())
    }

    fn buffer(&mut self, length: usize) {
        self.put(IOVS, &(DATA as u32).to_le_bytes());
        self.put(IOVS + 4, &(length as u32).to_le_bytes());
    }

    pub fn try_write(&mut self, fd: u32, bytes: &[u8]) -> Result<Reply, Error> {
        self.put(DATA, bytes);
        self.buffer(bytes.len());
        self.try_call("fd_write", &[fd.into(), IOVS as u64, 1, OUT as u64])
    }

    pub fn write(&mut self, fd: u32, bytes: &[u8]) -> Result<usize, i32> {
        match self.try_write(fd, bytes) {
            Ok(Reply::Value(SUCCESS)) => Ok(self.u32(OUT) as usize),
            Ok(Reply::Value(errno)) => Err(errno),
            other => panic!("fd_write: {other:?}"),
        }
    }

    pub fn try_read(&mut self, fd: u32, length: usize) -> Result<Reply, Error> {
        self.buffer(length);
        self.try_call("fd_read", &[fd.into(), IOVS as u64, 1, OUT as u64])
    }

    pub fn read(&mut self, fd: u32, length: usize) -> Result<Vec<u8>, i32> {
        match self.try_read(fd, length) {
            Ok(Reply::Value(SUCCESS)) => {
                Ok(self.memory[DATA..DATA + self.u32(OUT) as usize].to_vec())
            }
            Ok(Reply::Value(errno)) => Err(errno),
            other => panic!("fd_read: {other:?}"),
        }
    }

    /// Calls a function that takes a directory and a path.
    pub fn path(&mut self, name: &str, dir: u32, path: &str) -> i32 {
        let length = self.put(PATH, path.as_bytes());
        self.call(name, &[dir.into(), PATH as u64, length])
    }

    /// Subscribes to reading a descriptor.
    pub fn readable(&mut self, at: usize, fd: u32) {
        self.put(at, &[0; 48]);
        self.put(at, &9_u64.to_le_bytes());
        self.put(at + 8, &[1]);
        self.put(at + 16, &fd.to_le_bytes());
    }
}
