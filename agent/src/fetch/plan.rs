//! How a fetch's limits are shared out among its partitions, as Apache Kafka's `readFromLog` does. Pure.

use bytes::Bytes;
use penstock_metadata::fold::{AbortedTransaction, BatchEntry};
use penstock_metadata::lookup::{Ahead, PlanLimits};
use penstock_types::{NodeId, Offset};

use super::FetchedPartition;

/// What is left of an answer.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    left_bytes: u64,
    at_least_one: bool,
}

impl FetchLimits {
    /// An answer of at most `max_bytes`, but for its first batch.
    pub fn new(max_bytes: u64) -> Self {
        Self { left_bytes: max_bytes, at_least_one: !penstock_types::planted!("large-batch-never-sent") }
    }

    /// What a partition may take; `None` for nothing.
    pub fn of_partition(&self, max_bytes: u64, end: Offset) -> Option<PlanLimits> {
        let max_bytes = max_bytes.min(self.left_bytes);
        (max_bytes > 0 || self.at_least_one).then_some(PlanLimits {
            end,
            max_bytes,
            at_least_one: self.at_least_one,
        })
    }

    /// A partition took `bytes`.
    pub fn take(&mut self, bytes: u64) {
        if bytes > 0 {
            self.at_least_one = false;
        }
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
    }
}

/// What a partition's part of the answer will be.
#[derive(Debug, Clone)]
pub struct PlannedPartition {
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// Where the tail begins: below it a reader lags.
    pub sealed: Offset,
    /// The batches.
    pub batches: Vec<BatchEntry>,
    /// What follows them in the object of the last one.
    pub ahead: Option<Ahead>,
    /// The aborted transactions among them.
    pub aborted: Vec<AbortedTransaction>,
    /// Where the client is to read instead: then there are no batches.
    pub preferred: Option<NodeId>,
}

impl PlannedPartition {
    /// Bytes of the batches.
    pub fn bytes(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.facts.length)).sum()
    }

    pub(super) fn with_records(self, records: Vec<Bytes>) -> FetchedPartition {
        let bytes = self.bytes();
        FetchedPartition {
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
            log_start: self.log_start,
            aborted: self.aborted,
            records,
            bytes,
            preferred: self.preferred,
        }
    }
}
