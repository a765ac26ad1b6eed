//! What a check found: its kinds, with what each means, and the bounded report of them.

use std::collections::BTreeMap;
use std::fmt;

use penstock_types::{ObjectId, Offset, TopicPartition};
use serde::{Serialize, Serializer};

use super::repair::Repair;

/// Findings of a kind that are kept; the others are counted.
const KEPT: usize = 1_000;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];

            /// Its name, in reports and in docs/fsck.md.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A row of the metadata can't be decoded.
    CorruptRow = "corrupt-row",
    /// A topic and the row of its name don't say the same.
    TopicName = "topic-name",
    /// There are rows of a topic or partition that doesn't exist.
    StrayRows = "stray-rows",
    /// A log row stands below its partition's seal, where nobody looks.
    RowBelowSeal = "row-below-seal",
    /// The fold of a log doesn't end at the counter: agents don't serve the partition.
    Counter = "counter",
    /// A log start offset lies behind the log's end.
    LogStart = "log-start",
    /// What is said to have left the sealed log is there, or was never there.
    Trimmed = "trimmed",
    /// Entries of an index overlap, are out of order, or stand under a wrong key.
    IndexOrder = "index-order",
    /// An index has no entry for offsets that nobody deleted.
    IndexHole = "index-hole",
    /// The timestamps by which an index is searched don't ascend or are too small.
    IndexTime = "index-time",
    /// The sum of a sealed log's bytes isn't what the seal says.
    LogBytes = "log-bytes",
    /// A log refers to an object that has no row.
    NoRow = "no-row",
    /// A log refers to an object that is about to be deleted, was deleted, or was never finished.
    DeadReferenced = "dead-referenced",
    /// References and dead batches of an object are not the batches that were appended.
    Count = "count",
    /// Batches were counted as dead of an object that has no row.
    DeadWithoutRow = "dead-without-row",
    /// A log refers to an object that isn't in the bucket.
    Missing = "missing",
    /// An object has another length than was committed.
    Length = "length",
    /// An object's footer is damaged, or of another object.
    Footer = "footer",
    /// A log refers to bytes of an object that are not its partition's, or twice to the same.
    Reference = "reference",
    /// Bytes of an object are damaged, or not the batches that the log tells.
    Damaged = "damaged",
    /// Nothing refers to an object of the bucket, for longer than that may be.
    Unreferenced = "unreferenced",
    /// An earlier incarnation left an object that nothing refers to.
    EarlierIncarnation = "earlier-incarnation",
    /// An object is of a later incarnation than the metadata: these are an old copy.
    LaterIncarnation = "later-incarnation",
    /// Something lies among the objects that is none.
    NotAnObject = "not-an-object",
    /// An object waits to be deleted though it is in use.
    GarbageInUse = "garbage-in-use",
    /// An object is to be deleted and waits in no queue.
    GarbageLost = "garbage-lost",
    /// An object should have been deleted long ago.
    GarbageOverdue = "garbage-overdue",
    /// What waits to be merged isn't what its object's row says, or is in two units.
    MergeQueue = "merge-queue",
    /// A part of a current checkpoint isn't in the bucket, or is damaged.
    Checkpoint = "checkpoint",
    /// Part of a checkpoint that is nobody's any more lies in the bucket, for longer than that may be.
    CheckpointLeft = "checkpoint-left",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of wrong.
    pub kind: Kind,
    /// The topic's name, or its id where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The first offset concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// The object.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub object: Option<ObjectId>,
    /// What exactly.
    pub detail: String,
    /// What `--repair` does about it, if anything.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub repair: Option<Repair>,
}

fn as_text<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

impl Finding {
    /// Something wrong, of nothing in particular.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, topic: None, partition: None, offset: None, object: None, detail, repair: None }
    }

    /// Of an object.
    pub(super) fn of(kind: Kind, object: ObjectId, detail: impl Into<String>) -> Self {
        Self { object: Some(object), ..Self::new(kind, detail) }
    }

    /// In a partition of the topic of that name.
    pub(super) fn within(self, topic: &str, partition: TopicPartition) -> Self {
        Self { topic: Some(topic.to_owned()), partition: Some(partition.partition.get()), ..self }
    }

    pub(super) fn at(self, offset: Option<Offset>) -> Self {
        Self { offset: offset.map(Offset::get), ..self }
    }

    pub(super) fn repaired_by(self, repair: Repair) -> Self {
        Self { repair: Some(repair), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, " {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " {topic}")?,
            (None, _) => {}
        }
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        if let Some(object) = self.object {
            write!(f, " object {object}")?;
        }
        write!(f, ": {}", self.detail)?;
        match &self.repair {
            Some(repair) => write!(f, " (--repair: {repair})"),
            None => Ok(()),
        }
    }
}

/// How much was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Checked {
    /// Rows of the metadata.
    pub rows: u64,
    /// Topics, those that are being collected included.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Values of packed indexes.
    pub index_values: u64,
    /// Entries of logs.
    pub entries: u64,
    /// Batches of logs.
    pub batches: u64,
    /// Objects that have a row.
    pub objects: u64,
    /// Objects listed in the bucket.
    pub listed: u64,
    /// Footers read.
    pub footers: u64,
    /// Bytes of batches that were read and held against their checksums.
    pub bytes: u64,
    /// Partitions and objects that changed at each look, so that something of them wasn't compared.
    pub unsettled: u64,
    /// Objects of which everything is dead, and which no job has noticed yet.
    pub unburied: u64,
    /// Passes over the objects.
    pub passes: u64,
}

/// A repair, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was to be done.
    pub repair: String,
    /// `done`, or why not.
    pub outcome: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The cluster.
    pub cluster_id: String,
    /// Its incarnation.
    pub incarnation: u32,
    /// Whether every byte was read.
    pub deep: bool,
    /// How much was checked.
    pub checked: Checked,
    /// How many findings there are of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The findings, the first thousand of each kind.
    pub findings: Vec<Finding>,
    /// What was repaired.
    pub repairs: Vec<Repaired>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many findings there are.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there is a finding of one of these kinds.
    pub(super) fn has_any(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.counts.contains_key(kind))
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count <= KEPT as u64 {
            self.findings.push(finding);
        }
    }
}
