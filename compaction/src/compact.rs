//! Log compaction: of each key only the newest record stays in the log (`cleanup.policy=compact`), as Apache Kafka's log cleaner
//! has it.
//!
//! A run over a partition reads the keys of its dirty part (what no run has looked at) into a map of bounded memory, and then
//! goes over everything below the end of that, from the log's start on: a record of which the map knows a newer one goes, a
//! tombstone goes when its delete horizon has passed, and what is left of a batch is written anew. Where the keys don't fit the
//! map, the run ends there, and the next begins at once. What batches become is swapped into the index, see
//! `penstock_metadata::log_compaction`.
//!
//! # Invariants
//! - Swaps are made in the order of offsets, each committed before the next begins. So a tombstone gets its delete horizon only
//!   when everything older of its key has left the log: nothing that was deleted comes back.
//! - A run ends at a batch that can't be read or isn't what the log says, and touches nothing behind it.
//! - Nothing at or above the first open transaction is touched, nor what is younger than `min.compaction.lag.ms`.
//! - The last batch of a run stays, empty if need be: who reads to the log's end gets there.
//! - An output is announced before it is put, and put before anything refers to it.
//! - Nothing is compacted while it can't be told what time it is.
//!
//! Of two agents that run the same partition the later fences the earlier. Left at any point, a run is begun again.
//!
//! Deliberately absent: which batches belong to which offsets (they never change), and merging of what was written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::StreamExt;
use parking_lot::Mutex;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::{SharedStore, StoreError};
use penstock_metadata::merging::AnnounceError;
use penstock_metadata::now::{TimeError, now};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_metadata::topics::TopicCatalog;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, Randomness, TimestampMs, TopicPartition,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::collector::CollectorStats;
use crate::pace::Pace;
use crate::retention::Clocks;
use crate::share::Share;
use crate::turns::Turns;

mod clean;
mod draft;
mod due;
mod map;
mod output;
mod patience;
mod reading;
mod run;
mod scan;
mod stats;
#[cfg(test)]
mod tests;

use due::{Look, Rules, Seen};
use patience::Patience;
pub use stats::CompactionStats;
use stats::add;

/// Partitions that are looked at at a time: that mostly waits for the store.
const LOOKS: usize = 8;

/// When and how logs are compacted.
#[derive(Debug, Clone, Copy)]
pub struct CompactionSettings {
    /// How often it is looked for what to compact.
    pub interval: Duration,
    /// A partition with so many dirty bytes is compacted as soon as their share is large enough.
    pub due_bytes: u64,
    /// One with less waits until the oldest are so old.
    pub delay: Duration,
    /// Memory for the keys of a run, 24 bytes each of which three quarters can be used.
    pub map_bytes: u64,
    /// Bytes that are read together.
    pub read_bytes: u64,
    /// Bytes of an output, about: so much is held in memory.
    pub object_bytes: u64,
    /// Bytes of the index that one transaction rewrites, about.
    pub swap_bytes: u64,
    /// Bytes that are read and written a second.
    pub bytes_per_second: u64,
    /// Requests to the bucket a second.
    pub requests_per_second: u32,
    /// How old rows get before they are sealed: topics whose records are to be compacted sooner are sealed by this job.
    pub seal_age: Duration,
    /// How much further than the store's versions account for a clock may be ahead, where there are too few to tell.
    pub clock_step: Duration,
}

/// Why a partition isn't compacted to its end.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It can't be told what time it is.
    #[error("nothing is compacted while it can't be told what time it is: {0}")]
    Time(TimeError),
    /// The sweeper's cutoff has passed an output before it was swapped in.
    #[error("an output took too long, and was given up")]
    TooLate,
    /// Another agent compacts it.
    #[error("another run has begun, or the topic is gone")]
    RunOver,
    /// Batches aren't any more what they were when they were looked up.
    #[error("batches have changed since they were looked up")]
    Disturbed,
    /// An operator has paused the job.
    #[error("log compaction was paused")]
    Paused,
    /// A batch can't be read, or isn't what the log says.
    #[error("{partition}: the batch of offset {offset} in object {object:?} can't be compacted: {reason}")]
    Unreadable {
        /// Whose.
        partition: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// Where it should be.
        object: Option<ObjectId>,
        /// What is wrong.
        reason: String,
    },
}

impl From<AnnounceError> for CompactError {
    fn from(error: AnnounceError) -> Self {
        match error {
            AnnounceError::BelowCutoff => Self::TooLate,
            AnnounceError::Store(error) => Self::Store(error),
        }
    }
}

/// What the job is made of.
#[derive(Debug, Clone)]
pub struct CompactionParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// For ids, and for the hashes of keys.
    pub randomness: Arc<dyn Randomness>,
    /// The topics and their options.
    pub topics: Arc<TopicCatalog>,
    /// Clocks.
    pub clocks: Arc<dyn Clocks>,
    /// What this agent does.
    pub share: Arc<dyn Share>,
    /// Where burials are counted.
    pub collected: Arc<CollectorStats>,
}

/// The job of one agent.
#[derive(Debug)]
pub struct Compaction {
    parts: CompactionParts,
    settings: CompactionSettings,
    pace: Pace,
    stats: CompactionStats,
    turns: Arc<Turns>,
    patience: Mutex<Patience>,
    seen: Mutex<BTreeMap<TopicPartition, Seen>>,
}

impl Compaction {
    /// A job.
    pub fn new(parts: CompactionParts, settings: CompactionSettings) -> Arc<Self> {
        let pace = Pace::new(settings.bytes_per_second, settings.requests_per_second);
        let (stats, patience, seen) = (CompactionStats::default(), Mutex::default(), Mutex::default());
        let turns = Turns::new("compact", "keeps the newest record of each key in compacted topics");
        Arc::new(Self { parts, settings, pace, stats, turns, patience, seen })
    }

    /// Its turns. What is done is told in bytes that are read, once for their keys and once to be filtered.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &CompactionStats {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            loop {
                let mut turn = self.turns.next(self.settings.interval).await;
                match self.compact_all(turn.is_asked()).await {
                    Ok(()) | Err(CompactError::Paused) => {}
                    Err(error) => turn.failed(&error),
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Compacts what is due of this agent's partitions.
    ///
    /// # Errors
    /// Where it can't be told what is to be done; else the first partition's that failed, after the others were compacted.
    pub async fn round(&self) -> Result<(), CompactError> {
        self.compact_all(false).await
    }

    /// Who asks for it wants everything compacted that may be, and doesn't wait for what has failed lately.
    async fn compact_all(&self, is_asked: bool) -> Result<(), CompactError> {
        self.parts.topics.refresh().await?;
        let mine = self.mine();
        self.patience.lock().keep(|partition| mine.contains_key(partition));
        self.seen.lock().retain(|partition, _| mine.contains_key(partition));
        if mine.is_empty() {
            self.tell(&[], 0);
            return Ok(());
        }
        let now_ms = self.now().await?;
        let mut outcome = Ok(());
        let mut due = self.due(mine, is_asked, now_ms, &mut outcome).await;
        // The filthiest first.
        due.sort_by(|one, other| other.share().total_cmp(&one.share()));
        for look in &due {
            match self.counted(look).await {
                Ok(()) => {}
                Err(CompactError::Paused) => return Err(CompactError::Paused),
                failed => outcome = outcome.and(failed),
            }
        }
        outcome
    }

    /// This agent's partitions of compacted topics.
    fn mine(&self) -> BTreeMap<TopicPartition, Rules> {
        let (mut slots, mut mine) = (BTreeMap::new(), BTreeMap::new());
        for topic in self.parts.topics.all() {
            let Some(rules) = Rules::of(&topic, self.settings.due_bytes, self.settings.delay) else {
                continue;
            };
            for index in (0..topic.partitions).filter_map(|index| i32::try_from(index).ok()) {
                let partition = TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) };
                if self.is_mine(partition, &mut slots) {
                    mine.insert(partition, rules);
                }
            }
        }
        mine
    }

    fn is_mine(&self, partition: TopicPartition, known: &mut BTreeMap<Slot, bool>) -> bool {
        let slot = Slot::of(partition);
        *known.entry(slot).or_insert_with(|| self.parts.share.is_mine(&format!("compact {}", slot.get())))
    }

    /// What of these is due, and how that stands.
    async fn due(
        &self,
        mine: BTreeMap<TopicPartition, Rules>,
        is_asked: bool,
        now_ms: TimestampMs,
        outcome: &mut Result<(), CompactError>,
    ) -> Vec<Look> {
        let waits: BTreeSet<TopicPartition> = {
            let (patience, now) = (self.patience.lock(), Instant::now());
            let waits = |partition: &TopicPartition| !is_asked && !patience.may_begin(*partition, now);
            mine.keys().copied().filter(waits).collect()
        };
        let mut looks = futures::stream::iter(mine)
            .map(|(partition, rules)| async move {
                let looked = self.sealed_look(partition, rules, is_asked, now_ms).await;
                (partition, looked)
            })
            .buffered(LOOKS);
        let (mut dirty, mut due, mut overdue_seconds) = (Vec::new(), Vec::new(), 0);
        while let Some((partition, looked)) = looks.next().await {
            let look = match looked {
                Ok(Some(look)) => look,
                Ok(None) => continue,
                Err(error) => {
                    self.failed(partition, &error);
                    *outcome = std::mem::replace(outcome, Ok(())).and(Err(error));
                    continue;
                }
            };
            dirty.push(look);
            let over = look.dirty.due(look.clean_bytes, &look.rules, look.age, now_ms);
            overdue_seconds = over.map_or(0, |over| over.as_secs()).max(overdue_seconds);
            if (over.is_some() || is_asked) && !waits.contains(&partition) {
                due.push(look);
            }
        }
        drop(looks);
        self.tell(&dirty, overdue_seconds);
        self.stats.due_partitions.store(due.len() as u64, Ordering::Relaxed);
        due
    }

    /// Looks at a partition. For who asks, everything that is there is sealed first; else what is to be compacted before it
    /// would be sealed for its age.
    async fn sealed_look(
        &self,
        partition: TopicPartition,
        rules: Rules,
        is_asked: bool,
        now_ms: TimestampMs,
    ) -> Result<Option<Look>, CompactError> {
        let CompactionParts { store, keyspace, .. } = &self.parts;
        let age = rules.seal_after();
        let due = match is_asked {
            true => Some(SealDue::NOW),
            false => (age < self.settings.seal_age).then_some(SealDue { rows: u64::MAX, age }),
        };
        if let Some(due) = due {
            while again!(seal_partition(store, keyspace, partition, due))?.more {}
        }
        self.look(partition, rules, now_ms).await
    }

    fn tell(&self, dirty: &[Look], overdue_seconds: u64) {
        let bytes: u64 = dirty.iter().map(|look| look.dirty.bytes).sum();
        let most = dirty.iter().map(Look::share).fold(0.0, f64::max);
        self.stats.dirty_bytes.store(bytes, Ordering::Relaxed);
        self.stats.max_dirty_per_mille.store((most * 1_000.0) as u64, Ordering::Relaxed);
        self.stats.overdue_seconds.store(overdue_seconds, Ordering::Relaxed);
        self.stats.due_partitions.store(0, Ordering::Relaxed);
    }

    /// Compacts a partition, and remembers how it went.
    async fn counted(&self, look: &Look) -> Result<(), CompactError> {
        let partition = look.partition;
        let outcome = self.compact(look).await;
        match &outcome {
            Ok(()) => self.patience.lock().forget(partition),
            Err(CompactError::Paused) => {}
            Err(CompactError::RunOver) => {
                tracing::debug!(%partition, "another agent compacts the partition");
                return Ok(());
            }
            Err(CompactError::Disturbed) => {
                tracing::debug!(%partition, "the partition's log has changed meanwhile; it is compacted later");
                return Ok(());
            }
            Err(error) => self.failed(partition, error),
        }
        outcome
    }

    fn failed(&self, partition: TopicPartition, error: &CompactError) {
        if matches!(error, CompactError::Unreadable { .. }) {
            add(&self.stats.unreadable, 1);
        }
        add(&self.stats.failures, 1);
        self.patience.lock().failed(partition, self.settings.interval, Instant::now());
        tracing::warn!(%error, %partition, "a partition is compacted later");
    }

    /// Compacts a partition up to the bound that was seen, in as many runs as its keys take.
    async fn compact(&self, look: &Look) -> Result<(), CompactError> {
        self.turns.expects(look.dirty.bytes);
        let mut clean_bytes = look.clean_bytes;
        loop {
            if self.turns.is_interrupted() {
                return Err(CompactError::Paused);
            }
            // Of each run its own: a delete horizon counts from when it is set.
            let now_ms = self.now().await?;
            match self.one_run(look, clean_bytes, now_ms).await? {
                Some(bytes) => clean_bytes = bytes,
                None => return Ok(()),
            }
        }
    }

    /// What time it is.
    async fn now(&self) -> Result<TimestampMs, CompactError> {
        let CompactionParts { store, keyspace, incarnation, clocks, .. } = &self.parts;
        let clocks = clocks.clocks();
        let reckoned = again!(async {
            match now(store, keyspace, *incarnation, &clocks, self.settings.clock_step).await {
                Ok(now_ms) => Ok(Ok(now_ms)),
                Err(TimeError::Store(error)) => Err(error),
                Err(error) => Ok(Err(error)),
            }
        })?;
        let waits = matches!(reckoned, Err(TimeError::Ahead { .. }));
        self.stats.waits_for_clock.store(u64::from(waits), Ordering::Relaxed);
        reckoned.map_err(|error| {
            tracing::warn!(%error, "nothing is compacted now");
            CompactError::Time(error)
        })
    }
}
