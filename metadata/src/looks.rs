//! How an agent knows that its views are the newest: looks at the feed, and at the counters of what has changed.
//!
//! Invariants: a look begins after everybody who shares it has asked, so it sees all that was committed before. All that it
//! reads is of one version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_types::{StoreVersion, TopicPartition};
use tokio::sync::{OnceCell, Semaphore};

use crate::keys::Keyspace;
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::feed::{self, Slot};
use crate::kv::{Isolation, Priority, SharedStore, StoreError};
use crate::view::{PartitionView, ViewError};

/// Looks under way at the same time: who comes meanwhile shares the next one.
const AT_ONCE: usize = 2;

/// The looks of one agent.
#[derive(Debug)]
pub(crate) struct Looks {
    store: SharedStore,
    keyspace: Keyspace,
    turns: Semaphore,
    /// The one that can still be joined.
    next: Mutex<Arc<Look>>,
}

/// One look, shared by all who asked before it began.
#[derive(Debug, Default)]
struct Look {
    wanted: Mutex<BTreeMap<TopicPartition, Arc<PartitionView>>>,
    seen: OnceCell<Result<Arc<Seen>, StoreError>>,
}

/// What a look saw.
#[derive(Debug)]
pub(crate) struct Seen {
    version: StoreVersion,
    /// When each slot last changed.
    changed: BTreeMap<Slot, StoreVersion>,
    /// The counters of stripes with views that are older than that.
    counters: BTreeMap<Stripe, Counters>,
}

impl Looks {
    pub(crate) fn new(store: SharedStore, keyspace: Keyspace) -> Self {
        Self { store, keyspace, turns: Semaphore::new(AT_ONCE), next: Mutex::default() }
    }

    /// Looks after whatever `views` show. Safe to cancel: whoever else waits goes on with the look.
    pub(crate) async fn look(&self, views: &[Arc<PartitionView>]) -> Result<Arc<Seen>, StoreError> {
        let look = {
            let next = self.next.lock();
            next.wanted.lock().extend(views.iter().map(|view| (view.partition, Arc::clone(view))));
            Arc::clone(&next)
        };
        look.seen.get_or_init(|| self.take(&look)).await.clone()
    }

    /// Waits for a turn, closes the look for those who come later, and reads.
    async fn take(&self, look: &Arc<Look>) -> Result<Arc<Seen>, StoreError> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let wanted = {
            let mut next = self.next.lock();
            if Arc::ptr_eq(&next, look) && !penstock_types::planted!("look-joined-too-late") {
                *next = Arc::default();
            }
            look.wanted.lock().clone()
        };
        self.read(wanted).await.map(Arc::new)
    }

    async fn read(&self, views: BTreeMap<TopicPartition, Arc<PartitionView>>) -> Result<Seen, StoreError> {
        let slots: BTreeSet<Slot> = views.keys().map(|partition| Slot::of(*partition)).collect();
        let keys: Vec<Vec<u8>> = slots.iter().map(|slot| feed::key(&self.keyspace, *slot)).collect();
        let mut transaction = self.store.begin(Priority::Default);
        let version = transaction.read_version().await?;
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        let mut seen = Seen { version, changed: BTreeMap::new(), counters: BTreeMap::new() };
        for (slot, value) in slots.into_iter().zip(values) {
            seen.changed.insert(slot, feed::decode(value.as_deref())?.stamp.version());
        }
        // One that was never read has nothing to compare.
        let overtaken = |view: &PartitionView| {
            let at = view.version();
            at != StoreVersion::ZERO && at < seen.at_least(view.partition)
        };
        let stripes: BTreeSet<Stripe> =
            views.values().filter(|view| overtaken(view)).map(|view| Stripe::of(view.partition)).collect();
        if stripes.is_empty() {
            return Ok(seen);
        }
        let keys: Vec<Vec<u8>> =
            stripes.iter().map(|stripe| counters::key(&self.keyspace, *stripe)).collect();
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        for (stripe, value) in stripes.into_iter().zip(values) {
            seen.counters.insert(stripe, Counters::decode(value.as_deref())?);
        }
        Ok(seen)
    }
}

impl Seen {
    /// How new a view has to be. One that was never read is older than everything, also where nothing was ever written.
    fn at_least(&self, partition: TopicPartition) -> StoreVersion {
        self.changed.get(&Slot::of(partition)).copied().unwrap_or_default().max(StoreVersion::new(1))
    }

    /// Makes a view as new as what was seen.
    pub(crate) async fn refresh(&self, view: &PartitionView) -> Result<(), ViewError> {
        let at_least = self.at_least(view.partition);
        if view.version() >= at_least {
            return Ok(());
        }
        if view.version() != StoreVersion::ZERO
            && !view.version().get().is_multiple_of(4)
            && penstock_types::planted!("stale-view-served")
        {
            return Ok(());
        }
        // A commit to other partitions of its slot, which leaves it as it is.
        if let Some(counters) = self.counters.get(&Stripe::of(view.partition))
            && view.confirm(self.version, counters)
        {
            return Ok(());
        }
        // The look's own version is new enough for all of them: none asks the store for another.
        view.ensure_at(at_least, self.version).await
    }
}
