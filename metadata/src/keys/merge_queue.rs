//! The merge queues (family 0x23): objects that wait to be merged into larger ones, in the order of the log.
//!
//! ```text
//! key    0x23 | level 1 | incarnation 4 | versionstamp 10 | object id 20
//! value  01 | size varint | section count varint | if level > 0: first place 14
//! ```
//!
//! Level 0 has what commits wrote, under the commits' own stamps; a level above has what a merge of the level below wrote,
//! under the last place of the unit that was merged: so each queue is in the order of the log over all partitions,
//! whatever was merged first. The first place is that of the first commit that the object may hold batches of.
//!
//! - **Written** by commits, blindly, under a versionstamped key; for levels above by the first swap into the object.
//! - **Read** from its front by the planner, which cuts it into units (`merge_unit.rs`). **Cleared** with its unit.
//! - **Cardinality**: objects that are not merged yet. 36-byte keys, values of 4 to 20 bytes.

use penstock_types::{BatchPosition, Incarnation, ObjectId, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, Row, prefixed, single_key};

const NAME: &str = "merge queue";
const FORMAT: u8 = 1;
/// Objects that merges write have levels from 1 to this one, and those of this one are not merged any more.
pub const LAST_LEVEL: u8 = 2;

/// A commit's place in the log of all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitPlace {
    /// The incarnation of the commit.
    pub incarnation: Incarnation,
    /// Its stamp.
    pub stamp: Versionstamp,
}

impl CommitPlace {
    /// Bytes of the stored form: 4 + 10.
    pub const LENGTH: usize = 14;

    /// The stored form, which sorts as the places do.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.incarnation.get().to_be_bytes());
        bytes[4..].copy_from_slice(self.stamp.as_bytes());
        bytes
    }

    /// The first batch that a commit here may have.
    pub fn first_batch(&self) -> BatchPosition {
        BatchPosition { incarnation: self.incarnation, stamp: self.stamp, n: 0 }
    }

    /// The last one.
    pub fn last_batch(&self) -> BatchPosition {
        BatchPosition { n: u32::MAX, ..self.first_batch() }
    }

    /// Reads the stored form.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let incarnation = Incarnation::new(reader.u32()?);
        Ok(Self { incarnation, stamp: Versionstamp::from_bytes(reader.array()?) })
    }
}

/// An object in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Its level.
    pub level: u8,
    /// Where it stands in the queue: the commit that it is of, or the last one that it may hold batches of.
    pub place: CommitPlace,
    /// Which object.
    pub object: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// How many partitions it has batches of; 0 where nobody counted (level 0).
    pub sections: u32,
    /// The first commit that it may hold batches of.
    pub first: CommitPlace,
}

/// What stands before the versionstamp in a key of level 0; behind it stands the object's id.
pub fn prefix(keyspace: &Keyspace, incarnation: Incarnation) -> Vec<u8> {
    let mut key = level_prefix(keyspace, 0);
    key.extend_from_slice(&incarnation.get().to_be_bytes());
    key
}

fn level_prefix(keyspace: &Keyspace, level: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::MergeQueue);
    key.push(level);
    key
}

/// The key of an object whose place is known.
pub fn key(keyspace: &Keyspace, level: u8, place: CommitPlace, object: ObjectId) -> Vec<u8> {
    let mut key = level_prefix(keyspace, level);
    key.extend_from_slice(&place.to_bytes());
    key.extend_from_slice(object.as_bytes());
    key
}

/// The queue of a level.
pub fn queue(keyspace: &Keyspace, level: u8) -> KeyRange {
    prefixed(&level_prefix(keyspace, level))
}

/// What of a level's queue stands at the places from `first` to `last`, inclusive.
pub fn between(keyspace: &Keyspace, level: u8, first: CommitPlace, last: CommitPlace) -> KeyRange {
    let mut start = level_prefix(keyspace, level);
    let mut end = start.clone();
    start.extend_from_slice(&first.to_bytes());
    end.extend_from_slice(&last.to_bytes());
    start..behind(end)
}

/// What of a level's queue stands behind `place`.
pub fn after(keyspace: &Keyspace, level: u8, place: CommitPlace) -> KeyRange {
    let mut start = level_prefix(keyspace, level);
    start.extend_from_slice(&place.to_bytes());
    behind(start)..queue(keyspace, level).end
}

/// Behind every key that begins with a place.
fn behind(mut place: Vec<u8>) -> Vec<u8> {
    place.extend_from_slice(&[0xFF; ObjectId::LENGTH]);
    single_key(&place).end
}

/// The stored value of an object that a commit wrote.
pub fn encode_committed(size: u64) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.varint(size).varint(0);
    writer.finish()
}

/// The stored value of an object that a merge wrote.
pub fn encode_merged(size: u64, sections: u32, first: CommitPlace) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.varint(size).varint(u64::from(sections)).fixed(&first.to_bytes());
    writer.finish()
}

/// Reads a row.
pub fn decode(keyspace: &Keyspace, row: &Row) -> Result<Queued, Corrupt> {
    let rest = keyspace
        .strip(Family::MergeQueue, &row.key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let level = reader.u8()?;
    let place = CommitPlace::read(&mut reader)?;
    let object = ObjectId::from_bytes(reader.array()?);
    reader.finish()?;
    let mut reader = Reader::with_format(NAME, &row.value, FORMAT)?;
    let size = reader.varint()?;
    let sections = reader.varint_u32()?;
    let first = if level == 0 { place } else { CommitPlace::read(&mut reader)? };
    reader.finish()?;
    if first > place {
        return Err(Corrupt { family: NAME, reason: "it begins behind its end" });
    }
    Ok(Queued { level, place, object, size, sections, first })
}
