//! Merging: from many small objects in which partitions are mixed to few large ones in which each partition is contiguous,
//! so that reading a log takes few requests, and what expires together lies together.
//!
//! A unit (a stretch of the log of all partitions, see `penstock_metadata::merging`) is merged by one agent at a time, as a hint: its
//! objects' partitions are looked up in the index, in the order of (class of topics, topic, partition); what the index
//! refers to is copied into outputs, each announced, put, and swapped into the index; and the unit ends when nothing refers to
//! its objects any more. Left at any point, the unit is merged again, and only what is left is copied.
//!
//! Level 0, what agents flushed, is read whole, one request an object, and held in memory (`unit_bytes`). The levels above are
//! read by ranges, output by output, and hold no more than twice an output.
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

use penstock_metadata::burial::bury;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::merge_queue::LAST_LEVEL;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::{Priority, SharedStore, StoreError, limits};
use penstock_metadata::merging::{CutRules, cut_unit, end_unit, queued, sources, units};
use penstock_metadata::topics::TopicCatalog;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_types::{Incarnation, ObjectId, Randomness};
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::collector::CollectorStats;
use crate::share::Share;
use crate::turns::Turns;

mod class;
mod draft;
mod inputs;
mod pace;
mod pass;
#[cfg(test)]
mod tests;

use pace::Pace;

/// Times that a unit is gone through in one round, where something came between.
const PASSES: usize = 3;

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
            age: if is_asked { self.settle } else { age },
        }
    }
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct MergeStats {
    /// Units cut.
    pub cut: AtomicU64,
    /// Units merged to their end.
    pub units: AtomicU64,
    /// Objects read.
    pub inputs: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Requests for them.
    pub gets: AtomicU64,
    /// Objects written.
    pub outputs: AtomicU64,
    /// Their bytes.
    pub written_bytes: AtomicU64,
    /// Batches that refer to them.
    pub batches: AtomicU64,
    /// Values of the index that were joined with others.
    pub joined: AtomicU64,
    /// Batches that can't be read, or are not what the log says: left where they are.
    pub unreadable: AtomicU64,
    /// Units that failed or were not done to their end, to be merged again.
    pub failures: AtomicU64,
    /// Units that wait, or are being merged by any agent.
    pub waiting_units: AtomicU64,
    /// Their bytes.
    pub waiting_bytes: AtomicU64,
    /// Seconds since the first commit of the oldest of them.
    pub waiting_seconds: AtomicU64,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
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
}

impl Merge {
    /// A job.
    pub fn new(parts: MergeParts, settings: MergeSettings) -> Arc<Self> {
        let pace = Pace::new(settings.bytes_per_second, settings.requests_per_second);
        let (stats, left_bytes) = (MergeStats::default(), AtomicU64::new(0));
        let turns = Turns::new("merge", "copies small objects into large ones with contiguous partitions");
        Arc::new(Self { parts, settings, pace, stats, turns, left_bytes })
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
                if let Err(error) = self.merge_all(turn.is_asked()).await {
                    add(&self.stats.failures, 1);
                    tracing::warn!(%error, "what is to be merged is looked for later");
                    turn.failed(&error);
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Cuts what is due into units, and merges those that are this agent's.
    ///
    /// # Errors
    /// Where it can't be told what is to be done. A unit that fails is counted, and merged again in the next round.
    pub async fn round(&self) -> Result<(), StoreError> {
        self.merge_all(false).await
    }

    async fn merge_all(&self, is_asked: bool) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, share, topics, .. } = &self.parts;
        for level in 0..LAST_LEVEL {
            self.plan(level, is_asked).await?;
            self.look().await?;
            for unit in again!(units(store, keyspace, level))? {
                let first = unit.first.to_bytes();
                let name: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
                if !share.is_mine(&format!("merge {level} {name}")) {
                    continue;
                }
                // A unit was listed after its topics were created: those that aren't known are deleted.
                topics.refresh().await?;
                self.left_bytes.store(unit.bytes, Ordering::Relaxed);
                self.turns.expects(unit.bytes);
                if let Err(error) = self.unit(&unit).await {
                    add(&self.stats.failures, 1);
                    tracing::warn!(%error, level, objects = unit.objects, "objects are merged later");
                }
                // What was dead isn't copied.
                self.did(u64::MAX);
            }
        }
        self.look().await
    }

    /// So many bytes more of the unit under way are done; those that are copied again aren't told again.
    fn did(&self, bytes: u64) {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let before = self.left_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.turns.did(before.unwrap_or(0).min(bytes));
    }

    /// Cuts what is due off a level's queue.
    async fn plan(&self, level: u8, is_asked: bool) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, share, .. } = &self.parts;
        if !share.is_mine("merge plan") {
            return Ok(());
        }
        let rules = self.settings.rules(level, is_asked);
        while again!(cut_unit(store, keyspace, *incarnation, level, &rules))?.is_some() {
            add(&self.stats.cut, 1);
        }
        Ok(())
    }

    /// Counts what waits.
    async fn look(&self) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        let now = again!(async { store.begin(Priority::Batch).read_version().await })?;
        let (mut count, mut bytes, mut seconds) = (0, 0, 0);
        for level in 0..LAST_LEVEL {
            for unit in again!(units(store, keyspace, level))? {
                count += 1;
                bytes += unit.bytes;
                if unit.begins.incarnation == *incarnation {
                    let versions = now.get().saturating_sub(unit.begins.stamp.version().get());
                    seconds = seconds.max(limits::time_of(versions).as_secs());
                }
            }
        }
        self.stats.waiting_units.store(count, Ordering::Relaxed);
        self.stats.waiting_bytes.store(bytes, Ordering::Relaxed);
        self.stats.waiting_seconds.store(seconds, Ordering::Relaxed);
        Ok(())
    }

    /// Merges a unit.
    ///
    /// # Errors
    /// After the first failure; what was swapped before is swapped.
    pub async fn unit(&self, unit: &Unit) -> Result<(), MergeError> {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        let objects: Vec<ObjectId> =
            again!(queued(store, keyspace, unit))?.iter().map(|queued| queued.object).collect();
        // What came out of one unit below has no partition twice: merging it would change nothing.
        let mut is_done = unit.level > 0 && unit.first == unit.last;
        for _ in 0..PASSES {
            if is_done {
                break;
            }
            let sources = again!(sources(store, keyspace, &objects))?;
            let merged = match self.pass(unit, &sources).await {
                Ok(merged) => merged,
                Err(MergeError::Ended) => return Ok(()),
                Err(_) if penstock_types::planted!("failed-unit-ended") => {
                    is_done = true;
                    break;
                }
                Err(error) => {
                    self.bury(&objects).await?;
                    return Err(error);
                }
            };
            is_done = merged.left() == 0;
            self.bury(&objects).await?;
        }
        if !is_done {
            add(&self.stats.failures, 1);
            return Ok(());
        }
        if again!(end_unit(store, keyspace, *incarnation, unit))? {
            add(&self.stats.units, 1);
        }
        Ok(())
    }

    async fn bury(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, incarnation, collected, .. } = &self.parts;
        collected.buried(again!(bury(store, keyspace, *incarnation, objects))?);
        Ok(())
    }
}
