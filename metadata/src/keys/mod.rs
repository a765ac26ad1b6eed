//! Every persisted key family, one file each: byte diagram, who writes, who reads, cardinality, size.
//!
//! A key is the cluster's prefix, one family byte, then fixed-width big-endian fields (text last, or behind its
//! length), so that keys of a family sort by their fields. All numbers in one family that sort as signed have their
//! sign bit flipped. Values begin with a format byte (see [`crate::codec`]) unless the store itself computes on them
//! (atomic counters).
//!
//! | byte | family | file |
//! |------|--------|------|
//! | 0x01 | cluster singletons: identity, schema, metadata version, cutoff | `cluster.rs` |
//! | 0x02 | topic id by name | `topic.rs` |
//! | 0x03 | topic | `topic.rs` |
//! | 0x04 | topic changes, by stamp | `topic.rs` |
//! | 0x05 | dynamic configuration of the cluster and its brokers | `broker_config.rs` |
//! | 0x10 | log rows | `log.rs` |
//! | 0x11 | seal | `seal.rs` |
//! | 0x12 | packed index | `index.rs` |
//! | 0x13 | log start offset | `log_start.rs` |
//! | 0x14 | producer state | `producer.rs` |
//! | 0x15 | feed, by slot | `feed.rs` |
//! | 0x16 | aborted transactions of the sealed log | `aborted.rs` |
//! | 0x17 | checkpoints of the sealed log, by slot | `checkpoint.rs` |
//! | 0x18 | counters, by stripe of partitions | `counters.rs` |
//! | 0x19 | what commits appended | `order.rs` |
//! | 0x1A | what has left the sealed log | `trim.rs` |
//! | 0x20 | data objects | `object.rs` |
//! | 0x21 | dead counts of objects | `dead.rs` |
//! | 0x22, 0x25 | garbage queues: the second of what was merged | `garbage.rs` |
//! | 0x23 | merge queues, by level | `merge_queue.rs` |
//! | 0x24 | units of merging, by level | `merge_unit.rs` |
//! | 0x26 | log compaction | `compaction.rs` |
//! | 0x30 | id allocation | `allocation.rs` |
//! | 0x40 | groups | `group.rs` |
//! | 0x41 | group members | `group.rs` |
//! | 0x42 | committed offsets | `group_offset.rs` |
//! | 0x50 | agents, their names, the membership's stamp | `agent.rs` |

pub mod aborted;
pub mod agent;
pub mod allocation;
pub mod broker_config;
pub mod checkpoint;
pub mod cluster;
pub mod compaction;
pub mod counters;
pub mod dead;
pub mod feed;
pub mod garbage;
pub mod group;
pub mod group_offset;
pub mod index;
pub mod log;
pub mod log_start;
pub mod merge_queue;
pub mod merge_unit;
pub mod object;
pub mod order;
pub mod producer;
pub mod seal;
#[cfg(test)]
mod tests;
pub mod topic;
pub mod trim;

use std::sync::Arc;

use penstock_types::{PartitionIndex, TopicId, TopicPartition};

use crate::codec::{Corrupt, Reader};
use crate::kv::{KeyRange, prefixed};

/// A family's byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table above documents them")]
pub enum Family {
    Cluster = 0x01,
    TopicName = 0x02,
    Topic = 0x03,
    TopicChange = 0x04,
    BrokerConfig = 0x05,
    Log = 0x10,
    Seal = 0x11,
    Index = 0x12,
    LogStart = 0x13,
    Producer = 0x14,
    Feed = 0x15,
    Aborted = 0x16,
    Checkpoint = 0x17,
    Counters = 0x18,
    Order = 0x19,
    Trim = 0x1A,
    Object = 0x20,
    Dead = 0x21,
    Garbage = 0x22,
    MergeQueue = 0x23,
    MergeUnit = 0x24,
    MergedGarbage = 0x25,
    Compaction = 0x26,
    Allocation = 0x30,
    Group = 0x40,
    GroupMember = 0x41,
    GroupOffset = 0x42,
    Agent = 0x50,
}

impl Family {
    /// Every family and what a row of it is called, in the order of the keys.
    pub const ALL: [(Self, &'static str); 28] = [
        (Self::Cluster, "cluster"),
        (Self::TopicName, "topic name"),
        (Self::Topic, "topic"),
        (Self::TopicChange, "topic change"),
        (Self::BrokerConfig, "broker configuration"),
        (Self::Log, "log row"),
        (Self::Seal, "seal"),
        (Self::Index, "packed index"),
        (Self::LogStart, "log start offset"),
        (Self::Producer, "producer state"),
        (Self::Feed, "feed"),
        (Self::Aborted, "aborted transaction"),
        (Self::Checkpoint, "checkpoint"),
        (Self::Counters, "counters"),
        (Self::Order, "order row"),
        (Self::Trim, "trim"),
        (Self::Object, "object"),
        (Self::Dead, "dead count"),
        (Self::Garbage, "garbage"),
        (Self::MergeQueue, "merge queue"),
        (Self::MergeUnit, "merge unit"),
        (Self::MergedGarbage, "merged garbage"),
        (Self::Compaction, "compaction"),
        (Self::Allocation, "id allocation"),
        (Self::Group, "group"),
        (Self::GroupMember, "group member"),
        (Self::GroupOffset, "committed offset"),
        (Self::Agent, "agent"),
    ];

    /// The family of that byte, if there is one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.iter().map(|(family, _)| *family).find(|family| *family as u8 == byte)
    }

    /// What a row of it is called.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(family, _)| *family == self).map_or("", |(_, name)| name)
    }
}

/// The keys of one cluster within a store: everything under one prefix, so that clusters can share a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    prefix: Arc<[u8]>,
}

impl Keyspace {
    /// The keys under `prefix` (empty for a store of its own).
    pub fn new(prefix: &[u8]) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The start of a family's keys.
    pub fn family(&self, family: Family) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 48);
        key.extend_from_slice(&self.prefix);
        key.push(family as u8);
        key
    }

    /// All keys of the cluster.
    pub fn all(&self) -> KeyRange {
        if self.prefix.is_empty() { Vec::new()..vec![0xFF] } else { prefixed(&self.prefix) }
    }

    /// The byte of the family that `key` is of, if it is one of the cluster's keys.
    pub fn family_byte(&self, key: &[u8]) -> Option<u8> {
        key.strip_prefix(&*self.prefix)?.first().copied()
    }

    /// The start of a partition's keys in a family: family, topic id (16), partition (4).
    pub fn partition(&self, family: Family, partition: TopicPartition) -> Vec<u8> {
        let mut key = self.family(family);
        key.extend_from_slice(partition.topic.as_bytes());
        push_partition(&mut key, partition.partition);
        key
    }

    /// What follows the prefix and the family byte, if `key` is of this family.
    pub fn strip<'a>(&self, family: Family, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(&*self.prefix)?.strip_prefix(&[family as u8])
    }
}

/// Appends a partition number: 4 bytes. Partition numbers are never negative.
pub fn push_partition(key: &mut Vec<u8>, partition: PartitionIndex) {
    key.extend_from_slice(&(partition.get() as u32).to_be_bytes());
}

/// Reads back what [`Keyspace::partition`] wrote behind the family byte.
pub(crate) fn read_partition(reader: &mut Reader<'_>) -> Result<TopicPartition, Corrupt> {
    let topic = TopicId::from_bytes(reader.array()?);
    let partition =
        i32::try_from(reader.u32()?).map_err(|_| reader.corrupt("a partition is out of range"))?;
    Ok(TopicPartition { topic, partition: PartitionIndex::new(partition) })
}
