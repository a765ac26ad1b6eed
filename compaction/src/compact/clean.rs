//! Which batches and records stay: Kafka's `Cleaner.shouldRetainRecord` and `CleanedTransactionMetadata`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use penstock_metadata::fold::{AbortedTransaction, BatchEntry, BatchSource};
use penstock_metadata::keys::log::flags;
use penstock_storage::batch::{
    BatchError, BatchHeader, FilterOptions, Filtered, RecordView, filter_batch, for_each_record,
};
use penstock_types::{BatchPosition, Offset, ProducerId, TimestampMs};

use super::map::KeyMap;
use super::scan::Found;

/// The transactions that were aborted, by producer: the first offset of each under that of its marker.
#[derive(Debug, Default)]
pub(super) struct Aborted(BTreeMap<ProducerId, BTreeMap<Offset, Offset>>);

impl Aborted {
    pub(super) fn new(transactions: &[AbortedTransaction]) -> Self {
        let mut aborted = Self::default();
        for AbortedTransaction { producer, first_offset, last_offset } in transactions {
            aborted.0.entry(*producer).or_default().insert(*last_offset, *first_offset);
        }
        aborted
    }

    /// Whether a batch belongs to one.
    pub(super) fn has(&self, batch: &BatchEntry) -> bool {
        let Some(producer) = transaction_of(batch) else { return false };
        let behind = self.0.get(&producer).and_then(|of| of.range(batch.base_offset..).next());
        behind.is_some_and(|(_, first)| *first <= batch.base_offset)
    }
}

/// The producer whose transaction a batch of records belongs to.
fn transaction_of(batch: &BatchEntry) -> Option<ProducerId> {
    let producer = batch.facts.producer?;
    (batch.facts.flags & flags::TRANSACTIONAL != 0).then_some(producer.id)
}

/// What the keys of the dirty part say.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) keys: KeyMap,
    /// Up to where they are known: where the run ends.
    pub(super) end: Offset,
    /// The last batch below that.
    pub(super) last: BatchPosition,
    /// Bytes of the dirty part below it.
    pub(super) bytes: u64,
}

/// Puts the keys of a batch into the map.
pub(super) fn map_keys(keys: &mut KeyMap, batch: &BatchEntry, bytes: &Bytes) -> Result<(), BatchError> {
    for_each_record(bytes, batch.base_offset, |record| {
        if let Some(key) = record.key {
            keys.put(key, record.offset);
        }
    })
}

/// What a run decides of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is left as it is.
    Stays,
    /// It leaves the log.
    Goes,
    /// It is replaced.
    Rewritten { bytes: Bytes, header: BatchHeader },
    /// It is a marker, and gets a delete horizon.
    Horizon(TimestampMs),
}

/// How many records of a batch were looked at, and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) dropped: u64,
    pub(super) tombstones: u64,
}

/// Decides of each batch of a run, which come in the order of the log, from its start on.
#[derive(Debug)]
pub(super) struct Cleaner {
    pub(super) mapped: Mapped,
    pub(super) aborted: Aborted,
    pub(super) now_ms: TimestampMs,
    pub(super) delete_retention_ms: i64,
    /// Producers of whose transaction under way there were batches.
    seen: BTreeSet<ProducerId>,
}

impl Cleaner {
    pub(super) fn new(
        mapped: Mapped,
        aborted: Aborted,
        now_ms: TimestampMs,
        delete_retention_ms: i64,
    ) -> Self {
        Self { mapped, aborted, now_ms, delete_retention_ms, seen: BTreeSet::new() }
    }

    /// Whether the bytes of a batch are needed to decide.
    pub(super) fn needs(&self, found: &Found) -> bool {
        match found.batch.source {
            BatchSource::Marker { .. } => false,
            BatchSource::Object { .. } => !self.aborted.has(&found.batch) || self.is_last(found),
        }
    }

    /// The last batch of a run stays, empty if need be: a reader that waits for the log's end gets there by it.
    fn is_last(&self, found: &Found) -> bool {
        found.batch.at == self.mapped.last && !penstock_types::planted!("compact-last-batch-goes")
    }

    /// A marker stays until nothing is left of its transaction; the run that finds so gives it a delete horizon, and one
    /// behind that takes it out.
    pub(super) fn marker(&mut self, found: &Found, producer: ProducerId) -> Verdict {
        if self.seen.remove(&producer) {
            return Verdict::Stays;
        }
        match found.horizon {
            None => Verdict::Horizon(self.now_ms.saturating_add(self.delete_retention_ms)),
            Some(horizon) if horizon <= self.now_ms && !self.is_last(found) => Verdict::Goes,
            Some(_) => Verdict::Stays,
        }
    }

    /// Decides of a batch of records; `bytes` if they are [needed](Self::needs).
    pub(super) fn batch(
        &mut self,
        found: &Found,
        stored: Option<(&Bytes, BatchHeader)>,
    ) -> Result<(Verdict, Counts), BatchError> {
        let batch = &found.batch;
        self.seen.extend(transaction_of(batch));
        let (discard, keep_empty) = (self.aborted.has(batch), self.is_last(found));
        let offsets = u64::from(batch.facts.records);
        let Some((bytes, header)) = stored else {
            return Ok((Verdict::Goes, Counts { records: offsets, dropped: offsets, tombstones: 0 }));
        };
        let horizon = header.delete_horizon();
        let are_late = horizon.is_some_and(|horizon| horizon <= self.now_ms)
            || penstock_types::planted!("tombstone-early");
        let (now, delete_retention_ms) = (self.now_ms, self.delete_retention_ms);
        let options = FilterOptions { discard, keep_empty, now, delete_retention_ms };
        let mut counts = Counts::default();
        let filtered = filter_batch(bytes, batch.base_offset, batch.leader_epoch, &options, |record| {
            counts.records += 1;
            let is_newest = self.is_newest(record);
            let is_late = are_late && record.value.is_none();
            counts.tombstones += u64::from(is_newest && is_late);
            let stays = is_newest && !is_late;
            counts.dropped += u64::from(!stays);
            stays
        })?;
        let verdict = match filtered {
            Filtered::Unchanged => Verdict::Stays,
            Filtered::Gone => Verdict::Goes,
            Filtered::Rewritten { bytes, header } => Verdict::Rewritten { bytes, header },
        };
        Ok((verdict, counts))
    }

    /// As far as the map knows. What has no key is nobody's newest.
    fn is_newest(&self, record: &RecordView<'_>) -> bool {
        let Some(key) = record.key else { return false };
        let newest = self.mapped.keys.newest(key);
        if penstock_types::planted!("compact-drops-newest") {
            return newest.is_none_or(|newest| record.offset > newest);
        }
        newest.is_none_or(|newest| record.offset >= newest)
    }
}
