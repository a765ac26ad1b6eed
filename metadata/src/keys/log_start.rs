//! Log start offsets (family 0x13).
//!
//! ```text
//! key    0x13 | topic id 16 | partition 4
//! value  unsigned 64-bit little-endian
//! ```
//!
//! - **Written** by retention and DeleteRecords with an atomic maximum, so that it never goes back.
//! - **Read** by tail views with every refresh and by ListOffsets(earliest).
//! - **Cardinality**: at most one per partition; none is 0.

use penstock_types::{Offset, TopicPartition};

use super::{Family, Keyspace};
use crate::codec::Corrupt;

/// The key of a partition's log start offset.
pub fn key(keyspace: &Keyspace, partition: TopicPartition) -> Vec<u8> {
    keyspace.partition(Family::LogStart, partition)
}

/// Reads a value; none is 0.
pub fn decode(value: Option<&[u8]>) -> Result<Offset, Corrupt> {
    let Some(value) = value else { return Ok(Offset::ZERO) };
    let corrupt = |reason| Corrupt { family: "log start offset", reason };
    let bytes: [u8; 8] = value.try_into().map_err(|_| corrupt("not eight bytes"))?;
    i64::try_from(u64::from_le_bytes(bytes)).ok().and_then(Offset::new).ok_or(corrupt("out of range"))
}
