//! Spans and log records, sent to a collector by OTLP over HTTP, in JSON.
//!
//! A task of its own sends them in batches. A collector that does not take them, or not fast enough, costs spans and
//! records, which are counted, and never a request.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::otlp_json::{self, LogRecord, Span, Value};

/// Spans and records that wait to be sent, at the most.
const QUEUE: usize = 4096;
/// How many are sent together, at the most.
const BATCH: usize = 512;
/// How long the first of a batch waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

enum Item {
    Span(Box<Span>),
    Log(Box<LogRecord>),
    /// To be answered once all before it is sent, or lost.
    Flush(oneshot::Sender<()>),
}

/// Sends spans and log records.
pub(crate) struct Export {
    sender: mpsc::Sender<Item>,
    lost: Arc<AtomicU64>,
}

impl Export {
    /// Begins to send to a collector: the URL that `/v1/traces` and `/v1/logs` are below. To be called in a runtime.
    ///
    /// # Errors
    /// What is wrong with the URL, and what to do.
    pub(crate) fn start(url: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{url:?} {what}; try: the URL of a collector nearby, such as http://127.0.0.1:4318"
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong(
                "does not begin with http://, which is all that is spoken to collectors",
            ));
        }
        let host = uri.host().ok_or_else(|| wrong("names no host"))?;
        let collector = Collector {
            // An IPv6 address has brackets in a URL and none elsewhere.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(4318),
            authority: uri.authority().map_or_else(String::new, ToString::to_string),
            path: uri.path().trim_end_matches('/').to_owned(),
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        tokio::spawn(run(collector, receiver, Arc::clone(&lost)));
        Ok(Self { sender, lost })
    }

    pub(crate) fn span(&self, span: Span) {
        self.send(Item::Span(Box::new(span)));
    }

    pub(crate) fn log(&self, record: LogRecord) {
        self.send(Item::Log(Box::new(record)));
    }

    fn send(&self, item: Item) {
        if self.sender.try_send(item).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all up to now is sent, or lost.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Item::Flush(done)).await.is_ok() {
            // Without the task nothing more is sent.
            let _ = wait.await;
        }
    }

    /// Spans and records that no collector has taken.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Where they are sent.
struct Collector {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

async fn run(collector: Collector, mut items: mpsc::Receiver<Item>, lost: Arc<AtomicU64>) {
    let resource = [
        ("service.name", Value::from("sandgrain")),
        ("service.version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("process.pid", Value::from(i64::from(std::process::id()))),
    ];
    let version = env!("CARGO_PKG_VERSION");
    let mut was_told = false;
    while let Some(first) = items.recv().await {
        let (mut spans, mut logs, mut flush) = (Vec::new(), Vec::new(), None);
        let end = tokio::time::Instant::now() + WAIT;
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Span(span) => spans.push(*span),
                Item::Log(record) => logs.push(*record),
                Item::Flush(done) => {
                    flush = Some(done);
                    break;
                }
            }
            if spans.len() + logs.len() >= BATCH {
                break;
            }
            next = tokio::time::timeout_at(end, items.recv()).await.ok().flatten();
        }
        for (signal, count, body) in [
            ("traces", spans.len(), otlp_json::traces(&resource, version, &spans)),
            ("logs", logs.len(), otlp_json::logs(&resource, version, &logs)),
        ] {
            if count == 0 {
                continue;
            }
            match send(&collector, signal, body).await {
                Ok(()) => was_told = false,
                Err(error) => {
                    lost.fetch_add(count as u64, Ordering::Relaxed);
                    // Once, until it works again.
                    if !std::mem::replace(&mut was_told, true) {
                        let collector = &*collector.authority;
                        tracing::warn!(%error, collector, "traces and logs cannot be sent");
                    }
                }
            }
        }
        if let Some(done) = flush {
            // Whoever does not wait any more does not mind.
            let _ = done.send(());
        }
    }
}

async fn send(collector: &Collector, signal: &str, body: Vec<u8>) -> io::Result<()> {
    let exchange = async {
        let stream = TcpStream::connect((&*collector.host, collector.port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("{}/v1/{signal}", collector.path))
            .header(header::HOST, &collector.authority)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other);
        connection.abort();
        let status = answer?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("the collector answers {status}"))),
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the collector does not answer");
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(late)?
}
