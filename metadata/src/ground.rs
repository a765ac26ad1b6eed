//! What a commit knows of topics: the catalog's, where the metadata version read in the commit's own transaction says
//! that the catalog is the newest; else the topics' rows, read there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use penstock_types::{LeaderEpoch, TopicId, TopicPartition};

use crate::commit::{CommitGround, TopicGround};
use crate::keys::Keyspace;
use crate::keys::cluster::{decode_metadata_version, metadata_version_key};
use crate::keys::topic::row_key;
use crate::kv::{Isolation, StoreError, Transaction, single_key};
use crate::topics::{TopicCatalog, read_rows};

/// The ground of an agent's commits.
#[derive(Debug, Clone)]
pub struct CatalogGround {
    /// The agent's catalog.
    pub catalog: Arc<TopicCatalog>,
    /// The cluster's keys.
    pub keyspace: Keyspace,
}

#[async_trait]
impl TopicGround for CatalogGround {
    async fn ground(
        &self,
        transaction: &mut dyn Transaction,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommitGround>, StoreError> {
        let ids: BTreeSet<TopicId> = partitions.iter().map(|partition| partition.topic).collect();
        let ids: Vec<TopicId> = ids.into_iter().collect();
        let key = metadata_version_key(&self.keyspace);
        let version = decode_metadata_version(transaction.get(&key, Isolation::Snapshot).await?.as_deref())?;
        let known = self.catalog.lookup(&ids);
        let mut topics = BTreeMap::new();
        let unguarded = penstock_types::planted!("deleted-topic-appends");
        if known.version == version || unguarded {
            // Only the deletion of one of these topics disturbs this commit, and no other commit is disturbed by it.
            for id in ids.iter().filter(|_| !unguarded) {
                transaction.add_read_conflict(single_key(&row_key(&self.keyspace, *id)));
            }
            for topic in known.topics.into_iter().flatten() {
                topics.insert(topic.id, (topic.partitions, topic.created));
            }
        } else {
            let rows = read_rows(transaction, &self.keyspace, &ids, Isolation::Serializable).await?;
            for (id, row) in ids.iter().zip(rows) {
                if let Some(row) = row {
                    topics.insert(*id, (row.partitions, row.created));
                }
            }
        }
        Ok(partitions
            .iter()
            .filter_map(|partition| {
                let (count, created) = topics.get(&partition.topic)?;
                let index = u32::try_from(partition.partition.get()).ok()?;
                (index < *count).then_some((
                    *partition,
                    CommitGround {
                        leader_epoch: LeaderEpoch::FIRST,
                        incarnation: created.incarnation,
                        created: created.stamp.version(),
                    },
                ))
            })
            .collect())
    }
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
        let ground = CommitGround {
            leader_epoch: LeaderEpoch::FIRST,
            incarnation: penstock_types::Incarnation::FIRST,
            created: penstock_types::StoreVersion::ZERO,
        };
        Ok(partitions.iter().map(|partition| (*partition, ground)).collect())
    }
}
