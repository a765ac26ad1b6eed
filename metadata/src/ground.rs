//! What a commit knows of topics: the catalog's, where the metadata version read in the commit's own transaction says
//! that the catalog is the newest; else the topics' rows, read there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use penstock_types::{LeaderEpoch, StoreVersion, TopicId, TopicPartition};

use crate::commit::{CommitGround, TopicGround};
use crate::keys::Keyspace;
use crate::keys::cluster::{MetadataVersion, decode_metadata_version, metadata_version_key};
use crate::keys::topic::row_key;
use crate::kv::{Isolation, StoreError, Transaction, single_key};
use crate::topics::{Lookup, TopicCatalog, read_rows};

/// The ground of an agent's commits.
#[derive(Debug, Clone)]
pub struct CatalogGround {
    /// The agent's catalog.
    pub catalog: Arc<TopicCatalog>,
    /// The cluster's keys.
    pub keyspace: Keyspace,
    /// The last version at which a commit has read the metadata version, and what it was.
    known: Arc<Mutex<Option<(StoreVersion, MetadataVersion)>>>,
}

impl CatalogGround {
    /// The ground that `catalog` knows.
    pub fn new(catalog: Arc<TopicCatalog>, keyspace: Keyspace) -> Self {
        Self { catalog, keyspace, known: Arc::default() }
    }

    /// The topics of an up-to-date catalog. Only the deletion of one of them disturbs the commit, and no other commit
    /// is disturbed by it.
    fn of_catalog(&self, transaction: &mut dyn Transaction, known: Lookup, ids: &[TopicId]) -> Topics {
        let unguarded = penstock_types::planted!("deleted-topic-appends");
        for id in ids.iter().filter(|_| !unguarded) {
            transaction.add_read_conflict(single_key(&row_key(&self.keyspace, *id)));
        }
        known
            .topics
            .into_iter()
            .flatten()
            .map(|topic| (topic.id, (topic.partitions, topic.created)))
            .collect()
    }
}

/// Topics by id: how many partitions, and when each was created.
type Topics = BTreeMap<TopicId, (u32, MetadataVersion)>;

#[async_trait]
impl TopicGround for CatalogGround {
    async fn ground(
        &self,
        transaction: &mut dyn Transaction,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommitGround>, StoreError> {
        let ids = topics_of(partitions);
        let key = metadata_version_key(&self.keyspace);
        let version = decode_metadata_version(transaction.get(&key, Isolation::Snapshot).await?.as_deref())?;
        let read_at = transaction.read_version().await?;
        let known = self.catalog.lookup(&ids);
        let unguarded = penstock_types::planted!("deleted-topic-appends");
        let topics = if known.version == version || unguarded {
            *self.known.lock() = Some((read_at, version));
            self.of_catalog(transaction, known, &ids)
        } else {
            let rows = read_rows(transaction, &self.keyspace, &ids, Isolation::Serializable).await?;
            let topics = ids.iter().zip(rows);
            topics.filter_map(|(id, row)| row.map(|row| (*id, (row.partitions, row.created)))).collect()
        };
        Ok(ground_of(partitions, &topics))
    }

    fn known_at(
        &self,
        transaction: &mut dyn Transaction,
        version: StoreVersion,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Option<BTreeMap<TopicPartition, CommitGround>> {
        let ids = topics_of(partitions);
        let known = self.catalog.lookup(&ids);
        if *self.known.lock() != Some((version, known.version)) {
            return None;
        }
        let topics = self.of_catalog(transaction, known, &ids);
        Some(ground_of(partitions, &topics))
    }
}

fn topics_of(partitions: &BTreeSet<TopicPartition>) -> Vec<TopicId> {
    let ids: BTreeSet<TopicId> = partitions.iter().map(|partition| partition.topic).collect();
    ids.into_iter().collect()
}

/// What a commit must know of those of the partitions that exist.
fn ground_of(
    partitions: &BTreeSet<TopicPartition>,
    topics: &Topics,
) -> BTreeMap<TopicPartition, CommitGround> {
    let ground = |partition: &TopicPartition| {
        let (count, created) = topics.get(&partition.topic)?;
        let index = u32::try_from(partition.partition.get()).ok()?;
        let ground = CommitGround {
            leader_epoch: LeaderEpoch::FIRST,
            incarnation: created.incarnation,
            created: created.stamp.version(),
        };
        (index < *count).then_some((*partition, ground))
    };
    partitions.iter().filter_map(ground).collect()
}

/// For tests: every partition exists, and has since the beginning.
#[cfg(any(test, feature = "conformance"))]
#[derive(Debug, Clone, Copy)]
pub struct AllExist;

#[cfg(any(test, feature = "conformance"))]
#[async_trait]
impl TopicGround for AllExist {
    async fn ground(
        &self,
        _transaction: &mut dyn Transaction,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommitGround>, StoreError> {
        Ok(all_exist(partitions))
    }

    fn known_at(
        &self,
        _transaction: &mut dyn Transaction,
        _version: StoreVersion,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Option<BTreeMap<TopicPartition, CommitGround>> {
        Some(all_exist(partitions))
    }
}

#[cfg(any(test, feature = "conformance"))]
fn all_exist(partitions: &BTreeSet<TopicPartition>) -> BTreeMap<TopicPartition, CommitGround> {
    let ground = CommitGround {
        leader_epoch: LeaderEpoch::FIRST,
        incarnation: penstock_types::Incarnation::FIRST,
        created: StoreVersion::ZERO,
    };
    partitions.iter().map(|partition| (*partition, ground)).collect()
}
