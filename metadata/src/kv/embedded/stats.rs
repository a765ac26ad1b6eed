//! What the store did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an embedded store did since it was opened, and how it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbeddedStats {
    /// Commits that succeeded.
    pub commits: u64,
    /// Commits refused for a conflict or their age.
    pub refused: u64,
    /// Groups of commits written.
    pub groups: u64,
    /// Times that a write was brought to stable storage.
    pub fsyncs: u64,
    /// Rows written, tombstones included.
    pub rows: u64,
    /// Commits that wait.
    pub queued: usize,
    /// States kept to be read at.
    pub snapshots: usize,
    /// Armed watches.
    pub watches: usize,
    /// Bytes of its tables on disk (journals not counted).
    pub bytes_on_disk: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) fsyncs: AtomicU64,
    pub(super) rows: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn read(
        &self,
        queued: usize,
        snapshots: usize,
        watches: usize,
        bytes_on_disk: u64,
    ) -> EmbeddedStats {
        EmbeddedStats {
            commits: self.commits.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            groups: self.groups.load(Ordering::Relaxed),
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            queued,
            snapshots,
            watches,
            bytes_on_disk,
        }
    }
}
