//! What a component's calls work on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::http::Hooks;
use super::streams;
use crate::denied::Denials;
use crate::network::Network;
use crate::trace::CallTrace;
use crate::{Error, Streams, WasiConfig, context, runtime};

/// The resources of a component, and what it is granted.
pub(crate) struct State {
    pub(super) table: ResourceTable,
    pub(super) wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    /// The runtime whose timers and sockets the calls use.
    pub(super) handle: Handle,
    pub(super) limits: Limits,
    pub(super) network: Arc<Network>,
    pub(super) books: Books,
}

/// The limits that are not kept by the library.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) handles: u32,
    pub(super) call_bytes: u64,
    pub(super) poll_list: u32,
    pub(super) open_files: u32,
    pub(super) sockets: u32,
    /// Whether a file may be one that makes its reader wait.
    pub(super) cancellable_files: bool,
}

/// What the library does not tell.
#[derive(Default)]
pub(super) struct Books {
    /// The files and directories that the guest has opened, by their handles.
    pub(super) opened: BTreeSet<u32>,
    /// The sockets, by their handles.
    pub(super) sockets: BTreeSet<u32>,
    /// Names that are being looked up, or have been, by the handles of their answers.
    pub(super) lookups: BTreeMap<u32, Lookup>,
    /// When lookups were given up that may still be going on.
    pub(super) abandoned: Vec<Instant>,
    pub(super) gave_randomness: bool,
    pub(super) streams: streams::Books,
}

/// A name that is looked up.
pub(super) struct Lookup {
    pub(super) name: String,
    pub(super) is_done: bool,
}

impl State {
    pub(crate) fn new(
        config: &WasiConfig,
        environment: &[(String, String)],
        streams: &Streams,
        trace: &CallTrace,
    ) -> Result<Self, Error> {
        let denials = Denials::new(config, trace);
        let network = Arc::new(Network::new(&config.network, denials));
        let mut builder = context::builder(config, environment, streams)?;
        network.install(&mut builder);
        builder.max_random_size(u64::MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(config.max_handles as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(config.http.header_bytes);
        // A thread that turns sockets is there only for those who may have any.
        let handle =
            if network.is_granted() { runtime::network_handle()? } else { runtime::handle()? };
        Ok(Self {
            table,
            wasi: builder.build(),
            http,
            hooks: Hooks::new(Arc::clone(&network), config, trace),
            handle,
            limits: Limits {
                handles: config.max_handles,
                call_bytes: config.max_call_bytes,
                poll_list: config.max_poll_list,
                open_files: config.max_open_files,
                sockets: config.max_sockets,
                cancellable_files: config.cancellable_files,
            },
            network,
            books: Books { streams: streams::Books::new(&config.stdin), ..Books::default() },
        })
    }

    /// Whether the guest has resources.
    pub(crate) fn has_resources(&self) -> bool {
        !self.table.is_empty()
    }

    /// Whether the guest was given random numbers.
    pub(crate) fn gave_randomness(&self) -> bool {
        self.books.gave_randomness
    }

    /// Tells of a call about files, by the paths that it has named, if it was refused for want of a grant. The library
    /// has one error for that, be it that the call would change what may only be read or that a path leads out; it is
    /// the one that stands for the host's own `EPERM`, too.
    pub(super) fn tell_of_file(&self, error: &ErrorCode, paths: &str) {
        if matches!(error, ErrorCode::NotPermitted) {
            self.network.denials.tell_of_file(paths);
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}
