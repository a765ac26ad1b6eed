//! What a bucket counts. Metrics are rendered from these elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{ErrorClass, Failure};
use super::histogram::{LatencyHistogram, LatencySnapshot};

/// A bucket's counters since its start.
#[derive(Debug, Default)]
pub struct BucketStats {
    pub(super) puts: AtomicU64,
    pub(super) put_bytes: AtomicU64,
    pub(super) put_requests: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) get_bytes: AtomicU64,
    pub(super) get_requests: AtomicU64,
    pub(super) deletes: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) hedges: AtomicU64,
    pub(super) hedge_wins: AtomicU64,
    errors: [AtomicU64; ErrorClass::ALL.len()],
    pub(super) put_latency: LatencyHistogram,
    pub(super) get_latency: LatencyHistogram,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketStatsSnapshot {
    /// Uploads that succeeded.
    pub puts: u64,
    /// Bytes of those uploads, each counted once.
    pub put_bytes: u64,
    /// Upload requests sent, with retries and hedges: what the store bills.
    pub put_requests: u64,
    /// Reads (ranges, suffixes, heads) that succeeded.
    pub gets: u64,
    /// Bytes of those reads.
    pub get_bytes: u64,
    /// Read requests sent.
    pub get_requests: u64,
    /// Deletions that succeeded.
    pub deletes: u64,
    /// Listings begun.
    pub lists: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Second copies of slow uploads.
    pub hedges: u64,
    /// Uploads whose second copy was answered first.
    pub hedge_wins: u64,
    /// Failed requests by class, in the order of [`ErrorClass::ALL`].
    pub errors: Vec<(ErrorClass, u64)>,
    /// Uploads from the first request to the answer.
    pub put_latency: LatencySnapshot,
    /// Reads from the first request to the last byte.
    pub get_latency: LatencySnapshot,
}

impl BucketStats {
    /// The counters now.
    pub fn snapshot(&self) -> BucketStatsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BucketStatsSnapshot {
            puts: read(&self.puts),
            put_bytes: read(&self.put_bytes),
            put_requests: read(&self.put_requests),
            gets: read(&self.gets),
            get_bytes: read(&self.get_bytes),
            get_requests: read(&self.get_requests),
            deletes: read(&self.deletes),
            lists: read(&self.lists),
            retries: read(&self.retries),
            hedges: read(&self.hedges),
            hedge_wins: read(&self.hedge_wins),
            errors: ErrorClass::ALL
                .into_iter()
                .map(|class| (class, read(&self.errors[class.index()])))
                .collect(),
            put_latency: self.put_latency.snapshot(),
            get_latency: self.get_latency.snapshot(),
        }
    }

    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, failure: &Failure) {
        Self::add(&self.errors[failure.class.index()], 1);
    }
}
