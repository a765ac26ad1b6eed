//! Trimming: takes entries that lie below the log start out of a partition's packed index, batch by batch, and counts them
//! as dead.
//!
//! One transaction, which reads the topic's row and the partition's trim row serializably, and conflicts with whatever
//! else changes the index values that it takes from: of two that trim a partition at the same time one succeeds. Only the
//! sealed log is trimmed.

use std::collections::BTreeSet;

use penstock_types::{Incarnation, Offset, TopicPartition};

use crate::burial::Dead;
use crate::codec::{Corrupt, Reader};
use crate::fold::LogEntry;
use crate::keys::index::{self, PackedIndex};
use crate::keys::log::LogRow;
use crate::keys::trim::{self, Trim};
use crate::keys::{Family, Keyspace, aborted, log_start, read_partition, seal, topic};
use crate::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, prefixed,
    single_key,
};
use crate::visible;

/// Index values of one transaction: of some hundred batches each.
const MOST_VALUES: usize = 40;
/// Log starts of one page.
const PAGE: usize = 1_000;

/// What a step of trimming did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Batches taken out, by object; some objects may be all dead now.
    pub dead: Dead,
    /// Batches taken out.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there is more below the log start.
    pub more: bool,
}

/// What is left of an index value when everything that ends at or below `start` is taken out: `None` if nothing is. Pure.
fn cut(value: PackedIndex, start: Offset, trimmed: &mut Trimmed) -> Option<PackedIndex> {
    let PackedIndex { max_timestamp_so_far, section_end, .. } = value;
    let mut left = Vec::with_capacity(value.entries.len());
    for entry in value.entries {
        if entry.base_offset >= start {
            left.push(entry);
        } else {
            left.extend(cut_entry(entry, start, trimmed));
        }
    }
    (!left.is_empty()).then_some(PackedIndex { max_timestamp_so_far, entries: left, section_end })
}

fn cut_entry(entry: LogEntry, start: Offset, trimmed: &mut Trimmed) -> Option<LogEntry> {
    let LogEntry { mut base_offset, mut at, row } = entry;
    let LogRow::Data { leader_epoch, object, mut position, mut batches } = row else {
        let end = base_offset.plus(row.records());
        return (end > start).then_some(LogEntry { base_offset, at, row });
    };
    let mut gone = 0;
    for batch in &batches {
        let end = base_offset.plus(i64::from(batch.records));
        let stays =
            if penstock_types::planted!("trim-too-much") { base_offset >= start } else { end > start };
        if stays {
            break;
        }
        base_offset = end;
        position += u64::from(batch.length);
        trimmed.bytes += u64::from(batch.length);
        at.n += 1;
        gone += 1;
    }
    if gone > 0 {
        trimmed.dead.count(object, gone);
        trimmed.batches += gone as u64;
    }
    batches.drain(..gone);
    let row = LogRow::Data { leader_epoch, object, position, batches };
    (row.records() > 0).then_some(LogEntry { base_offset, at, row })
}

/// Trims a partition once. Call again while it says that there is more; run again after an unknown outcome it does the
/// rest.
pub async fn trim_partition(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    partition: TopicPartition,
) -> Result<Trimmed, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let keys = [topic::row_key(keyspace, partition.topic), trim::key(keyspace, partition)];
    let unguarded = penstock_types::planted!("trim-unguarded");
    let isolation = if unguarded { Isolation::Snapshot } else { Isolation::Serializable };
    let values = transaction.get_many(&keys, isolation).await?;
    let others = [log_start::key(keyspace, partition), seal::key(keyspace, partition)];
    let others = transaction.get_many(&others, Isolation::Snapshot).await?;
    // Above the seal there is no entry yet: what comes to lie there is trimmed when it does.
    let start = log_start::decode(others[0].as_deref())?.min(seal::decode(others[1].as_deref())?.next_offset);
    let mut trim = Trim::decode(values[1].as_deref())?;
    if values[0].is_none() || trim.below >= start {
        return Ok(Trimmed::default());
    }
    let range = index::from_offset(keyspace, partition, trim.below);
    let page = transaction.range(range, RangeOptions::page(MOST_VALUES, Isolation::Snapshot)).await?;
    let mut trimmed = Trimmed { more: page.more, ..Trimmed::default() };
    for row in &page.rows {
        let value = PackedIndex::decode(&row.value)?;
        if value.entries.first().is_none_or(|first| first.base_offset >= start) {
            trimmed.more = false;
            break;
        }
        let batches = trimmed.batches;
        if !unguarded {
            transaction.add_read_conflict(single_key(&row.key));
        }
        match cut(value, start, &mut trimmed) {
            None => transaction.clear(&row.key, WriteConflict::Yes),
            Some(left) => {
                // Its last offset, and so its key, stays.
                trimmed.more = false;
                if trimmed.batches > batches {
                    transaction.set(&row.key, &left.encode(), WriteConflict::Yes);
                }
                break;
            }
        }
    }
    trim_aborted(&mut *transaction, keyspace, partition, start);
    if !trimmed.more {
        trim.below = start;
    }
    trim.bytes = trim.bytes.saturating_add_unsigned(trimmed.bytes);
    transaction.set(&keys[1], &trim.encode(), WriteConflict::Yes);
    trimmed.dead.write(&mut *transaction, keyspace);
    visible::outdates_checkpoints(&mut *transaction, keyspace, &BTreeSet::from([partition]));
    transaction.commit().await?;
    Ok(trimmed)
}

/// Aborted transactions whose marker lies below the log start concern nobody any more.
fn trim_aborted(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    partition: TopicPartition,
    start: Offset,
) {
    let below = aborted::key(keyspace, partition, Offset::ZERO)..aborted::key(keyspace, partition, start);
    transaction.clear_range(below, WriteConflict::No);
}

/// A walk over the partitions whose log start lies above what was trimmed.
#[derive(Debug, Default)]
pub struct Untrimmed {
    after: Option<Vec<u8>>,
    ended: bool,
}

impl Untrimmed {
    /// Some more of them, maybe none; `None` at the end. After an error the same are looked at again.
    pub async fn next(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
    ) -> Result<Option<Vec<TopicPartition>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let mut range = prefixed(&keyspace.family(Family::LogStart));
        if let Some(after) = &self.after {
            range.start = single_key(after).end;
        }
        let mut transaction = store.begin(Priority::Batch);
        let page = transaction.range(range, RangeOptions::page(PAGE, Isolation::Snapshot)).await?;
        let mut starts = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let rest = keyspace
                .strip(Family::LogStart, &row.key)
                .ok_or(Corrupt { family: "log start offset", reason: "a key of another family" })?;
            let partition = read_partition(&mut Reader::new("log start offset", rest))?;
            starts.push((partition, log_start::decode(Some(&row.value))?));
        }
        let keys: Vec<_> = starts.iter().map(|(partition, _)| trim::key(keyspace, *partition)).collect();
        let trims = transaction.get_many(&keys, Isolation::Snapshot).await?;
        let mut found = Vec::new();
        for ((partition, start), trim) in starts.into_iter().zip(trims) {
            if Trim::decode(trim.as_deref())?.below < start {
                found.push(partition);
            }
        }
        self.ended = !page.more;
        self.after = page.rows.last().map(|row| row.key.to_vec()).or(self.after.take());
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests;
