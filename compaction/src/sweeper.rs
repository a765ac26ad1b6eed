//! The sweeper: finds objects in the bucket that were put and never committed, and deletes them.
//!
//! It raises the cutoff first, to a long time ago by the store's versions: from then on nothing with an older id is
//! committed. What is listed below it and has no row at a later version never will have one. Ids of other incarnations
//! are left alone: after a restore of the metadata they may be what can be salvaged.
//!
//! A late upload may bring back an object after it was deleted: the next round finds it, since old ids are looked at every
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use penstock_metadata::collection::{RowWalk, raise_cutoff, unreferenced};
use penstock_metadata::keys::cluster::Cutoff;
use penstock_metadata::kv::StoreError;
use penstock_storage::object::{OBJECTS_PREFIX, id_of_key, object_key};
use penstock_types::ObjectId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::collector::{CollectError, CollectorParts};
use crate::turns::Turns;

/// Objects that are looked up together.
const AT_ONCE: usize = 1_000;
/// How often the sweeper looks whether a round is due and its own.
const LOOK: Duration = Duration::from_secs(60);

/// When the bucket is swept.
#[derive(Debug, Clone, Copy)]
pub struct SweeperSettings {
    /// How far the cutoff lags: longer than any upload and its commit take, and further than the store's versions jump.
    pub lag: Duration,
    /// How often the bucket is listed.
    pub interval: Duration,
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct SweeperStats {
    /// Rounds that went to the end.
    pub rounds: AtomicU64,
    /// Objects listed.
    pub listed: AtomicU64,
    /// Objects deleted.
    pub deleted: AtomicU64,
    /// Rows of objects cleared.
    pub rows: AtomicU64,
    /// Objects of other incarnations without a row, found in the last round: left for an operator.
    pub foreign: AtomicU64,
    /// Rounds that failed, to be tried again.
    pub failures: AtomicU64,
}

/// The job of one agent.
#[derive(Debug)]
pub struct Sweeper {
    parts: CollectorParts,
    settings: SweeperSettings,
    stats: SweeperStats,
    turns: Arc<Turns>,
}

impl Sweeper {
    /// A job.
    pub fn new(parts: CollectorParts, settings: SweeperSettings) -> Arc<Self> {
        let turns = Turns::new("sweep", "finds objects that were never committed, and deletes them");
        Arc::new(Self { parts, settings, stats: SweeperStats::default(), turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &SweeperStats {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            let mut swept: Option<Instant> = None;
            loop {
                let left = swept.map_or(LOOK, |at| self.settings.interval.saturating_sub(at.elapsed()));
                let mut turn = self.turns.next(left.min(self.settings.interval)).await;
                if !self.parts.share.is_mine("sweep") {
                    turn.is_anothers();
                    swept = None;
                    continue;
                }
                let begun = Instant::now();
                match self.round().await {
                    Ok(()) => swept = Some(begun),
                    // At the next look again.
                    Err(error) => {
                        self.stats.failures.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, "the bucket was not swept to its end");
                        turn.failed(&error);
                        swept = None;
                    }
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Sweeps once.
    ///
    /// # Errors
    /// After the first failure; what was deleted before is gone.
    pub async fn round(&self) -> Result<(), CollectError> {
        let CollectorParts { store, keyspace, cluster, bucket, .. } = &self.parts;
        self.parts.check_claim().await?;
        let cutoff = again!(raise_cutoff(store, keyspace, cluster.incarnation, self.settings.lag))?;
        let (mut old, mut foreign) = (Vec::new(), Vec::new());
        self.stats.foreign.store(0, Ordering::Relaxed);
        let mut listing = bucket.list(OBJECTS_PREFIX.trim_end_matches('/'));
        while let Some(listed) = listing.next().await {
            let Some(id) = id_of_key(&listed?.key) else { continue };
            self.stats.listed.fetch_add(1, Ordering::Relaxed);
            self.turns.did(1);
            if !cutoff.refuses(&id) && !penstock_types::planted!("sweep-uncommitted") {
                continue;
            }
            let of = if id.incarnation() == cluster.incarnation { &mut old } else { &mut foreign };
            of.push(id);
            if old.len() >= AT_ONCE {
                self.delete(cutoff, &std::mem::take(&mut old)).await?;
            }
            if foreign.len() >= AT_ONCE {
                self.count_foreign(cutoff, &std::mem::take(&mut foreign)).await?;
            }
        }
        drop(listing);
        self.delete(cutoff, &old).await?;
        self.count_foreign(cutoff, &foreign).await?;
        self.rows(cutoff).await?;
        self.stats.rounds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn delete(&self, cutoff: Cutoff, listed: &[ObjectId]) -> Result<(), CollectError> {
        let CollectorParts { store, keyspace, bucket, .. } = &self.parts;
        let nobodys = again!(unreferenced(store, keyspace, cutoff, listed))?;
        if nobodys.is_empty() {
            return Ok(());
        }
        // A listing takes its time.
        self.parts.check_claim().await?;
        let keys: Vec<String> = nobodys.iter().map(|id| object_key(*id)).collect();
        let refused = bucket.delete_many(&keys).await?;
        if let Some((index, error)) = refused.first() {
            self.stats.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(object = %nobodys[*index], objects = refused.len(), %error, "objects can't be deleted");
        }
        self.stats.deleted.fetch_add((keys.len() - refused.len()) as u64, Ordering::Relaxed);
        tracing::info!(objects = keys.len(), first = %nobodys[0], "objects that were never committed are deleted");
        Ok(())
    }

    async fn count_foreign(&self, cutoff: Cutoff, listed: &[ObjectId]) -> Result<(), StoreError> {
        let CollectorParts { store, keyspace, .. } = &self.parts;
        let nobodys = again!(unreferenced(store, keyspace, cutoff, listed))?;
        self.stats.foreign.fetch_add(nobodys.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Clears rows that nobody needs any more.
    async fn rows(&self, cutoff: Cutoff) -> Result<(), StoreError> {
        let CollectorParts { store, keyspace, cluster, .. } = &self.parts;
        let mut walk = RowWalk::below(keyspace, cutoff);
        while let Some(cleared) = again!(walk.step(store, keyspace, cluster.incarnation))? {
            self.stats.rows.fetch_add(cleared, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
