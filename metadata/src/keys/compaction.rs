//! Log compaction of a partition (family 0x26): how far it is, and who may go on.
//!
//! ```text
//! key    0x26 | topic id 16 | partition 4
//! value  01 | run varint | cleaned offset varint | clean bytes varint
//! ```
//!
//! - **Written** by each run at its beginning, with the next number, and at its end. **Read** serializably by each of its
//!   swaps: of runs that overlap only the one that began last changes anything.
//! - **Cardinality**: one per partition that was ever compacted. About 15 bytes.

use penstock_types::{Offset, TopicPartition};

use super::seal::read_offset;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};

const FORMAT: u8 = 1;

/// How far log compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionState {
    /// The number of the last run that was begun; 0 before the first.
    pub run: u64,
    /// Below it no record has the key of a later one that is below it, too (Kafka: the cleaner's checkpoint).
    pub cleaned: Offset,
    /// Bytes of the log below it, when it was moved there.
    pub clean_bytes: u64,
}

impl Default for CompactionState {
    fn default() -> Self {
        Self { run: 0, cleaned: Offset::ZERO, clean_bytes: 0 }
    }
}

/// The key of a partition.
pub fn key(keyspace: &Keyspace, partition: TopicPartition) -> Vec<u8> {
    keyspace.partition(Family::Compaction, partition)
}

impl CompactionState {
    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.varint(self.run).varint(self.cleaned.get() as u64).varint(self.clean_bytes);
        writer.finish()
    }

    /// Reads a value; none is nothing.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, Corrupt> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut reader = Reader::with_format("compaction", value, FORMAT)?;
        let run = reader.varint()?;
        let state = Self { run, cleaned: read_offset(&mut reader)?, clean_bytes: reader.varint()? };
        reader.finish()?;
        Ok(state)
    }
}
