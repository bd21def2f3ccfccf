//! Lines: stream sockets between this process and a worker, on which one of the two talks at a time.
//!
//! A frame is a length, 32 bits, and a message of so many bytes. Whoever receives one makes room for what has
//! arrived, not for what was announced.

use super::message::MAX_CONTROL;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send,
    sendmsg, socketpair,
};
use sandgrain_abi::Encode;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Descriptors that go with one message at the most: the kernel's own bound.
pub(super) const MAX_FILES: usize = 253;

const HEADER: usize = 4;
/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// One end of a line.
pub(super) struct Line {
    stream: UnixStream,
    out: Vec<u8>,
    /// Bytes at its beginning that have been sent.
    sent: usize,
    /// Room for what arrives.
    room: Vec<u8>,
    /// Bytes at its beginning that have arrived of the frame that comes next.
    arrived: usize,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, out: Vec::new(), sent: 0, room: Vec::new(), arrived: 0 }
    }

    /// How long this end waits before it asks whoever uses it whether to wait on.
    pub(super) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        self.stream.set_write_timeout(Some(time))
    }

    /// Sends a message, with descriptors that the other end gets copies of. `wait_on` is asked now and then
    /// whether to wait on for the other end.
    pub(super) fn send<E: From<io::Error>>(
        &mut self,
        message: &impl Encode,
        files: &[&File],
        wait_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        self.prepare(message)?;
        if files.is_empty() {
            return self.go_on_sending(wait_on);
        }
        let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
        // The rest may come without them.
        self.sent = send_descriptors(self.stream.as_fd(), &self.out, &files, SendFlags::empty())?;
        self.go_on_sending(wait_on)
    }

    /// Sends as much of a message as the other end has room for. Whether that was all of it.
    pub(super) fn begin_to_send(&mut self, message: &impl Encode) -> io::Result<bool> {
        self.prepare(message)?;
        match send(&self.stream, &self.out, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => self.sent = sent,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let is_sent = self.sent == self.out.len();
        if is_sent {
            self.is_sent();
        }
        Ok(is_sent)
    }

    fn prepare(&mut self, message: &impl Encode) -> io::Result<()> {
        self.out.clear();
        self.sent = 0;
        self.out.extend_from_slice(&[0; HEADER]);
        message.encode_to(&mut self.out);
        let len = u32::try_from(self.out.len() - HEADER);
        let len = len.map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
        self.out[..HEADER].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    /// Sends what is left of the last message.
    pub(super) fn go_on_sending<E: From<io::Error>>(
        &mut self,
        mut wait_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => self.sent += count,
                Err(error) if is_early(&error) => wait_on()?,
                Err(error) => return Err(error.into()),
            }
        }
        self.is_sent();
        Ok(())
    }

    fn is_sent(&mut self) {
        // A large one's room is not kept.
        self.out.clear();
        self.out.shrink_to(READ);
        self.sent = 0;
    }

    /// Receives a message of at most so many bytes. `wait_on` is asked now and then whether to wait on.
    pub(super) fn receive<M: Encode, E: From<io::Error>>(
        &mut self,
        most: usize,
        mut wait_on: impl FnMut() -> Result<(), E>,
    ) -> Result<M, E> {
        loop {
            if let Some(message) = self.message(most)? {
                return Ok(message);
            }
            self.make_room();
            match self.stream.read(&mut self.room[self.arrived..]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.arrived += count,
                Err(error) if is_early(&error) => wait_on()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// As [`receive`](Self::receive), if all of it arrives by then. If not, what has is kept for the next time.
    pub(super) fn receive_until<M: Encode>(
        &mut self,
        most: usize,
        until: Instant,
    ) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.message(most)? {
                return Ok(Some(message));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.is_readable(left)? {
                return Ok(None);
            }
            self.make_room();
            match self.stream.read(&mut self.room[self.arrived..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.arrived += count,
                Err(error) if is_early(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether something has arrived, or the other end is gone, within this time.
    fn is_readable(&self, within: Duration) -> io::Result<bool> {
        // So long ones do not come here.
        let within = Timespec::try_from(within).map_err(|_| ErrorKind::InvalidInput)?;
        let mut polled = [PollFd::new(&self.stream, PollFlags::IN)];
        match poll(&mut polled, Some(&within)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`receive`](Self::receive), for the end that gets descriptors.
    pub(super) fn receive_files<M: Encode>(
        &mut self,
        most: usize,
    ) -> io::Result<(M, Vec<OwnedFd>)> {
        let mut files = Vec::new();
        loop {
            if let Some(message) = self.message(most)? {
                return Ok((message, files));
            }
            self.make_room();
            let room = &mut self.room[self.arrived..];
            match receive_descriptors(self.stream.as_fd(), room, &mut files)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.arrived += count,
            }
        }
    }

    /// Makes room for something to arrive. It is kept from message to message, so that it is made once.
    fn make_room(&mut self) {
        if self.room.len() - self.arrived < READ / 2 {
            self.room.resize(self.arrived + READ, 0);
        }
    }

    /// The message that has arrived, if all of it has.
    fn message<M: Encode>(&mut self, most: usize) -> io::Result<Option<M>> {
        let arrived = &self.room[..self.arrived];
        let Some(header) = arrived.first_chunk::<HEADER>() else { return Ok(None) };
        let len = u32::from_le_bytes(*header) as usize;
        if len > most {
            return Err(malformed(format!("a message of {len} bytes")));
        }
        let Some(bytes) = arrived.get(HEADER..HEADER + len) else { return Ok(None) };
        let message = M::decode_from(bytes).map_err(|error| malformed(error.to_string()))?;
        if arrived.len() > HEADER + len {
            return Err(malformed("more than it was asked for".to_owned()));
        }
        self.arrived = 0;
        // A large one's room is not kept.
        self.room.truncate(READ);
        self.room.shrink_to(READ);
        Ok(Some(message))
    }
}

fn malformed(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Whether it is only that nothing has happened yet.
pub(super) fn is_early(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Both ends of a control socket, whose messages arrive whole.
pub(super) fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message on a control socket.
pub(super) fn send_packet(
    control: BorrowedFd<'_>,
    message: &impl Encode,
    files: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    message.encode_to(&mut bytes);
    send_descriptors(control, &bytes, files, flags).map(drop)
}

/// The next message on a control socket, and adds the descriptors that come with it; `None` when there will be no
/// more.
pub(super) fn receive_packet<M: Encode>(
    control: BorrowedFd<'_>,
    files: &mut Vec<OwnedFd>,
) -> io::Result<Option<M>> {
    let mut bytes = [0; MAX_CONTROL];
    let len = receive_descriptors(control, &mut bytes, files)?;
    if len == 0 {
        return Ok(None);
    }
    M::decode_from(&bytes[..len]).map(Some).map_err(|error| malformed(error.to_string()))
}

/// Sends bytes and descriptors; how many of the bytes.
fn send_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(malformed(format!("{} descriptors in one message", files.len())));
    }
    let flags = flags | SendFlags::NOSIGNAL;
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Receives bytes and adds the descriptors that come with them.
fn receive_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    files: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut into = [IoSliceMut::new(bytes)];
        match recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(malformed("more descriptors than there is room for".to_owned()));
    }
    Ok(received.bytes)
}
