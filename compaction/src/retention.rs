//! Retention: deletes what is too old or too much, and takes what lies below a log start out of the index.
//!
//! A round looks at the front of every partition of this agent's whose topic has the delete policy, moves the log starts,
//! and trims; what DeleteRecords deleted is trimmed whatever the policy. What time it is, is reckoned from the clocks of
//! the live agents (see `penstock_metadata::now`): where that can't be told, nothing expires by age, and the round says so.
//!
//! A batch expires at the latest one round after the seal has reached it and its age is over: `seal.age.ms` and
//! `log.retention.check.interval.ms` together.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use penstock_metadata::burial::bury;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::{SharedStore, StoreError};
use penstock_metadata::log_starts::{MoveError, NewStart, move_log_starts};
use penstock_metadata::now::{TimeError, now};
use penstock_metadata::retention::{Expired, Retention as Rules, expired};
use penstock_metadata::topics::{Topic, TopicCatalog};
use penstock_metadata::transact::Policy;
use penstock_metadata::trimming::{Untrimmed, trim_partition};
use penstock_types::{Incarnation, ObjectId, PartitionIndex, TimestampMs, TopicPartition, pause};
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::collector::CollectorStats;
use crate::share::Share;
use crate::turns::Turns;

/// Log starts that are moved together.
const MOVES: usize = 200;
/// A transaction of the job is given up after so long, and tried in the next round.
const POLICY: Policy = Policy::background(Duration::from_secs(10));

/// How often log starts are moved by options that change all the time.
const ATTEMPTS: u32 = 5;
/// Clocks that differ by more are told of.
const SPREAD: Duration = Duration::from_secs(300);

/// What has expired in a partition, by which rules.
#[derive(Debug, Clone, Copy)]
struct Found {
    partition: TopicPartition,
    rules: Rules,
    expired: Expired,
}

/// The clocks of the live agents.
pub trait Clocks: Debug + Send + Sync + 'static {
    /// What each of them shows, in milliseconds since the epoch; this agent's own is among them.
    fn clocks(&self) -> Vec<TimestampMs>;
}

/// When records are deleted.
#[derive(Debug, Clone, Copy)]
pub struct RetentionSettings {
    /// How often partitions are looked at (`log.retention.check.interval.ms`).
    pub interval: Duration,
    /// How much further than the store's versions account for a clock may be ahead, where there are too few to tell.
    pub clock_step: Duration,
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct RetentionStats {
    /// Batches that expired.
    pub batches: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Batches taken out of the index, expired or deleted otherwise.
    pub trimmed: AtomicU64,
    /// Rounds that went to the end.
    pub rounds: AtomicU64,
    /// Partitions that failed, to be looked at again.
    pub failures: AtomicU64,
    /// 1 while nothing expires by age since the clock can't be believed.
    pub waits_for_clock: AtomicU64,
    /// How far the agents' clocks are apart, in milliseconds, at the last look.
    pub clocks_apart_ms: AtomicU64,
}

/// What the job is made of.
#[derive(Debug, Clone)]
pub struct RetentionParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
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
pub struct Retention {
    parts: RetentionParts,
    settings: RetentionSettings,
    stats: RetentionStats,
    turns: Arc<Turns>,
}

impl Retention {
    /// A job.
    pub fn new(parts: RetentionParts, settings: RetentionSettings) -> Arc<Self> {
        let turns = Turns::new("retention", "deletes records that have expired");
        Arc::new(Self { parts, settings, stats: RetentionStats::default(), turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &RetentionStats {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            loop {
                let mut turn = self.turns.next(self.settings.interval).await;
                if let Err(error) = self.round().await {
                    turn.failed(&error);
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "what has expired is deleted later");
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Deletes what has expired, and trims.
    ///
    /// # Errors
    /// Where it can't be told what is to be done. A partition that fails is counted, and looked at in the next round.
    pub async fn round(&self) -> Result<(), StoreError> {
        self.parts.topics.refresh().await?;
        let now_ms = self.now().await;
        let mut found = Vec::new();
        let rules = self.rules(now_ms);
        self.turns.expects(rules.len() as u64);
        for (partition, rules) in rules {
            if let Err(error) = self.look(partition, rules, now_ms, &mut found).await {
                self.failed(partition, &error);
            }
            self.turns.did(1);
            if found.len() >= MOVES {
                self.move_starts(std::mem::take(&mut found), now_ms).await;
            }
        }
        self.move_starts(found, now_ms).await;
        self.trim().await?;
        self.stats.rounds.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at a partition. A backlog goes piece by piece, so that each look begins behind what went; the rest is left to
    /// be moved with that of others.
    async fn look(
        &self,
        partition: TopicPartition,
        rules: Rules,
        now_ms: Option<TimestampMs>,
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        while let Some(expired) = self.expire(partition, rules).await? {
            let start = Found { partition, rules, expired };
            if !expired.more {
                found.push(start);
                return Ok(());
            }
            if !self.move_starts(vec![start], now_ms).await {
                return Ok(());
            }
            self.trim_one(partition).await?;
        }
        Ok(())
    }

    /// What time it is, if that can be told.
    async fn now(&self) -> Option<TimestampMs> {
        let RetentionParts { store, keyspace, incarnation, clocks, .. } = &self.parts;
        let mut attempts = 0;
        loop {
            let clocks = clocks.clocks();
            self.compare(&clocks);
            let reckoned = now(store, keyspace, *incarnation, &clocks, self.settings.clock_step).await;
            match reckoned {
                Ok(now_ms) => {
                    self.stats.waits_for_clock.store(0, Ordering::Relaxed);
                    return Some(now_ms);
                }
                Err(TimeError::Store(error)) if error.is_retryable() && attempts < 5 => {
                    attempts += 1;
                    pause(Duration::from_millis(10 << attempts)).await;
                }
                Err(error) => {
                    let waits = matches!(error, TimeError::Ahead { .. });
                    self.stats.waits_for_clock.store(u64::from(waits), Ordering::Relaxed);
                    tracing::warn!(%error, "nothing expires by age now");
                    return None;
                }
            }
        }
    }

    /// Says so where clocks differ: what is reckoned from them is then late, or wrong.
    fn compare(&self, clocks: &[TimestampMs]) {
        let (Some(first), Some(last)) = (clocks.iter().min(), clocks.iter().max()) else { return };
        let apart = Duration::from_millis(last.abs_diff(*first));
        self.stats.clocks_apart_ms.store(last.abs_diff(*first), Ordering::Relaxed);
        if apart > SPREAD {
            tracing::warn!(
                seconds = apart.as_secs(),
                "agents' clocks are far apart: records may expire late"
            );
        }
    }

    /// What the partitions of this agent's keep.
    fn rules(&self, now_ms: Option<TimestampMs>) -> Vec<(TopicPartition, Rules)> {
        let mut mine: BTreeMap<Slot, bool> = BTreeMap::new();
        let mut rules = Vec::new();
        for topic in self.parts.topics.all() {
            let Some(kept) = kept(&topic, now_ms) else { continue };
            let indexes = (0..topic.partitions).filter_map(|index| i32::try_from(index).ok());
            for index in indexes {
                let partition = TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) };
                if self.is_mine(partition, &mut mine) {
                    rules.push((partition, kept));
                }
            }
        }
        rules
    }

    fn is_mine(&self, partition: TopicPartition, known: &mut BTreeMap<Slot, bool>) -> bool {
        let slot = Slot::of(partition);
        *known.entry(slot).or_insert_with(|| self.parts.share.is_mine(&format!("retention {}", slot.get())))
    }

    /// Where the log is to start, if something has expired.
    async fn expire(&self, partition: TopicPartition, rules: Rules) -> Result<Option<Expired>, StoreError> {
        let RetentionParts { store, keyspace, incarnation, .. } = &self.parts;
        again!(expired(store, keyspace, *incarnation, partition, rules))
    }

    /// Moves log starts, unless options have changed since so that something else has expired: whether all were moved.
    async fn move_starts(&self, mut found: Vec<Found>, now_ms: Option<TimestampMs>) -> bool {
        let RetentionParts { store, keyspace, incarnation, topics, .. } = &self.parts;
        let (mut all, mut attempts) = (true, 0);
        while !found.is_empty() {
            let by = topics.version();
            let wanted = found.len();
            found.retain(|found| {
                let topic = topics.by_id(found.partition.topic);
                topic.and_then(|topic| kept(&topic, now_ms)) == Some(found.rules)
            });
            all &= found.len() == wanted;
            let starts: Vec<_> = found
                .iter()
                .map(|found| (found.partition, NewStart::Expired { at: found.expired.start, by }))
                .collect();
            let moved = move_log_starts(store, keyspace, *incarnation, POLICY, &starts).await;
            let mut changed = Vec::new();
            for (found, moved) in found.into_iter().zip(moved) {
                match moved {
                    Ok(_) => {
                        self.stats.batches.fetch_add(found.expired.batches, Ordering::Relaxed);
                        self.stats.bytes.fetch_add(found.expired.bytes, Ordering::Relaxed);
                    }
                    Err(MoveError::OptionsChanged) => changed.push(found),
                    // A topic that is gone has nothing to expire.
                    Err(MoveError::NoTopic(_)) => all = false,
                    Err(error) => {
                        all = false;
                        self.failed(found.partition, &error);
                    }
                }
            }
            found = changed;
            attempts += 1;
            if !found.is_empty() && (attempts >= ATTEMPTS || topics.refresh().await.is_err()) {
                // In the next round, by the options that are in force then.
                return false;
            }
        }
        all
    }

    /// Takes what lies below log starts out of the index.
    async fn trim(&self) -> Result<(), StoreError> {
        let RetentionParts { store, keyspace, .. } = &self.parts;
        let (mut walk, mut mine) = (Untrimmed::default(), BTreeMap::new());
        while let Some(partitions) = again!(walk.next(store, keyspace))? {
            for partition in partitions {
                if self.is_mine(partition, &mut mine)
                    && let Err(error) = self.trim_one(partition).await
                {
                    self.failed(partition, &error);
                }
            }
        }
        Ok(())
    }

    async fn trim_one(&self, partition: TopicPartition) -> Result<(), StoreError> {
        let RetentionParts { store, keyspace, incarnation, collected, .. } = &self.parts;
        loop {
            let trimmed = again!(trim_partition(store, keyspace, *incarnation, partition))?;
            self.stats.trimmed.fetch_add(trimmed.batches, Ordering::Relaxed);
            let objects: Vec<ObjectId> = trimmed.dead.objects().collect();
            collected.buried(again!(bury(store, keyspace, *incarnation, &objects))?);
            if !trimmed.more {
                return Ok(());
            }
        }
    }

    fn failed(&self, partition: TopicPartition, error: &dyn std::error::Error) {
        self.stats.failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%error, %partition, "a partition's log is looked at again later");
    }
}

/// What a topic's partitions keep; `None` if that is everything.
fn kept(topic: &Topic, now_ms: Option<TimestampMs>) -> Option<Rules> {
    let config = &topic.config;
    if !config.cleanup_policy.delete {
        return None;
    }
    let age = config.retention.filter(|_| now_ms.is_some());
    let before_ms = config.retention.zip(now_ms).map(|(retention, now_ms)| {
        now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
    });
    let rules = Rules { before_ms, age, bytes: config.retention_bytes };
    (rules != Rules::default()).then_some(rules)
}

#[cfg(test)]
mod tests;
