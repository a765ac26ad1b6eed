//! What the cache counts. Metrics are rendered from these elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A cache's counters since its start.
#[derive(Debug, Default)]
pub struct CacheStats {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) served_bytes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) load_failures: AtomicU64,
    pub(super) readahead_loads: AtomicU64,
    pub(super) loaded_bytes: AtomicU64,
    pub(super) evictions: Arc<AtomicU64>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStatsSnapshot {
    /// Entries (blocks, or written objects) that a read found.
    pub hits: u64,
    /// Blocks that a read did not find, whether or not they were on their way already.
    pub misses: u64,
    /// Bytes asked for by reads.
    pub served_bytes: u64,
    /// Written objects put in.
    pub written: u64,
    /// Requests to the source.
    pub loads: u64,
    /// Loads that failed or timed out.
    pub load_failures: u64,
    /// Loads ahead of a lagging reader, among `loads`.
    pub readahead_loads: u64,
    /// Bytes loaded.
    pub loaded_bytes: u64,
    /// Entries displaced by others.
    pub evictions: u64,
    /// Bytes held against the budget of written objects and the tail.
    pub tail_weight_bytes: u64,
    /// Bytes held against the budget of lagging readers.
    pub lagging_weight_bytes: u64,
    /// Bytes of all entries alive, with those that were evicted and aren't dropped yet.
    pub held_bytes: u64,
    /// Blocks being loaded, or waiting for it.
    pub blocks_loading: u64,
}

impl CacheStats {
    pub(super) fn hit(&self, entries: u64, bytes: u64) {
        self.hits.fetch_add(entries, Ordering::Relaxed);
        self.served_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> CacheStatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStatsSnapshot {
            hits: read(&self.hits),
            misses: read(&self.misses),
            served_bytes: read(&self.served_bytes),
            written: read(&self.written),
            loads: read(&self.loads),
            load_failures: read(&self.load_failures),
            readahead_loads: read(&self.readahead_loads),
            loaded_bytes: read(&self.loaded_bytes),
            evictions: read(&self.evictions),
            ..CacheStatsSnapshot::default()
        }
    }
}
