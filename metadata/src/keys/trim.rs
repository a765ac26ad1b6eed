//! What has left a partition's sealed log (family 0x1A).
//!
//! ```text
//! key    0x1A | topic id 16 | partition 4
//! value  01 | trimmed up to varint | bytes gone zigzag
//! ```
//!
//! - **Written** by whatever takes entries out of the packed index; read there serializably, so that two that work on a
//!   partition at the same time can't both succeed. **Read** for the partition's size.
//! - **Cardinality**: one per partition whose log has lost something. About 12 bytes.

use penstock_types::{Offset, TopicPartition};

use super::seal::read_offset;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};

const FORMAT: u8 = 1;

/// What has left the sealed log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// The index has no entry that ends at or below it.
    pub below: Offset,
    /// Bytes of all batches that were ever taken out, less those that took their places: below 0 where log compaction
    /// has made batches longer, by compressing them less well than their producers.
    pub bytes: i64,
}

impl Default for Trim {
    fn default() -> Self {
        Self { below: Offset::ZERO, bytes: 0 }
    }
}

/// The key of a partition.
pub fn key(keyspace: &Keyspace, partition: TopicPartition) -> Vec<u8> {
    keyspace.partition(Family::Trim, partition)
}

impl Trim {
    /// Bytes of a sealed log of which so many bytes were ever sealed.
    pub fn left_of(&self, sealed_bytes: u64) -> u64 {
        sealed_bytes.saturating_add_signed(self.bytes.saturating_neg())
    }

    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.varint(self.below.get() as u64).zigzag(self.bytes);
        writer.finish()
    }

    /// Reads a value; none is nothing.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, Corrupt> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut reader = Reader::with_format("trim", value, FORMAT)?;
        let trim = Self { below: read_offset(&mut reader)?, bytes: reader.zigzag()? };
        reader.finish()?;
        Ok(trim)
    }
}
