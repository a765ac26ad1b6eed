//! The fold: from log rows in the store's order to offsets, open transactions and what else depends on order.
//!
//! A pure function, written once: tail views, the seal and checks all use it.

use std::collections::BTreeMap;

use penstock_types::{BatchPosition, LeaderEpoch, ObjectId, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::keys::log::{BatchFacts, LogRow, flags};

/// The largest timestamp and the batch that first had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxTimestamp {
    /// Milliseconds; -1 while there is none.
    pub timestamp: TimestampMs,
    /// Base offset of the first batch with it.
    pub base_offset: Offset,
}

/// All that depends on the order of a partition's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldState {
    /// The last row folded.
    pub position: BatchPosition,
    /// The offset of the next record.
    pub next_offset: Offset,
    /// Bytes of all batches ever folded.
    pub bytes: u64,
    /// The largest timestamp of all.
    pub max_timestamp: MaxTimestamp,
    /// Transactions without an end yet, with the first offset of each.
    pub open_transactions: BTreeMap<ProducerId, Offset>,
}

impl Default for FoldState {
    fn default() -> Self {
        Self {
            position: BatchPosition::ZERO,
            next_offset: Offset::ZERO,
            bytes: 0,
            max_timestamp: MaxTimestamp { timestamp: -1, base_offset: Offset::ZERO },
            open_transactions: BTreeMap::new(),
        }
    }
}

/// A transaction that was aborted, as fetch answers list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
}

/// A row with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Its place in the store's order.
    pub at: BatchPosition,
    /// The row.
    pub row: LogRow,
}

/// Where the bytes of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSource {
    /// A data object.
    Object {
        /// Which.
        object: ObjectId,
        /// From which byte.
        position: u64,
    },
    /// Nowhere: a transaction marker, made up on read.
    Marker {
        /// Whose transaction.
        producer: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// Aborted, else committed.
        abort: bool,
        /// The coordinator's epoch.
        coordinator_epoch: i32,
    },
}

/// A batch with its place in the log and its bytes' place in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Its place in the store's order.
    pub at: BatchPosition,
    /// The epoch that fetch answers show.
    pub leader_epoch: LeaderEpoch,
    /// What the log knows of it.
    pub facts: BatchFacts,
    /// Where its bytes are.
    pub source: BatchSource,
}

impl BatchEntry {
    /// The offset behind its last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.facts.records))
    }
}

/// Bytes of the batch that is made up for a marker: header 61, one record of 17.
pub const MARKER_BATCH_BYTES: u32 = 78;

impl LogEntry {
    /// The offset behind its last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(self.row.records())
    }

    /// Its batches, ascending.
    pub fn batches(&self) -> impl Iterator<Item = BatchEntry> + '_ {
        let (leader_epoch, facts, marker) = match &self.row {
            LogRow::Data { leader_epoch, batches, .. } => (*leader_epoch, batches.as_slice(), None),
            LogRow::Marker { leader_epoch, .. } => (*leader_epoch, [].as_slice(), self.marker()),
        };
        let mut base_offset = self.base_offset;
        let mut n = self.at.n;
        let (object, mut position) = match &self.row {
            LogRow::Data { object, position, .. } => (Some(*object), *position),
            LogRow::Marker { .. } => (None, 0),
        };
        let data = facts.iter().filter_map(move |facts| {
            let entry = BatchEntry {
                base_offset,
                at: BatchPosition { n, ..self.at },
                leader_epoch,
                facts: *facts,
                source: BatchSource::Object { object: object?, position },
            };
            base_offset = entry.end_offset();
            position += u64::from(facts.length);
            n += 1;
            Some(entry)
        });
        data.chain(marker)
    }

    fn marker(&self) -> Option<BatchEntry> {
        let LogRow::Marker { leader_epoch, producer, epoch, abort, coordinator_epoch, timestamp, .. } =
            &self.row
        else {
            return None;
        };
        let facts = BatchFacts {
            length: MARKER_BATCH_BYTES,
            records: 1,
            flags: flags::TRANSACTIONAL,
            base_timestamp: *timestamp,
            max_timestamp: *timestamp,
            producer: None,
        };
        let source = BatchSource::Marker {
            producer: *producer,
            epoch: *epoch,
            abort: *abort,
            coordinator_epoch: *coordinator_epoch,
        };
        let (base_offset, at, leader_epoch) = (self.base_offset, self.at, *leader_epoch);
        Some(BatchEntry { base_offset, at, leader_epoch, facts, source })
    }
}

impl FoldState {
    /// Folds the next row of the partition: gives it its offset. A marker that aborts also gives the aborted
    /// transaction.
    ///
    /// # Panics
    /// If the row doesn't stand behind the last one: the caller reads rows in the store's order.
    pub fn fold(&mut self, at: BatchPosition, row: LogRow) -> (LogEntry, Option<AbortedTransaction>) {
        assert!(at > self.position, "a row at {at:?} is folded behind {:?}", self.position);
        let entry = LogEntry { base_offset: self.next_offset, at, row };
        self.position = at;
        self.next_offset = entry.end_offset();
        let mut aborted = None;
        match &entry.row {
            LogRow::Data { .. } => entry.batches().for_each(|batch| self.fold_batch(&batch)),
            LogRow::Marker { producer, abort, .. } => {
                let first = self.open_transactions.remove(producer);
                if let (Some(first_offset), true) = (first, *abort) {
                    let last_offset = entry.base_offset;
                    aborted = Some(AbortedTransaction { producer: *producer, first_offset, last_offset });
                }
            }
        }
        (entry, aborted)
    }

    fn fold_batch(&mut self, batch: &BatchEntry) {
        self.bytes += u64::from(batch.facts.length);
        if batch.facts.max_timestamp > self.max_timestamp.timestamp {
            self.max_timestamp =
                MaxTimestamp { timestamp: batch.facts.max_timestamp, base_offset: batch.base_offset };
        }
        if let (true, Some(producer)) = (batch.facts.flags & flags::TRANSACTIONAL != 0, &batch.facts.producer)
        {
            self.open_transactions.entry(producer.id).or_insert(batch.base_offset);
        }
    }

    /// The last stable offset, without the log start's part in it: the first offset of the first open transaction,
    /// else the end (KIP-98).
    pub fn first_unstable_offset(&self) -> Offset {
        self.open_transactions.values().min().copied().unwrap_or(self.next_offset)
    }
}
