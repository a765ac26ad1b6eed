//! Collecting a deleted topic: its rows go page by page, counted as dead where they refer to objects, and the durable row
//! that lists it goes last.
//!
//! Nothing is written under the id of a deleted topic, so what is found only gets less. Each page reads what it takes out
//! serializably: two that collect the same topic don't count anything twice.

use std::collections::BTreeSet;

use penstock_types::{Incarnation, TopicId, TopicPartition};

use crate::burial::Dead;
use crate::codec::{Corrupt, Reader};
use crate::fold::LogEntry;
use crate::keys::index::PackedIndex;
use crate::keys::log::LogRow;
use crate::keys::topic::{deleted_key, row_key};
use crate::keys::{Family, Keyspace, read_partition};
use crate::kv::{
    Isolation, KeyRange, Priority, RangeOptions, Row, SharedStore, StoreError, WriteConflict, limits,
    prefixed,
};
use crate::visible;

/// Rows of one transaction.
const PAGE_ROWS: usize = 1_000;
/// Bytes of rows of one transaction: they are read, and their keys written.
const PAGE_BYTES: usize = limits::TRANSACTION_BYTES / 5;

/// The families that have rows of a topic's partitions, by its id; those that refer to objects first.
pub const FAMILIES: [Family; 9] = [
    Family::Log,
    Family::Index,
    Family::Aborted,
    Family::Producer,
    Family::Seal,
    Family::LogStart,
    Family::Trim,
    Family::Compaction,
    Family::Counters,
];

/// What a step of the collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Batches that left the log, by object.
    pub dead: Dead,
    /// Rows that went.
    pub rows: u64,
    /// Whether the topic is gone altogether.
    pub done: bool,
}

/// Takes out the next page of a deleted topic's rows. Call again until it is done; run again after an unknown outcome it
/// does the rest.
pub async fn collect_topic(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    topic: TopicId,
) -> Result<Collected, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let keys = [deleted_key(keyspace, topic), row_key(keyspace, topic)];
    let found = transaction.get_many(&keys, Isolation::Serializable).await?;
    if found[0].is_none() {
        return Ok(Collected { done: true, ..Collected::default() });
    }
    if found[1].is_some() {
        return Err(Corrupt { family: "deleted topic", reason: "the topic is there" }.into());
    }
    let options = RangeOptions {
        limit: PAGE_ROWS,
        target_bytes: PAGE_BYTES,
        reverse: false,
        isolation: Isolation::Serializable,
        written_at: None,
    };
    let mut collected = Collected::default();
    for family in FAMILIES {
        let range = rows_of(keyspace, family, topic);
        let page = transaction.range(range.clone(), options).await?;
        let Some(last) = page.rows.last() else { continue };
        for row in &page.rows {
            count_dead(family, row, &mut collected.dead)?;
        }
        if family == Family::Seal {
            let partitions = page.rows.iter().map(|row| partition_of(keyspace, row));
            let partitions = partitions.collect::<Result<BTreeSet<_>, _>>()?;
            visible::outdates_checkpoints(&mut *transaction, keyspace, &partitions);
        }
        let mut end = last.key.to_vec();
        end.push(0);
        collected.rows = page.rows.len() as u64;
        transaction.clear_range(range.start..end, WriteConflict::Yes);
        if !penstock_types::planted!("deleted-topic-uncounted") {
            collected.dead.write(&mut *transaction, keyspace);
        }
        transaction.commit().await?;
        return Ok(collected);
    }
    transaction.clear(&keys[0], WriteConflict::Yes);
    transaction.commit().await?;
    Ok(Collected { done: true, ..Collected::default() })
}

fn rows_of(keyspace: &Keyspace, family: Family, topic: TopicId) -> KeyRange {
    let mut prefix = keyspace.family(family);
    prefix.extend_from_slice(topic.as_bytes());
    prefixed(&prefix)
}

fn partition_of(keyspace: &Keyspace, seal: &Row) -> Result<TopicPartition, Corrupt> {
    let corrupt = Corrupt { family: "seal", reason: "a key of another family" };
    let rest = keyspace.strip(Family::Seal, &seal.key).ok_or(corrupt)?;
    read_partition(&mut Reader::new("seal", rest))
}

fn count_dead(family: Family, row: &Row, dead: &mut Dead) -> Result<(), Corrupt> {
    let mut count = |row: &LogRow| {
        if let LogRow::Data { object, batches, .. } = row {
            dead.count(*object, batches.len());
        }
    };
    match family {
        Family::Log => count(&LogRow::decode(&row.value)?),
        Family::Index => {
            PackedIndex::decode(&row.value)?.entries.iter().for_each(|LogEntry { row, .. }| count(row));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
