//! The component on wasmtime in this process, as wasmtime-wasi-http has it: an instance for each request.

use super::COMPONENT;
use crate::host_error;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use sandgrain::{Engine, Result};
use std::convert::Infallible;
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// Whence an instance's memory comes.
#[derive(Clone, Copy)]
pub(super) enum Allocator {
    Pooling,
    OnDemand,
}

/// What one request's instance has.
struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
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

/// The handler sends no requests of its own.
struct NoRequests;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = std::result::Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = std::result::Result<Sent, Error>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = std::result::Result<(), Error>> + Send>);

fn failed(error: impl std::fmt::Display) -> sandgrain::Error {
    host_error("HTTP in process", &error)
}

/// The component, linked and ready for instances.
pub(super) struct InProcess(ProxyPre<State>);

impl InProcess {
    /// With the settings and CPU features that code for the VM is compiled with, but for data segments: it maps
    /// them, which no VM's guest can, and which is faster.
    pub(super) fn new(engine: &Engine, allocator: Allocator) -> Result<Self> {
        let mut config = sandgrain::compile::engine_config(engine.cpu_features());
        config.wasm_component_model(true).memory_init_cow(true);
        config.allocation_strategy(match allocator {
            Allocator::OnDemand => InstanceAllocationStrategy::OnDemand,
            Allocator::Pooling => {
                let mut pooling = PoolingAllocationConfig::new();
                // One is used at a time; each reserves address space.
                pooling.total_component_instances(4).total_core_instances(16);
                pooling.total_memories(16).total_tables(16).total_stacks(4).total_gc_heaps(4);
                InstanceAllocationStrategy::Pooling(pooling)
            }
        });
        let engine = wasmtime::Engine::new(&config).map_err(failed)?;
        let component = Component::new(&engine, COMPONENT).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        // All that the component might import, as a server has it.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(failed)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(failed)?;
        let linked = linker.instantiate_pre(&component).map_err(failed)?;
        Ok(Self(ProxyPre::new(linked).map_err(failed)?))
    }

    /// Answers a request with a new instance, body and all.
    pub(super) async fn answer(&self, request: Request<Empty<Bytes>>) -> Result<Response<Bytes>> {
        let state = State {
            table: ResourceTable::new(),
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            hooks: NoRequests,
        };
        let mut store = Store::new(self.0.engine(), state);
        let (give, take) = oneshot::channel();
        let request =
            request.map(|body| body.map_err(|never: Infallible| -> Error { match never {} }));
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request).map_err(failed)?;
        let out = http.new_response_outparam(give).map_err(failed)?;
        let handled = async {
            let handler = self.0.instantiate_async(&mut store).await?;
            handler.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
        };
        let collected = async {
            let response = take.await.map_err(failed)?.map_err(failed)?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(failed)?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        // The body may be written until the end.
        let (handled, response) = tokio::join!(handled, collected);
        handled.map_err(failed)?;
        response
    }
}
