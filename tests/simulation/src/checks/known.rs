//! What the metadata say of objects, all of it at one version: jobs go on while it is read.

use std::collections::{BTreeMap, BTreeSet};

use penstock_metadata::keys::cluster::{decode_identity, identity_key};
use penstock_metadata::keys::compaction::CompactionState;
use penstock_metadata::keys::index::{self, PackedIndex};
use penstock_metadata::keys::log::{self, LogRow};
use penstock_metadata::keys::object::{ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace, dead, log_start, merge_queue, topic};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{
    Isolation, KeyRange, Priority, RangeOptions, Row, Store, StoreError, Transaction, prefixed, single_key,
};
use penstock_types::{Incarnation, ObjectId, Offset, TopicId, TopicPartition};

use crate::oracle::Partition;

/// What the metadata say of objects.
pub(super) struct Known {
    pub(super) incarnation: Incarnation,
    pub(super) objects: BTreeMap<ObjectId, ObjectRow>,
    /// Batches that logs refer to.
    pub(super) references: BTreeMap<ObjectId, u64>,
    /// Those of them that a client may read.
    readable: BTreeMap<ObjectId, u64>,
    /// Batches that were counted as dead.
    dead: BTreeMap<ObjectId, u64>,
    /// What waits to be merged, by the level.
    queued: BTreeSet<(u8, ObjectId)>,
    /// Stretches of the queues that are being merged.
    units: usize,
    /// How often logs were begun to be compacted.
    pub(super) compactions: u64,
    /// Up to where logs are compacted, or begin by now.
    pub(super) cleaned: BTreeMap<Partition, i64>,
}

/// What tells which of a log can be read.
struct Logs {
    keyspace: Keyspace,
    topics: BTreeSet<Vec<u8>>,
    starts: BTreeMap<Vec<u8>, Offset>,
}

impl Logs {
    fn shows(&self, partition: TopicPartition, end: Option<Offset>) -> bool {
        let start = self.starts.get(&log_start::key(&self.keyspace, partition));
        let is_below = end.zip(start).is_some_and(|(end, start)| end <= *start);
        self.topics.contains(&topic::row_key(&self.keyspace, partition.topic)) && !is_below
    }
}

impl Known {
    pub(super) async fn read(store: &MemoryStore) -> Result<Self, StoreError> {
        let keyspace = Keyspace::new(b"");
        let mut transaction = store.begin(Priority::Default);
        let identity = transaction.get(&identity_key(&keyspace), Isolation::Snapshot).await?;
        let incarnation = match identity {
            Some(identity) => decode_identity(&identity)?.incarnation,
            None => Incarnation::FIRST,
        };
        let mut known = Self {
            incarnation,
            objects: BTreeMap::new(),
            references: BTreeMap::new(),
            readable: BTreeMap::new(),
            dead: BTreeMap::new(),
            queued: BTreeSet::new(),
            units: 0,
            compactions: 0,
            cleaned: BTreeMap::new(),
        };
        let reads = &mut *transaction;
        let all_of = |family| prefixed(&keyspace.family(family));
        for row in rows(reads, all_of(Family::Object)).await? {
            let id = keyspace.strip(Family::Object, &row.key).and_then(|id| id.try_into().ok());
            known.objects.extend(id.map(ObjectId::from_bytes).zip(Some(ObjectRow::decode(&row.value)?)));
        }
        let topics = rows(reads, topic::rows(&keyspace)).await?;
        let mut logs = Logs {
            keyspace: keyspace.clone(),
            topics: topics.into_iter().map(|row| row.key.to_vec()).collect(),
            starts: BTreeMap::new(),
        };
        for row in rows(reads, all_of(Family::LogStart)).await? {
            let start = log_start::decode(Some(&row.value))?;
            let partition = keyspace.strip(Family::LogStart, &row.key).and_then(partition_of);
            known.cleaned.extend(partition.zip(Some(start.get())));
            logs.starts.insert(row.key.to_vec(), start);
        }
        for row in rows(reads, all_of(Family::Log)).await? {
            let (partition, _) = log::parse_key(&keyspace, &row.key)?;
            known.refer(&LogRow::decode(&row.value)?, logs.shows(partition, None));
        }
        for row in rows(reads, all_of(Family::Index)).await? {
            let (partition, _) = index::parse_key(&keyspace, &row.key)?;
            for entry in PackedIndex::decode(&row.value)?.entries {
                known.refer(&entry.row, logs.shows(partition, Some(entry.end_offset())));
            }
        }
        for row in rows(reads, all_of(Family::Dead)).await? {
            let count = dead::decode(Some(&row.value))?;
            known.dead.insert(dead::parse_key(&keyspace, &row.key)?, count.batches);
        }
        for row in rows(reads, all_of(Family::MergeQueue)).await? {
            let queued = merge_queue::decode(&keyspace, &row)?;
            known.queued.insert((queued.level, queued.object));
        }
        for row in rows(reads, all_of(Family::Compaction)).await? {
            let state = CompactionState::decode(Some(&row.value))?;
            known.compactions += state.run;
            if let Some(partition) = keyspace.strip(Family::Compaction, &row.key).and_then(partition_of) {
                let cleaned = known.cleaned.entry(partition).or_default();
                *cleaned = state.cleaned.get().max(*cleaned);
            }
        }
        known.units = rows(reads, all_of(Family::MergeUnit)).await?.len();
        Ok(known)
    }

    fn refer(&mut self, row: &LogRow, is_shown: bool) {
        let LogRow::Data { object, batches, .. } = row else { return };
        *self.references.entry(*object).or_default() += batches.len() as u64;
        if is_shown {
            *self.readable.entry(*object).or_default() += batches.len() as u64;
        }
    }

    pub(super) fn committed(&self) -> impl Iterator<Item = (&ObjectId, &ObjectRow)> + Clone {
        self.objects.iter().filter(|(_, row)| row.state == ObjectState::Committed)
    }

    /// How many objects a merge wrote to a level, of those that anything is known of.
    pub(super) fn merged_to(&self, level: u8) -> u64 {
        self.objects.values().filter(|row| row.level == level && row.batches > 0).count() as u64
    }

    /// How much of what was flushed, or was begun to be merged, waits.
    pub(super) fn unmerged(&self) -> usize {
        self.units + self.queued.iter().filter(|(level, _)| *level == 0).count()
    }

    /// Where counts don't agree: of each object the batches that were appended, or that merges made refer to it, are referred
    /// to, or dead.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, row) in self.committed() {
            let appended = row.appended();
            let of = |counts: &BTreeMap<ObjectId, u64>| counts.get(id).copied().unwrap_or(0);
            let (referred, dead) = (of(&self.references), of(&self.dead));
            if referred + dead != appended {
                let level = row.level;
                problems.push(format!(
                    "of {appended} batches of object {id} of level {level} {referred} are referred to and {dead} are dead"
                ));
            }
        }
        let nobodys =
            |id: &&ObjectId| self.objects.get(id).is_none_or(|row| row.state != ObjectState::Committed);
        problems.extend(self.references.keys().filter(nobodys).map(|id| {
            let state = self.objects.get(id).map(|row| row.state);
            format!("object {id} is referred to, and its row says {state:?}")
        }));
        problems
    }

    /// What merging has passed and left where it was: nothing of a queue goes before nothing that can be read refers to it.
    /// What has `section_bytes` of each partition isn't queued a second time.
    pub(super) fn left_behind(&self, section_bytes: u64) -> Vec<String> {
        let readable = self.committed().filter(|(id, _)| self.readable.contains_key(id));
        let left = readable.filter(|(id, row)| {
            let is_merged_on =
                row.level == 0 || row.level < merge_queue::LAST_LEVEL && row.size < section_bytes;
            is_merged_on && !self.queued.contains(&(row.level, **id))
        });
        left.map(|(id, row)| {
            let (level, batches) = (row.level, self.readable[id]);
            format!("{batches} batches are in object {id} of level {level}, which doesn't wait to be merged")
        })
        .collect()
    }
}

/// The end of a key that names a partition.
fn partition_of(key: &[u8]) -> Option<Partition> {
    let (topic, index) = key.split_first_chunk::<16>()?;
    Some((TopicId::from_bytes(*topic).get(), i32::from_be_bytes(*index.first_chunk::<4>()?)))
}

async fn rows(transaction: &mut dyn Transaction, all: KeyRange) -> Result<Vec<Row>, StoreError> {
    let (mut from, mut found) = (all.start, Vec::new());
    loop {
        let range = from.clone()..all.end.clone();
        let page = transaction.range(range, RangeOptions::page(1_000, Isolation::Snapshot)).await?;
        found.extend(page.rows.iter().cloned());
        let Some(last) = page.rows.last().filter(|_| page.more) else { return Ok(found) };
        from = single_key(&last.key).end;
    }
}
