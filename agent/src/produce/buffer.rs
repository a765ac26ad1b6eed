//! Batches that wait for the next flush, in the order of their arrival.

use std::collections::{BTreeSet, VecDeque};

use penstock_metadata::keys::log::ROW_BATCHES;
use penstock_types::{ProducerId, StoreVersion, TopicPartition};
use tokio::time::Instant;

use super::policy::Waiting;
use super::reply::{Lineage, PendingBatch};

/// Bounds of one flush.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlushBounds {
    /// Bytes of batches; one larger batch still goes alone.
    pub(crate) object_bytes: u64,
    /// Batches.
    pub(crate) batches: usize,
    /// About how many bytes of a store transaction it may take.
    pub(crate) metadata_bytes: usize,
}

/// About what a batch adds to a transaction: its facts, and its part of a row.
const BATCH_METADATA: usize = 40;
/// About what a partition adds: row key and head, counter, conflict ranges.
const PARTITION_METADATA: usize = 260;
/// About what a producer in a partition adds: its state, written and read, with conflict ranges.
const PRODUCER_METADATA: usize = 420;

/// What a flush takes.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Sorted by partition; within one in the order of arrival.
    pub(crate) batches: Vec<PendingBatch>,
    /// The partitions.
    pub(crate) partitions: BTreeSet<TopicPartition>,
    /// About how many bytes of a transaction it takes.
    pub(crate) metadata_bytes: usize,
    /// A version read before its first batch was admitted.
    pub(crate) version: StoreVersion,
}

/// The buffer.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    batches: VecDeque<PendingBatch>,
    bytes: u64,
}

impl Buffer {
    pub(crate) fn push(&mut self, batch: PendingBatch) {
        self.bytes += batch.length_bytes();
        self.batches.push_back(batch);
    }

    /// Bytes of batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the policy wants to know; `None` when nothing waits.
    pub(crate) fn waiting(&self, bounds: &FlushBounds) -> Option<Waiting> {
        let oldest: Instant = self.batches.front()?.arrived;
        Some(Waiting { oldest, full: self.is_full(bounds) })
    }

    /// Whether what waits fills an object.
    pub(crate) fn is_full(&self, bounds: &FlushBounds) -> bool {
        self.bytes >= bounds.object_bytes || self.batches.len() >= bounds.batches
    }

    /// Takes what one object holds, from the front.
    pub(crate) fn take(&mut self, bounds: &FlushBounds) -> Option<Flush> {
        let mut taken: Vec<PendingBatch> = Vec::new();
        let mut partitions = BTreeSet::new();
        let mut producers: BTreeSet<(TopicPartition, ProducerId)> = BTreeSet::new();
        let (mut bytes, mut metadata_bytes) = (0, 200);
        while let Some(next) = self.batches.front() {
            let length = next.length_bytes();
            let mut metadata = BATCH_METADATA + PARTITION_METADATA / ROW_BATCHES;
            if !partitions.contains(&next.batch.partition) {
                metadata += PARTITION_METADATA;
            }
            if next.lineage().is_some_and(|lineage| !producers.contains(&lineage)) {
                metadata += PRODUCER_METADATA;
            }
            let over = bytes + length > bounds.object_bytes
                || taken.len() >= bounds.batches
                || metadata_bytes + metadata > bounds.metadata_bytes;
            if over && !taken.is_empty() {
                break;
            }
            let Some(batch) = self.batches.pop_front() else { break };
            bytes += length;
            metadata_bytes += metadata;
            partitions.insert(batch.batch.partition);
            producers.extend(batch.lineage());
            taken.push(batch);
        }
        self.bytes -= bytes;
        let version = taken.iter().map(|batch| batch.version).min()?;
        // Stable: within a partition the order of arrival stays.
        taken.sort_by_key(|batch| batch.batch.partition);
        Some(Flush { batches: taken, partitions, metadata_bytes, version })
    }

    /// Takes out what `lineages` have waiting.
    pub(crate) fn remove(&mut self, lineages: &BTreeSet<Lineage>) -> Vec<PendingBatch> {
        let all = std::mem::take(&mut self.batches);
        let (removed, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|batch| batch.lineage().is_some_and(|lineage| lineages.contains(&lineage)));
        self.batches = kept.into();
        self.bytes = self.batches.iter().map(PendingBatch::length_bytes).sum();
        removed
    }
}
