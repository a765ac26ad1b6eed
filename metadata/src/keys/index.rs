//! The packed index (family 0x12): where the sealed part of a partition's log lies.
//!
//! ```text
//! key    0x12 | topic id 16 | partition 4 | last offset 8
//! value  01 | base offset varint | largest timestamp up to here zigzag | entry count varint | entry…
//!        | if known: section end varint
//!   entry  gap varint | position of its row 18 | row length varint | row (see log.rs)
//! ```
//!
//! An entry's base offset is the end of the one before (of the value's base offset, for the first) plus its gap,
//! which is 0 until compaction removes offsets. The timestamp runs along the whole partition, so that a search by
//! time can bisect over keys.
//!
//! The section end says where, in the object of the last entry, the bytes of this partition end that follow those of the
//! entry: a reader may ask for as much at once. Known of objects that merges wrote.
//!
//! - **Written** by the seal; by later jobs that merge, compact or expire. **Read** by fetches below the seal.
//! - **Cardinality**: one per hundreds of batches. **Size**: at most about [`VALUE_BYTES`].

use penstock_types::{BatchPosition, Offset, TimestampMs, TopicPartition};

use super::seal::read_offset;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::fold::LogEntry;
use crate::keys::log::LogRow;
use crate::kv::KeyRange;

const NAME: &str = "packed index";
const FORMAT: u8 = 1;
/// When an index value is full. One more row (at most about 45 kB) still fits below the store's 100 kB.
pub const VALUE_BYTES: usize = 32_000;

/// An index value: consecutive entries of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedIndex {
    /// The largest timestamp of the partition up to the last of the entries.
    pub max_timestamp_so_far: TimestampMs,
    /// The entries, ascending, at least one.
    pub entries: Vec<LogEntry>,
    /// Where the partition's bytes end in the last entry's object, if that is known.
    pub section_end: Option<u64>,
}

impl PackedIndex {
    /// The last offset of the last entry, inclusive: what the key names.
    pub fn last_offset(&self) -> Option<Offset> {
        self.entries.last().map(|entry| Offset::at(entry.end_offset().get() - 1))
    }

    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let base = self.entries.first().map_or(Offset::ZERO, |entry| entry.base_offset);
        let mut writer = Writer::format(FORMAT);
        writer.varint(base.get() as u64).zigzag(self.max_timestamp_so_far).varint(self.entries.len() as u64);
        let mut end = base;
        for entry in &self.entries {
            writer.varint((entry.base_offset.get() - end.get()) as u64);
            writer.fixed(&entry.at.to_bytes()).bytes(&entry.row.encode());
            end = entry.end_offset();
        }
        if let Some(section_end) = self.section_end {
            writer.varint(section_end);
        }
        writer.finish()
    }

    /// Reads a stored value.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format(NAME, value, FORMAT)?;
        let mut end = read_offset(&mut reader)?.get();
        let max_timestamp_so_far = reader.zigzag()?;
        let count = reader.count(21)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let gap = read_offset(&mut reader)?.get();
            let at = BatchPosition::from_bytes(&reader.array()?);
            let row = LogRow::decode(reader.bytes()?)?;
            let base = end.checked_add(gap).ok_or(reader.corrupt("offsets overflow"))?;
            end = base.checked_add(row.records()).ok_or(reader.corrupt("offsets overflow"))?;
            entries.push(LogEntry { base_offset: Offset::at(base), at, row });
        }
        let section_end = if reader.remaining() > 0 { Some(reader.varint()?) } else { None };
        reader.finish()?;
        if entries.is_empty() {
            return Err(reader.corrupt("it has no entries"));
        }
        Ok(Self { max_timestamp_so_far, entries, section_end })
    }
}

/// The key of the value whose last offset is `last`.
pub fn key(keyspace: &Keyspace, partition: TopicPartition, last: Offset) -> Vec<u8> {
    let mut key = keyspace.partition(Family::Index, partition);
    key.extend_from_slice(&last.get().to_be_bytes());
    key
}

/// The values that hold `offset` and what follows it.
pub fn from_offset(keyspace: &Keyspace, partition: TopicPartition, offset: Offset) -> KeyRange {
    key(keyspace, partition, offset)..crate::kv::prefixed(&keyspace.partition(Family::Index, partition)).end
}

/// Reads a key back: the last offset of its value.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<(TopicPartition, Offset), Corrupt> {
    let rest = keyspace
        .strip(Family::Index, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let partition = super::read_partition(&mut reader)?;
    let last = Offset::new(i64::from_be_bytes(reader.array()?)).ok_or(reader.corrupt("a negative offset"))?;
    reader.finish()?;
    Ok((partition, last))
}
