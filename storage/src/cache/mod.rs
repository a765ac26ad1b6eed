//! The cache that fetches are answered from: what this agent wrote, and blocks of objects read from the bucket.
//!
//! Two shapes of entry share one budget, least recently used first out:
//!
//! - a **written** object: the very slices that were uploaded, whole, put in by [`Cache::insert_written`];
//! - a **block** of an object (1 MiB of it, aligned), put in by a load.
//!
//! Lagging readers load into a budget of their own, with larger requests and readahead, so that reading a log from
//! its beginning evicts nothing that the readers at its end need.
//!
//! # Invariants
//! - A block is loaded once, however many wait for it; each of them gets an answer, whatever becomes of the load.
//! - Errors aren't kept. Data objects never change, so entries never go stale.
//! - A new entry is always let in (least recently used, no admission by frequency): what was just written is what
//!   will be read next.
//! - A block is an allocation of its own and of exactly its size. A written chunk pins the buffer that it is a slice
//!   of, which is the request that it came in with. The batches of a request are nearly always uploaded together, so
//!   the buffer is counted as its chunks and an eighth more; short chunks, of which a request holds many and which
//!   may be spread, are copied together instead (`copy_chunks_below`).
//! - Memory is bounded: the two budgets, plus the loads under way (their bytes, and their number).
//!
//! # Deliberately absent
//! What the bytes mean, which object holds an offset, time-to-live, the other agents' caches (they will be a
//! [`BlockSource`] in front of the bucket).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use penstock_types::ObjectId;

mod entry;
mod flight;
mod load;
mod options;
mod source;
mod stats;
#[cfg(test)]
mod tests;

pub use options::CacheOptions;
pub use source::{BlockSource, BucketSource};
pub use stats::{CacheStats, CacheStatsSnapshot};

use crate::bucket::{Bucket, ErrorClass};
use entry::{BlockKey, Entry};
use flight::Flights;
use load::Loader;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadKind {
    /// A reader near the end of the log.
    Tail,
    /// A reader far behind, who will go on reading.
    Lagging {
        /// Where the section of its partition ends within the object: nothing behind it is read ahead.
        section_end: u64,
    },
}

/// Why a range can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The object isn't in the bucket (any more): look up anew where the records are.
    #[error("object {object} is gone")]
    Gone {
        /// The object.
        object: ObjectId,
    },
    /// The object is shorter than what was asked for: whoever asked is wrong about it.
    #[error("object {object} holds {object_bytes} bytes, {range:?} was asked for")]
    OutOfRange {
        /// The object.
        object: ObjectId,
        /// Its size.
        object_bytes: u64,
        /// What was asked for.
        range: Range<u64>,
    },
    /// The bucket failed, or took too long; a later read may succeed.
    #[error("object {object} can't be read now ({}): {detail}", class.label())]
    Unavailable {
        /// The object.
        object: ObjectId,
        /// The bucket's failure.
        class: ErrorClass,
        /// The bucket's words.
        detail: String,
    },
    /// As many blocks are being loaded as may be; a later read may succeed.
    #[error("too many loads are waiting")]
    Busy,
}

type Store = moka::future::Cache<BlockKey, Arc<Entry>>;

/// The cache of one agent. Shared as `Arc<Cache>`. Dropping it stops the loads under way.
#[derive(Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    loader: Loader,
}

/// What readers and loads share.
#[derive(Debug)]
struct Shared {
    options: CacheOptions,
    source: Arc<dyn BlockSource>,
    tail: Store,
    lagging: Store,
    flights: Flights,
    stats: CacheStats,
    /// Bytes of all entries alive, evicted ones that aren't dropped yet included.
    held_bytes: Arc<AtomicU64>,
}

impl Cache {
    /// A cache over a bucket.
    ///
    /// # Panics
    /// With options outside their bounds ([`CacheOptions::check`]).
    pub fn new(bucket: Arc<Bucket>, options: CacheOptions) -> Arc<Self> {
        Self::with_source(Arc::new(BucketSource::new(bucket)), options)
    }

    /// A cache over any source of blocks.
    ///
    /// # Panics
    /// With options outside their bounds ([`CacheOptions::check`]).
    pub fn with_source(source: Arc<dyn BlockSource>, options: CacheOptions) -> Arc<Self> {
        if let Err(reason) = options.check() {
            panic!("cache options: {reason}");
        }
        let stats = CacheStats::default();
        let shared = Arc::new(Shared {
            tail: store(options.tail_bytes, &stats),
            lagging: store(options.lagging_bytes, &stats),
            flights: Flights::default(),
            source,
            stats,
            held_bytes: Arc::default(),
            options,
        });
        let loader = Loader::new(&shared.options);
        Arc::new(Self { shared, loader })
    }

    /// Keeps an object that this agent has just written: `chunks` are all its bytes, as they were uploaded.
    pub async fn insert_written(&self, object: ObjectId, chunks: &[Bytes]) {
        let shared = &self.shared;
        let entry = Entry::written(chunks, shared.options.copy_chunks_below, &shared.held_bytes);
        shared.stats.written.fetch_add(1, Ordering::Relaxed);
        shared.keep(&shared.tail, BlockKey::written(object), Arc::new(entry)).await;
    }

    /// The bytes of `range` of the object, as slices in order. Nothing is copied; the slices keep the memory that
    /// they stand in. A slice ends where a block or an uploaded chunk ends, so a record batch may come in pieces.
    pub async fn read(
        &self,
        object: ObjectId,
        range: Range<u64>,
        kind: ReadKind,
    ) -> Result<Vec<Bytes>, ReadError> {
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        let shared = &self.shared;
        if let Some(entry) = shared.tail.get(&BlockKey::written(object)).await {
            shared.stats.hit(1, range.end - range.start);
            return slices(object, &range, std::iter::once(&*entry));
        }
        let blocks = shared.blocks_of(object, &range)?;
        let mut found = Vec::with_capacity(blocks.len());
        for block in blocks.clone() {
            found.push(shared.cached(BlockKey { object, block }).await);
        }
        let missing = found.iter().filter(|entry| entry.is_none()).count() as u64;
        shared.stats.misses.fetch_add(missing, Ordering::Relaxed);
        shared.stats.hit(found.len() as u64 - missing, range.end - range.start);
        // A lagging reader's next blocks are asked for before this read waits for its own.
        let waits = self.loader.request(shared, object, blocks.clone(), &found, kind)?;
        for wait in waits {
            let loaded = wait.finished(object).await?;
            for (block, slot) in blocks.clone().zip(&mut found) {
                if slot.is_none() {
                    *slot = loaded.block(block);
                }
            }
        }
        // A block that still isn't there lies behind the object's end, which `slices` reports.
        slices(object, &range, found.iter().flatten().map(|entry| &**entry))
    }

    /// The counters.
    pub fn stats(&self) -> CacheStatsSnapshot {
        let shared = &self.shared;
        let mut snapshot = shared.stats.snapshot();
        snapshot.tail_weight_bytes = shared.tail.weighted_size();
        snapshot.lagging_weight_bytes = shared.lagging.weighted_size();
        snapshot.held_bytes = shared.held_bytes.load(Ordering::Relaxed);
        snapshot.blocks_loading = shared.flights.len() as u64;
        snapshot
    }

    /// Carries out evictions that are due, so that the counters are exact.
    pub async fn settle(&self) {
        self.shared.tail.run_pending_tasks().await;
        self.shared.lagging.run_pending_tasks().await;
    }
}

impl Shared {
    /// The numbers of the blocks that `range` touches.
    fn blocks_of(&self, object: ObjectId, range: &Range<u64>) -> Result<Range<u32>, ReadError> {
        let number =
            |at: u64| u32::try_from(at / self.options.block_bytes).ok().filter(|n| *n < BlockKey::WRITTEN);
        match (number(range.start), number(range.end - 1)) {
            (Some(first), Some(last)) => Ok(first..last + 1),
            _ => Err(ReadError::OutOfRange { object, object_bytes: 0, range: range.clone() }),
        }
    }

    async fn cached(&self, key: BlockKey) -> Option<Arc<Entry>> {
        let planted = penstock_types::planted!("cache-without-object");
        let object = if planted { ObjectId::from_bytes([0; ObjectId::LENGTH]) } else { key.object };
        let key = BlockKey { object, ..key };
        match self.tail.get(&key).await {
            Some(entry) => Some(entry),
            None => self.lagging.get(&key).await,
        }
    }

    fn is_cached(&self, key: &BlockKey) -> bool {
        self.tail.contains_key(key) || self.lagging.contains_key(key)
    }

    /// Lets an entry in and evicts what it displaces before returning, so that the budget holds at every moment.
    async fn keep(&self, store: &Store, key: BlockKey, entry: Arc<Entry>) {
        let is_block = key != BlockKey::written(key.object);
        let planted = is_block && penstock_types::planted!("cache-without-object");
        let object = if planted { ObjectId::from_bytes([0; ObjectId::LENGTH]) } else { key.object };
        let key = BlockKey { object, ..key };
        store.insert(key, entry).await;
        store.run_pending_tasks().await;
    }
}

fn store(bytes: u64, stats: &CacheStats) -> Store {
    let evictions = stats.evictions.clone();
    moka::future::Cache::builder()
        .max_capacity(bytes)
        .weigher(|_, entry: &Arc<Entry>| entry.weight())
        .eviction_policy(EvictionPolicy::lru())
        .eviction_listener(move |_, _, cause| {
            evictions.fetch_add(u64::from(cause.was_evicted()), Ordering::Relaxed);
        })
        .build()
}

/// Cuts `range` out of entries that follow one another.
fn slices<'a>(
    object: ObjectId,
    range: &Range<u64>,
    entries: impl Iterator<Item = &'a Entry>,
) -> Result<Vec<Bytes>, ReadError> {
    let mut answer = Vec::with_capacity(2);
    let mut at = range.start;
    let mut object_bytes = 0;
    for entry in entries {
        object_bytes = entry.object_bytes();
        at = entry.slice(at, range.end, &mut answer);
    }
    if at == range.end {
        return Ok(answer);
    }
    Err(ReadError::OutOfRange { object, object_bytes, range: range.clone() })
}
