//! Sockets of a confined process.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem,
    net::Shutdown,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    ptr,
};

use crate::process::{PLAIN, confined};

#[test]
fn sockets_that_it_has_go_on() {
    confined(
        PLAIN,
        || UnixStream::pair().unwrap(),
        |(mut one, mut other)| {
            one.write_all(b"question").unwrap();
            let mut bytes = [0; 8];
            other.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"question");
            let mut again = other.try_clone().unwrap();
            again.write_all(b"answer").unwrap();
            other.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            one.read_to_string(&mut text).unwrap();
            assert_eq!(text, "answer");
        },
    );
}

/// A control message with one descriptor.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: i32,
}

/// Calls `then` with a message of one byte that has room for one descriptor after it.
fn with_message<T>(
    byte: &mut u8,
    rights: &mut Rights,
    then: impl FnOnce(*mut libc::msghdr) -> T,
) -> T {
    let mut part = libc::iovec { iov_base: ptr::from_mut(byte).cast(), iov_len: 1 };
    // SAFETY: all zeros is a value of this plain C struct.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(rights).cast();
    message.msg_controllen = size_of::<Rights>();
    then(&raw mut message)
}

fn send(socket: &UnixStream, what: OwnedFd) {
    let header = libc::cmsghdr {
        cmsg_len: mem::offset_of!(Rights, descriptor) + size_of::<i32>(),
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    let mut rights = Rights { header, descriptor: what.as_raw_fd() };
    // SAFETY: the message's parts outlive the call, and have the lengths that it says.
    let sent = with_message(&mut 1, &mut rights, |message| unsafe {
        libc::sendmsg(socket.as_raw_fd(), message, 0)
    });
    assert_eq!(sent, 1);
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let header = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };
    let mut rights = Rights { header, descriptor: -1 };
    // SAFETY: as in `send`.
    let received = with_message(&mut 0, &mut rights, |message| unsafe {
        libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC)
    });
    assert_eq!((received, rights.header.cmsg_type), (1, libc::SCM_RIGHTS));
    // SAFETY: the kernel has just made this descriptor for the message.
    unsafe { OwnedFd::from_raw_fd(rights.descriptor) }
}

#[test]
fn further_sockets_and_files_arrive_over_a_socket() {
    let prepare = || {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        far.write_all(b"work").unwrap();
        send(&there, near.into());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"memory").unwrap();
        send(&there, file.into());
        (here, there, far)
    };
    confined(PLAIN, prepare, |(here, there, far)| {
        let mut near = UnixStream::from(receive(&here));
        let file = File::from(receive(&here));
        let (mut one, mut two) = ([0; 2], [0; 2]);
        let parts = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(near.read_vectored(parts).unwrap(), 4);
        assert_eq!((&one, &two), (b"wo", b"rk"));
        let mut memory = [0; 6];
        file.read_exact_at(&mut memory, 0).unwrap();
        assert_eq!(&memory, b"memory");
        let parts = [IoSlice::new(b"do"), IoSlice::new(b"ne")];
        assert_eq!(near.write_vectored(&parts).unwrap(), 4);
        send(&here, far.into());
        receive(&there);
    });
}
