//! Connections: accepting them, reading requests off them, sending answers in the order of the requests.
//!
//! Invariants: nothing that clients do makes the server hold more than [`Limits`] allows; answers leave a connection
//! in the order of its requests; each connection is one task, owned by [`run`] and joined by it. A panic in a
//! handler is not survived: it is passed on to whoever joins [`run`] (and ends the process where panics abort).
//!
//! Deliberately absent: what requests mean (`crate::api`), TLS and authentication.

mod answer;
mod connection;
mod in_flight;
mod limits;
pub mod listener;
mod log_limit;
mod service;
mod stats;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::wire::FrameMemory;
use connection::Shared;
use listener::{Listener, Stream};

pub use crate::wire::{EncodeError, Frame};
pub use answer::{Answer, PendingAnswer};
pub use limits::Limits;
pub(crate) use service::examine;
pub use service::{BrokerService, Examined, Refusal, Service};
pub use stats::{ApiSnapshot, Closed, LATENCY_BOUNDS_MICROSECONDS, ServerSnapshot, ServerStats};

/// Between two tries where a connection can't be accepted (no file descriptor, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Beyond the bound that each connection keeps for its last answers.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had to be cut off after the bound for the last answers.
    pub cut_off: usize,
}

/// Accepts connections and serves them until `stop` is cancelled; then no connection is accepted and no request read
/// any more, and open requests have [`Limits::drain`] to be answered.
///
/// # Panics
/// With the panic of a connection's task.
pub async fn run<L: Listener, V: Service>(
    mut listener: L,
    service: Arc<V>,
    limits: Limits,
    stats: Arc<ServerStats>,
    stop: CancellationToken,
) -> Stopped {
    let shared = Arc::new(Shared {
        service,
        limits,
        frames: FrameMemory::new(limits.request_bytes, limits.frame_bytes, limits.retained_bytes),
        decoded: Arc::new(Semaphore::new(limits.decoded_bytes)),
        stats,
        stop,
        log: log_limit::LogLimit::default(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(ended) = connections.join_next() => reap(&shared.stats, ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => open(&mut connections, &shared, stream, peer),
                Err(error) => accept_failed(&shared, &error).await,
            },
        }
    }
    drop(listener);
    drain(connections, &shared).await
}

fn open<S: Stream, V: Service>(
    connections: &mut JoinSet<Closed>,
    shared: &Arc<Shared<V>>,
    stream: S,
    peer: SocketAddr,
) {
    shared.stats.opened();
    if connections.len() >= shared.limits.connections {
        shared.stats.closed(Closed::TooMany);
        shared.log.info(|suppressed| {
            tracing::info!(%peer, suppressed, "closing a connection: there are as many as allowed");
        });
        return;
    }
    connections.spawn(connection::serve(stream, peer, Arc::clone(shared)));
}

async fn accept_failed<V>(shared: &Shared<V>, error: &io::Error) {
    shared.stats.accept_failed();
    shared.log.info(|suppressed| tracing::warn!(%error, suppressed, "a connection can't be accepted"));
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = penstock_types::pause(ACCEPT_PAUSE) => {}
    }
}

async fn drain<V>(mut connections: JoinSet<Closed>, shared: &Shared<V>) -> Stopped {
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            reap(&shared.stats, ended);
        }
    };
    if tokio::time::timeout(shared.limits.drain + DRAIN_SLACK, all_ended).await.is_ok() {
        return Stopped { cut_off: 0 };
    }
    let cut_off = connections.len();
    connections.abort_all();
    while let Some(ended) = connections.join_next().await {
        reap(&shared.stats, ended);
    }
    Stopped { cut_off }
}

/// Counts the end of a connection; passes its panic on.
fn reap(stats: &ServerStats, ended: Result<Closed, JoinError>) {
    match ended {
        Ok(reason) => stats.closed(reason),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => stats.closed(Closed::Shutdown),
        },
    }
}

#[cfg(test)]
mod tests;
