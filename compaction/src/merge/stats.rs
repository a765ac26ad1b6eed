//! What is counted of merging.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the job.
#[derive(Debug, Default)]
pub struct MergeStats {
    /// Units cut.
    pub cut: AtomicU64,
    /// Units merged to their end.
    pub units: AtomicU64,
    /// Objects read.
    pub inputs: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Requests for them.
    pub gets: AtomicU64,
    /// Objects written.
    pub outputs: AtomicU64,
    /// Their bytes.
    pub written_bytes: AtomicU64,
    /// Batches that refer to them.
    pub batches: AtomicU64,
    /// Values of the index that were joined with others.
    pub joined: AtomicU64,
    /// Batches that can't be read, or are not what the log says: left where they are when their unit was ended.
    pub unreadable: AtomicU64,
    /// Outputs that nothing came to refer to, given up.
    pub given_up: AtomicU64,
    /// Units that failed or were not done to their end, to be merged again.
    pub failures: AtomicU64,
    /// Units that wait, or are being merged by any agent.
    pub waiting_units: AtomicU64,
    /// Their bytes.
    pub waiting_bytes: AtomicU64,
    /// Seconds since the first commit of the oldest of them.
    pub waiting_seconds: AtomicU64,
    /// Seconds since the oldest commit whose objects are not merged, in a unit or not cut into one yet.
    pub queue_seconds: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
