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

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use penstock_types::own;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::wire::FrameMemory;
use connection::Shared;
use listener::{Listener, Stream};

pub use crate::wire::{EncodeError, Frame};
pub use answer::{Answer, PendingAnswer};
pub use limits::{AddressLimits, Limits};
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
        frames: FrameMemory::new(limits.request_bytes, limits.frame_bytes, limits.retained_bytes),
        decoded: Arc::new(Semaphore::new(limits.decoded_bytes)),
        limits,
        stats,
        stop,
        log: log_limit::LogLimit::default(),
    });
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(ended) = connections.tasks.join_next() => connections.reap(&shared.stats, ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => connections.open(&shared, stream, peer),
                Err(error) => accept_failed(&shared, &error).await,
            },
        }
    }
    drop(listener);
    drain(connections, &shared).await
}

async fn accept_failed<V>(shared: &Shared<V>, error: &io::Error) {
    shared.stats.accept_failed();
    shared.log.info(|suppressed| tracing::warn!(%error, suppressed, "a connection can't be accepted"));
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => {}
        () = penstock_types::pause(ACCEPT_PAUSE) => {}
    }
}

async fn drain<V>(mut connections: Connections, shared: &Shared<V>) -> Stopped {
    let all_ended = async {
        while let Some(ended) = connections.tasks.join_next().await {
            connections.reap(&shared.stats, ended);
        }
    };
    if tokio::time::timeout(shared.limits.drain + DRAIN_SLACK, all_ended).await.is_ok() {
        return Stopped { cut_off: 0 };
    }
    let cut_off = connections.tasks.len();
    connections.tasks.abort_all();
    while let Some(ended) = connections.tasks.join_next().await {
        connections.reap(&shared.stats, ended);
    }
    Stopped { cut_off }
}

/// The open connections, and how many of them each address has: an entry for no other address.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<(Closed, IpAddr)>,
    of_address: HashMap<IpAddr, usize>,
}

impl Connections {
    /// Serves a connection, unless there are too many.
    fn open<S: Stream, V: Service>(&mut self, shared: &Arc<Shared<V>>, stream: S, peer: SocketAddr) {
        shared.stats.opened();
        // An IPv4 client of an IPv6 socket is the same client.
        let address = peer.ip().to_canonical();
        let of_address = self.of_address.get(&address).copied().unwrap_or(0);
        let refused = if self.tasks.len() >= shared.limits.connections {
            Some((Closed::TooMany, "there are as many as allowed"))
        } else if of_address >= shared.limits.per_address.of(address) {
            Some((Closed::TooManyOfAddress, "its address has as many as allowed"))
        } else {
            None
        };
        if let Some((closed, why)) = refused {
            shared.stats.closed(closed);
            shared.log.info(|suppressed| tracing::info!(%peer, suppressed, "closing a connection: {why}"));
            return;
        }
        self.of_address.insert(address, of_address + 1);
        let serving = connection::serve(stream, peer, Arc::clone(shared));
        self.tasks.spawn(own(async move { (serving.await, address) }));
    }

    /// Counts the end of a connection; passes its panic on.
    fn reap(&mut self, stats: &ServerStats, ended: Result<(Closed, IpAddr), JoinError>) {
        match ended {
            Ok((reason, address)) => {
                stats.closed(reason);
                if let Entry::Occupied(mut of_address) = self.of_address.entry(address) {
                    *of_address.get_mut() -= 1;
                    if *of_address.get() == 0 {
                        of_address.remove();
                    }
                }
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only while the server stops: nobody asks for the addresses any more.
                Err(_cancelled) => stats.closed(Closed::Shutdown),
            },
        }
    }
}

#[cfg(test)]
mod tests;
