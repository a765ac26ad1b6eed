//! What was salvaged, partition by partition.

use serde::Serialize;

/// Offsets from one to another, which is not of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first.
    pub from: i64,
    /// Behind the last.
    pub to: i64,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Its number.
    pub partition: i32,
    /// Where its log starts.
    pub log_start: i64,
    /// Every record below this offset is at its old offset, but for those that are `lost`.
    pub exact_to: i64,
    /// Where its log ends.
    pub end: i64,
    /// Batches from `exact_to` to `end`, put there in the order in which their objects were begun: best effort.
    pub best_effort_batches: u64,
    /// Offsets of which there is nothing.
    pub lost: Vec<Range>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
}

/// Records of a topic of which no checkpoint tells the name: left where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownTopic {
    /// Its id.
    pub id: String,
    /// In how many objects.
    pub objects: u64,
    /// Records that were ever written there.
    pub records: u64,
}

/// What was, or would be, salvaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The cluster whose bucket it is.
    pub cluster_id: String,
    /// The highest incarnation that was seen in the bucket.
    pub seen_incarnation: u32,
    /// That of the salvaged metadata.
    pub incarnation: u32,
    /// Whether anything was written that stays.
    pub salvaged: bool,
    /// The topics.
    pub topics: Vec<TopicReport>,
    /// Topics whose names nobody knows.
    pub unknown: Vec<UnknownTopic>,
    /// What was passed over: objects and checkpoints that can't be read.
    pub damaged: Vec<String>,
    /// Objects that logs refer to now.
    pub objects: u64,
    /// Objects that nothing refers to: what was deleted, never committed, or merged.
    pub unused: u64,
    /// What a bucket doesn't tell.
    pub lost: Vec<&'static str>,
}
