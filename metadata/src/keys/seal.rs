//! Seals (family 0x11): up to where a partition's rows have been folded into its packed index.
//!
//! ```text
//! key    0x11 | topic id 16 | partition 4
//! value  01 | position of the last folded row 18 | next offset varint | bytes varint
//!        | max timestamp zigzag | its batch's base offset varint
//!        | open transaction count varint | (producer id varint | first offset varint)…
//! ```
//!
//! It is the whole state of the fold at that row, so that a tail view can begin there.
//!
//! - **Written** by the seal job, in the transaction that packs the rows and clears them; read there serializably.
//! - **Read** by every refresh of a tail view. **Cardinality**: one per partition that was ever sealed.
//! - **Size**: 30 bytes, and 10 per open transaction.

use penstock_types::{BatchPosition, Offset, ProducerId, TopicPartition};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::fold::{FoldState, MaxTimestamp};

const FORMAT: u8 = 1;

/// The key of a partition's seal.
pub fn key(keyspace: &Keyspace, partition: TopicPartition) -> Vec<u8> {
    keyspace.partition(Family::Seal, partition)
}

/// The stored value.
pub fn encode(state: &FoldState) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.fixed(&state.position.to_bytes()).varint(state.next_offset.get() as u64).varint(state.bytes);
    writer.zigzag(state.max_timestamp.timestamp).varint(state.max_timestamp.base_offset.get() as u64);
    writer.varint(state.open_transactions.len() as u64);
    for (producer, first) in &state.open_transactions {
        writer.varint(producer.get() as u64).varint(first.get() as u64);
    }
    writer.finish()
}

/// Reads a value; none is the fold's beginning.
pub fn decode(value: Option<&[u8]>) -> Result<FoldState, Corrupt> {
    let Some(value) = value else { return Ok(FoldState::default()) };
    let mut reader = Reader::with_format("seal", value, FORMAT)?;
    let position = BatchPosition::from_bytes(&reader.array()?);
    let next_offset = read_offset(&mut reader)?;
    let bytes = reader.varint()?;
    let max_timestamp = MaxTimestamp { timestamp: reader.zigzag()?, base_offset: read_offset(&mut reader)? };
    let mut state =
        FoldState { position, next_offset, bytes, max_timestamp, open_transactions: Default::default() };
    for _ in 0..reader.count(2)? {
        let producer = ProducerId::new(reader.varint()? as i64);
        let first = read_offset(&mut reader)?;
        state.open_transactions.insert(producer, first);
    }
    reader.finish()?;
    Ok(state)
}

pub(crate) fn read_offset(reader: &mut Reader<'_>) -> Result<Offset, Corrupt> {
    let raw = i64::try_from(reader.varint()?).map_err(|_| reader.corrupt("an offset is out of range"))?;
    Ok(Offset::at(raw))
}
