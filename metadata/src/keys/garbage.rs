//! The garbage queues (families 0x22 and 0x25): objects that nothing refers to any more, in the order in which that came to
//! be. What was merged stands in a queue of its own (0x25), where it waits longer: its records are alive elsewhere, and
//! metadata that is restored from a backup refers to them here.
//!
//! ```text
//! key    0x22 or 0x25 | incarnation 4 | versionstamp 10 | object id 20
//! value  01 | size varint
//! ```
//!
//! - **Written** by the burial of an object, with its row's tombstone. **Read** from its front, and cleared, by the
//!   collector, once the object is deleted from the bucket.
//! - **Cardinality**: what was buried within the delay of deletion, and what can't be deleted.

use penstock_types::{Incarnation, ObjectId, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, Row, prefixed};

const NAME: &str = "garbage";
const FORMAT: u8 = 1;

/// An object in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage {
    /// The incarnation in which it was buried.
    pub incarnation: Incarnation,
    /// When.
    pub stamp: Versionstamp,
    /// Which object.
    pub object: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// Some of its batches were copied by a merge, the last ones or others.
    pub was_merged: bool,
}

fn family(was_merged: bool) -> Family {
    if was_merged { Family::MergedGarbage } else { Family::Garbage }
}

/// What stands before the versionstamp in a key; behind it stands the object's id.
pub fn prefix(keyspace: &Keyspace, was_merged: bool, incarnation: Incarnation) -> Vec<u8> {
    let mut key = keyspace.family(family(was_merged));
    key.extend_from_slice(&incarnation.get().to_be_bytes());
    key
}

/// The key of an object in the queue.
pub fn key(keyspace: &Keyspace, garbage: &Garbage) -> Vec<u8> {
    let mut key = prefix(keyspace, garbage.was_merged, garbage.incarnation);
    key.extend_from_slice(garbage.stamp.as_bytes());
    key.extend_from_slice(garbage.object.as_bytes());
    key
}

/// A whole queue.
pub fn queue(keyspace: &Keyspace, was_merged: bool) -> KeyRange {
    prefixed(&keyspace.family(family(was_merged)))
}

/// The stored value.
pub fn encode(size: u64) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.varint(size);
    writer.finish()
}

/// Reads a row of either queue.
pub fn decode(keyspace: &Keyspace, row: &Row) -> Result<Garbage, Corrupt> {
    let strip = |was_merged| keyspace.strip(family(was_merged), &row.key).map(|rest| (rest, was_merged));
    let (rest, was_merged) = strip(false)
        .or_else(|| strip(true))
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let incarnation = Incarnation::new(reader.u32()?);
    let stamp = Versionstamp::from_bytes(reader.array()?);
    let object = ObjectId::from_bytes(reader.array()?);
    reader.finish()?;
    let mut reader = Reader::with_format(NAME, &row.value, FORMAT)?;
    let size = reader.varint()?;
    reader.finish()?;
    Ok(Garbage { incarnation, stamp, object, size, was_merged })
}
