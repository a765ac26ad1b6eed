//! The swap: batches leave the index, or refer to the bytes that were made of them.

use std::collections::{BTreeMap, BTreeSet};

use penstock_types::{BatchPosition, Incarnation, LeaderEpoch, ObjectId, Offset, TimestampMs};

use super::{Run, SwapError};
use crate::burial::Dead;
use crate::codec::Corrupt;
use crate::fold::{BatchEntry, BatchSource, LogEntry};
use crate::keys::compaction::{self, CompactionState};
use crate::keys::index::{self, PackedIndex};
use crate::keys::log::{BatchFacts, LogRow, ROW_BATCHES};
use crate::keys::object::{self, ObjectState};
use crate::keys::trim::{self, Trim};
use crate::keys::{Keyspace, aborted, topic};
use crate::kv::{
    Isolation, Priority, RangeOptions, Row, SharedStore, StoreError, Transaction, WriteConflict, single_key,
};
use crate::merging::{IndexValue, Output, join, usable};
use crate::visible;

/// Index values of one page: what a stretch has, and what may have come between.
const MOST_VALUES: usize = 200;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It leaves the log.
    Gone,
    /// Its bytes, rewritten or copied as they were, are in the output.
    Moved {
        /// Where they begin.
        position: u64,
        /// What the log knows of them. They take as many offsets as before.
        facts: BatchFacts,
    },
    /// It is a marker, and gets a delete horizon.
    Horizon(TimestampMs),
}

/// What becomes of batches, by their place in the order of commits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<BatchPosition, (BatchFacts, Fate)>);

impl Changes {
    /// The batch at `at`, of which the log said `before`, has that fate.
    pub fn add(&mut self, at: BatchPosition, before: BatchFacts, fate: Fate) {
        self.0.insert(at, (before, fate));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What becomes of a batch, `None` if nothing (more) does.
    fn of(&self, batch: &BatchEntry, output: Option<ObjectId>) -> Result<Option<Fate>, SwapError> {
        let Some((before, fate)) = self.0.get(&batch.at) else { return Ok(None) };
        if let (Fate::Moved { position, facts }, BatchSource::Object { object, position: at }) =
            (fate, batch.source)
            && Some(object) == output
            && (at, batch.facts) == (*position, *facts)
        {
            // An earlier attempt at the same swap has happened.
            return Ok(None);
        }
        if batch.facts != *before {
            return Err(SwapError::Disturbed);
        }
        Ok(Some(*fate))
    }
}

/// Values of a partition's index: from the one that holds an offset to the one that holds another, or what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// An offset of the first value.
    pub first: Offset,
    /// The last offset of the last value.
    pub last: Offset,
    /// Where the partition's bytes end in the output.
    pub section_end: u64,
}

/// What a swap did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swapped {
    /// Batches that refer to the output now.
    pub batches: u64,
    /// Batches that left the log.
    pub gone: u64,
    /// Bytes that the log has less.
    pub bytes_gone: i64,
    /// The objects that they referred to before; some may be all dead now.
    pub dead: Dead,
    /// Index values written.
    pub values: u64,
    /// Whether anything was changed.
    pub is_changed: bool,
}

/// Replaces batches of the sealed log, in one transaction. Run again after an unknown outcome it does what is left.
pub async fn swap(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    run: &Run,
    output: Option<&Output>,
    changes: &Changes,
    stretch: Stretch,
) -> Result<Swapped, SwapError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let partition = run.partition;
    let mut keys = vec![
        topic::row_key(keyspace, partition.topic),
        compaction::key(keyspace, partition),
        trim::key(keyspace, partition),
    ];
    keys.extend(output.map(|output| object::key(keyspace, output.id)));
    let found = transaction.get_many(&keys, Isolation::Serializable).await?;
    if found[0].is_none() || CompactionState::decode(found[1].as_deref())?.run != run.number {
        return Err(SwapError::RunOver);
    }
    let mut trim = Trim::decode(found[2].as_deref())?;
    let row = match (output, found.get(3)) {
        (Some(output), Some(row)) => {
            Some(usable(row.as_deref(), incarnation, output)?.ok_or(SwapError::OutputGone)?)
        }
        _ => None,
    };
    let rows = read(&mut *transaction, keyspace, run, stretch).await?;
    let mut rewriting = Rewriting {
        output: output.map(|output| output.id),
        changes,
        section_end: stretch.section_end,
        swapped: Swapped::default(),
        markers: Vec::new(),
    };
    let mut values = Vec::with_capacity(rows.len());
    for row in &rows {
        values.extend(rewriting.value(keyspace, run, row)?);
    }
    let Rewriting { mut swapped, markers, .. } = rewriting;
    if !swapped.is_changed {
        return Ok(Swapped::default());
    }
    let (kept, _joined) = join(values);
    let left: BTreeSet<&[u8]> = kept.iter().map(|value| value.key.as_slice()).collect();
    for row in rows.iter().filter(|row| !left.contains(&row.key[..])) {
        transaction.add_read_conflict(single_key(&row.key));
        transaction.clear(&row.key, WriteConflict::Yes);
    }
    for value in kept.iter().filter(|value| value.is_changed) {
        transaction.add_read_conflict(single_key(&value.key));
        transaction.set(&value.key, &value.packed.encode(), WriteConflict::Yes);
        swapped.values += 1;
    }
    for marker in markers {
        transaction.clear(&aborted::key(keyspace, partition, marker), WriteConflict::No);
    }
    if let (Some(mut row), Some(key)) = (row, keys.get(3)) {
        row.state = ObjectState::Committed;
        row.batches = u32::try_from(u64::from(row.batches) + swapped.batches)
            .map_err(|_| Corrupt { family: "object", reason: "more batches than can be counted" })?;
        if swapped.batches > 0 {
            transaction.set(key, &row.encode(), WriteConflict::Yes);
        }
    }
    trim.bytes = trim.bytes.saturating_add(swapped.bytes_gone);
    transaction.set(&keys[2], &trim.encode(), WriteConflict::Yes);
    if !penstock_types::planted!("compacted-uncounted") {
        swapped.dead.write_copied(&mut *transaction, keyspace);
    }
    let changed = BTreeSet::from([partition]);
    visible::changes(&mut *transaction, keyspace, incarnation, &changed);
    visible::outdates_checkpoints(&mut *transaction, keyspace, &changed);
    transaction.commit().await?;
    Ok(swapped)
}

/// The values of a stretch; those that were joined with what follows it, too.
async fn read(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    run: &Run,
    stretch: Stretch,
) -> Result<Vec<Row>, StoreError> {
    let options = RangeOptions {
        limit: MOST_VALUES,
        target_bytes: 2_000_000,
        reverse: false,
        isolation: Isolation::Snapshot,
        written_at: None,
    };
    let last = index::key(keyspace, run.partition, stretch.last);
    let mut range = index::from_offset(keyspace, run.partition, stretch.first);
    let mut rows = Vec::new();
    loop {
        let page = transaction.range(range.clone(), options).await?;
        for row in page.rows {
            let is_last = row.key[..] >= last[..];
            range.start = single_key(&row.key).end;
            rows.push(row);
            if is_last {
                return Ok(rows);
            }
        }
        if !page.more {
            return Ok(rows);
        }
    }
}

/// Index values on their way through a swap.
struct Rewriting<'a> {
    output: Option<ObjectId>,
    changes: &'a Changes,
    section_end: u64,
    swapped: Swapped,
    /// Offsets of markers that leave the log.
    markers: Vec<Offset>,
}

impl Rewriting<'_> {
    /// A value with everything done to it; `None` if nothing is left.
    fn value(&mut self, keyspace: &Keyspace, run: &Run, row: &Row) -> Result<Option<IndexValue>, SwapError> {
        let packed = PackedIndex::decode(&row.value)?;
        let last_object = packed.entries.last().and_then(object_of);
        let mut entries = Entries::default();
        let mut is_changed = false;
        for entry in &packed.entries {
            is_changed |= self.entry(entry, &mut entries)?;
        }
        if !is_changed {
            let (key, bytes) = (row.key.to_vec(), row.value.len());
            return Ok(Some(IndexValue { key, packed, bytes, is_changed }));
        }
        self.swapped.is_changed = true;
        let entries = entries.0;
        let section_end = match entries.last().and_then(object_of) {
            None => None,
            last if last == self.output => Some(self.section_end),
            last => packed.section_end.filter(|_| last == last_object),
        };
        let packed = PackedIndex { max_timestamp_so_far: packed.max_timestamp_so_far, entries, section_end };
        let Some(last) = packed.last_offset() else { return Ok(None) };
        let (key, bytes) = (index::key(keyspace, run.partition, last), packed.encode().len());
        Ok(Some(IndexValue { key, packed, bytes, is_changed }))
    }

    /// What is left of an entry: whether anything was changed.
    fn entry(&mut self, entry: &LogEntry, into: &mut Entries) -> Result<bool, SwapError> {
        let mut is_changed = false;
        for batch in entry.batches() {
            let fate = self.changes.of(&batch, self.output)?;
            is_changed |= fate.is_some();
            match (fate, &entry.row) {
                (None, LogRow::Data { .. }) => into.batch(batch),
                (None, LogRow::Marker { .. }) => into.0.push(entry.clone()),
                (Some(fate), LogRow::Data { object, .. }) => self.batch(fate, *object, batch, into)?,
                (Some(fate), LogRow::Marker { .. }) => self.marker(fate, entry, into)?,
            }
        }
        Ok(is_changed)
    }

    fn batch(
        &mut self,
        fate: Fate,
        from: ObjectId,
        batch: BatchEntry,
        into: &mut Entries,
    ) -> Result<(), SwapError> {
        let length = i64::from(batch.facts.length);
        match (fate, self.output) {
            (Fate::Gone, _) => {
                self.swapped.gone += 1;
                self.swapped.bytes_gone += length;
            }
            (Fate::Moved { position, facts }, Some(object)) if facts.records == batch.facts.records => {
                self.swapped.batches += 1;
                self.swapped.bytes_gone += length - i64::from(facts.length);
                into.batch(BatchEntry { facts, source: BatchSource::Object { object, position }, ..batch });
            }
            (Fate::Moved { .. } | Fate::Horizon(_), _) => return Err(SwapError::Disturbed),
        }
        self.swapped.dead.count(from, 1);
        Ok(())
    }

    fn marker(&mut self, fate: Fate, entry: &LogEntry, into: &mut Entries) -> Result<(), SwapError> {
        match fate {
            Fate::Gone => {
                self.swapped.gone += 1;
                self.markers.push(entry.base_offset);
            }
            Fate::Horizon(at) => {
                let mut entry = entry.clone();
                if let LogRow::Marker { horizon, .. } = &mut entry.row {
                    *horizon = Some(at);
                }
                into.0.push(entry);
            }
            Fate::Moved { .. } => return Err(SwapError::Disturbed),
        }
        Ok(())
    }
}

fn object_of(entry: &LogEntry) -> Option<ObjectId> {
    match &entry.row {
        LogRow::Data { object, .. } => Some(*object),
        LogRow::Marker { .. } => None,
    }
}

/// Entries that are put together of batches.
#[derive(Debug, Default)]
struct Entries(Vec<LogEntry>);

impl Entries {
    /// Adds a batch of an object: to the last entry, where it goes on there without a gap.
    fn batch(&mut self, batch: BatchEntry) {
        let BatchSource::Object { object, position } = batch.source else { return };
        let goes_on = self.0.last_mut().filter(|last| {
            last.end_offset() == batch.base_offset
                && ends_at(last) == Some((object, position, batch.leader_epoch, batch.at))
        });
        match goes_on.map(|last| &mut last.row) {
            Some(LogRow::Data { batches, .. }) if batches.len() < ROW_BATCHES => batches.push(batch.facts),
            _ => {
                let (leader_epoch, batches) = (batch.leader_epoch, vec![batch.facts]);
                let row = LogRow::Data { leader_epoch, object, position, batches };
                self.0.push(LogEntry { base_offset: batch.base_offset, at: batch.at, row });
            }
        }
    }
}

/// Where, and in which place, a batch would begin that goes on with the entry.
fn ends_at(entry: &LogEntry) -> Option<(ObjectId, u64, LeaderEpoch, BatchPosition)> {
    let LogRow::Data { leader_epoch, object, position, batches } = &entry.row else { return None };
    let length: u64 = batches.iter().map(|batch| u64::from(batch.length)).sum();
    let n = u32::try_from(batches.len()).ok().and_then(|count| entry.at.n.checked_add(count))?;
    Some((*object, position + length, *leader_epoch, BatchPosition { n, ..entry.at }))
}
