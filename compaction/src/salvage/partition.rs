//! A partition's log, put together: what a checkpoint says of it, its bytes looked up where merges have moved them since, and
//! behind it what the objects have that it doesn't know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use penstock_metadata::fold::{FoldState, LogEntry};
use penstock_metadata::keys::compaction::{self, CompactionState};
use penstock_metadata::keys::index::{self, PackedIndex};
use penstock_metadata::keys::log::{BatchFacts, LogRow};
use penstock_metadata::keys::merge_queue::CommitPlace;
use penstock_metadata::keys::trim::{self, Trim};
use penstock_metadata::keys::{log_start, seal};
use penstock_metadata::salvaging::{Salvaging, SalvagingError};
use penstock_metadata::sealing::pack;
use penstock_types::{
    BatchPosition, LeaderEpoch, ObjectId, Offset, ProducerEpoch, ProducerId, TopicPartition, Versionstamp,
};

use super::inventory::{Batch, Inventory};
use super::report::{PartitionReport, Range};

/// Index values that are held back: one that a merge has joined with those before it comes behind them.
const HELD: usize = 64;

/// Where the copies are of what merges have moved: by offset.
pub(super) type Moved = BTreeMap<Offset, (ObjectId, Batch)>;

/// A partition that is being written.
#[derive(Debug)]
pub(super) struct Partition {
    of: TopicPartition,
    log_start: Offset,
    sealed: FoldState,
    /// Values that may still be replaced.
    held: VecDeque<PackedIndex>,
    /// The first offset that is there.
    first: Option<Offset>,
    bytes: u64,
    leader_epoch: LeaderEpoch,
    lost: Vec<Range>,
    /// Where the index ends, as far as the checkpoint has been read.
    indexed: Offset,
    /// Whether that has gaps: the log was compacted.
    is_compacted: bool,
}

impl Partition {
    /// One that a checkpoint has sealed so far; or nothing of, by default.
    pub(super) fn new(of: TopicPartition, log_start: Offset, sealed: FoldState) -> Self {
        Self {
            of,
            log_start,
            sealed,
            held: VecDeque::new(),
            first: None,
            bytes: 0,
            leader_epoch: LeaderEpoch::FIRST,
            lost: Vec::new(),
            indexed: log_start,
            is_compacted: false,
        }
    }

    /// The next value of its index, as a checkpoint has it.
    pub(super) async fn value(
        &mut self,
        value: PackedIndex,
        inventory: &mut Inventory,
        moved: &Moved,
        out: &mut Salvaging,
    ) -> Result<(), SalvagingError> {
        // Of entries with the same offsets the later ones count.
        let begin = value.entries.first().map_or(Offset::ZERO, |entry| entry.base_offset);
        while self
            .held
            .back()
            .is_some_and(|held| held.entries.first().is_none_or(|first| first.base_offset >= begin))
        {
            self.held.pop_back();
        }
        self.held.push_back(value);
        if self.held.len() > HELD {
            self.write_first(inventory, moved, out).await?;
        }
        Ok(())
    }

    async fn write_first(
        &mut self,
        inventory: &mut Inventory,
        moved: &Moved,
        out: &mut Salvaging,
    ) -> Result<(), SalvagingError> {
        let Some(mut value) = self.held.pop_front() else { return Ok(()) };
        let mut entries = Vec::with_capacity(value.entries.len());
        for entry in std::mem::take(&mut value.entries) {
            self.is_compacted |= entry.base_offset > self.indexed;
            self.indexed = self.indexed.max(entry.end_offset());
            for entry in self.found(entry, inventory, moved) {
                self.first.get_or_insert(entry.base_offset);
                self.refer(&entry, inventory);
                entries.push(entry);
            }
        }
        value.entries = entries;
        // Where the rest of an object's section was may have changed with the object.
        value.section_end = None;
        if let Some(last) = value.last_offset() {
            out.put(index::key(out.keyspace(), self.of, last), value.encode()).await?;
        }
        Ok(())
    }

    fn refer(&mut self, entry: &LogEntry, inventory: &mut Inventory) {
        let LogRow::Data { object, batches, leader_epoch, .. } = &entry.row else { return };
        self.leader_epoch = *leader_epoch;
        self.bytes += batches.iter().map(|batch| u64::from(batch.length)).sum::<u64>();
        if let Some(held) = inventory.objects.get_mut(object) {
            held.referred += batches.len() as u64;
            if !held.has_offsets {
                held.place = Some(CommitPlace { incarnation: entry.at.incarnation, stamp: entry.at.stamp });
            }
        }
    }

    /// An entry as it is where its bytes are; where merges have moved them since, batch by batch.
    fn found(&mut self, entry: LogEntry, inventory: &Inventory, moved: &Moved) -> Vec<LogEntry> {
        match &entry.row {
            LogRow::Data { object, .. } if !inventory.objects.contains_key(object) => {}
            _ => return vec![entry],
        }
        let mut found = Vec::new();
        for batch in entry.batches() {
            // The same offsets; of a log that is compacted, maybe other bytes.
            let copy =
                moved.get(&batch.base_offset).filter(|(_, copy)| copy.facts.records == batch.facts.records);
            let Some((object, copy)) = copy else {
                self.lose(batch.base_offset, batch.end_offset());
                continue;
            };
            let row = LogRow::Data {
                leader_epoch: batch.leader_epoch,
                object: *object,
                position: copy.position,
                batches: vec![copy.facts],
            };
            found.push(LogEntry { base_offset: batch.base_offset, at: batch.at, row });
        }
        found
    }

    fn lose(&mut self, from: Offset, to: Offset) {
        let (from, to) = (from.get(), to.get());
        match self.lost.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ => self.lost.push(Range { from, to }),
        }
    }

    /// Writes the rest: `tail` behind what the checkpoint has, each batch with the object that it is in and the place of its
    /// commit, as far as that is known. Gives what there is of it now.
    pub(super) async fn finish(
        mut self,
        tail: Vec<Tail>,
        inventory: &mut Inventory,
        moved: &Moved,
        out: &mut Salvaging,
    ) -> Result<(PartitionReport, Offset), SalvagingError> {
        while !self.held.is_empty() {
            self.write_first(inventory, moved, out).await?;
        }
        // What is gone from the front was deleted after the checkpoint, as far as can be told.
        if let Some(first) = self.lost.first().copied()
            && first.from <= self.log_start.get().max(0)
            && self.first.is_none_or(|there| there.get() >= first.to)
        {
            self.log_start = self.log_start.max(Offset::at(first.to));
        }
        let exact_to = self.sealed.next_offset;
        let mut behind = Behind { state: self.sealed.clone(), entries: Vec::new(), lost: Vec::new() };
        for batch in tail {
            behind.add(batch, self.leader_epoch);
        }
        let max_timestamp = self.sealed.max_timestamp.timestamp;
        let Behind { state, entries, lost } = behind;
        let best_effort = entries.len() as u64;
        for entry in &entries {
            self.first.get_or_insert(entry.base_offset);
            self.refer(entry, inventory);
        }
        for value in pack(entries, max_timestamp) {
            let Some(last) = value.last_offset() else { continue };
            out.put(index::key(out.keyspace(), self.of, last), value.encode()).await?;
        }
        self.lost.extend(lost);
        let end = state.next_offset;
        self.head(&state, out).await?;
        let report = PartitionReport {
            partition: self.of.partition.get(),
            log_start: self.log_start.get(),
            exact_to: exact_to.get(),
            end: end.get(),
            best_effort_batches: best_effort,
            lost: self.lost,
        };
        Ok((report, end))
    }

    async fn head(&self, state: &FoldState, out: &mut Salvaging) -> Result<(), SalvagingError> {
        if state.next_offset == Offset::ZERO {
            return Ok(());
        }
        out.put(seal::key(out.keyspace(), self.of), seal::encode(state)).await?;
        if self.log_start > Offset::ZERO {
            let value = (self.log_start.get() as u64).to_le_bytes().to_vec();
            out.put(log_start::key(out.keyspace(), self.of), value).await?;
        }
        // Nothing ends at or below the first that is there; the trimming job does the rest.
        let below = self.first.unwrap_or(state.next_offset).min(self.log_start);
        let trim = Trim { below, bytes: state.bytes.wrapping_sub(self.bytes) as i64 };
        if trim != Trim::default() {
            out.put(trim::key(out.keyspace(), self.of), trim.encode()).await?;
        }
        if self.is_compacted {
            // It is begun anew: what was compacted after the checkpoint is so no more.
            let compaction = CompactionState { run: 1, ..CompactionState::default() };
            out.put(compaction::key(out.keyspace(), self.of), compaction.encode()).await?;
        }
        Ok(())
    }
}

/// A batch behind what a checkpoint has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) object: ObjectId,
    pub(super) batch: Batch,
    /// Its offset, if its object has them.
    pub(super) offset: Option<Offset>,
    /// Where its commit was, or what comes closest to it.
    pub(super) at: CommitPlace,
}

/// The tail, as it is put together.
struct Behind {
    state: FoldState,
    entries: Vec<LogEntry>,
    lost: Vec<Range>,
}

impl Behind {
    fn add(&mut self, tail: Tail, leader_epoch: LeaderEpoch) {
        if let Some(offset) = tail.offset {
            if offset < self.state.next_offset {
                return;
            }
            if offset > self.state.next_offset {
                // What lies between was never merged, or is gone: its offsets stay free.
                self.lost.push(Range { from: self.state.next_offset.get(), to: offset.get() });
                self.state.next_offset = offset;
            }
        }
        let last = self.state.position;
        let place = BatchPosition { incarnation: tail.at.incarnation, stamp: tail.at.stamp, n: 0 };
        let at = if place > last { place } else { next_place(last) };
        let row = LogRow::Data {
            leader_epoch,
            object: tail.object,
            position: tail.batch.position,
            batches: vec![tail.batch.facts],
        };
        let (entry, _) = self.state.fold(at, row);
        self.entries.push(entry);
    }
}

/// Behind a place, and all that its commit may have had.
fn next_place(last: BatchPosition) -> BatchPosition {
    match last.n.checked_add(1 << 16) {
        Some(n) => BatchPosition { n, ..last },
        None => {
            let version = penstock_types::StoreVersion::new(last.stamp.version().get() + 1);
            BatchPosition { stamp: Versionstamp::new(version, 0), n: 0, ..last }
        }
    }
}

/// What tells that two batches are one: one that was merged, or sent again by its producer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    merged: BTreeSet<(u32, u32, u32, i64, i64)>,
    sequences: BTreeSet<(ProducerId, ProducerEpoch, i32)>,
}

impl Seen {
    /// A batch of an object in which batches have their offsets.
    pub(super) fn merged(&mut self, batch: &Batch) {
        self.merged.insert(Self::bytes(batch));
        self.is_new_of_its_producer(batch);
    }

    /// Whether a batch of another object is none of those that were seen. Producers without idempotence may send the same
    /// bytes twice.
    pub(super) fn is_new(&mut self, batch: &Batch) -> bool {
        !self.merged.contains(&Self::bytes(batch)) && self.is_new_of_its_producer(batch)
    }

    fn is_new_of_its_producer(&mut self, batch: &Batch) -> bool {
        let Some(producer) = batch.facts.producer else { return true };
        self.sequences.insert((producer.id, producer.epoch, producer.base_sequence.get()))
    }

    fn bytes(batch: &Batch) -> (u32, u32, u32, i64, i64) {
        let BatchFacts { length, records, base_timestamp, max_timestamp, .. } = batch.facts;
        (batch.crc, length, records, base_timestamp, max_timestamp)
    }
}
