//! The metadata store as one agent sees it: the shared memory store, behind the agent's own way to it; and which store that is, since a
//! backup may be restored into another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use penstock_metadata::keys::Family;
use penstock_metadata::kv::memory::{FaultKind, MemoryStore};
use penstock_metadata::kv::{
    Committed, Durability, Isolation, KeyRange, Page, Priority, RangeOptions, Store, StoreError, Transaction,
    Watch, WriteConflict,
};
use penstock_types::{StoreVersion, pause};
use tokio::sync::Notify;

use super::seam::{COMMIT, GROUP_COMMIT, JOB_COMMIT, Seam, finish};
use crate::draw::Draw;
use crate::trace;

/// How long an operation waits for a store that can't be reached.
const GIVES_UP: Duration = Duration::from_secs(4);

/// The database that all agents use: one, until a backup of it is restored into another one.
///
/// What was begun in the former one finds its end there, or is told that it can't go on: no transaction reads in one and
/// commits in the other.
#[derive(Debug)]
pub struct Databases {
    current: Mutex<Arc<MemoryStore>>,
    former: Mutex<Vec<Arc<MemoryStore>>>,
    moved: Notify,
}

impl Databases {
    /// One database.
    pub fn new(store: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { current: Mutex::new(store), former: Mutex::default(), moved: Notify::new() })
    }

    /// The database.
    pub fn current(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.current.lock())
    }

    /// From now on another one is the database.
    pub fn move_to(&self, store: Arc<MemoryStore>) {
        let former = std::mem::replace(&mut *self.current.lock(), store);
        self.former.lock().push(former);
        self.moved.notify_waiters();
    }

    /// How often each kind of fault has struck, in all of them.
    pub fn faults_struck(&self) -> BTreeMap<FaultKind, u64> {
        let mut all = self.current().faults_struck();
        for (kind, count) in self.former.lock().iter().flat_map(|store| store.faults_struck()) {
            *all.entry(kind).or_insert(0) += count;
        }
        all
    }

    fn is(&self, store: &Arc<MemoryStore>) -> bool {
        Arc::ptr_eq(&self.current.lock(), store)
    }

    async fn until_not(&self, store: &Arc<MemoryStore>) {
        loop {
            let moved = self.moved.notified();
            if !self.is(store) {
                return;
            }
            moved.await;
        }
    }
}

/// The store of one life of an agent.
#[derive(Debug)]
pub struct SimStore {
    databases: Arc<Databases>,
    seam: Arc<Seam>,
    draw: Draw,
}

impl SimStore {
    /// The database, as the agent of `seam` sees it.
    pub fn new(databases: Arc<Databases>, seam: Arc<Seam>, draw: Draw) -> Arc<Self> {
        Arc::new(Self { databases, seam, draw })
    }
}

impl Store for SimStore {
    fn name(&self) -> &'static str {
        self.databases.current().name()
    }

    fn durability(&self) -> Durability {
        // The bucket is as volatile as the store here; the agent is to take both for durable.
        self.databases.current().durability()
    }

    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        let (seam, draw) = (Arc::clone(&self.seam), self.draw.clone());
        let (store, databases) = (self.databases.current(), Arc::clone(&self.databases));
        Box::new(SimTransaction { inner: store.begin(priority), store, databases, seam, draw, kind: COMMIT })
    }
}

#[derive(Debug)]
struct SimTransaction {
    inner: Box<dyn Transaction>,
    /// Where it was begun.
    store: Arc<MemoryStore>,
    databases: Arc<Databases>,
    seam: Arc<Seam>,
    draw: Draw,
    /// What is changed.
    kind: &'static str,
}

fn unreachable_store() -> StoreError {
    StoreError::Unavailable { reason: "the way to the store is cut".to_owned() }
}

impl SimTransaction {
    /// A key is changed.
    fn changes(&mut self, key: &[u8]) {
        const GROUPS: [Family; 3] = [Family::Group, Family::GroupMember, Family::GroupOffset];
        const JOBS: [Family; 7] = [
            Family::Dead,
            Family::Trim,
            Family::Garbage,
            Family::LogStart,
            Family::MergeUnit,
            Family::MergedGarbage,
            Family::Compaction,
        ];
        let is_of = |families: &[Family]| families.iter().any(|family| key.first() == Some(&(*family as u8)));
        if is_of(&GROUPS) {
            self.kind = GROUP_COMMIT;
        } else if is_of(&JOBS) {
            self.kind = JOB_COMMIT;
        }
    }

    async fn reach(&mut self) -> Result<(), StoreError> {
        if self.seam.ways().is_store_cut() {
            trace::count("fault: store out of reach");
            self.seam.ways().wait(self.draw.duration(Duration::ZERO..GIVES_UP)).await;
            if self.seam.ways().is_store_cut() {
                return Err(unreachable_store());
            }
        }
        // A restore takes longer than a transaction may.
        if self.databases.is(&self.store) { Ok(()) } else { Err(StoreError::TooOld) }
    }
}

#[async_trait]
impl Transaction for SimTransaction {
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError> {
        let operation = self.seam.begin("store").await;
        self.reach().await?;
        let version = self.inner.read_version().await;
        finish(operation).await;
        version
    }

    fn set_read_version(&mut self, version: StoreVersion) {
        self.inner.set_read_version(version);
    }

    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError> {
        let operation = self.seam.begin("store").await;
        self.reach().await?;
        let value = self.inner.get(key, isolation).await;
        finish(operation).await;
        value
    }

    async fn get_many(
        &mut self,
        keys: &[Vec<u8>],
        isolation: Isolation,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let operation = self.seam.begin("store").await;
        self.reach().await?;
        let values = self.inner.get_many(keys, isolation).await;
        finish(operation).await;
        values
    }

    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        let operation = self.seam.begin("store").await;
        self.reach().await?;
        let page = self.inner.range(range, options).await;
        finish(operation).await;
        page
    }

    async fn ranges(
        &mut self,
        ranges: Vec<KeyRange>,
        options: RangeOptions,
    ) -> Result<Vec<Page>, StoreError> {
        let operation = self.seam.begin("store").await;
        self.reach().await?;
        let pages = self.inner.ranges(ranges, options).await;
        finish(operation).await;
        pages
    }

    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict) {
        self.changes(key);
        self.inner.set(key, value, conflict);
    }

    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], conflict: WriteConflict) {
        self.changes(prefix);
        self.inner.set_stamped_key(prefix, suffix, value, conflict);
    }

    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict) {
        self.inner.set_stamped_value(key, value, stamp_at, conflict);
    }

    fn atomic_add(&mut self, key: &[u8], addend: i64, conflict: WriteConflict) {
        self.changes(key);
        self.inner.atomic_add(key, addend, conflict);
    }

    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict) {
        self.inner.atomic_add_bytes(key, addend, conflict);
    }

    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict) {
        self.changes(key);
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
        let watch = self.inner.watch(key);
        let seam = Arc::clone(&self.seam);
        let (databases, store) = (Arc::clone(&self.databases), Arc::clone(&self.store));
        Box::pin(async move {
            let fired = tokio::select! {
                biased;
                fired = watch => fired,
                () = databases.until_not(&store) => Err(unreachable_store()),
            };
            // What fires while the way is cut isn't heard of before it is open.
            while seam.ways().is_store_cut() {
                seam.ways().wait(Duration::from_secs(3600)).await;
            }
            fired
        })
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    async fn commit(self: Box<Self>) -> Result<Committed, StoreError> {
        let operation = self.seam.begin(self.kind).await;
        if self.seam.ways().is_store_cut() {
            trace::count("fault: store out of reach");
            pause(self.draw.duration(Duration::ZERO..GIVES_UP)).await;
            let error = if self.draw.chance(0.5) { unreachable_store() } else { StoreError::CommitUnknown };
            return Err(error);
        }
        if !self.databases.is(&self.store) {
            return Err(if self.draw.chance(0.5) { StoreError::TooOld } else { StoreError::CommitUnknown });
        }
        let Self { inner, store, databases, seam, .. } = *self;
        let committed = inner.commit().await;
        finish(operation).await;
        if seam.ways().is_store_cut() || !databases.is(&store) {
            // The answer is on the other side.
            return Err(StoreError::CommitUnknown);
        }
        committed
    }
}
