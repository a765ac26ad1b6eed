//! What a coordinator has to know of topics.

use std::fmt::Debug;

use async_trait::async_trait;
use penstock_metadata::kv::StoreError;
use penstock_metadata::topics::TopicCatalog;
use penstock_types::{PartitionIndex, TopicId};

/// A topic, as far as offsets are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its id.
    pub id: TopicId,
    /// Partitions, from 0.
    pub partitions: u32,
}

impl TopicFacts {
    /// Whether it has the partition.
    pub fn has(&self, partition: PartitionIndex) -> bool {
        u32::try_from(partition.get()).is_ok_and(|index| index < self.partitions)
    }
}

/// Topics by name.
#[async_trait]
pub trait TopicLookup: Send + Sync + Debug + 'static {
    /// The topic as last seen: it may have changed since. An offset that is committed under the id of a topic that is
    /// gone is refused by the store.
    fn topic(&self, name: &str) -> Option<TopicFacts>;

    /// Brings what [`TopicLookup::topic`] answers to the state of now.
    async fn refresh(&self) -> Result<(), StoreError>;
}

#[async_trait]
impl TopicLookup for TopicCatalog {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        self.by_name(name).map(|topic| TopicFacts { id: topic.id, partitions: topic.partitions })
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        Self::refresh(self).await
    }
}
