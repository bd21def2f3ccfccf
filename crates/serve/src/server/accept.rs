//! Taking connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Shared, connection, end_begins};

/// How long nothing is accepted after that has failed: for want of descriptors, say, which nobody gives back sooner
/// for being asked more often.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until the server ends, and returns when those that there were have ended.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    let room = Arc::new(Semaphore::new(shared.settings.connections));
    let mut connections = JoinSet::new();
    let mut was_told = false;
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            _ = end_begins(&mut phase) => break,
        };
        // It is never closed.
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end_begins(&mut phase) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.counts.accept_errors.fetch_add(1, Ordering::Relaxed);
                // Once, until it works again: there can be thousands a minute.
                if !std::mem::replace(&mut was_told, true) {
                    tracing::error!(%error, "connections cannot be accepted; those that there are go on");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        was_told = false;
        shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            connection::serve(stream, client, shared).await;
            drop(permit);
        });
    }
    // Nobody can connect any more.
    drop(listener);
    while connections.join_next().await.is_some() {}
}
