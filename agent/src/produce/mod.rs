//! The write path: buffer, flush, PUT, commit, answer.
//!
//! A request's batches wait in the [`buffer`] until the [`policy`] starts a flush; a flush becomes one data object,
//! uploaded beside others; the [`lane`] says when it may be committed; the commit says what came of each batch.
//!
//! # Invariants
//! - The object is in the bucket before its commit is tried; nothing moves before.
//! - A commit that may have happened is settled under the object's id, however long that takes: the partitions of
//!   its objects wait.
//! - When an object fails for good, every batch held behind it of the same producer and partition fails with the same
//!   retriable error.
//! - What is admitted and not answered holds memory of a bounded budget; at the bound admission waits.
//!
//! Deliberately absent: Kafka's wire messages (`api::produce`), validation of batches (the same), leader election
//! (any agent appends to any partition).

pub mod policy;

mod buffer;
mod commit;
mod flush;
mod lane;
mod reply;
mod turned_away;

pub use reply::{AppendError, BatchResult, IncomingBatch, Receipt};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_compaction::sealer::Sealer;
use penstock_metadata::commit::Committer;
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::log::BatchProducer;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::lookup::LogReader;
use penstock_metadata::views::Views;
use penstock_storage::bucket::Bucket;
use penstock_storage::cache::Cache;
use penstock_types::{Incarnation, Randomness, StoreVersion, TopicPartition, own};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use buffer::{Buffer, FlushBounds};
use commit::Uploaded;
use lane::Lane;
use policy::FlushSetting;
use reply::{PendingBatch, tickets};
use turned_away::TurnedAway;

/// A permit of the memory budget stands for that many bytes.
const PERMIT_BYTES: usize = 1024;
/// A version read longer ago than that is read anew before a batch is admitted under it.
const VERSION_AGE: Duration = Duration::from_secs(5);
/// Most batches of one object: their verdicts fit one row, their rows one transaction.
const OBJECT_BATCHES: usize = 16_000;
/// About how many bytes of metadata one transaction takes.
const TRANSACTION_BYTES: usize = 1_000_000;

/// Bounds of the write path.
#[derive(Debug, Clone)]
pub struct ProduceSettings {
    /// When to flush.
    pub flush: FlushSetting,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Bytes of requests admitted and not answered.
    pub memory_bytes: usize,
    /// Uploads at a time.
    pub uploads: usize,
    /// How long an object may take from its flush to the beginning of its commit, and a commit that certainly did
    /// not happen may be tried.
    pub deadline: Duration,
}

/// What the write path works with.
#[derive(Debug, Clone)]
pub struct ProduceParts {
    /// The metadata store.
    pub store: SharedStore,
    /// Commits objects.
    pub committer: Committer<CatalogGround>,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// Where objects go.
    pub bucket: Arc<Bucket>,
    /// What this agent wrote is in its cache.
    pub cache: Arc<Cache>,
    /// Finds the offsets of duplicates.
    pub views: Arc<Views>,
    /// The same.
    pub log: LogReader,
    /// Learns which partitions have rows to be sealed.
    pub sealer: Arc<Sealer>,
    /// Ids.
    pub randomness: Arc<dyn Randomness>,
}

/// Counters of the write path.
#[derive(Debug, Default)]
pub struct ProduceStats {
    /// Objects whose upload began.
    pub flushes: AtomicU64,
    /// Bytes of batches flushed.
    pub flushed_bytes: AtomicU64,
    /// Batches appended.
    pub appended_batches: AtomicU64,
    /// Records appended.
    pub appended_records: AtomicU64,
    /// Batches that were in the log already.
    pub duplicate_batches: AtomicU64,
    /// Batches refused or failed.
    pub failed_batches: AtomicU64,
    /// Store transactions of commits that succeeded.
    pub commits: AtomicU64,
    /// Attempts that were repeated.
    pub commit_retries: AtomicU64,
    /// Attempts whose outcome was unknown.
    pub commit_unknowns: AtomicU64,
    /// Objects that failed for good.
    pub failed_objects: AtomicU64,
}

/// The write path of one agent.
#[derive(Debug)]
pub struct Produce {
    parts: ProduceParts,
    settings: ProduceSettings,
    bounds: FlushBounds,
    memory: Arc<Semaphore>,
    buffer: Mutex<Buffer>,
    arrived: Notify,
    uploads: Arc<Semaphore>,
    lane: Mutex<Lane<Uploaded>>,
    poisons: Mutex<Vec<commit::Poison>>,
    turned_away: Mutex<TurnedAway>,
    version: Mutex<(StoreVersion, Option<Instant>)>,
    stats: ProduceStats,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Produce {
    /// Starts the write path on the current runtime.
    pub fn start(parts: ProduceParts, settings: ProduceSettings) -> Arc<Self> {
        let permits = (settings.memory_bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let produce = Arc::new(Self {
            bounds: FlushBounds {
                object_bytes: settings.object_bytes,
                batches: OBJECT_BATCHES,
                metadata_bytes: TRANSACTION_BYTES,
            },
            memory: Arc::new(Semaphore::new(permits)),
            buffer: Mutex::default(),
            arrived: Notify::new(),
            uploads: Arc::new(Semaphore::new(settings.uploads.max(1))),
            lane: Mutex::new(Lane::new(TRANSACTION_BYTES)),
            poisons: Mutex::default(),
            turned_away: Mutex::default(),
            version: Mutex::new((StoreVersion::ZERO, None)),
            stats: ProduceStats::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            parts,
            settings,
        });
        produce.tasks.spawn(own(Arc::clone(&produce).flush_loop()));
        produce
    }

    /// Admits a request's batches (at least one), in their order and behind everything admitted before; `held_bytes`
    /// is what the request holds in memory until it is answered. Waits while the memory budget is used up.
    ///
    /// Cancellation: dropped before it returns, nothing was admitted. Dropping the receipt undoes nothing.
    ///
    /// # Errors
    /// The agent is stopping, or the metadata store can't be read.
    pub async fn admit(&self, batches: Vec<IncomingBatch>, held_bytes: usize) -> Result<Receipt, AdmitError> {
        // In case nothing is admitted; also if this is dropped, for then the connection has ended.
        let producers: Vec<_> =
            batches.iter().filter_map(|batch| Some((batch.partition, batch.facts.producer?))).collect();
        let admitted = self.try_admit(batches, held_bytes).await;
        if admitted.is_err() {
            self.turn_away(producers.into_iter());
        }
        admitted
    }

    /// Remembers that these batches are turned away.
    fn turn_away(&self, batches: impl Iterator<Item = (TopicPartition, BatchProducer)>) {
        if penstock_types::planted!("turned-away-forgotten") {
            return;
        }
        let (mut turned_away, now) = (self.turned_away.lock(), Instant::now());
        batches.for_each(|(partition, producer)| turned_away.note(partition, producer, now));
    }

    async fn try_admit(&self, batches: Vec<IncomingBatch>, held_bytes: usize) -> Result<Receipt, AdmitError> {
        let most = (self.settings.memory_bytes / PERMIT_BYTES).max(1);
        let permits = held_bytes.div_ceil(PERMIT_BYTES).clamp(1, most);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let memory =
            Arc::clone(&self.memory).acquire_many_owned(permits).await.map_err(|_| AdmitError::Stopping)?;
        let version = self.known_version().await?;
        let arrived = Instant::now();
        let (tickets, receipt) = tickets(batches.len(), Some(memory));
        let is_news = {
            let mut buffer = self.buffer.lock();
            if self.stopping.is_cancelled() {
                return Err(AdmitError::Stopping);
            }
            let before = buffer.waiting(&self.bounds);
            let mut turned_away = self.turned_away.lock();
            for (batch, ticket) in batches.into_iter().zip(tickets) {
                let behind = batch
                    .facts
                    .producer
                    .is_some_and(|producer| turned_away.is_behind(batch.partition, &producer, arrived));
                buffer.push(PendingBatch { batch, ticket, arrived, version, behind });
            }
            // In between, what arrives changes nothing about when to flush; to wake somebody is dear.
            before.is_none_or(|before| !before.full && buffer.is_full(&self.bounds))
        };
        if is_news {
            self.arrived.notify_one();
        }
        Ok(receipt)
    }

    /// A version of the store that was read a moment ago, or is read now.
    async fn known_version(&self) -> Result<StoreVersion, StoreError> {
        {
            let (version, read_at) = *self.version.lock();
            if read_at.is_some_and(|at| at.elapsed() < VERSION_AGE) {
                return Ok(version);
            }
        }
        let read_at = Instant::now();
        let version = self.parts.store.begin(Priority::Default).read_version().await?;
        self.learn_version(version, read_at);
        Ok(version)
    }

    fn learn_version(&self, version: StoreVersion, read_at: Instant) {
        let mut known = self.version.lock();
        if version >= known.0 {
            *known = (version, Some(read_at));
        }
    }

    /// Counters.
    pub fn stats(&self) -> &ProduceStats {
        &self.stats
    }

    /// Bytes of the memory budget in use, about.
    pub fn memory_used_bytes(&self) -> u64 {
        let permits = (self.settings.memory_bytes / PERMIT_BYTES).max(1);
        (permits.saturating_sub(self.memory.available_permits()) * PERMIT_BYTES) as u64
    }

    /// Bytes that wait for a flush.
    pub fn buffered_bytes(&self) -> u64 {
        self.buffer.lock().bytes()
    }

    /// Objects between flush and commit.
    pub fn objects_in_flight(&self) -> usize {
        self.lane.lock().len()
    }

    /// Admits nothing more, finishes what was admitted, and ends. What is still unsettled when the caller stops
    /// waiting was not acknowledged to anybody.
    pub async fn shutdown(&self) {
        {
            let _buffer = self.buffer.lock();
            self.stopping.cancel();
        }
        self.memory.close();
        self.arrived.notify_one();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Why a request wasn't admitted. Nothing of it was appended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdmitError {
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// The metadata store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
