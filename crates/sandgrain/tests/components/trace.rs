//! What guests ask the host for, by name.

use sandgrain::wasi::component::Function;
use std::sync::{Mutex, Once};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes down the calls that guests make of the host.
struct Calls;

struct Number;

impl Visit for Number {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "function" {
            let index = value.checked_sub(1 << 24).and_then(|index| u16::try_from(index).ok());
            let function = index.and_then(Function::from_index);
            let name = function.map_or(value.to_string(), |function| function.name().to_owned());
            ASKED.lock().expect("no panic").push(name);
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

/// Takes down from now on, and forgets what was before.
pub fn begin() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        tracing::subscriber::set_global_default(Calls).expect("the only one");
    });
    ASKED.lock().expect("no panic").clear();
}

/// What has been asked for.
pub fn asked() -> Vec<String> {
    ASKED.lock().expect("no panic").clone()
}
