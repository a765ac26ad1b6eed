//! Units of merging (family 0x24): stretches of a merge queue that are merged together.
//!
//! ```text
//! key    0x24 | level 1 | last place 14
//! value  01 | first place 14 | begins at 14 | objects varint | bytes varint
//! ```
//!
//! A unit is all of its level's queue from its first to its last place. Units of a level don't overlap, and are cut in the
//! order of the queue: what stands behind the last one was not cut yet, since a unit goes together with its part of the queue.
//!
//! - **Written** by the planner, which reads the end of the family serializably: two planners can't cut the same twice.
//! - **Read** serializably by each swap of the unit: behind its end nothing is swapped any more. **Cleared** at its end.
//! - **Cardinality**: units that wait or are being merged. 16-byte keys, values of some 40 bytes.

use super::merge_queue::CommitPlace;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, Row, prefixed};

const NAME: &str = "merge unit";
const FORMAT: u8 = 1;

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// The level of its objects.
    pub level: u8,
    /// The place of its first object in the queue.
    pub first: CommitPlace,
    /// The place of its last one.
    pub last: CommitPlace,
    /// The first commit that its objects may hold batches of; the last one is at `last`.
    pub begins: CommitPlace,
    /// How many objects it has.
    pub objects: u32,
    /// Their bytes.
    pub bytes: u64,
}

fn level_prefix(keyspace: &Keyspace, level: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::MergeUnit);
    key.push(level);
    key
}

/// The key of the unit that ends at `last`.
pub fn key(keyspace: &Keyspace, level: u8, last: CommitPlace) -> Vec<u8> {
    let mut key = level_prefix(keyspace, level);
    key.extend_from_slice(&last.to_bytes());
    key
}

/// The units of a level, in the order of the log.
pub fn units(keyspace: &Keyspace, level: u8) -> KeyRange {
    prefixed(&level_prefix(keyspace, level))
}

impl Unit {
    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.fixed(&self.first.to_bytes()).fixed(&self.begins.to_bytes());
        writer.varint(u64::from(self.objects)).varint(self.bytes);
        writer.finish()
    }

    /// Reads a row.
    pub fn decode(keyspace: &Keyspace, row: &Row) -> Result<Self, Corrupt> {
        let rest = keyspace
            .strip(Family::MergeUnit, &row.key)
            .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
        let mut reader = Reader::new(NAME, rest);
        let level = reader.u8()?;
        let last = CommitPlace::read(&mut reader)?;
        reader.finish()?;
        let mut reader = Reader::with_format(NAME, &row.value, FORMAT)?;
        let first = CommitPlace::read(&mut reader)?;
        let begins = CommitPlace::read(&mut reader)?;
        let objects = reader.varint_u32()?;
        let bytes = reader.varint()?;
        reader.finish()?;
        if begins > first || first > last {
            return Err(Corrupt { family: NAME, reason: "it begins behind its end" });
        }
        Ok(Self { level, first, last, begins, objects, bytes })
    }
}
