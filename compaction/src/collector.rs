//! Collection: deletes from the bucket what nothing refers to any more, and what deleted topics leave behind.
//!
//! A round takes the rows of deleted topics out (once no agent serves them any more), buries objects that are all dead and
//! that somebody died before burying, and deletes what has waited long enough in the garbage queue. Each part is one
//! agent's at a time; done twice is done.
//!
//! The bucket's claim is read before anything is deleted: a cluster whose bucket was taken over deletes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use penstock_metadata::burial::{BurialWalk, Buried, bury};
use penstock_metadata::collection::{collected, due};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::cluster::{ClusterIdentity, MetadataVersion};
use penstock_metadata::keys::garbage::Garbage;
use penstock_metadata::keys::topic::DeletedTopicRow;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::present::Present;
use penstock_metadata::topics::{collect_topic, deleted_topics};
use penstock_storage::bucket::{Bucket, BucketError, ClaimError};
use penstock_storage::object::object_key;
use penstock_types::{ObjectId, TopicId, pause};
use tokio_util::sync::CancellationToken;

use crate::again;
use crate::share::Share;
use crate::turns::Turns;

/// Rounds between two walks over all dead counts.
const WALK_EVERY: u32 = 60;
/// Deleted topics that are looked at together.
const TOPICS: usize = 100;

/// When things are deleted.
#[derive(Debug, Clone, Copy)]
pub struct CollectorSettings {
    /// How long what nothing refers to stays, by the store's versions: longer than any reader works with what it has read.
    pub delay: Duration,
    /// The same of what was merged: its records are alive elsewhere, and metadata restored from an older backup refers to
    /// them here.
    pub merged_delay: Duration,
    /// How often the collector looks.
    pub interval: Duration,
}

/// Counters of the job.
#[derive(Debug, Default)]
pub struct CollectorStats {
    /// Objects deleted.
    pub objects: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Objects that nothing refers to any more, buried by this agent.
    pub buried: AtomicU64,
    /// Topics whose rows were taken out.
    pub topics: AtomicU64,
    /// Objects of which more is dead than was appended.
    pub contradictions: AtomicU64,
    /// Rounds that failed, to be tried again.
    pub failures: AtomicU64,
}

impl CollectorStats {
    pub(crate) fn buried(&self, buried: Buried) {
        self.buried.fetch_add(buried.objects, Ordering::Relaxed);
        self.contradictions.fetch_add(buried.contradictions, Ordering::Relaxed);
    }
}

/// Why something isn't collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
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
}

/// What the jobs that delete from the bucket are made of.
#[derive(Debug, Clone)]
pub struct CollectorParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// Who the cluster is.
    pub cluster: ClusterIdentity,
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// What this agent does.
    pub share: Arc<dyn Share>,
}

impl CollectorParts {
    /// Makes sure that the bucket is this cluster's before something is deleted from it.
    pub(crate) async fn check_claim(&self) -> Result<(), CollectError> {
        if penstock_types::planted!("collects-from-any-bucket") {
            return Ok(());
        }
        let ClusterIdentity { cluster_id, incarnation, .. } = &self.cluster;
        let is_ours = self.bucket.is_claimed_by(cluster_id, *incarnation).await?;
        if is_ours { Ok(()) } else { Err(CollectError::NotOurs) }
    }
}

/// The job of one agent.
#[derive(Debug)]
pub struct Collector {
    parts: CollectorParts,
    settings: CollectorSettings,
    stats: Arc<CollectorStats>,
    turns: Arc<Turns>,
}

impl Collector {
    /// A job.
    pub fn new(parts: CollectorParts, settings: CollectorSettings) -> Arc<Self> {
        let turns = Turns::new("collect", "deletes objects that nothing refers to any more");
        Arc::new(Self { parts, settings, stats: Arc::default(), turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &Arc<CollectorStats> {
        &self.stats
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let failed = |outcome: Result<(), CollectError>| {
            if let Err(error) = outcome {
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "what nothing refers to is deleted later");
            }
        };
        let rounds = async {
            loop {
                let mut turn = self.turns.next(self.settings.interval).await;
                let mut outcome = self.round().await;
                if turn.is_asked() {
                    outcome = self.walk().await.and(outcome);
                }
                if let Err(error) = &outcome {
                    turn.failed(error);
                }
                failed(outcome);
            }
        };
        // It looks at every object that is partly dead, for what rarely happens.
        let walks = async {
            loop {
                pause(self.settings.interval * WALK_EVERY).await;
                failed(self.walk().await);
            }
        };
        let _cancelled = stop.run_until_cancelled(futures::future::join(rounds, walks)).await;
    }

    /// Does what is to be done now.
    ///
    /// # Errors
    /// After the first part that fails; what was done before is done.
    pub async fn round(&self) -> Result<(), CollectError> {
        // Whatever becomes of the others, each is tried.
        let share = &self.parts.share;
        let CollectorSettings { delay, merged_delay, .. } = self.settings;
        let garbage = if share.is_mine("garbage") { self.garbage(false, delay).await } else { Ok(()) };
        let merged =
            if share.is_mine("merged garbage") { self.garbage(true, merged_delay).await } else { Ok(()) };
        let topics = if share.is_mine("deleted topics") { self.topics().await } else { Ok(()) };
        garbage.and(merged).and(topics)
    }

    /// Buries what somebody died before burying.
    ///
    /// # Errors
    /// After the first page that fails.
    pub async fn walk(&self) -> Result<(), CollectError> {
        if !self.parts.share.is_mine("burial walk") {
            return Ok(());
        }
        let CollectorParts { store, keyspace, cluster, .. } = &self.parts;
        let mut walk = BurialWalk::default();
        while let Some(buried) = again!(walk.step(store, keyspace, cluster.incarnation))? {
            self.stats.buried(buried);
        }
        Ok(())
    }

    /// Takes out the rows of topics that were deleted long enough ago.
    async fn topics(&self) -> Result<(), CollectError> {
        let CollectorParts { store, keyspace, cluster, .. } = &self.parts;
        let mut after = None;
        loop {
            let mut transaction = store.begin(Priority::Batch);
            let present = Present::read(&mut *transaction, keyspace, cluster.incarnation).await?;
            let deleted = deleted_topics(&mut *transaction, keyspace, after, TOPICS).await?;
            drop(transaction);
            let Some(last) = deleted.last() else { return Ok(()) };
            after = Some(last.id);
            let is_due = |topic: &&DeletedTopicRow| {
                let MetadataVersion { incarnation, stamp } = topic.deleted;
                present.age(incarnation, stamp.version()) >= self.settings.delay
            };
            for topic in deleted.iter().filter(is_due) {
                self.topic(topic.id).await?;
                self.stats.topics.fetch_add(1, Ordering::Relaxed);
                tracing::info!(topic = topic.name, id = %topic.id, "the rows of a deleted topic are gone");
            }
        }
    }

    async fn topic(&self, topic: TopicId) -> Result<(), CollectError> {
        let CollectorParts { store, keyspace, cluster, .. } = &self.parts;
        loop {
            let some = again!(collect_topic(store, keyspace, cluster.incarnation, topic))?;
            let objects: Vec<ObjectId> = some.dead.objects().collect();
            self.stats.buried(again!(bury(store, keyspace, cluster.incarnation, &objects))?);
            if some.done {
                return Ok(());
            }
        }
    }

    /// Deletes what has waited long enough in one of the queues.
    async fn garbage(&self, was_merged: bool, delay: Duration) -> Result<(), CollectError> {
        let CollectorParts { store, keyspace, cluster, bucket, .. } = &self.parts;
        let mut after = None;
        loop {
            let queue = again!(due(store, keyspace, cluster.incarnation, was_merged, delay, after.as_ref()))?;
            after = queue.last;
            for wrong in &queue.wrong {
                self.stats.contradictions.fetch_add(1, Ordering::Relaxed);
                tracing::error!(object = %wrong.object, "an object in the garbage queue is not garbage; it is left");
            }
            if queue.due.is_empty() {
                match after {
                    Some(_) => continue,
                    None => return Ok(()),
                }
            }
            self.parts.check_claim().await?;
            self.turns.expects(queue.due.len() as u64);
            let keys: Vec<String> = queue.due.iter().map(|garbage| object_key(garbage.object)).collect();
            let refused: BTreeMap<usize, BucketError> =
                bucket.delete_many(&keys).await?.into_iter().collect();
            if let Some((index, error)) = refused.first_key_value() {
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(object = %queue.due[*index].object, objects = refused.len(), %error, "objects can't be deleted");
            }
            let gone = queue.due.into_iter().enumerate().filter(|(index, _)| !refused.contains_key(index));
            let gone: Vec<Garbage> = gone.map(|(_, garbage)| garbage).collect();
            again!(collected(store, keyspace, cluster.incarnation, &gone))?;
            self.turns.did(gone.len() as u64);
            let bytes = gone.iter().map(|garbage| garbage.size).sum();
            self.stats.objects.fetch_add(gone.len() as u64, Ordering::Relaxed);
            self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
            // What was refused stays in the queue, and is tried again in the next round.
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
