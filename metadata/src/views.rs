//! The views that an agent keeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::TopicPartition;
use tokio::time::Instant;

use crate::keys::Keyspace;
use crate::kv::{SharedStore, StoreError};
use crate::looks::Looks;
use crate::view::{PartitionView, ViewError};

/// A view that nobody asked for in that time may be dropped.
const IDLE: Duration = Duration::from_secs(300);

/// The views of one agent, bounded in number.
#[derive(Debug)]
pub struct Views {
    store: SharedStore,
    keyspace: Keyspace,
    most: usize,
    views: Mutex<HashMap<TopicPartition, Arc<PartitionView>>>,
    looks: Looks,
}

impl Views {
    /// An empty set that keeps about `most` views of partitions that nobody reads any more.
    pub fn new(store: SharedStore, keyspace: Keyspace, most: usize) -> Arc<Self> {
        let looks = Looks::new(store.clone(), keyspace.clone());
        Arc::new(Self { store, keyspace, most, views: Mutex::new(HashMap::new()), looks })
    }

    /// The view of a partition, as it is: possibly old, possibly empty.
    pub fn get(&self, partition: TopicPartition) -> Arc<PartitionView> {
        let mut views = self.views.lock();
        if views.len() >= self.most && !views.contains_key(&partition) {
            let now = Instant::now();
            views
                .retain(|_, view| Arc::strong_count(view) > 1 || now.duration_since(view.last_used()) < IDLE);
            if views.len() >= self.most {
                let mut unused: Vec<_> = views
                    .values()
                    .filter(|view| Arc::strong_count(view) == 1)
                    .map(|view| (view.last_used(), view.partition))
                    .collect();
                unused.sort_unstable();
                unused.iter().take(self.most / 4 + 1).for_each(|(_, partition)| {
                    views.remove(partition);
                });
            }
        }
        let view = views
            .entry(partition)
            .or_insert_with(|| PartitionView::new(self.store.clone(), self.keyspace.clone(), partition));
        view.touch();
        Arc::clone(view)
    }

    /// How many views there are.
    pub fn len(&self) -> usize {
        self.views.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The views of `partitions`, each at least as new as everything that was committed when this was called: looks at
    /// the feed of their slots, once each, and refreshes the views that it has overtaken. Callers that wait at the same
    /// time share the look. An error of one partition leaves the others served.
    pub async fn validated(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<Arc<PartitionView>, ViewError>>, StoreError> {
        let views: Vec<_> = partitions.iter().map(|partition| self.get(*partition)).collect();
        let seen = self.looks.look(&views).await?;
        let refreshes = views.iter().map(|view| seen.refresh(view));
        let results = futures::future::join_all(refreshes).await;
        Ok(views.into_iter().zip(results).map(|(view, result)| result.map(|()| view)).collect())
    }
}
