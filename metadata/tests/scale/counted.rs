//! A store that counts what is asked of another one, so that a measurement can say what an operation costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use penstock_metadata::kv::{
    Committed, Durability, Isolation, KeyRange, Page, Priority, RangeOptions, SharedStore, Store, StoreError,
    Transaction, Watch, WriteConflict,
};
use penstock_types::StoreVersion;

/// A mutation, as far as its cost goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the key, the stamp included.
    pub key: usize,
    /// Bytes of the value.
    pub value: usize,
    /// Whether its key is a new one in each transaction.
    pub fresh: bool,
}

/// What was asked of the store.
#[derive(Debug, Default)]
pub struct Counts {
    /// Transactions begun.
    pub transactions: AtomicU64,
    /// Commits that were refused as conflicts.
    pub conflicts: AtomicU64,
    /// Single keys read.
    pub gets: AtomicU64,
    /// Ranges read.
    pub ranges: AtomicU64,
    /// Rows that ranges gave.
    pub rows: AtomicU64,
    /// Watches armed.
    pub watches: AtomicU64,
    /// The mutations of the last transaction that committed any.
    last: Mutex<Vec<Written>>,
}

impl Counts {
    /// The mutations of the last transaction that committed any.
    pub fn last_written(&self) -> Vec<Written> {
        self.last.lock().clone()
    }

    fn add(&self, counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// The store. Reads at a version that was set fail if `without_offsets`: a commit then goes without its offsets.
#[derive(Debug)]
pub struct Counted {
    inner: SharedStore,
    counts: Arc<Counts>,
    without_offsets: bool,
}

impl Counted {
    /// Counts what is asked of `inner`.
    pub fn over(inner: &SharedStore, counts: &Arc<Counts>) -> SharedStore {
        Arc::new(Self { inner: Arc::clone(inner), counts: Arc::clone(counts), without_offsets: false })
    }

    /// The same, of which no commit learns its offsets: appending alone.
    pub fn without_offsets(inner: &SharedStore, counts: &Arc<Counts>) -> SharedStore {
        Arc::new(Self { inner: Arc::clone(inner), counts: Arc::clone(counts), without_offsets: true })
    }
}

#[async_trait]
impl Store for Counted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn durability(&self) -> Durability {
        self.inner.durability()
    }
    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        self.counts.add(&self.counts.transactions, 1);
        Box::new(CountedTransaction {
            inner: self.inner.begin(priority),
            counts: Arc::clone(&self.counts),
            without_offsets: self.without_offsets,
            refused: false,
            written: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct CountedTransaction {
    inner: Box<dyn Transaction>,
    counts: Arc<Counts>,
    without_offsets: bool,
    refused: bool,
    written: Vec<Written>,
}

impl CountedTransaction {
    fn wrote(&mut self, key: usize, value: usize, fresh: bool) {
        self.written.push(Written { key, value, fresh });
    }
}

/// The bytes of a versionstamp.
const STAMP: usize = 10;

#[async_trait]
impl Transaction for CountedTransaction {
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError> {
        self.inner.read_version().await
    }
    fn set_read_version(&mut self, version: StoreVersion) {
        self.refused = self.without_offsets;
        self.inner.set_read_version(version);
    }
    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError> {
        self.counts.add(&self.counts.gets, 1);
        self.inner.get(key, isolation).await
    }
    async fn get_many(
        &mut self,
        keys: &[Vec<u8>],
        isolation: Isolation,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        if self.refused {
            return Err(StoreError::Unavailable { reason: "offsets aren't asked for".to_owned() });
        }
        self.counts.add(&self.counts.gets, keys.len());
        self.inner.get_many(keys, isolation).await
    }
    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        if self.refused {
            return Err(StoreError::Unavailable { reason: "offsets aren't asked for".to_owned() });
        }
        let page = self.inner.range(range, options).await?;
        self.counts.add(&self.counts.ranges, 1);
        self.counts.add(&self.counts.rows, page.rows.len());
        Ok(page)
    }
    async fn ranges(
        &mut self,
        ranges: Vec<KeyRange>,
        options: RangeOptions,
    ) -> Result<Vec<Page>, StoreError> {
        let pages = self.inner.ranges(ranges, options).await?;
        self.counts.add(&self.counts.ranges, pages.len());
        self.counts.add(&self.counts.rows, pages.iter().map(|page| page.rows.len()).sum());
        Ok(pages)
    }
    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict) {
        self.wrote(key.len(), value.len(), false);
        self.inner.set(key, value, conflict);
    }
    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], conflict: WriteConflict) {
        self.wrote(prefix.len() + STAMP + suffix.len(), value.len(), true);
        self.inner.set_stamped_key(prefix, suffix, value, conflict);
    }
    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict) {
        self.wrote(key.len(), value.len(), false);
        self.inner.set_stamped_value(key, value, stamp_at, conflict);
    }
    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict) {
        self.wrote(key.len(), addend.len(), false);
        self.inner.atomic_add_bytes(key, addend, conflict);
    }
    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict) {
        self.wrote(key.len(), size_of::<u64>(), false);
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
        self.counts.add(&self.counts.watches, 1);
        self.inner.watch(key)
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
    async fn commit(self: Box<Self>) -> Result<Committed, StoreError> {
        let Self { inner, counts, written, .. } = *self;
        let committed = inner.commit().await;
        match &committed {
            Err(StoreError::Conflict) => counts.add(&counts.conflicts, 1),
            Ok(_) if !written.is_empty() => *counts.last.lock() = written,
            _ => {}
        }
        committed
    }
}
