//! When the states of idle producers go (see `penstock_metadata::producer_expiry` for what that means).
//!
//! One agent walks; two that do at once and meet at the same state conflict, and one of them finds it gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::producer_expiry::{Expiry, Walk};
use penstock_types::{Incarnation, StoreVersion, pause};
use tokio_util::sync::CancellationToken;

use crate::share::Share;
use crate::turns::Turns;

/// How often a page is tried that conflicts.
const ATTEMPTS: u32 = 8;
/// Between two pages: a walk over millions of states takes its time.
const BETWEEN_PAGES: Duration = Duration::from_millis(5);

/// When states go.
#[derive(Debug, Clone, Copy)]
pub struct ProducerExpirySettings {
    /// After so long without a batch.
    pub after: Duration,
    /// How often all states are looked at.
    pub interval: Duration,
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct ProducerExpiryStats {
    /// States that the last whole walk found, but for those that it removed.
    pub states: AtomicU64,
    /// States removed.
    pub removed: AtomicU64,
}

/// The job of one agent.
#[derive(Debug)]
pub struct ProducerExpiry {
    store: SharedStore,
    keyspace: Keyspace,
    incarnation: Incarnation,
    settings: ProducerExpirySettings,
    share: Arc<dyn Share>,
    stats: ProducerExpiryStats,
    turns: Arc<Turns>,
}

impl ProducerExpiry {
    /// A job.
    pub fn new(
        store: SharedStore,
        keyspace: Keyspace,
        incarnation: Incarnation,
        settings: ProducerExpirySettings,
        share: Arc<dyn Share>,
    ) -> Arc<Self> {
        let stats = ProducerExpiryStats::default();
        let turns = Turns::new("producer-expiry", "forgets producers that have been idle for long");
        Arc::new(Self { store, keyspace, incarnation, settings, share, stats, turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &ProducerExpiryStats {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            let (mut since, mut wait) = (None, Duration::ZERO);
            loop {
                let mut turn = self.turns.next(wait).await;
                wait = self.settings.interval;
                if !self.share.is_mine("producer expiry") {
                    turn.is_anothers();
                } else if let Err(error) = self.round(&mut since).await {
                    tracing::debug!(%error, "the walk over producers' states ended early");
                    turn.failed(&error);
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// One walk over all states. `since` is the version at the first one.
    ///
    /// # Errors
    /// The store's; what was removed before is gone.
    pub async fn round(&self, since: &mut Option<StoreVersion>) -> Result<(), StoreError> {
        let since = match *since {
            Some(since) => since,
            None => *since.insert(self.store.begin(Priority::Batch).read_version().await?),
        };
        let expiry = Expiry { incarnation: self.incarnation, after: self.settings.after, since };
        let (mut walk, mut kept, mut attempts) = (Walk::default(), 0, 0);
        loop {
            match walk.step(&self.store, &self.keyspace, expiry).await {
                Ok(None) => break,
                Ok(Some(step)) => {
                    attempts = 0;
                    kept += step.seen - step.removed;
                    self.turns.did(step.seen);
                    self.stats.removed.fetch_add(step.removed, Ordering::Relaxed);
                }
                Err(error) if error.is_retryable() && attempts < ATTEMPTS => {
                    attempts += 1;
                    pause(BETWEEN_PAGES * (1 << attempts)).await;
                }
                Err(error) => return Err(error),
            }
            pause(BETWEEN_PAGES).await;
        }
        self.stats.states.store(kept, Ordering::Relaxed);
        Ok(())
    }
}
