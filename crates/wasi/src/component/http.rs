//! HTTP requests that a guest sends.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::body::Limited;
use crate::network::{Network, Unreachable};
use crate::trace::CallTrace;
use crate::trust::Trust;
use crate::{HttpLimits, WasiConfig};

/// The most that the guest may write to a body at once, in bytes. Two such pieces may wait for the network.
const PIECE_BYTES: usize = 64 << 10;

/// The smallest buffer that hyper takes, in bytes.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// How many headers a response may have, however small.
const MAX_HEADERS: usize = 256;

type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

/// What the library asks about HTTP.
pub(super) struct Hooks {
    network: Arc<Network>,
    trust: Trust,
    limits: HttpLimits,
    requests: Arc<Semaphore>,
    trace: CallTrace,
}

impl Hooks {
    pub(super) fn new(network: Arc<Network>, config: &WasiConfig, trace: &CallTrace) -> Self {
        let (trust, limits) = (config.trust.clone(), config.http);
        let requests = (limits.requests as usize).min(Semaphore::MAX_PERMITS);
        let requests = Arc::new(Semaphore::new(requests));
        Self { network, trust, limits, requests, trace: trace.clone() }
    }
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let permit = Arc::clone(&self.requests).try_acquire_owned();
        // Which headers a guest may set has been seen to by now. These are the host's.
        self.trace.pass_on(request.headers_mut());
        let (network, trust) = (Arc::clone(&self.network), self.trust.clone());
        let limits = self.limits;
        Box::new(async move {
            let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
            send(request, options.unwrap_or_default(), network, trust, limits, permit).await
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_BYTES
    }

    // The default ones log, which a guest could flood the host with.

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        // A body that was too large, or broken off by the guest.
        let own = error.source().and_then(|source| source.downcast_ref::<Error>());
        match own {
            Some(Error::HttpRequestBodySize(size)) => ErrorCode::HttpRequestBodySize(*size),
            _ if error.is_incomplete_message() => ErrorCode::HttpResponseIncomplete,
            _ => ErrorCode::HttpProtocolError,
        }
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                ErrorCode::DestinationUnavailable
            }
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::ConnectionRefused,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        let own = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match own {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }
}

/// Sends a request, and returns its response as soon as that has begun, and what has to go on meanwhile.
async fn send(
    mut request: Request<WasiBody>,
    options: RequestOptions,
    network: Arc<Network>,
    trust: Trust,
    limits: HttpLimits,
    permit: OwnedSemaphorePermit,
) -> Sent {
    let at_most = |asked: Option<Duration>| asked.map_or(limits.timeout, |t| t.min(limits.timeout));
    let connect_timeout = at_most(options.connect_timeout);
    let uri = request.uri();
    let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    // A port that is no number would be taken for none.
    let has_port = !authority.as_str().ends_with(authority.host());
    if has_port && authority.port_u16().is_none() {
        return Err(Error::HttpRequestUriInvalid);
    }
    let host = authority.host().to_owned();
    let permit = Arc::new(permit);
    let connected = timeout(connect_timeout, connect(&host, port, network, Arc::clone(&permit)));
    let stream = connected.await.map_err(|_| Error::ConnectionTimeout)??;
    // What goes over the connection has only the path; the host is in a header.
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let request =
        request.map(|body| Limited::new(body, limits.body_bytes, Error::HttpRequestBodySize));

    let mut builder = http1::Builder::new();
    builder.max_headers(MAX_HEADERS).max_buf_size(limits.header_bytes.max(MIN_BUFFER_BYTES));
    let handshake = async {
        if secure {
            start(&builder, encrypt(&host, stream, &trust).await?).await
        } else {
            start(&builder, stream).await
        }
    };
    let started = timeout(connect_timeout, handshake);
    let (mut sender, connection) = started.await.map_err(|_| Error::ConnectionTimeout)??;
    let response = timeout(at_most(options.first_byte_timeout), sender.send_request(request));
    let response = response.await.map_err(|_| Error::ConnectionReadTimeout)?.map_err(too_large)?;
    if header_bytes(response.headers()) > limits.header_bytes {
        return Err(Error::HttpResponseHeaderSectionSize(None));
    }
    let patience = at_most(options.between_bytes_timeout);
    let response = response.map(|body| {
        Limited::new(body, limits.body_bytes, Error::HttpResponseBodySize)
            .with_patience(patience)
            .boxed_unsync()
    });
    let goes_on = async move {
        // What went wrong, the body's reader is told.
        connection.await;
        drop(permit);
        Ok(())
    };
    Ok((response, Box::new(goes_on)))
}

/// Connects to the first of a host's addresses that answers.
async fn connect(
    host: &str,
    port: u16,
    network: Arc<Network>,
    permit: Arc<OwnedSemaphorePermit>,
) -> Result<TcpStream, Error> {
    let name = host.to_owned();
    let looked_up = tokio::task::spawn_blocking(move || {
        // A lookup that nobody waits for any more still is one of the requests.
        let _permit = permit;
        network.http_addresses(&name, port)
    });
    let addresses: Vec<SocketAddr> = looked_up
        .await
        .map_err(|error| Error::InternalError(Some(error.to_string())))?
        .map_err(|error| match error {
            Unreachable::Denied => Error::HttpRequestDenied,
            Unreachable::Prohibited => Error::DestinationIpProhibited,
            Unreachable::Unknown(error) => {
                Error::DnsError { rcode: Some(error.to_string()), info_code: None }
            }
        })?;
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

async fn encrypt(
    host: &str,
    stream: TcpStream,
    trust: &Trust,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let client = trust.client().map_err(|error| Error::InternalError(Some(error)))?;
    TlsConnector::from(client).connect(name, stream).await.map_err(Error::Tls)
}

/// Starts to speak HTTP over a connection.
async fn start(
    builder: &http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(SendRequest<Limited<WasiBody>>, AbortOnDropJoinHandle<()>), Error> {
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let connection = spawn(async move {
        // The request and the body are told of what goes wrong.
        let _ = connection.await;
    });
    Ok((sender, connection))
}

fn too_large(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else {
        Error::Hyper(error)
    }
}

/// What headers count for, about as the library counts a guest's.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    let each = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        name.as_str().len() + value.len() + size_of::<http::HeaderValue>()
    };
    headers.iter().map(each).sum()
}
