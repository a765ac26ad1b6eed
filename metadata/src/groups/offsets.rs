//! Committed offsets.

use std::collections::{BTreeMap, BTreeSet};

use penstock_types::{PartitionIndex, TopicId};

use super::{Fence, Fenced, GroupError, Groups, check_epoch};
use crate::keys::Keyspace;
use crate::keys::group::{CoordinatorEpoch, GroupRow, StoredState, group_key};
use crate::keys::group_offset::{CommittedOffset, decode_offset_key, group_offsets, offset_key};
use crate::keys::topic::row_key;
use crate::kv::{
    Isolation, KeyRange, Page, RangeOptions, StoreError, Transaction, WriteConflict, single_key,
};
use crate::transact::{Abort, OnUnknown, transact};

/// Bytes of one transaction's commits, about: far below the store's limit, and quick.
const TRANSACTION_BYTES: usize = 2_000_000;
/// Rows of one page of a range read.
const PAGE_ROWS: usize = 5_000;
/// Keys of one point read.
const READ_KEYS: usize = 2_000;

/// One offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The generation that the member belongs to; `None` for a consumer outside of group management, whose commit
    /// stands only while the group has no members.
    pub generation: Option<i32>,
    /// The topic's name, at most 65,535 bytes.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// What to store.
    pub value: CommittedOffset,
}

/// Why an offset was not committed though the group is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitRefusal {
    /// The group is in another generation.
    OtherGeneration,
    /// The group has members.
    HasMembers,
    /// The topic of that id is no more.
    TopicDeleted,
}

/// Offsets by topic and partition.
pub type StoredOffsets = BTreeMap<String, BTreeMap<PartitionIndex, CommittedOffset>>;

/// Which offsets to remove, beside those of topics that were deleted.
pub type OffsetFilter<'a> = &'a (dyn Fn(&str, PartitionIndex, &CommittedOffset) -> bool + Send + Sync);

/// How a removal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Offsets that were removed.
    pub removed: usize,
    /// Offsets that are left.
    pub left: usize,
}

impl Groups {
    /// Commits offsets in order; one answer each. Several transactions if they are many.
    ///
    /// After an error any prefix of them may have been committed; repeating the same commits is harmless.
    pub async fn commit_offsets(
        &self,
        group: &str,
        fence: Fence,
        commits: &[OffsetCommit],
    ) -> Result<Vec<Result<(), CommitRefusal>>, GroupError> {
        let Fence::Held { epoch, revision: _ } = fence else {
            return Err(GroupError::Fenced { group: group.to_owned() });
        };
        let mut answers = Vec::with_capacity(commits.len());
        let mut rest = commits;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fitting(group, rest));
            answers.extend(self.commit_some(group, epoch, now).await?);
            rest = later;
        }
        Ok(answers)
    }

    async fn commit_some(
        &self,
        group: &str,
        epoch: CoordinatorEpoch,
        commits: &[OffsetCommit],
    ) -> Result<Vec<Result<(), CommitRefusal>>, GroupError> {
        let row_key = group_key(&self.keyspace, group);
        let done = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let row = txn.get(&row_key, Isolation::Serializable).await?;
            let row = check_epoch(row.as_deref(), epoch)?;
            let topics = commits.iter().map(|commit| commit.value.topic_id).collect();
            // Serializably: nothing is committed under the id of a topic that was deleted.
            let live = live_topics(txn, &self.keyspace, topics, Isolation::Serializable).await?;
            let mut answers = Vec::with_capacity(commits.len());
            for commit in commits {
                let answer = admit(&row, &live, commit);
                if answer.is_ok() {
                    let key = offset_key(&self.keyspace, group, &commit.topic, commit.partition);
                    // An attempt that was given up can't land behind a later commit of the same partition.
                    txn.add_read_conflict(single_key(&key));
                    txn.set(&key, &commit.value.encode(), WriteConflict::Yes);
                }
                answers.push(answer);
            }
            Ok(answers)
        })
        .await;
        done.map(|(answers, _)| answers).map_err(|error| Self::failed(group, error))
    }

    /// Removes every offset that `filter` chooses, and those of topics that were deleted.
    ///
    /// After an error some may be removed; repeating it is harmless.
    pub async fn remove_offsets(
        &self,
        group: &str,
        fence: Fence,
        filter: OffsetFilter<'_>,
    ) -> Result<Removed, GroupError> {
        let mut total = Removed { removed: 0, left: 0 };
        let Fence::Held { epoch, revision: _ } = fence else { return Ok(total) };
        let row_key = group_key(&self.keyspace, group);
        let mut range = group_offsets(&self.keyspace, group);
        loop {
            let page = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
                let row = txn.get(&row_key, Isolation::Serializable).await?;
                check_epoch(row.as_deref(), epoch)?;
                let page = read_offset_page(txn, range.clone(), Isolation::Serializable).await?;
                let mut offsets = Vec::with_capacity(page.rows.len());
                for row in &page.rows {
                    let (topic, partition) = decode_offset_key(&self.keyspace, group, &row.key)?;
                    offsets.push((topic, partition, CommittedOffset::decode(&row.value)?));
                }
                let topics = offsets.iter().map(|(_, _, offset)| offset.topic_id).collect();
                let live = live_topics(txn, &self.keyspace, topics, Isolation::Snapshot).await?;
                let mut gone = 0;
                for ((topic, partition, offset), row) in offsets.iter().zip(&page.rows) {
                    if !live.contains(&offset.topic_id) || filter(topic, *partition, offset) {
                        txn.clear(&row.key, WriteConflict::Yes);
                        gone += 1;
                    }
                }
                Ok((page, gone))
            })
            .await;
            let ((page, gone), _) = page.map_err(|error| Self::failed(group, error))?;
            total.removed += gone;
            total.left += page.rows.len() - gone;
            match page.rows.last() {
                Some(last) if page.more => range.start = behind(&last.key),
                _ => return Ok(total),
            }
        }
    }

    /// Offsets of the given partitions, at one version not older than the call; those without are left out, and those
    /// of topics that were deleted.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        partitions: &[(&str, PartitionIndex)],
    ) -> Result<StoredOffsets, GroupError> {
        let keys: Vec<Vec<u8>> = partitions
            .iter()
            .map(|(topic, partition)| offset_key(&self.keyspace, group, topic, *partition))
            .collect();
        let read = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let mut offsets = StoredOffsets::new();
            for (keys, partitions) in keys.chunks(READ_KEYS).zip(partitions.chunks(READ_KEYS)) {
                let values = txn.get_many(keys, Isolation::Snapshot).await?;
                for ((topic, partition), value) in partitions.iter().zip(values) {
                    if let Some(value) = value {
                        let value = CommittedOffset::decode(&value)?;
                        offsets.entry((*topic).to_owned()).or_default().insert(*partition, value);
                    }
                }
            }
            retain_live(txn, &self.keyspace, &mut offsets).await?;
            Ok::<_, Abort<Fenced>>(offsets)
        })
        .await;
        read.map(|(read, _)| read).map_err(|error| Self::failed(group, error))
    }

    /// All offsets of a group, at one version not older than the call, but those of topics that were deleted.
    pub async fn fetch_all_offsets(&self, group: &str) -> Result<StoredOffsets, GroupError> {
        let read = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let mut offsets = StoredOffsets::new();
            let mut range = group_offsets(&self.keyspace, group);
            loop {
                let page = read_offset_page(txn, range.clone(), Isolation::Snapshot).await?;
                for row in &page.rows {
                    let (topic, partition) = decode_offset_key(&self.keyspace, group, &row.key)?;
                    let value = CommittedOffset::decode(&row.value)?;
                    offsets.entry(topic).or_default().insert(partition, value);
                }
                match page.rows.last() {
                    Some(last) if page.more => range.start = behind(&last.key),
                    _ => break,
                }
            }
            retain_live(txn, &self.keyspace, &mut offsets).await?;
            Ok::<_, Abort<Fenced>>(offsets)
        })
        .await;
        read.map(|(read, _)| read).map_err(|error| Self::failed(group, error))
    }
}

/// Those of the topics that exist.
async fn live_topics(
    txn: &mut dyn Transaction,
    keyspace: &Keyspace,
    topics: BTreeSet<TopicId>,
    isolation: Isolation,
) -> Result<BTreeSet<TopicId>, StoreError> {
    let topics: Vec<TopicId> = topics.into_iter().collect();
    let mut live = BTreeSet::new();
    for topics in topics.chunks(READ_KEYS) {
        let keys: Vec<Vec<u8>> = topics.iter().map(|topic| row_key(keyspace, *topic)).collect();
        let rows = txn.get_many(&keys, isolation).await?;
        live.extend(topics.iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(topic, _)| *topic));
    }
    Ok(live)
}

/// Leaves out the offsets of topics that were deleted.
async fn retain_live(
    txn: &mut dyn Transaction,
    keyspace: &Keyspace,
    offsets: &mut StoredOffsets,
) -> Result<(), StoreError> {
    let topics = offsets.values().flat_map(BTreeMap::values).map(|offset| offset.topic_id).collect();
    let live = live_topics(txn, keyspace, topics, Isolation::Snapshot).await?;
    for partitions in offsets.values_mut() {
        partitions.retain(|_, offset| live.contains(&offset.topic_id));
    }
    offsets.retain(|_, partitions| !partitions.is_empty());
    Ok(())
}

fn admit(row: &GroupRow, live: &BTreeSet<TopicId>, commit: &OffsetCommit) -> Result<(), CommitRefusal> {
    match commit.generation {
        Some(generation)
            if generation != row.header.generation && !penstock_types::planted!("old-generation-commits") =>
        {
            Err(CommitRefusal::OtherGeneration)
        }
        None if row.header.state != StoredState::Empty => Err(CommitRefusal::HasMembers),
        Some(_) | None if !live.contains(&commit.value.topic_id) => Err(CommitRefusal::TopicDeleted),
        Some(_) | None => Ok(()),
    }
}

/// How many of the first commits fit in one transaction; at least one.
fn fitting(group: &str, commits: &[OffsetCommit]) -> usize {
    let mut bytes = 0;
    for (index, commit) in commits.iter().enumerate() {
        // The key stands in the mutation and twice in each of two conflict ranges.
        let key = group.len() + commit.topic.len() + 64;
        bytes += 5 * key + commit.value.metadata.len() + 64;
        if bytes > TRANSACTION_BYTES && index > 0 {
            return index;
        }
    }
    commits.len()
}

async fn read_offset_page(
    txn: &mut dyn Transaction,
    range: KeyRange,
    isolation: Isolation,
) -> Result<Page, StoreError> {
    txn.range(range, RangeOptions::page(PAGE_ROWS, isolation)).await
}

fn behind(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    key.push(0);
    key
}
