//! Dead counts (family 0x21): how many of an object's batches have left the log.
//!
//! ```text
//! key    0x21 | object id 20
//! value  signed 64-bit little-endian: batches + 2^40 x how often some of them were dead because they had been copied
//! ```
//!
//! The copies make a difference for how long the object is kept once it is dead: a backup of the metadata may refer to it
//! where its records haven't expired.
//!
//! - **Written** by atomic addition without a write conflict range, by whatever takes entries out of the log: trimming,
//!   jobs that replace entries, the collection of a deleted topic. Cleared when the object is buried.
//! - **Read** by the burial: an object all of whose appended batches are dead is garbage.
//! - **Cardinality**: one per object that is partly dead. 8 bytes.

use penstock_types::ObjectId;

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader};

const NAME: &str = "dead count";
const BATCHES_BITS: u32 = 40;

/// What is known of an object's dead batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadCount {
    /// How many there are.
    pub batches: u64,
    /// Whether some of them are elsewhere now, since they were merged.
    pub was_copied: bool,
}

/// What is added for so many batches.
pub fn amount(batches: u64, was_copied: bool) -> i64 {
    (batches + (u64::from(was_copied) << BATCHES_BITS)) as i64
}

/// The key of an object's count.
pub fn key(keyspace: &Keyspace, object: ObjectId) -> Vec<u8> {
    let mut key = keyspace.family(Family::Dead);
    key.extend_from_slice(object.as_bytes());
    key
}

/// Reads a key back.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<ObjectId, Corrupt> {
    let rest = keyspace
        .strip(Family::Dead, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let object = ObjectId::from_bytes(reader.array()?);
    reader.finish()?;
    Ok(object)
}

/// Reads a value; none is 0.
pub fn decode(value: Option<&[u8]>) -> Result<DeadCount, Corrupt> {
    let corrupt = |reason| Corrupt { family: NAME, reason };
    let Some(value) = value else { return Ok(DeadCount::default()) };
    let bytes: [u8; 8] = value.try_into().map_err(|_| corrupt("not eight bytes"))?;
    let sum = u64::try_from(i64::from_le_bytes(bytes)).map_err(|_| corrupt("it is negative"))?;
    let batches = sum & ((1 << BATCHES_BITS) - 1);
    Ok(DeadCount { batches, was_copied: sum >> BATCHES_BITS > 0 })
}
