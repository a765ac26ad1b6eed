//! Id allocation (family 0x30): producer ids, in blocks.
//!
//! ```text
//! next key    0x30 | 01                    value  next producer id 8 (big-endian)
//! block key   0x30 | 02 | first id 8       value  01 | versionstamp 10 | incarnation 4 | ids 4
//! ```
//!
//! A block says when its ids were allocated, in the store's time: the append asks it whether an id without state is
//! old enough to have been forgotten.
//!
//! - **Written** when an agent needs ids: `next` is read and written serializably. Blocks past producer expiry go.
//! - **Read** by appends of producers without state (through the agent's cache of blocks).
//! - **Cardinality**: one `next`; a block per agent and hour, or per [`BLOCK_IDS`] ids.

use penstock_types::{Incarnation, ProducerId, StoreVersion, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::KeyRange;

/// Ids of a block.
pub const BLOCK_IDS: u32 = 1_000;
/// Where the versionstamp stands in a block's value.
pub const STAMP_AT: usize = 1;

/// The key of the next producer id.
pub fn next_producer_id_key(keyspace: &Keyspace) -> Vec<u8> {
    let mut key = keyspace.family(Family::Allocation);
    key.push(1);
    key
}

/// The value of the next producer id.
pub fn encode_next(next: i64) -> Vec<u8> {
    next.to_be_bytes().to_vec()
}

/// Reads the next producer id; none is 0.
pub fn decode_next(value: Option<&[u8]>) -> Result<i64, Corrupt> {
    let Some(value) = value else { return Ok(0) };
    let corrupt = |reason| Corrupt { family: "next producer id", reason };
    let bytes: [u8; 8] = value.try_into().map_err(|_| corrupt("not eight bytes"))?;
    let next = i64::from_be_bytes(bytes);
    if next < 0 { Err(corrupt("negative")) } else { Ok(next) }
}

/// A block of producer ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// When it was allocated.
    pub allocated: StoreVersion,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// How many ids it has.
    pub ids: u32,
}

/// A block's value, its stamp left to the store.
pub fn block_template(incarnation: Incarnation, ids: u32) -> Vec<u8> {
    let mut writer = Writer::format(1);
    writer.fixed(Versionstamp::ZERO.as_bytes()).u32(incarnation.get()).u32(ids);
    writer.finish()
}

/// Reads a block.
pub fn decode_block(value: &[u8]) -> Result<Block, Corrupt> {
    let mut reader = Reader::with_format("producer id block", value, 1)?;
    let stamp = Versionstamp::from_bytes(reader.array()?);
    let incarnation = Incarnation::new(reader.u32()?);
    let ids = reader.u32()?;
    reader.finish()?;
    Ok(Block { allocated: stamp.version(), incarnation, ids })
}

/// The key of the block that begins at `first`.
pub fn block_key(keyspace: &Keyspace, first: ProducerId) -> Vec<u8> {
    let mut key = keyspace.family(Family::Allocation);
    key.push(2);
    key.extend_from_slice(&first.get().to_be_bytes());
    key
}

/// Reads a block's key back.
pub fn parse_block_key(keyspace: &Keyspace, key: &[u8]) -> Result<ProducerId, Corrupt> {
    let corrupt = Corrupt { family: "producer id block", reason: "a key of another family" };
    let rest =
        keyspace.strip(Family::Allocation, key).and_then(|rest| rest.strip_prefix(&[2])).ok_or(corrupt)?;
    let mut reader = Reader::new("producer id block", rest);
    let first = i64::from_be_bytes(reader.array()?);
    reader.finish()?;
    Ok(ProducerId::new(first))
}

/// The blocks that begin at or below `id`; the last of them holds it.
pub fn blocks_up_to(keyspace: &Keyspace, id: ProducerId) -> KeyRange {
    let mut end = block_key(keyspace, id);
    end.push(0);
    block_key(keyspace, ProducerId::new(0))..end
}
