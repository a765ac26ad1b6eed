//! The swap: entries of the index refer to the copies of their bytes.

use std::collections::{BTreeMap, BTreeSet};

use penstock_types::{Incarnation, ObjectId, Offset, TopicId, TopicPartition};

use super::Output;
use crate::burial::Dead;
use crate::codec::Corrupt;
use crate::fold::LogEntry;
use crate::keys::index::{self, PackedIndex, VALUE_BYTES};
use crate::keys::log::LogRow;
use crate::keys::merge_queue;
use crate::keys::merge_unit::{self, Unit};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::keys::{Keyspace, topic};
use crate::kv::{
    Isolation, Page, Priority, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, single_key,
};
use crate::visible;

/// Index values of one segment: what a page of a window has, and what may have come between.
const MOST_VALUES: usize = 200;

/// Which bytes of which objects were copied into an output, and where to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies(BTreeMap<(ObjectId, u64), (u64, u64)>);

impl Copies {
    /// `length` bytes at `position` of `source` are at `to` of the output. Stretches don't overlap.
    pub fn add(&mut self, source: ObjectId, position: u64, length: u64, to: u64) {
        self.0.insert((source, position), (length, to));
    }

    /// Whether nothing was copied.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the copy of these bytes is, if all of them were copied together.
    pub(super) fn of(&self, source: ObjectId, position: u64, length: u64) -> Option<u64> {
        let ((object, start), (copied, to)) = self.0.range(..=(source, position)).next_back()?;
        if *object != source {
            return None;
        }
        let into = position - start;
        (into.checked_add(length)? <= *copied).then(|| to + into)
    }
}

/// Values of a partition's index in which something is to be swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Whose.
    pub partition: TopicPartition,
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
    /// The objects that they referred to before; some may be all dead now.
    pub dead: Dead,
    /// Index values written.
    pub values: u64,
    /// Index values that were joined with the next.
    pub joined: u64,
}

/// Why nothing was swapped. It did not happen, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// The output was given up: it is dead already, or the sweeper's cutoff has passed it.
    #[error("the output was given up")]
    OutputGone,
    /// Somebody else has ended the unit.
    #[error("the unit was ended by somebody else")]
    UnitEnded,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for SwapError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// Makes entries refer to the copies of their bytes in `output`, which is in the bucket, in one transaction. Run again after an
/// unknown outcome it does what is left.
pub async fn swap(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    unit: &Unit,
    output: &Output,
    copies: &Copies,
    segments: &[Segment],
) -> Result<Swapped, SwapError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let topics: BTreeSet<TopicId> = segments.iter().map(|segment| segment.partition.topic).collect();
    let mut keys = vec![object::key(keyspace, output.id), merge_unit::key(keyspace, unit.level, unit.last)];
    keys.extend(topics.iter().map(|topic| topic::row_key(keyspace, *topic)));
    let unguarded = penstock_types::planted!("swap-unguarded");
    let isolation = if unguarded { Isolation::Snapshot } else { Isolation::Serializable };
    let mut values = transaction.get_many(&keys, isolation).await?;
    let live: BTreeSet<TopicId> =
        topics.into_iter().zip(values.split_off(2)).filter_map(|(topic, row)| row.map(|_| topic)).collect();
    if values[1].is_none() && !penstock_types::planted!("swap-behind-the-end") {
        return Err(SwapError::UnitEnded);
    }
    let row = usable(values[0].as_deref(), incarnation, output)?.ok_or(SwapError::OutputGone)?;
    let segments: Vec<&Segment> =
        segments.iter().filter(|segment| live.contains(&segment.partition.topic)).collect();
    let values = read_values(&mut *transaction, keyspace, &segments).await?;
    let mut swapped = Swapped::default();
    let mut changed = BTreeSet::new();
    for (segment, page) in segments.iter().zip(&values) {
        let before = swapped.batches;
        swap_segment(&mut *transaction, output.id, copies, (segment, page), &mut swapped)?;
        if swapped.batches > before {
            changed.insert(segment.partition);
        }
    }
    if swapped.batches == 0 {
        // What would have been joined only isn't.
        return Ok(Swapped::default());
    }
    if row.state == ObjectState::Intent && output.queues && output.level < merge_queue::LAST_LEVEL {
        let key = merge_queue::key(keyspace, output.level, unit.last, output.id);
        let value = merge_queue::encode_merged(output.size, output.sections, unit.begins);
        transaction.set(&key, &value, WriteConflict::Yes);
    }
    let forgets = penstock_types::planted!("output-counts-one-swap");
    let before = if forgets { 0 } else { u64::from(row.batches) };
    let batches = u32::try_from(before + swapped.batches)
        .map_err(|_| Corrupt { family: "object", reason: "more batches than can be counted" })?;
    let row = ObjectRow { state: ObjectState::Committed, batches, ..row };
    transaction.set(&keys[0], &row.encode(), WriteConflict::Yes);
    if !penstock_types::planted!("merged-uncounted") {
        swapped.dead.write_copied(&mut *transaction, keyspace);
    }
    if !penstock_types::planted!("swap-untold") {
        visible::changes(&mut *transaction, keyspace, incarnation, &changed);
    }
    visible::outdates_checkpoints(&mut *transaction, keyspace, &changed);
    transaction.commit().await?;
    Ok(swapped)
}

/// The output's row, if the output may be referred to.
pub(crate) fn usable(
    row: Option<&[u8]>,
    incarnation: Incarnation,
    output: &Output,
) -> Result<Option<ObjectRow>, Corrupt> {
    let row = row.map(ObjectRow::decode).transpose()?;
    if penstock_types::planted!("swap-into-the-swept") {
        return Ok(Some(row.unwrap_or_else(|| output.intent(incarnation))));
    }
    let usable = |row: &ObjectRow| matches!(row.state, ObjectState::Intent | ObjectState::Committed);
    Ok(row.filter(usable))
}

/// A value of the index on its way through a swap.
#[derive(Debug)]
pub(crate) struct IndexValue {
    pub(crate) key: Vec<u8>,
    pub(crate) packed: PackedIndex,
    /// Of its encoding.
    pub(crate) bytes: usize,
    pub(crate) is_changed: bool,
}

/// The values of the index, of all segments together: one after the other they would outlive the transaction.
async fn read_values(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    segments: &[&Segment],
) -> Result<Vec<Page>, StoreError> {
    let range = |segment: &&Segment| {
        let mut range = index::from_offset(keyspace, segment.partition, segment.first);
        range.end = single_key(&index::key(keyspace, segment.partition, segment.last)).end;
        range
    };
    let options = RangeOptions {
        limit: MOST_VALUES,
        target_bytes: 2_000_000,
        reverse: false,
        isolation: Isolation::Snapshot,
        written_at: None,
    };
    transaction.ranges(segments.iter().map(range).collect(), options).await
}

fn swap_segment(
    transaction: &mut dyn Transaction,
    output: ObjectId,
    copies: &Copies,
    (segment, page): (&Segment, &Page),
    swapped: &mut Swapped,
) -> Result<(), StoreError> {
    let mut values = Vec::with_capacity(page.rows.len());
    let before = swapped.batches;
    for row in &page.rows {
        let mut packed = PackedIndex::decode(&row.value)?;
        let is_changed = rewrite(&mut packed, output, copies, segment.section_end, swapped);
        let bytes = if is_changed { packed.encode().len() } else { row.value.len() };
        values.push(IndexValue { key: row.key.to_vec(), packed, bytes, is_changed });
    }
    if swapped.batches == before {
        return Ok(());
    }
    let (kept, joined) = join(values);
    for key in &joined {
        transaction.add_read_conflict(single_key(key));
        transaction.clear(key, WriteConflict::Yes);
    }
    swapped.joined += joined.len() as u64;
    for value in kept.iter().filter(|value| value.is_changed) {
        if !penstock_types::planted!("swap-unguarded") {
            transaction.add_read_conflict(single_key(&value.key));
        }
        transaction.set(&value.key, &value.packed.encode(), WriteConflict::Yes);
        swapped.values += 1;
    }
    Ok(())
}

/// Makes the entries of a value whose bytes were copied refer to the copies: whether there were any. Pure.
fn rewrite(
    packed: &mut PackedIndex,
    output: ObjectId,
    copies: &Copies,
    section_end: u64,
    swapped: &mut Swapped,
) -> bool {
    let mut is_changed = false;
    let mut last_is = false;
    let first = packed
        .entries
        .first()
        .map(|entry| entry.at)
        .filter(|_| penstock_types::planted!("merge-changes-place"));
    for LogEntry { row, at, .. } in &mut packed.entries {
        last_is = false;
        let LogRow::Data { object, position, batches, .. } = row else { continue };
        let length = batches.iter().map(|batch| u64::from(batch.length)).sum();
        let Some(to) = copies.of(*object, *position, length) else { continue };
        swapped.dead.count(*object, batches.len());
        swapped.batches += batches.len() as u64;
        (*object, *position) = (output, to);
        *at = first.unwrap_or(*at);
        (is_changed, last_is) = (true, true);
    }
    if last_is {
        packed.section_end = Some(section_end);
    }
    is_changed
}

/// Joins neighbouring values that fit into one: the values that are left, and the keys of those that went. Pure.
///
/// A value's key names its last offset, so values are joined under the key of the last: whoever looks for an offset finds
/// the first value that ends at or behind it, as before.
pub(crate) fn join(values: Vec<IndexValue>) -> (Vec<IndexValue>, Vec<Vec<u8>>) {
    let mut kept: Vec<IndexValue> = Vec::with_capacity(values.len());
    let mut gone = Vec::new();
    for value in values {
        match kept.last_mut() {
            Some(last) if last.bytes + value.bytes <= VALUE_BYTES => {
                gone.push(std::mem::replace(&mut last.key, value.key));
                last.packed.entries.extend(value.packed.entries);
                last.packed.max_timestamp_so_far =
                    last.packed.max_timestamp_so_far.max(value.packed.max_timestamp_so_far);
                last.packed.section_end = value.packed.section_end;
                last.bytes += value.bytes;
                last.is_changed = true;
            }
            _ => kept.push(value),
        }
    }
    (kept, gone)
}
