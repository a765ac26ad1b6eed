//! The key-value seam: an ordered, transactional store with FoundationDB's contract. Everything Kafka is written
//! once above it; a store is only this.
//!
//! # Contract
//! - **Order**: keys and values are bytes; keys sort as unsigned bytes.
//! - **Transactions** are optimistic and serializable: a commit succeeds only if nothing in its read conflict
//!   ranges was written (by a write conflict range) after its read version. Serializable reads add what they read
//!   to the read conflict ranges; snapshot reads don't. Each mutation adds its key or range to the write conflict
//!   ranges unless it says [`WriteConflict::No`]; a stamped key enters them in any case.
//! - **No read-your-writes**: every read of a transaction sees the database at its read version and none of the
//!   transaction's own mutations.
//! - **Mutations** of one transaction apply in the order in which they were made, at the commit's version.
//! - **Versionstamps**: the store puts the commit's version and the transaction's place among those of the same
//!   version into keys and values, one stamp a value. Two commits may share a version; no two share a stamp. A key
//!   or value that holds a stamp can't be read before its commit.
//! - **Limits** ([`limits`]): a transaction's keys, values and conflict ranges together, a key, a value, the age of
//!   a read version. Keys begin below 0xFF, ranges end there at most. What FoundationDB refuses, every store
//!   refuses, at the latest at the commit; an operation that was refused (too large, a key outside, an inverted
//!   range) fails the commit whatever else the transaction does.
//! - **Outcomes**: a commit error says whether it did not happen or may have happened ([`StoreError::outcome`]).
//!   A commit dropped (cancelled) before it returned may have happened.
//! - **Durability**: a commit that returned is on stable storage (of a volatile store: as long as it lives), and
//!   every read version taken afterwards, by anyone, sees it.
//!
//! Cancellation: dropping a read future is safe. Dropping `commit` leaves the outcome unknown.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use penstock_types::{StoreVersion, Versionstamp};

mod admission;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
#[cfg(feature = "foundationdb")]
pub mod foundationdb;
pub mod memory;
mod resolver;

/// FoundationDB's limits, which every store keeps.
pub mod limits {
    use std::time::Duration;

    /// Bytes of a key.
    pub const KEY_BYTES: usize = 10_000;
    /// Bytes of a value.
    pub const VALUE_BYTES: usize = 100_000;
    /// Bytes of a transaction: its mutations' keys and values and its conflict ranges.
    pub const TRANSACTION_BYTES: usize = 10_000_000;
    /// How long a read version can be read at and committed from.
    pub const TRANSACTION_AGE: Duration = Duration::from_secs(5);
    /// How far versions advance in a second, about.
    pub const VERSIONS_PER_SECOND: u64 = 1_000_000;

    /// The time in which versions advance by so many, about.
    pub const fn time_of(versions: u64) -> Duration {
        Duration::from_micros(versions / (VERSIONS_PER_SECOND / 1_000_000))
    }

    /// By how much versions advance in a time, about.
    pub fn versions_of(time: Duration) -> u64 {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        microseconds.saturating_mul(VERSIONS_PER_SECOND / 1_000_000)
    }
}

/// Whether an operation that failed left a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did not happen and never will.
    DidNotHappen,
    /// It may have happened, or may still.
    MayHaveHappened,
}

/// Why a store's operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Something this transaction read was written since: run it again.
    #[error("the transaction conflicts with another")]
    Conflict,
    /// The read version has left the store's window: run it again.
    #[error("the transaction is too old")]
    TooOld,
    /// The read version is ahead of what the store can serve: run it again after a pause.
    #[error("the read version is ahead of the store")]
    FutureVersion,
    /// The commit's result is unknown: it may have happened, or may still.
    #[error("the commit's outcome is unknown")]
    CommitUnknown,
    /// The store asks for less: run it again after a pause.
    #[error("the store throttles this transaction")]
    Throttled,
    /// The transaction is over a limit of [`limits`]: nothing but a smaller one will do.
    #[error("{what} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// The store can't be reached.
    #[error("the metadata store is unavailable: {reason}")]
    Unavailable {
        /// What its client says.
        reason: String,
    },
    /// The store holds something it never should, or refuses for good.
    #[error("the metadata store failed: {reason}")]
    Failed {
        /// What it says.
        reason: String,
    },
}

impl StoreError {
    /// Whether the operation left a trace.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::CommitUnknown => Outcome::MayHaveHappened,
            Self::Conflict
            | Self::TooOld
            | Self::FutureVersion
            | Self::Throttled
            | Self::TooLarge { .. }
            | Self::Unavailable { .. }
            | Self::Failed { .. } => Outcome::DidNotHappen,
        }
    }

    /// Whether the same transaction, run anew from its reads, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict
            | Self::TooOld
            | Self::FutureVersion
            | Self::CommitUnknown
            | Self::Throttled
            | Self::Unavailable { .. } => true,
            Self::TooLarge { .. } | Self::Failed { .. } => false,
        }
    }
}

/// Whether a read enters the read conflict ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// It does: the commit fails if what was read changed.
    Serializable,
    /// It does not.
    Snapshot,
}

/// Whether a mutation enters the write conflict ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteConflict {
    /// It does: transactions that read it serializably and commit later fail.
    Yes,
    /// It does not: nobody is disturbed.
    No,
}

/// A key range, half-open.
pub type KeyRange = Range<Vec<u8>>;

/// Bounds of one range read.
#[derive(Debug, Clone, Copy)]
pub struct RangeOptions {
    /// At most that many rows.
    pub limit: usize,
    /// Stop after that many bytes of keys and values; at least one row is returned.
    pub target_bytes: usize,
    /// From the end backwards.
    pub reverse: bool,
    /// Whether what was read enters the read conflict ranges (only as far as the page reaches).
    pub isolation: Isolation,
    /// The caller knows that every row of the range was last written at exactly this version, which is the read
    /// version. A store that has its last commits at hand may answer from them; others take no notice. Where it isn't
    /// so, the answer may miss rows (the memory store fails, so that tests find out).
    pub written_at: Option<StoreVersion>,
}

impl RangeOptions {
    /// A page of at most `limit` rows and 1 MB, forwards.
    pub fn page(limit: usize, isolation: Isolation) -> Self {
        Self { limit, target_bytes: 1_000_000, reverse: false, isolation, written_at: None }
    }
    /// The same, backwards.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { reverse: true, ..self }
    }
    /// The same, of rows that were all last written at the read version `version`.
    #[must_use]
    pub fn all_written_at(self, version: StoreVersion) -> Self {
        Self { written_at: Some(version), ..self }
    }
}

/// A stored row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// A page of a range read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Whether the range may hold more behind (before, if reversed) the last row; `false` says that it does not.
    /// Where the page ended by its limit of rows it does hold more; where it ended by its bytes, the next page may
    /// be empty.
    pub more: bool,
}

/// What a commit answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The version at which the mutations became visible. Of a transaction without mutations and write conflict
    /// ranges: its read version.
    pub version: StoreVersion,
    /// The stamp that was put into keys and values; `None` for a transaction without mutations.
    pub stamp: Option<Versionstamp>,
}

/// Resolves when the watched key's value differs from what the watching transaction saw, or spuriously, or with an
/// error after which the caller must read again and may arm anew.
pub type Watch = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// How important a transaction is to the store's admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// A client waits for it.
    #[default]
    Default,
    /// A background job: yields under load.
    Batch,
}

/// How long what a store has committed stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage.
    Durable,
    /// As long as the process.
    Volatile,
}

/// A store.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// The store's name, for logs and for tests that report a skip.
    fn name(&self) -> &'static str;

    /// How long what it has committed stays.
    fn durability(&self) -> Durability;

    /// Begins a transaction. Its read version is taken at its first read (or by [`Transaction::read_version`]).
    fn begin(&self, priority: Priority) -> Box<dyn Transaction>;
}

/// A store, shared.
pub type SharedStore = Arc<dyn Store>;

/// A transaction: reads at one version, mutations that apply together or not at all. Dropped without a commit, it
/// leaves nothing.
#[async_trait]
pub trait Transaction: Send + Debug {
    /// The version that its reads see: at least the version of every commit that had returned, to anyone, when it
    /// was asked for.
    async fn read_version(&mut self) -> Result<StoreVersion, StoreError>;

    /// Reads at `version` instead, for example at the version of a commit. Before the first read.
    fn set_read_version(&mut self, version: StoreVersion);

    /// One key's value.
    async fn get(&mut self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, StoreError>;

    /// The values of several keys, in the order asked for; one round trip where the store can.
    async fn get_many(
        &mut self,
        keys: &[Vec<u8>],
        isolation: Isolation,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key, isolation).await?);
        }
        Ok(values)
    }

    /// A page of a range.
    async fn range(&mut self, range: KeyRange, options: RangeOptions) -> Result<Page, StoreError>;

    /// Several pages, one of each range, in the order asked for; one round trip where the store can.
    async fn ranges(
        &mut self,
        ranges: Vec<KeyRange>,
        options: RangeOptions,
    ) -> Result<Vec<Page>, StoreError> {
        let mut pages = Vec::with_capacity(ranges.len());
        for range in ranges {
            pages.push(self.range(range, options).await?);
        }
        Ok(pages)
    }

    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8], conflict: WriteConflict);

    /// Sets the key `prefix + stamp + suffix`. The key always enters the write conflict ranges, [`WriteConflict::No`]
    /// or not: FoundationDB's proxies put it there. So a serializable read of a range fails if a stamped key is
    /// committed into it; read at [`Isolation::Snapshot`] where that must not be.
    fn set_stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8], conflict: WriteConflict);

    /// Sets `key` to `value` with the 10 bytes from `stamp_at` replaced by the stamp.
    ///
    /// # Panics
    /// If the value has no 10 bytes there.
    fn set_stamped_value(&mut self, key: &[u8], value: &[u8], stamp_at: usize, conflict: WriteConflict);

    /// Adds to a little-endian signed 64-bit number, 0 where there is none. Wraps.
    fn atomic_add(&mut self, key: &[u8], addend: i64, conflict: WriteConflict) {
        self.atomic_add_bytes(key, &addend.to_le_bytes(), conflict);
    }

    /// Adds to a little-endian number of any length: the sum is as long as `addend`, a shorter value is taken for
    /// padded with zeros and a longer one is cut off. Wraps. So several numbers can stand side by side in one value,
    /// as long as none of them leaves its bytes.
    fn atomic_add_bytes(&mut self, key: &[u8], addend: &[u8], conflict: WriteConflict);

    /// Raises a little-endian unsigned 64-bit number, 0 where there is none.
    fn atomic_max(&mut self, key: &[u8], candidate: u64, conflict: WriteConflict);

    /// Removes a key.
    fn clear(&mut self, key: &[u8], conflict: WriteConflict);

    /// Removes a range.
    fn clear_range(&mut self, range: KeyRange, conflict: WriteConflict);

    /// Fails the commit if `range` is written after the read version.
    fn add_read_conflict(&mut self, range: KeyRange);

    /// Fails other transactions that read `range` and commit later.
    fn add_write_conflict(&mut self, range: KeyRange);

    /// Arms a watch on `key` that compares with what the key holds at the read version. It works from a
    /// transaction that is then committed (one without mutations may be).
    fn watch(&mut self, key: &[u8]) -> Watch;

    /// Bytes that count towards [`limits::TRANSACTION_BYTES`] so far.
    fn size(&self) -> usize;

    /// Commits.
    async fn commit(self: Box<Self>) -> Result<Committed, StoreError>;
}

/// The range that holds exactly `key`.
pub fn single_key(key: &[u8]) -> KeyRange {
    let mut end = key.to_vec();
    end.push(0);
    key.to_vec()..end
}

/// The range of all keys that begin with `prefix`.
///
/// # Panics
/// On a prefix of nothing but 0xFF bytes, which has no end.
pub fn prefixed(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xFF) {
        end.pop();
    }
    let last = end.last_mut().expect("a prefix has a byte below 0xFF");
    *last += 1;
    prefix.to_vec()..end
}
