//! What the store did, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of the sizes of groups of commits.
pub const GROUP_SIZES: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1_024];

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
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Microseconds of writing groups and waiting for stable storage.
    pub write_microseconds: u64,
    /// Groups by the number of their commits: up to each of [`GROUP_SIZES`], and above.
    pub group_sizes: [u64; GROUP_SIZES.len() + 1],
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
    pub(super) bytes: AtomicU64,
    pub(super) write_microseconds: AtomicU64,
    group_sizes: [AtomicU64; GROUP_SIZES.len() + 1],
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// A group of so many commits was written.
    pub(super) fn group_of(&self, commits: usize) {
        let place = GROUP_SIZES.partition_point(|most| *most < commits as u64);
        Self::add(&self.group_sizes[place], 1);
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
            bytes: self.bytes.load(Ordering::Relaxed),
            write_microseconds: self.write_microseconds.load(Ordering::Relaxed),
            group_sizes: std::array::from_fn(|place| self.group_sizes[place].load(Ordering::Relaxed)),
            queued,
            snapshots,
            watches,
            bytes_on_disk,
        }
    }
}
