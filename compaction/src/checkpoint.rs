//! Checkpoints: the sealed log's metadata, written to the bucket, so that topics and offsets can be salvaged from the
//! bucket alone.
//!
//! A checkpoint holds, for one slot of partitions, the rows that say where the sealed part of each partition's log
//! lies. It is written anew, whole, when something of its slot was sealed since, and takes its predecessor's place.
//!
//! # Order, and what follows from it
//! 1. **Claim**: the id is written down as pending, by a transaction of its own.
//! 2. **Read** what is committed, and **PUT** it, part by part.
//! 3. **Publish**: pending becomes current, in one transaction that fails if somebody else has claimed the slot.
//! 4. **Delete** the predecessor.
//!
//! A checkpoint is read from committed rows, after their seal: it never claims what was not sealed. Between a seal and
//! its checkpoint the log is whole in the metadata store, and the last checkpoint in the bucket: salvage loses order,
//! not records, of what was sealed since. There is always a whole checkpoint, for the old one goes behind the new one.
//!
//! Nothing leaks: whatever lies under `checkpoints/` and is neither current nor pending never will be, since an id is
//! claimed once; [`Checkpoints::sweep`] deletes it (what a dead writer left, a PUT that landed late), without looking
//! at any clock. Ids of other incarnations stay: after a restore of the metadata they are what can be salvaged.
//!
//! The cost is bounded: no slot is written more often than `interval` nor than its size allows at `rate`, and none
//! that nothing was sealed in. Agents that write the same slot at the same time are told apart by the claim.
//!
//! Deliberately absent: reading checkpoints (see [`crate::salvage`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use penstock_metadata::checkpoints::{
    PublishError, SealedRows, SlotStanding, claim, publish, sealed_partitions, standings,
};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::checkpoint::Checkpoint;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::{Priority, Row, SharedStore, StoreError, limits};
use penstock_storage::bucket::{Bucket, BucketError, ClaimError};
use penstock_types::{ObjectId, Randomness, StoreVersion, TopicPartition};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub mod format;

use crate::again;
use crate::share::Share;
use crate::turns::Turns;

pub use format::CHECKPOINTS_PREFIX;

use format::{PartBuilder, PartName};

/// A part is closed at this size: what the job holds in memory, besides a page of rows.
const PART_BYTES: usize = 4 << 20;
/// How long the upload of a part is retried.
const PUT_DEADLINE: Duration = Duration::from_secs(60);
/// How long a claim keeps others away.
const CLAIM: Duration = Duration::from_secs(600);
/// How often the bucket is searched for what nobody refers to.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// When checkpoints are written.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointSettings {
    /// A slot's checkpoint is at least this old before it is written anew.
    pub interval: Duration,
    /// And so much older for its size, in bytes per second and slot.
    pub bytes_per_second: u64,
    /// How often slots are looked at.
    pub look: Duration,
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct CheckpointStats {
    /// Checkpoints written and published.
    pub written: AtomicU64,
    /// Objects put for them, those of failures included.
    pub objects: AtomicU64,
    /// Bytes of those objects.
    pub bytes: AtomicU64,
    /// Objects deleted.
    pub deleted: AtomicU64,
    /// Checkpoints that failed, to be tried again.
    pub failures: AtomicU64,
    /// Slots whose checkpoint is behind what is sealed, when they were last looked at.
    pub behind: AtomicU64,
}

/// Why a checkpoint isn't written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket's claim can't be read.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bucket is another cluster's, or another incarnation's.
    #[error("the bucket is no longer claimed for this cluster and incarnation")]
    NotOurs,
    /// Another agent has claimed the slot meanwhile.
    #[error("another agent writes this slot's checkpoint")]
    Lost,
}

/// What the job is made of.
#[derive(Debug, Clone)]
pub struct CheckpointParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// Who the cluster is.
    pub cluster: ClusterIdentity,
    /// Where checkpoints go.
    pub bucket: Arc<Bucket>,
    /// For ids.
    pub randomness: Arc<dyn Randomness>,
    /// Which slots this agent writes.
    pub share: Arc<dyn Share>,
}

/// The job of one agent.
#[derive(Debug)]
pub struct Checkpoints {
    parts: CheckpointParts,
    settings: CheckpointSettings,
    stats: CheckpointStats,
    turns: Arc<Turns>,
}

impl Checkpoints {
    /// A job.
    pub fn new(parts: CheckpointParts, settings: CheckpointSettings) -> Arc<Self> {
        let turns = Turns::new("checkpoint", "copies the metadata of sealed logs into the bucket");
        Arc::new(Self { parts, settings, stats: CheckpointStats::default(), turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &CheckpointStats {
        &self.stats
    }

    /// Runs until cancelled. What is under way then is left; the next sweep finds it.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = async {
            let (mut swept, mut wait): (Option<Instant>, _) = (None, Duration::ZERO);
            loop {
                let mut turn = self.turns.next(wait).await;
                wait = self.settings.look;
                if let Err(error) = self.write_all(turn.is_asked()).await {
                    tracing::warn!(%error, "checkpoints of the sealed log were not looked at");
                    turn.failed(&error);
                }
                if swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL)
                    && self.parts.share.is_mine("checkpoint sweep")
                {
                    swept = Some(Instant::now());
                    if let Err(error) = self.sweep().await {
                        tracing::warn!(%error, "old checkpoints were not searched for");
                        turn.failed(&error);
                    }
                }
            }
        };
        stop.run_until_cancelled(rounds).await.unwrap_or(());
    }

    /// Writes the checkpoints that are due.
    ///
    /// # Errors
    /// Where it can't be told which those are. A slot that fails is counted, and tried again in the next round.
    pub async fn round(&self) -> Result<(), StoreError> {
        self.write_all(false).await
    }

    /// Writes the checkpoints that are due, or all that aren't what the log is by now.
    async fn write_all(&self, all: bool) -> Result<(), StoreError> {
        let CheckpointParts { store, keyspace, .. } = &self.parts;
        let (now, standings) = standings(store, keyspace).await?;
        let behind = standings.values().filter(|standing| standing.is_behind()).count();
        self.stats.behind.store(behind as u64, Ordering::Relaxed);
        let due: BTreeSet<Slot> = standings
            .iter()
            .filter(|(slot, standing)| {
                (self.is_due(standing, now) || all && standing.is_behind())
                    && self.parts.share.is_mine(&format!("checkpoint {}", slot.get()))
            })
            .map(|(slot, _)| *slot)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let mut partitions = sealed_partitions(store, keyspace, &due).await?;
        self.turns.expects(due.len() as u64);
        for slot in due {
            match self.write(slot, &partitions.remove(&slot).unwrap_or_default()).await {
                Ok(true) => {
                    self.stats.written.fetch_add(1, Ordering::Relaxed);
                    self.stats.behind.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(false) => {}
                Err(error) => {
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, slot = slot.get(), "a checkpoint is tried again later");
                }
            }
            self.turns.did(1);
        }
        Ok(())
    }

    fn is_due(&self, standing: &SlotStanding, now: StoreVersion) -> bool {
        if !standing.is_behind() {
            return false;
        }
        let Some(current) = &standing.state.current else { return true };
        let for_size = Duration::from_secs(current.bytes / self.settings.bytes_per_second.max(1));
        let old_enough = limits::versions_of(self.settings.interval.max(for_size));
        current.id.incarnation() != self.parts.cluster.incarnation
            || now.get().saturating_sub(current.id.version().get()) >= old_enough
    }

    /// Writes a slot's checkpoint; `false` if another agent is at it.
    async fn write(&self, slot: Slot, partitions: &[TopicPartition]) -> Result<bool, CheckpointError> {
        let CheckpointParts { store, keyspace, cluster, randomness, .. } = &self.parts;
        let version = store.begin(Priority::Batch).read_version().await?;
        let id = ObjectId::new(cluster.incarnation, version, randomness.next_u64());
        let fresh = StoreVersion::new(version.get().saturating_sub(limits::versions_of(CLAIM)));
        let Some(seals) = again!(claim(store, keyspace, slot, id, fresh))? else {
            return Ok(false);
        };
        let (parts, bytes) = self.put_all(slot, id, partitions).await?;
        let checkpoint = Checkpoint { id, seals, parts, bytes };
        let published = again!(async {
            match publish(store, keyspace, slot, checkpoint).await {
                Ok(replaced) => Ok(Some(replaced)),
                Err(PublishError::Lost) => Ok(None),
                Err(PublishError::Store(error)) => Err(error),
            }
        })?;
        if let Some(replaced) = published.ok_or(CheckpointError::Lost)? {
            // The new one is current: should this fail, the sweep finds what is left.
            for part in 0..replaced.parts {
                self.delete(&PartName { slot, id: replaced.id, part }.key()).await?;
            }
        }
        Ok(true)
    }

    /// Puts all parts; how many they are, and their bytes.
    async fn put_all(
        &self,
        slot: Slot,
        id: ObjectId,
        partitions: &[TopicPartition],
    ) -> Result<(u32, u64), CheckpointError> {
        let CheckpointParts { store, keyspace, cluster, .. } = &self.parts;
        let mut name = PartName { slot, id, part: 0 };
        let mut builder = PartBuilder::new(&name, &cluster.cluster_id);
        let mut bytes = 0;
        let mut topic = None;
        for partition in partitions {
            // Partitions of a topic stand together.
            let with_topic = topic.replace(partition.topic) != Some(partition.topic);
            let mut rows = SealedRows::of(*partition, with_topic);
            while let Some(page) = next_page(&mut rows, store, keyspace).await? {
                for row in &page {
                    if builder.bytes() >= PART_BYTES {
                        let next = PartName { part: name.part + 1, ..name };
                        let full =
                            std::mem::replace(&mut builder, PartBuilder::new(&next, &cluster.cluster_id));
                        bytes += self.put(&name, full, false).await?;
                        name = next;
                    }
                    builder.row(row);
                }
            }
        }
        bytes += self.put(&name, builder, true).await?;
        Ok((name.part + 1, bytes))
    }

    async fn put(&self, name: &PartName, part: PartBuilder, is_last: bool) -> Result<u64, CheckpointError> {
        let object = part.finish(is_last);
        let bytes = object.len() as u64;
        self.stats.objects.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.parts.bucket.put(&name.key(), vec![object], Instant::now() + PUT_DEADLINE).await?;
        Ok(bytes)
    }

    async fn delete(&self, key: &str) -> Result<(), CheckpointError> {
        self.parts.bucket.delete(key).await?;
        self.stats.deleted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes what lies under `checkpoints/` and is nobody's. Safe at any time, beside any other agent.
    ///
    /// # Errors
    /// After the first that fails; what was deleted before is gone.
    pub async fn sweep(&self) -> Result<(), CheckpointError> {
        let CheckpointParts { store, keyspace, cluster, bucket, .. } = &self.parts;
        if !bucket.is_claimed_by(&cluster.cluster_id, cluster.incarnation).await? {
            return Err(CheckpointError::NotOurs);
        }
        let mut found: BTreeMap<Slot, Vec<PartName>> = BTreeMap::new();
        let mut listing = bucket.list(CHECKPOINTS_PREFIX);
        while let Some(listed) = listing.next().await {
            if let Some(name) = PartName::of_key(&listed?.key)
                && name.id.incarnation() == cluster.incarnation
            {
                found.entry(name.slot).or_default().push(name);
            }
        }
        drop(listing);
        // Read behind the listing: what is listed and referred to only later doesn't exist.
        let (_, standings) = standings(store, keyspace).await?;
        for (slot, names) in found {
            let state = standings.get(&slot).map(|standing| standing.state).unwrap_or_default();
            let is_kept = |name: &PartName| {
                state.pending == Some(name.id)
                    || state.current.is_some_and(|current| current.id == name.id && name.part < current.parts)
            };
            for name in names.iter().filter(|name| !is_kept(name)) {
                self.delete(&name.key()).await?;
            }
        }
        Ok(())
    }
}

/// A page is read again after an error: reading moves on only with a page.
async fn next_page(
    rows: &mut SealedRows,
    store: &SharedStore,
    keyspace: &Keyspace,
) -> Result<Option<Vec<Row>>, StoreError> {
    again!(rows.next(store, keyspace))
}
