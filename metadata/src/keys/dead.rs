//! Dead counts (family 0x21): how many of an object's batches have left the log.
//!
//! ```text
//! key    0x21 | object id 20
//! value  signed 64-bit little-endian
//! ```
//!
//! - **Written** by atomic addition without a write conflict range, by whatever takes entries out of the log: trimming,
//!   jobs that replace entries, the collection of a deleted topic. Cleared when the object is buried.
//! - **Read** by the burial: an object all of whose appended batches are dead is garbage.
//! - **Cardinality**: one per object that is partly dead. 8 bytes.

use penstock_types::ObjectId;

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader};

const NAME: &str = "dead count";

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
pub fn decode(value: Option<&[u8]>) -> Result<u64, Corrupt> {
    let corrupt = |reason| Corrupt { family: NAME, reason };
    let Some(value) = value else { return Ok(0) };
    let bytes: [u8; 8] = value.try_into().map_err(|_| corrupt("not eight bytes"))?;
    u64::try_from(i64::from_le_bytes(bytes)).map_err(|_| corrupt("it is negative"))
}
