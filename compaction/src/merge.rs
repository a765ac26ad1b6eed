//! Merging: from many small objects in which partitions are mixed to few large ones in which each partition is contiguous,
//! so that reading a log takes few requests, and what expires together lies together.
//!
//! A unit (a stretch of the log of all partitions, see `penstock_metadata::merging`) is merged by one agent at a time, as a hint: its
//! objects' partitions are looked up in the index, in the order of (class of topics, topic, partition); what the index
//! refers to is copied into outputs, each announced, put, and swapped into the index; and the unit ends when nothing refers to
//! its objects any more. Left at any point, the unit is merged again, and only what is left is copied.
//!
//! Level 0, what agents flushed, is read whole, one request an object, and held in memory (`unit_bytes`). The levels above are
//! read by ranges, output by output, and hold about twice an output.
//!
//! A unit that fails waits, longer each time, and holds nobody up but the level above it. What can't be read of a unit, or is
//! not what the log says, is looked for several times, then counted, and left where it is: the unit ends without it.
//!
//! # Invariants
//! - Nothing is copied that isn't, byte for byte, what the log says: a damaged batch stays where it is, and is counted.
//! - An output is announced before it is put, and put before anything refers to it.
//! - Requests and bytes are paced, reading and writing together.
//!
//! Deliberately absent: deleting (what nothing refers to any more is buried, see [`collector`](crate::collector)), and the choice
//! of what is sealed: a partition that isn't by the time its unit is merged is sealed then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::merge_queue::{CommitPlace, LAST_LEVEL};
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::merging::{AnnounceError, CutRules, cut_unit, front, units};
use penstock_metadata::present::Present;
use penstock_metadata::topics::TopicCatalog;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_types::{Incarnation, Randomness, pause};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::collector::CollectorStats;
use crate::pace::Pace;
use crate::share::Share;
use crate::turns::Turns;

mod class;
mod draft;
mod inputs;
mod output;
mod pass;
mod patience;
mod stats;
#[cfg(test)]
mod tests;
mod unit;

use patience::Patience;
pub use stats::MergeStats;
use stats::add;

/// When and how objects are merged.
#[derive(Debug, Clone, Copy)]
pub struct MergeSettings {
    /// How often it is looked for what to merge.
    pub interval: Duration,
    /// How old a commit must be: longer than the seal takes to reach it.
    pub settle: Duration,
    /// Bytes of a unit of level 0, all of which is held in memory.
    pub unit_bytes: u64,
    /// A unit of level 0 is cut in any case when its first object is so old.
    pub age: Duration,
    /// The same of the levels above.
    pub level_age: Duration,
    /// Bytes of a unit of the levels above, at most.
    pub level_bytes: u64,
    /// Bytes of a partition that are to lie together: what has as much of each of its partitions isn't merged again.
    pub section_bytes: u64,
    /// Bytes of an output, about.
    pub object_bytes: u64,
    /// Bytes of the index that one transaction rewrites, about.
    pub swap_bytes: u64,
    /// Bytes that are read and written a second.
    pub bytes_per_second: u64,
    /// Requests to the bucket a second.
    pub requests_per_second: u32,
}

impl MergeSettings {
    /// Who asks for a merge wants everything merged that has settled.
    fn rules(&self, level: u8, is_asked: bool) -> CutRules {
        let age = if level == 0 { self.age } else { self.level_age };
        CutRules {
            settle: self.settle,
            bytes: self.unit_bytes,
            section_bytes: self.section_bytes,
            level_bytes: self.level_bytes,
            age: if is_asked { self.settle } else { age },
        }
    }
}

/// Why a unit isn't merged to its end.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The sweeper's cutoff has passed an output before it was announced.
    #[error("an output took too long, and was given up")]
    TooLate,
    /// Somebody else has merged it to its end.
    #[error("the unit was ended by another agent")]
    Ended,
    /// An operator has paused the job.
    #[error("merging was paused")]
    Paused,
    /// In every pass something came between.
    #[error("others have changed the log in each pass")]
    Disturbed,
    /// Everything is merged but what can't be read: it is looked for again before that is believed.
    #[error(
        "{batches} batches can't be read where the log says, in {objects} objects that can't be opened and in others"
    )]
    Unreadable {
        /// How many.
        batches: u64,
        /// Objects that can't be opened.
        objects: usize,
    },
}

impl From<AnnounceError> for MergeError {
    fn from(error: AnnounceError) -> Self {
        match error {
            AnnounceError::BelowCutoff => Self::TooLate,
            AnnounceError::Store(error) => Self::Store(error),
        }
    }
}

/// What the job is made of.
#[derive(Debug, Clone)]
pub struct MergeParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// For ids.
    pub randomness: Arc<dyn Randomness>,
    /// The topics and their options.
    pub topics: Arc<TopicCatalog>,
    /// What this agent does.
    pub share: Arc<dyn Share>,
    /// Where burials are counted.
    pub collected: Arc<CollectorStats>,
}

/// The job of one agent.
#[derive(Debug)]
pub struct Merge {
    parts: MergeParts,
    settings: MergeSettings,
    pace: Pace,
    stats: MergeStats,
    turns: Arc<Turns>,
    /// Bytes of the unit under way that are not done so far.
    left_bytes: AtomicU64,
    patience: Mutex<Patience>,
}

impl Merge {
    /// A job.
    pub fn new(parts: MergeParts, settings: MergeSettings) -> Arc<Self> {
        let pace = Pace::new(settings.bytes_per_second, settings.requests_per_second);
        let (stats, left_bytes, patience) = (MergeStats::default(), AtomicU64::new(0), Mutex::default());
        let turns = Turns::new("merge", "copies small objects into large ones with contiguous partitions");
        Arc::new(Self { parts, settings, pace, stats, turns, left_bytes, patience })
    }

    /// Its turns. What is done is told in bytes of the objects that are merged.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &MergeStats {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            loop {
                let mut turn = self.turns.next(self.settings.interval).await;
                let planned = if turn.is_asked() { self.plan(true).await } else { Ok(()) };
                let merged = match planned {
                    Ok(()) => self.merge_all(turn.is_asked()).await,
                    Err(error) => Err(error.into()),
                };
                match merged {
                    Ok(()) | Err(MergeError::Paused) => {}
                    Err(error) => turn.failed(&error),
                }
            }
        };
        // Others wait for what is cut here, however long this agent merges.
        let plans = async {
            loop {
                pause(self.settings.interval).await;
                if let Err(error) = self.plan(false).await {
                    add(&self.stats.failures, 1);
                    tracing::warn!(%error, "what is to be merged is looked for later");
                }
            }
        };
        let _cancelled = stop.run_until_cancelled(futures::future::join(rounds, plans)).await;
    }

    /// Cuts what is due into units, and merges those that are this agent's.
    ///
    /// # Errors
    /// Where it can't be told what is to be done; else the first unit's that failed, after the others were merged.
    pub async fn round(&self) -> Result<(), MergeError> {
        self.plan(false).await?;
        self.merge_all(false).await
    }

    /// Merges this agent's units. Who asks for it doesn't wait for what has failed lately.
    async fn merge_all(&self, is_asked: bool) -> Result<(), MergeError> {
        let MergeParts { store, keyspace, .. } = &self.parts;
        let mut outcome = Ok(());
        for level in 0..LAST_LEVEL {
            if level > 0 {
                // What was merged below just now.
                self.plan(is_asked).await?;
            }
            let units = again!(units(store, keyspace, level))?;
            self.patience.lock().keep(level, &units);
            for unit in &units {
                if self.turns.is_interrupted() {
                    return Err(MergeError::Paused);
                }
                let may_begin = is_asked || self.patience.lock().may_begin(unit, Instant::now());
                if !may_begin || !self.is_mine(unit) {
                    continue;
                }
                match self.counted(unit).await {
                    Ok(()) => {}
                    Err(MergeError::Paused) => return Err(MergeError::Paused),
                    failed => outcome = outcome.and(failed),
                }
            }
        }
        self.look().await?;
        outcome
    }

    fn is_mine(&self, unit: &Unit) -> bool {
        let name: String = unit.first.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.parts.share.is_mine(&format!("merge {} {name}", unit.level))
    }

    /// Merges a unit, tells how far that is, and remembers how it went.
    async fn counted(&self, unit: &Unit) -> Result<(), MergeError> {
        self.left_bytes.store(unit.bytes, Ordering::Relaxed);
        self.turns.expects(unit.bytes);
        let outcome = self.unit(unit).await;
        match &outcome {
            Ok(()) => {
                self.patience.lock().forget(unit);
                // What was dead isn't copied.
                self.did(u64::MAX);
            }
            Err(MergeError::Paused) => {}
            Err(error) => {
                self.patience.lock().failed(unit, self.settings.interval, Instant::now());
                add(&self.stats.failures, 1);
                tracing::warn!(%error, level = unit.level, objects = unit.objects, "objects are merged later");
            }
        }
        outcome
    }

    /// So many bytes more of the unit under way are done; those that are copied again aren't told again.
    fn did(&self, bytes: u64) {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let before = self.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.turns.did(before.unwrap_or(0).min(bytes));
    }

    /// Cuts what is due off the queues, and counts what waits.
    async fn plan(&self, is_asked: bool) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, share, .. } = &self.parts;
        for level in 0..LAST_LEVEL {
            let rules = self.settings.rules(level, is_asked);
            while share.is_mine("merge plan")
                && again!(cut_unit(store, keyspace, *incarnation, level, &rules))?.is_some()
            {
                add(&self.stats.cut, 1);
            }
        }
        self.look().await
    }

    /// Counts what waits.
    async fn look(&self) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        let present = again!(async {
            Present::read(&mut *store.begin(Priority::Batch), keyspace, *incarnation).await
        })?;
        let age = |place: CommitPlace| present.age(place.incarnation, place.stamp.version()).as_secs();
        let (mut count, mut bytes, mut seconds) = (0, 0, 0);
        for level in 0..LAST_LEVEL {
            for unit in again!(units(store, keyspace, level))? {
                count += 1;
                bytes += unit.bytes;
                seconds = seconds.max(age(unit.begins));
            }
        }
        let oldest = again!(front(store, keyspace, 0))?;
        self.stats.waiting_units.store(count, Ordering::Relaxed);
        self.stats.waiting_bytes.store(bytes, Ordering::Relaxed);
        self.stats.waiting_seconds.store(seconds, Ordering::Relaxed);
        self.stats.queue_seconds.store(oldest.map_or(0, |oldest| age(oldest.place)), Ordering::Relaxed);
        Ok(())
    }
}
