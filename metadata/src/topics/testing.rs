//! What the tests of topics share: a store, who changes it, and a store that counts what is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use penstock_config::broker::{BrokerConfig, Layer};
use penstock_types::{Incarnation, SeededRandomness, StoreVersion, TestClock, TopicId};

use super::{NewTopic, Request, Terms, TopicAdmin, TopicCatalog};
use crate::keys::Keyspace;
use crate::kv::memory::{MemoryFaults, MemoryStore};
use crate::kv::{
    Committed, Durability, Isolation, KeyRange, Page, Priority, RangeOptions, SharedStore, Store, StoreError,
    Transaction, Watch, WriteConflict,
};

pub(super) const CHANGE: Request = Request { validate_only: false, deadline: Duration::from_secs(600) };
pub(super) const CHECK: Request = Request { validate_only: true, deadline: Duration::from_secs(600) };

/// A store in memory and its changes.
#[derive(Debug)]
pub(super) struct World {
    pub(super) memory: Arc<MemoryStore>,
    pub(super) store: SharedStore,
    pub(super) keyspace: Keyspace,
    pub(super) admin: TopicAdmin,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
        let store: SharedStore = memory.clone();
        let keyspace = Keyspace::new(b"test");
        let admin = admin(&store, &keyspace, seed ^ 1);
        Self { memory, store, keyspace, admin }
    }

    pub(super) async fn catalog(&self) -> TopicCatalog {
        catalog(&self.store, &self.keyspace).await
    }

    pub(super) fn trouble(&self) {
        self.memory.set_faults(trouble());
    }

    pub(super) fn calm(&self) {
        self.memory.set_faults(MemoryFaults::default());
        self.memory.land_parked_commits();
    }

    /// Makes topics; their ids.
    pub(super) async fn make(&self, names: &[&str]) -> Vec<TopicId> {
        let broker = BrokerConfig::default();
        let plans = names.iter().map(|name| {
            self.admin
                .plan_topic(&wanted(name), Terms { broker: &broker, brokers: &[1] })
                .expect("a good topic")
        });
        let made = self.admin.create_topics(plans.collect(), CHANGE).await;
        made.into_iter().map(|made| made.expect("a free name").id).collect()
    }
}

pub(super) fn admin(store: &SharedStore, keyspace: &Keyspace, seed: u64) -> TopicAdmin {
    TopicAdmin::new(
        Arc::clone(store),
        keyspace.clone(),
        Incarnation::FIRST,
        Arc::new(TestClock::at(1_000)),
        Arc::new(SeededRandomness::new(seed)),
    )
}

pub(super) async fn catalog(store: &SharedStore, keyspace: &Keyspace) -> TopicCatalog {
    TopicCatalog::open(Arc::clone(store), keyspace.clone(), 1, BrokerConfig::default())
        .await
        .expect("a catalog")
}

pub(super) fn wanted(name: &str) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions: 2, replication_factor: 1, ..NewTopic::default() }
}

pub(super) fn layer(pairs: &[(&str, &str)]) -> Layer {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Everything that may go wrong, often.
pub(super) fn trouble() -> MemoryFaults {
    MemoryFaults {
        conflict: 0.1,
        unknown_applied: 0.15,
        unknown_not_applied: 0.15,
        unknown_applied_later: 0.15,
        applied_later_after: Duration::ZERO..Duration::from_millis(50),
        too_old: 0.05,
        unavailable: 0.05,
        latency: Some(Duration::ZERO..Duration::from_millis(5)),
        ..MemoryFaults::default()
    }
}

/// Counts reads and the rows that they give.
#[derive(Debug)]
pub(super) struct CountingStore {
    inner: SharedStore,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) transactions: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) rows: AtomicU64,
}

impl Counts {
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }
    fn read(&self, rows: usize) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.rows.fetch_add(rows as u64, Ordering::SeqCst);
    }
}

impl CountingStore {
    pub(super) fn over(inner: SharedStore) -> (SharedStore, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Arc::new(Self { inner, counts: Arc::clone(&counts) }), counts)
    }
}

#[async_trait]
impl Store for CountingStore {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        self.counts.transactions.fetch_add(1, Ordering::SeqCst);
        Box::new(Counted { inner: self.inner.begin(priority), counts: Arc::clone(&self.counts) })
    }
}

#[derive(Debug)]
struct Counted {
    inner: Box<dyn Transaction>,
    counts: Arc<Counts>,
}

#[async_trait]
impl Transaction for Counted {
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError> {
        self.inner.read_version().await
    }
    fn set_read_version(&mut self, version: StoreVersion) {
        self.inner.set_read_version(version);
    }
    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError> {
        self.counts.read(1);
        self.inner.get(key, isolation).await
    }
    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        let page = self.inner.range(range, options).await?;
        self.counts.read(page.rows.len());
        Ok(page)
    }
    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict) {
        self.inner.set(key, value, conflict);
    }
    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], conflict: WriteConflict) {
        self.inner.set_stamped_key(prefix, suffix, value, conflict);
    }
    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict) {
        self.inner.set_stamped_value(key, value, stamp_at, conflict);
    }
    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict) {
        self.inner.atomic_add_bytes(key, addend, conflict);
    }
    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict) {
        self.inner.atomic_max(key, candidate, conflict);
    }
    fn clear(&mut self, key: &[u8], conflict: WriteConflict) {
        self.inner.clear(key, conflict);
    }
    fn clear_range(&mut self, range: KeyRange, conflict: WriteConflict) {
        self.inner.clear_range(range, conflict);
    }
    fn add_read_conflict(&mut self, range: KeyRange) {
        self.inner.add_read_conflict(range);
    }
    fn add_write_conflict(&mut self, range: KeyRange) {
        self.inner.add_write_conflict(range);
    }
    fn watch(&mut self, key: &[u8]) -> Watch {
        self.inner.watch(key)
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    async fn commit(self: Box<Self>) -> Result<Committed, StoreError> {
        self.inner.commit().await
    }
}
