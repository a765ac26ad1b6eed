//! Aborted transactions of the sealed part of a log (family 0x16), as fetch answers list them.
//!
//! ```text
//! key    0x16 | topic id 16 | partition 4 | offset of the marker 8
//! value  01 | producer id varint | first offset varint
//! ```
//!
//! - **Written** by the seal that folds the marker; removed with the records. **Read** by read_committed fetches
//!   below the seal, from the fetched offset on.
//! - **Cardinality**: one per aborted transaction and partition. About 20 bytes.

use penstock_types::{Offset, ProducerId, TopicPartition};

use super::seal::read_offset;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::fold::AbortedTransaction;
use crate::kv::{KeyRange, Row};

const NAME: &str = "aborted transaction";

/// The key of a transaction whose marker stands at `last`.
pub fn key(keyspace: &Keyspace, partition: TopicPartition, last: Offset) -> Vec<u8> {
    let mut key = keyspace.partition(Family::Aborted, partition);
    key.extend_from_slice(&last.get().to_be_bytes());
    key
}

/// The transactions whose markers stand at `offset` or behind it.
pub fn from_offset(keyspace: &Keyspace, partition: TopicPartition, offset: Offset) -> KeyRange {
    key(keyspace, partition, offset)..crate::kv::prefixed(&keyspace.partition(Family::Aborted, partition)).end
}

/// The stored value.
pub fn encode(aborted: &AbortedTransaction) -> Vec<u8> {
    let mut writer = Writer::format(1);
    writer.varint(aborted.producer.get() as u64).varint(aborted.first_offset.get() as u64);
    writer.finish()
}

/// Reads a row.
pub fn decode(keyspace: &Keyspace, row: &Row) -> Result<AbortedTransaction, Corrupt> {
    let rest = keyspace
        .strip(Family::Aborted, &row.key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    super::read_partition(&mut reader)?;
    let last_offset =
        Offset::new(i64::from_be_bytes(reader.array()?)).ok_or(reader.corrupt("a negative offset"))?;
    reader.finish()?;
    let mut reader = Reader::with_format(NAME, &row.value, 1)?;
    let producer = ProducerId::new(reader.varint()? as i64);
    let first_offset = read_offset(&mut reader)?;
    reader.finish()?;
    Ok(AbortedTransaction { producer, first_offset, last_offset })
}
