//! What guests ask the host for, by name.

use sandgrain::wasi::component::Function;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static ONE: Mutex<()> = Mutex::new(());

fn asked() -> MutexGuard<'static, Vec<String>> {
    ASKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down the calls that guests make of the host.
struct Calls;

struct Number;

impl Visit for Number {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "function" {
            let index = value.checked_sub(1 << 24).and_then(|index| u16::try_from(index).ok());
            let function = index.and_then(Function::from_index);
            let name = function.map_or(value.to_string(), |function| function.name().to_owned());
            asked().push(name);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Calls {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "hypercall"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Number);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What is asked for from now on: by one guest, but for those that nobody traces.
pub struct Trace(#[expect(dead_code, reason = "it is held")] MutexGuard<'static, ()>);

/// Begins to take down, one guest's calls at a time.
pub fn begin() -> Trace {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        tracing::subscriber::set_global_default(Calls).expect("the only one");
    });
    let trace = Trace(ONE.lock().unwrap_or_else(PoisonError::into_inner));
    asked().clear();
    trace
}

impl Trace {
    /// The functions, in their order.
    pub fn end(self) -> Vec<String> {
        std::mem::take(&mut *asked())
    }
}
