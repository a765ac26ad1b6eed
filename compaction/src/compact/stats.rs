//! What is counted of log compaction.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the job.
#[derive(Debug, Default)]
pub struct CompactionStats {
    /// Runs that went to their end.
    pub runs: AtomicU64,
    /// Batches whose records were looked at, for their keys or to be filtered.
    pub batches: AtomicU64,
    /// Records in batches that were filtered.
    pub records: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Requests for them.
    pub gets: AtomicU64,
    /// Records dropped, for whatever reason.
    pub dropped: AtomicU64,
    /// Tombstones among them whose time was over.
    pub tombstones: AtomicU64,
    /// Batches rewritten with fewer records, or with a delete horizon.
    pub rewritten: AtomicU64,
    /// Batches that lay between rewritten ones and were copied with them.
    pub copied: AtomicU64,
    /// Batches, and markers, that left the log.
    pub gone: AtomicU64,
    /// Objects written.
    pub outputs: AtomicU64,
    /// Their bytes.
    pub written_bytes: AtomicU64,
    /// Outputs that nothing came to refer to, given up.
    pub given_up: AtomicU64,
    /// Runs that ended where the keys no longer fitted the memory for them.
    pub map_full: AtomicU64,
    /// Partitions that failed, to be compacted later.
    pub failures: AtomicU64,
    /// Runs that ended at a batch that can't be read.
    pub unreadable: AtomicU64,
    /// 1 while nothing is compacted since the clock can't be believed.
    pub waits_for_clock: AtomicU64,
    /// Partitions of this agent's that were due at the last look.
    pub due_partitions: AtomicU64,
    /// Bytes of this agent's partitions that no run has looked at, as of the last look.
    pub dirty_bytes: AtomicU64,
    /// For how many seconds the partition that is due for the longest has been so.
    pub overdue_seconds: AtomicU64,
    /// The largest share of such bytes in a partition, per mille.
    pub max_dirty_per_mille: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
