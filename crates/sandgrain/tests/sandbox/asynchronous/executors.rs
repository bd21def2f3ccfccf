//! Ways to poll futures: tokio's, one written here, and several threads.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread, which sleeps in between.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls a future once. Nobody is woken for it.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Awaits them all: each is polled whenever one of them is woken.
pub async fn all<T>(futures: Vec<Pin<Box<dyn Future<Output = T> + Send>>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut values = Vec::new();
    poll_fn(|context| {
        for slot in &mut futures {
            if let Some(future) = slot
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                values.push(value);
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    values
}

/// An executor: it drives all of the futures at once.
pub type Executor<T> = fn(Vec<Pin<Box<dyn Future<Output = T> + Send>>>) -> Vec<T>;

pub fn executors<T: Send + 'static>() -> [(&'static str, Executor<T>); 3] {
    [
        ("a block_on", |futures| block_on(all(futures))),
        ("tokio", |futures| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
                let mut values = Vec::new();
                for task in tasks {
                    values.push(task.await.expect("no panic"));
                }
                values
            })
        }),
        ("several threads", |futures| {
            let threads: Vec<_> =
                futures.into_iter().map(|future| thread::spawn(|| block_on(future))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        }),
    ]
}
