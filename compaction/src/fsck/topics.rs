//! Topics: their rows and names, and rows that are of none of their partitions.

use std::collections::BTreeMap;

use penstock_metadata::codec::Corrupt;
use penstock_metadata::keys::counters::STRIPE_PARTITIONS;
use penstock_metadata::keys::topic::{
    decode_deleted, decode_name, decode_row, decode_row_key, deleted_key, deleted_rows, name_key, row_key,
    rows,
};
use penstock_metadata::keys::{Family, Keyspace};
use penstock_metadata::kv::{Isolation, KeyRange, Priority, Row, SharedStore, StoreError, prefixed};
use penstock_metadata::topics::PARTITION_FAMILIES;
use penstock_types::{PartitionIndex, TopicId, TopicPartition};

use super::Check;
use super::pages::{Pages, options};
use super::report::{Finding, Kind};
use crate::again;

/// Topics that are looked at together.
const AT_ONCE: usize = 100;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) name: String,
    pub(super) partitions: u32,
    /// Else it was deleted, and its rows are being taken out.
    pub(super) is_live: bool,
}

impl Topic {
    pub(super) fn partition(&self, index: u32) -> TopicPartition {
        TopicPartition { topic: self.id, partition: PartitionIndex::new(index as i32) }
    }

    /// Where its rows of a family begin that are behind its first `partitions`.
    fn behind(&self, keyspace: &Keyspace, family: Family, partitions: u32) -> Vec<u8> {
        let number = match family {
            Family::Counters => partitions.div_ceil(STRIPE_PARTITIONS as u32),
            _ => partitions,
        };
        keyspace.partition(family, self.partition(number))
    }
}

/// All topics, by id.
pub(super) async fn all(check: &mut Check<'_>) -> Result<Vec<Topic>, StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    // A topic that is deleted in between is in both, and deleted.
    for (range, decode) in [(rows(&keyspace), live as Decode), (deleted_rows(&keyspace), deleted as Decode)] {
        let mut pages = Pages::of(range);
        while let Some(page) = pages.next(&store).await? {
            // What can't be decoded was told when every row was.
            let found = page.iter().filter_map(|row| decode(&keyspace, row).ok());
            topics.extend(found.map(|topic| (topic.id, topic)));
        }
    }
    Ok(topics.into_values().collect())
}

type Decode = fn(&Keyspace, &Row) -> Result<Topic, Corrupt>;

fn live(keyspace: &Keyspace, row: &Row) -> Result<Topic, Corrupt> {
    let row = decode_row(decode_row_key(keyspace, &row.key)?, &row.value)?;
    Ok(Topic { id: row.id, name: row.name, partitions: row.partitions, is_live: true })
}

fn deleted(keyspace: &Keyspace, row: &Row) -> Result<Topic, Corrupt> {
    let row = decode_deleted(keyspace, &row.key, &row.value)?;
    Ok(Topic { id: row.id, name: row.name, partitions: row.partitions, is_live: false })
}

/// Topics have names, and names are of topics.
pub(super) async fn names(check: &mut Check<'_>, topics: &[Topic]) -> Result<(), StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    let mut suspects: BTreeMap<TopicId, String> = BTreeMap::new();
    let mut named = BTreeMap::new();
    let mut pages = Pages::of(prefixed(&keyspace.family(Family::TopicName)));
    while let Some(page) = pages.next(&store).await? {
        for (id, name) in page.iter().filter_map(|row| decode_name(&row.value).ok()) {
            named.insert(id, name);
        }
    }
    for topic in topics.iter().filter(|topic| topic.is_live) {
        if named.remove(&topic.id).as_ref() != Some(&topic.name) {
            suspects.insert(topic.id, topic.name.clone());
        }
    }
    suspects.extend(named);
    for (id, name) in suspects {
        let keys = [row_key(&keyspace, id), name_key(&keyspace, &name)];
        let values = again!(values(&store, &keys))?;
        let row = values[0].as_deref().and_then(|value| decode_row(id, value).ok()).map(|row| row.name);
        let named = values[1].as_deref().and_then(|value| decode_name(value).ok());
        let named = named.filter(|(of, _)| *of == id).map(|(_, name)| name);
        if row != named {
            let told = |name: Option<String>| name.map_or("nothing".to_owned(), |name| format!("{name:?}"));
            let (row, named) = (told(row), told(named));
            let detail = format!("the row of topic {id} names {row}, the row of the name {named}");
            check.found(Finding { topic: Some(name), ..Finding::new(Kind::TopicName, detail) });
        }
    }
    Ok(())
}

pub(super) async fn values(
    store: &SharedStore,
    keys: &[Vec<u8>],
) -> Result<Vec<Option<bytes::Bytes>>, StoreError> {
    store.begin(Priority::Batch).get_many(keys, Isolation::Snapshot).await
}

/// Rows that are of no partition of any topic.
pub(super) async fn strays(check: &mut Check<'_>, topics: &[Topic]) -> Result<(), StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    for family in PARTITION_FAMILIES {
        // What lies before each topic's rows and behind those of the one before.
        let all = prefixed(&keyspace.family(family));
        let mut start = all.start;
        let mut gaps: Vec<KeyRange> = Vec::with_capacity(topics.len() + 1);
        for topic in topics {
            gaps.push(start..topic.behind(&keyspace, family, 0));
            start = topic.behind(&keyspace, family, topic.partitions);
        }
        gaps.push(start..all.end);
        gaps.retain(|gap| gap.start < gap.end);
        for some in gaps.chunks(AT_ONCE) {
            for row in again!(firsts(&store, some))?.into_iter().flatten() {
                stray(check, family, &row).await?;
            }
        }
    }
    Ok(())
}

async fn firsts(store: &SharedStore, ranges: &[KeyRange]) -> Result<Vec<Option<Row>>, StoreError> {
    let pages = store.begin(Priority::Batch).ranges(ranges.to_vec(), options(1)).await?;
    Ok(pages.into_iter().map(|page| page.rows.into_iter().next()).collect())
}

/// A topic may have been made, have grown or been collected since all were read: the row is looked at again beside them.
async fn stray(check: &mut Check<'_>, family: Family, row: &Row) -> Result<(), StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    let behind = keyspace.strip(family, &row.key).unwrap_or_default();
    let Some((id, rest)) = behind.split_first_chunk::<16>() else { return Ok(()) };
    let id = TopicId::from_bytes(*id);
    let number = rest.first_chunk::<4>().map_or(0, |number| u32::from_be_bytes(*number));
    let keys = [row.key.to_vec(), row_key(&keyspace, id), deleted_key(&keyspace, id)];
    let found = again!(values(&store, &keys))?;
    let with = |value: &Option<bytes::Bytes>, key: &[u8], decode: Decode| {
        let row = Row { key: bytes::Bytes::copy_from_slice(key), value: value.clone()? };
        decode(&keyspace, &row).ok()
    };
    let topic = with(&found[1], &keys[1], live).or_else(|| with(&found[2], &keys[2], deleted));
    let is_its = topic.is_some_and(|topic| row.key < topic.behind(&keyspace, family, topic.partitions));
    if found[0].is_some() && !is_its {
        let detail = format!("the first is a {} of partition {number}", family.name());
        check.found(Finding { topic: Some(id.to_string()), ..Finding::new(Kind::StrayRows, detail) });
    }
    Ok(())
}
