//! A line that shows that long work goes on.

use crate::terminal::printable;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Work that takes no longer is not worth a line.
const DELAY: Duration = Duration::from_millis(300);

/// Does the work. If standard error is a terminal and the work takes long, a line there says so until
/// it is done.
pub fn show<T>(message: &str, work: impl FnOnce() -> T) -> T {
    if !stderr().is_terminal() {
        return work();
    }
    let started = Instant::now();
    let message = printable(message);
    thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                let bar = ProgressBar::new_spinner()
                    .with_style(style())
                    .with_message(message)
                    .with_elapsed(started.elapsed());
                bar.enable_steady_tick(Duration::from_millis(100));
                // Nothing is ever sent: it ends when the sender is gone, by a panic too.
                let _ = waiting.recv();
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn style() -> ProgressStyle {
    // Only a template with a mistake is refused.
    ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
