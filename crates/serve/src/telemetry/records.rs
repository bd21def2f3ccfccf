//! Records: one JSON object a line, of requests, of what changes, and of what fails.
//!
//! Written by a thread of their own from a bounded queue: a disk that is full or slow, or a reader that does not
//! read, costs records, which are counted, and never a request.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::export::Export;
use super::otlp_json::{LogRecord, Severity, Value};
use super::trace_context::TraceContext;

/// Records that wait to be written, at the most.
const QUEUE: usize = 8192;
/// Failures that are kept for the status page.
const RECENT: usize = 50;
/// Characters of a guest's text that a record has at the most.
const MAX_TEXT: usize = 4096;

/// Where records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RecordTarget {
    /// Nowhere.
    None,
    /// To the standard output.
    #[default]
    Stdout,
    /// To the end of a file, which is opened anew for each batch: it can be moved away at any time.
    File(PathBuf),
}

/// A request that was answered, or could not be.
#[derive(Debug, Serialize)]
pub(crate) struct Access<'a> {
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) host: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    /// Bytes of the answer's body that were sent.
    pub(crate) bytes: u64,
    /// Seconds until all of it was.
    pub(crate) seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<&'a str>,
    pub(crate) trace_id: &'a str,
}

/// Something that cannot be read as a request, with which its connection has ended.
#[derive(Debug, Serialize)]
pub(crate) struct Malformed<'a> {
    pub(crate) client: &'a str,
    /// What the client was sent, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// What is wrong with it. Nothing of what the client has sent.
    pub(crate) detail: &'a str,
}

/// A call that failed: the function's crash report. Nothing of the guest's memory is in it but its message.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crash {
    pub(crate) application: String,
    pub(crate) tenant: String,
    pub(crate) function: String,
    /// Of the WebAssembly.
    pub(crate) digest: String,
    pub(crate) kind: &'static str,
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) backtrace: Vec<String>,
    /// Times that the call left its VM.
    pub(crate) exits: u64,
    pub(crate) trace_id: String,
}

/// A crash, and when it was.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Recent {
    /// Unix time in milliseconds.
    time: u64,
    #[serde(flatten)]
    crash: Crash,
}

/// What changes: deployments, grants, reloads, ends; what was denied; and what was done about memory.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit<'a> {
    pub(crate) event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) application: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) capability: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'a str>,
    /// A worker process, and its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    pub(crate) detail: String,
    #[serde(rename = "trace_id", serialize_with = "as_trace_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<TraceContext>,
}

fn as_trace_id<S: serde::Serializer>(
    trace: &Option<TraceContext>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    trace.map(TraceContext::trace_id_text).serialize(serializer)
}

/// What a function wrote to its standard output or error while it worked on a request.
#[derive(Debug, Serialize)]
pub(crate) struct Output<'a> {
    pub(crate) application: &'a str,
    pub(crate) function: &'a str,
    pub(crate) stream: &'static str,
    pub(crate) text: String,
    pub(crate) trace_id: &'a str,
}

#[derive(Serialize)]
struct Line<'a, T> {
    /// What the record is of.
    record: &'static str,
    /// Unix time in milliseconds.
    time: u64,
    #[serde(flatten)]
    content: &'a T,
}

/// What the thread that writes is sent.
enum Message {
    Line(String),
    /// To be answered once all lines before it are written.
    Flush(mpsc::SyncSender<()>),
}

/// Writes records.
pub(crate) struct Records {
    sender: Option<mpsc::SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    accesses: bool,
    recent: Mutex<VecDeque<Recent>>,
    lost: Arc<AtomicU64>,
    export: Option<Export>,
}

/// Unix time in milliseconds. A clock that stands before 1970 counts as 1970.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in nanoseconds.
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A guest's text, cut where it is long.
pub(crate) fn cut(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

impl Records {
    /// Begins to write; `accesses`: whether each request has a record, too. Audit records and crashes are also sent
    /// to a collector, if there is one.
    ///
    /// # Errors
    /// If a thread cannot be started, or the file not be opened.
    pub(crate) fn start(
        target: &RecordTarget,
        accesses: bool,
        export: Option<Export>,
    ) -> io::Result<Self> {
        let lost = Arc::<AtomicU64>::default();
        let (recent, accesses) = (Mutex::default(), accesses && *target != RecordTarget::None);
        if *target == RecordTarget::None {
            return Ok(Self { sender: None, thread: None, accesses, recent, lost, export });
        }
        if let RecordTarget::File(path) = target {
            open(path)?;
        }
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let (target, count) = (target.clone(), Arc::clone(&lost));
        let thread = std::thread::Builder::new()
            .name("sandgrain-records".to_owned())
            .spawn(move || write_all(&target, &receiver, &count))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), accesses, recent, lost, export })
    }

    fn write<T: Serialize>(&self, record: &'static str, content: &T) {
        let Some(sender) = &self.sender else { return };
        let line = Line { record, time: unix_millis(), content };
        // Strings and numbers always can be written.
        let Ok(mut text) = serde_json::to_string(&line) else { return };
        text.push('\n');
        if sender.try_send(Message::Line(text)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether requests have records.
    pub(crate) fn has_accesses(&self) -> bool {
        self.accesses
    }

    pub(crate) fn access(&self, access: &Access<'_>) {
        if self.accesses {
            self.write("access", access);
        }
    }

    /// One for each connection, so no more than there could be of requests; there are some if requests have records.
    pub(crate) fn malformed(&self, malformed: &Malformed<'_>) {
        if self.accesses {
            self.write("malformed", malformed);
        }
    }

    pub(crate) fn audit(&self, audit: &Audit<'_>) {
        self.write("audit", audit);
        let Some(export) = &self.export else { return };
        let named = [
            ("sandgrain.application", audit.application),
            ("sandgrain.tenant", audit.tenant),
            ("faas.name", audit.function),
            ("sandgrain.digest", audit.digest),
            ("sandgrain.capability", audit.capability),
            ("sandgrain.target", audit.target),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?))));
        let counted = [
            ("process.pid", audit.process.map(i64::from)),
            ("sandgrain.bytes", audit.bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))),
        ];
        let counted = counted.into_iter().filter_map(|(name, of)| Some((name, Value::from(of?))));
        export.log(LogRecord {
            time_unix_nano: unix_nanos(),
            severity: match audit.event {
                "reload-failed" | "memory-quota-reached" | "memory-quota-enforced" | "denied" => {
                    Severity::Warn
                }
                _ => Severity::Info,
            },
            body: format!("{}: {}", audit.event, audit.detail),
            attributes: named.chain(counted).collect(),
            trace: audit.trace.map(|trace| (trace.trace_id, trace.span_id)),
        });
    }

    /// Where spans are sent, if anywhere.
    pub(crate) fn export(&self) -> Option<&Export> {
        self.export.as_ref()
    }

    pub(crate) fn output(&self, output: &Output<'_>) {
        self.write("output", output);
    }

    pub(crate) fn crash(&self, crash: Crash, trace: &TraceContext) {
        self.write("crash", &crash);
        if let Some(export) = &self.export {
            export.log(LogRecord {
                time_unix_nano: unix_nanos(),
                severity: Severity::Error,
                body: crash.message.clone(),
                attributes: vec![
                    ("sandgrain.application", crash.application.as_str().into()),
                    ("sandgrain.tenant", crash.tenant.as_str().into()),
                    ("faas.name", crash.function.as_str().into()),
                    ("sandgrain.digest", crash.digest.as_str().into()),
                    ("error.type", crash.kind.into()),
                    ("exception.stacktrace", crash.backtrace.join("\n").into()),
                ],
                trace: Some((trace.trace_id, trace.span_id)),
            });
        }
        let crash = Recent { time: unix_millis(), crash };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.truncate(RECENT - 1);
        recent.push_front(crash);
    }

    /// The last failures, the latest first.
    pub(crate) fn recent(&self) -> Vec<Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Waits until all records up to now are written, or lost.
    pub(crate) fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.send(Message::Flush(done)).is_ok()
        {
            // Without a thread nothing more is written.
            let _ = wait.recv();
        }
    }

    /// Records that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // What is in the queue is written before it ends.
            let _ = thread.join();
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(target: &RecordTarget, messages: &mpsc::Receiver<Message>, lost: &AtomicU64) {
    let mut was_told = false;
    while let Ok(first) = messages.recv() {
        let (mut batch, mut count, mut flush) = (String::new(), 0, None);
        for message in std::iter::once(first).chain(messages.try_iter().take(QUEUE)) {
            match message {
                Message::Line(line) => {
                    batch.push_str(&line);
                    count += 1;
                }
                Message::Flush(done) => {
                    flush = Some(done);
                    break;
                }
            }
        }
        match write_batch(target, &batch) {
            Ok(()) => was_told = false,
            Err(error) => {
                lost.fetch_add(count, Ordering::Relaxed);
                // Once, not for each record that is lost.
                if !std::mem::replace(&mut was_told, true) {
                    tracing::error!(%error, "records cannot be written; requests go on without them");
                }
            }
        }
        if let Some(done) = flush {
            // Whoever does not wait any more does not mind.
            let _ = done.send(());
        }
    }
}

fn write_batch(target: &RecordTarget, batch: &str) -> io::Result<()> {
    match target {
        RecordTarget::None => Ok(()),
        RecordTarget::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(batch.as_bytes()).and_then(|()| stdout.flush())
        }
        RecordTarget::File(path) => {
            open(path).and_then(|mut file| file.write_all(batch.as_bytes()))
        }
    }
}
