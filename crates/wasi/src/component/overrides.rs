//! The functions that are answered here instead of by the library, to see to limits and grants.

use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types as fs;
use wasmtime_wasi::p2::bindings::io::{poll as io_poll, streams};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed as seed, random};
use wasmtime_wasi::p2::bindings::sockets;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, FsResult, Network, SocketResult, StreamError,
    TcpSocket, UdpSocket,
};
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::state::{Lookup, State};
pub(super) use super::streams::{
    get_stderr, get_stdin, get_stdout, incoming_body_stream, input_stream_drop, output_stream_drop,
    output_stream_write,
};
use crate::{Capability, Error, network};

/// The longest path that Linux takes, in bytes.
const PATH_BYTES: usize = 4096;

/// The most that is read from a stream at once. A guest that asks for more gets less, as it may at any time.
const READ_BYTES: u64 = 1 << 20;

/// Random bytes that take a moment only.
const RANDOM_PIECE_BYTES: u64 = 64 << 10;

/// How many names may be looked up at a time.
const MAX_LOOKUPS: usize = 16;

/// For how long a lookup can go on when nobody waits for it any more.
const LOOKUP_TIME: Duration = Duration::from_secs(30);

pub(super) async fn poll(
    state: &mut State,
    pollables: Vec<Resource<DynPollable>>,
) -> wasmtime::Result<Vec<u32>> {
    let limit = u64::from(state.limits.poll_list);
    if pollables.len() as u64 > limit {
        let (what, setting) = ("pollables in one list", "max_poll_list");
        return Err(Error::Limit { what, limit, setting }.into());
    }
    io_poll::Host::poll(&mut state.table, pollables).await
}

fn read_length(state: &State, len: u64) -> u64 {
    len.min(READ_BYTES).min(state.limits.call_bytes)
}

pub(super) async fn input_stream_read(
    state: &mut State,
    stream: Resource<DynInputStream>,
    len: u64,
) -> Result<Vec<u8>, StreamError> {
    let len = read_length(state, len);
    streams::HostInputStream::read(&mut state.table, stream, len)
}

pub(super) async fn input_stream_blocking_read(
    state: &mut State,
    stream: Resource<DynInputStream>,
    len: u64,
) -> Result<Vec<u8>, StreamError> {
    let len = read_length(state, len);
    streams::HostInputStream::blocking_read(&mut state.table, stream, len).await
}

/// Opens a file. To open a named pipe can take for ever, as can to read a device, and on the calling thread
/// nothing could stop that. A guest cannot make either of them, so what is looked at here is what gets opened,
/// unless somebody else changes the directory at the same time.
pub(super) async fn descriptor_open_at(
    state: &mut State,
    directory: Resource<Descriptor>,
    path_flags: fs::PathFlags,
    path: String,
    open_flags: fs::OpenFlags,
    flags: fs::DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    if state.books.opened.len() >= state.limits.open_files as usize {
        // There is no error code for it; this one is of the same kind.
        return Err(fs::ErrorCode::InsufficientMemory.into());
    }
    if path.len() > PATH_BYTES {
        return Err(fs::ErrorCode::NameTooLong.into());
    }
    let cancellable = state.limits.cancellable_files;
    let view = &mut state.filesystem();
    if !cancellable {
        let same = Resource::new_borrow(directory.rep());
        match fs::HostDescriptor::stat_at(view, same, path_flags, path.clone()).await {
            Ok(stat) => match stat.type_ {
                fs::DescriptorType::Directory
                | fs::DescriptorType::RegularFile
                | fs::DescriptorType::SymbolicLink => {}
                _ => return Err(fs::ErrorCode::Unsupported.into()),
            },
            // What cannot be looked at cannot be opened, or does not exist yet.
            Err(error) if error.downcast_ref().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let opened =
        fs::HostDescriptor::open_at(view, directory, path_flags, path, open_flags, flags).await?;
    state.books.opened.insert(opened.rep());
    Ok(opened)
}

pub(super) async fn descriptor_drop(
    state: &mut State,
    descriptor: Resource<Descriptor>,
) -> wasmtime::Result<()> {
    let rep = descriptor.rep();
    fs::HostDescriptor::drop(&mut state.filesystem(), descriptor)?;
    state.books.opened.remove(&rep);
    Ok(())
}

/// Random bytes, in pieces between which the call can be stopped.
async fn random_bytes(
    state: &mut State,
    len: u64,
    more: fn(&mut State, u64) -> wasmtime::Result<Vec<u8>>,
) -> wasmtime::Result<Vec<u8>> {
    let limit = state.limits.call_bytes;
    if len > limit {
        let (what, setting) = ("random bytes in one call", "max_call_bytes");
        return Err(Error::Limit { what, limit, setting }.into());
    }
    state.books.gave_randomness = true;
    let mut bytes = more(state, len.min(RANDOM_PIECE_BYTES))?;
    while (bytes.len() as u64) < len {
        tokio::task::yield_now().await;
        bytes.extend(more(state, (len - bytes.len() as u64).min(RANDOM_PIECE_BYTES))?);
    }
    Ok(bytes)
}

pub(super) async fn get_random_bytes(state: &mut State, len: u64) -> wasmtime::Result<Vec<u8>> {
    random_bytes(state, len, |state, len| random::Host::get_random_bytes(state.wasi.random(), len))
        .await
}

pub(super) async fn get_insecure_random_bytes(
    state: &mut State,
    len: u64,
) -> wasmtime::Result<Vec<u8>> {
    random_bytes(state, len, |state, len| {
        insecure::Host::get_insecure_random_bytes(state.wasi.random(), len)
    })
    .await
}

pub(super) async fn get_random_u64(state: &mut State) -> wasmtime::Result<u64> {
    state.books.gave_randomness = true;
    random::Host::get_random_u64(state.wasi.random())
}

pub(super) async fn get_insecure_random_u64(state: &mut State) -> wasmtime::Result<u64> {
    state.books.gave_randomness = true;
    insecure::Host::get_insecure_random_u64(state.wasi.random())
}

pub(super) async fn insecure_seed(state: &mut State) -> wasmtime::Result<(u64, u64)> {
    state.books.gave_randomness = true;
    seed::Host::insecure_seed(state.wasi.random())
}

/// Fails if the guest has as many sockets as it may.
fn room_for_socket(state: &State) -> SocketResult<()> {
    if state.books.sockets.len() >= state.limits.sockets as usize {
        return Err(ErrorCode::NewSocketLimit.into());
    }
    Ok(())
}

/// Tells of a socket that there is not, if it is for want of a grant.
fn tell_of_socket<T>(state: &State, capability: Capability, made: &SocketResult<T>) {
    if made.as_ref().is_err_and(|e| matches!(e.downcast_ref(), Some(ErrorCode::AccessDenied))) {
        state.network.denials.tell(capability, "a socket");
    }
}

pub(super) async fn create_tcp_socket(
    state: &mut State,
    family: IpAddressFamily,
) -> SocketResult<Resource<TcpSocket>> {
    room_for_socket(state)?;
    let view = &mut state.sockets();
    let made = sockets::tcp_create_socket::Host::create_tcp_socket(view, family);
    tell_of_socket(state, Capability::Tcp, &made);
    let socket = made?;
    state.books.sockets.insert(socket.rep());
    Ok(socket)
}

pub(super) async fn tcp_socket_accept(
    state: &mut State,
    listener: Resource<TcpSocket>,
) -> SocketResult<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
    room_for_socket(state)?;
    let accepted = sockets::tcp::HostTcpSocket::accept(&mut state.sockets(), listener)?;
    state.books.sockets.insert(accepted.0.rep());
    Ok(accepted)
}

pub(super) async fn tcp_socket_drop(
    state: &mut State,
    socket: Resource<TcpSocket>,
) -> wasmtime::Result<()> {
    let rep = socket.rep();
    sockets::tcp::HostTcpSocket::drop(&mut state.sockets(), socket)?;
    state.books.sockets.remove(&rep);
    Ok(())
}

pub(super) async fn create_udp_socket(
    state: &mut State,
    family: IpAddressFamily,
) -> SocketResult<Resource<UdpSocket>> {
    room_for_socket(state)?;
    let view = &mut state.sockets();
    let made = sockets::udp_create_socket::Host::create_udp_socket(view, family).await;
    tell_of_socket(state, Capability::Udp, &made);
    let socket = made?;
    state.books.sockets.insert(socket.rep());
    Ok(socket)
}

pub(super) async fn udp_socket_drop(
    state: &mut State,
    socket: Resource<UdpSocket>,
) -> wasmtime::Result<()> {
    let rep = socket.rep();
    sockets::udp::HostUdpSocket::drop(&mut state.sockets(), socket)?;
    state.books.sockets.remove(&rep);
    Ok(())
}

pub(super) async fn resolve_addresses(
    state: &mut State,
    network: Resource<Network>,
    name: String,
) -> SocketResult<Resource<ResolveAddressStream>> {
    let name = network::normalized(&name);
    if !state.network.allows_lookup(&name) {
        return Err(ErrorCode::AccessDenied.into());
    }
    let books = &mut state.books;
    books.abandoned.retain(|when| when.elapsed() < LOOKUP_TIME);
    let live = books.lookups.values().filter(|lookup| !lookup.is_done).count();
    if live + books.abandoned.len() >= MAX_LOOKUPS {
        return Err(ErrorCode::TemporaryResolverFailure.into());
    }
    let view = &mut state.sockets();
    let stream = sockets::ip_name_lookup::Host::resolve_addresses(view, network, name.clone())?;
    state.books.lookups.insert(stream.rep(), Lookup { name, is_done: false });
    Ok(stream)
}

/// The next address of those that the guest may have something to do with. The name that it is known under
/// now is what it may be used for.
pub(super) async fn resolve_address_stream_resolve_next_address(
    state: &mut State,
    stream: Resource<ResolveAddressStream>,
) -> SocketResult<Option<IpAddress>> {
    let rep = stream.rep();
    loop {
        let same = Resource::new_borrow(rep);
        let next = sockets::ip_name_lookup::HostResolveAddressStream::resolve_next_address(
            &mut state.sockets(),
            same,
        );
        let waits = |error: &ErrorCode| matches!(error, ErrorCode::WouldBlock);
        let waits = next.as_ref().is_err_and(|e| e.downcast_ref().is_some_and(waits));
        let Some(lookup) = state.books.lookups.get_mut(&rep) else { return next };
        lookup.is_done |= !waits;
        let Some(address) = next? else { return Ok(None) };
        if state.network.learn(&lookup.name, network::from_wasi(address)) {
            return Ok(Some(address));
        }
    }
}

pub(super) async fn resolve_address_stream_drop(
    state: &mut State,
    stream: Resource<ResolveAddressStream>,
) -> wasmtime::Result<()> {
    let rep = stream.rep();
    sockets::ip_name_lookup::HostResolveAddressStream::drop(&mut state.sockets(), stream)?;
    if state.books.lookups.remove(&rep).is_some_and(|lookup| !lookup.is_done) {
        state.books.abandoned.push(Instant::now());
    }
    Ok(())
}
