//! A partition's sealed log, batch by batch, from one offset up to another.

use std::collections::VecDeque;

use penstock_metadata::fold::{BatchEntry, BatchSource};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::log::LogRow;
use penstock_metadata::kv::{SharedStore, StoreError};
use penstock_metadata::log_compaction::{Walk, WindowValue};
use penstock_types::{Offset, TimestampMs, TopicPartition};

use crate::again;

/// Batches that are taken together, however small they are.
const MOST_BATCHES: usize = 20_000;

/// A batch as the index has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) batch: BatchEntry,
    /// That of a marker.
    pub(super) horizon: Option<TimestampMs>,
    /// Where the index value that has it begins and ends, in bytes of the index since the scan began.
    pub(super) index: (u64, u64),
}

impl Found {
    /// Its bytes in the bucket: a marker has none.
    pub(super) fn stored_bytes(&self) -> u64 {
        match self.batch.source {
            BatchSource::Object { .. } => u64::from(self.batch.facts.length),
            BatchSource::Marker { .. } => 0,
        }
    }
}

/// A scan under way.
#[derive(Debug)]
pub(super) struct Scan {
    walk: Walk,
    /// What ends at or below it was given, or isn't wanted.
    next: Offset,
    to: Offset,
    index_bytes: u64,
    page: VecDeque<Found>,
}

impl Scan {
    /// Of what has offsets from `from` up to `to`, where a batch ends.
    pub(super) fn new(partition: TopicPartition, from: Offset, to: Offset) -> Self {
        let walk = Walk::new(partition, from, to);
        Self { walk, next: from, to, index_bytes: 0, page: VecDeque::new() }
    }

    /// The next batches, of about so many bytes together; none at the end.
    pub(super) async fn next(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
        bytes: u64,
    ) -> Result<Vec<Found>, StoreError> {
        let (mut window, mut window_bytes) = (Vec::new(), 0);
        loop {
            while let Some(found) = self.page.front() {
                let is_full = window_bytes + found.stored_bytes() > bytes || window.len() >= MOST_BATCHES;
                if is_full && !window.is_empty() {
                    return Ok(window);
                }
                window_bytes += found.stored_bytes();
                window.extend(self.page.pop_front());
            }
            match again!(self.walk.next(store, keyspace))? {
                Some(values) => values.iter().for_each(|value| self.add(value)),
                None => return Ok(window),
            }
        }
    }

    /// Values that were joined since the last page have batches that were met before.
    fn add(&mut self, value: &WindowValue) {
        let index = (self.index_bytes, self.index_bytes + value.bytes as u64);
        self.index_bytes = index.1;
        for entry in &value.value.entries {
            let horizon = match &entry.row {
                LogRow::Marker { horizon, .. } => *horizon,
                LogRow::Data { .. } => None,
            };
            for batch in entry.batches() {
                let end = batch.end_offset();
                if end > self.next && end <= self.to {
                    self.next = end;
                    self.page.push_back(Found { batch, horizon, index });
                }
            }
        }
    }
}
