//! Whether the agent serves Kafka clients, and if not, why.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::RwLock;
use penstock_metadata::kv::{Priority, SharedStore};

/// How long the metadata store may take to answer before the agent counts as not ready.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an agent is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// It starts, and has got so far.
    #[error("starting: {0}")]
    Starting(&'static str),
    /// It stops.
    #[error("draining")]
    Draining,
    /// The metadata store doesn't answer.
    #[error("the metadata store doesn't answer: {0}")]
    Store(String),
}

enum Phase {
    Starting(&'static str),
    Ready,
    Draining,
}

/// Goes from starting to ready to draining.
pub struct Readiness {
    phase: RwLock<Phase>,
    store: OnceLock<SharedStore>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self { phase: RwLock::new(Phase::Starting("opening")), store: OnceLock::new() }
    }
}

impl Readiness {
    /// The agent starts, and does `step` now.
    pub fn starting(&self, step: &'static str) {
        *self.phase.write() = Phase::Starting(step);
    }

    /// The agent serves clients; `store` is asked by each check from now on.
    pub fn ready(&self, store: SharedStore) {
        let _already_set = self.store.set(store);
        *self.phase.write() = Phase::Ready;
    }

    /// The agent stops.
    pub fn draining(&self) {
        *self.phase.write() = Phase::Draining;
    }

    /// Whether the agent is past its start and not yet draining.
    pub fn is_ready(&self) -> bool {
        matches!(*self.phase.read(), Phase::Ready)
    }

    /// Whether clients can be sent here now: the agent is ready and its metadata store answers.
    pub async fn check(&self) -> Result<(), NotReady> {
        match *self.phase.read() {
            Phase::Starting(step) => return Err(NotReady::Starting(step)),
            Phase::Draining => return Err(NotReady::Draining),
            Phase::Ready => {}
        }
        let Some(store) = self.store.get() else { return Ok(()) };
        let mut transaction = store.begin(Priority::Default);
        match tokio::time::timeout(STORE_TIMEOUT, transaction.read_version()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NotReady::Store(error.to_string())),
            Err(_) => Err(NotReady::Store(format!("no answer within {} s", STORE_TIMEOUT.as_secs()))),
        }
    }
}
