//! Log rows (family 0x10): the order of the log.
//!
//! ```text
//! row key      0x10 | topic id 16 | partition 4 | incarnation 4 | versionstamp 10 | n 4
//!
//! data row     01 | leader epoch varint | object id 20 | position varint | batch count varint | batch…
//!   batch      length varint | records varint | flags 1 | base timestamp zigzag | max - base timestamp zigzag
//!              | if flags has PRODUCER: producer id varint | epoch varint | base sequence varint
//! marker row   02 | leader epoch varint | flags 1 (ABORT, HORIZON) | producer id varint | epoch varint
//!              | coordinator epoch zigzag | timestamp zigzag | if flags has HORIZON: delete horizon zigzag
//! ```
//!
//! - **Written** by commits, blindly, under versionstamped keys. `n` counts the batches of the whole store transaction,
//!   refused ones too; a row's `n` is that of its first batch, and its batches are consecutive in `n` and in the
//!   object.
//! - **Read** by tail views (from their position on, one range) and by the seal. **Cleared** by the seal, exactly the
//!   rows it folded.
//! - **Cardinality**: one row per (object, partition) since the last seal.
//! - **Size**: 39-byte keys; about 35 bytes and 15 to 30 a batch; at most [`ROW_BATCHES`] batches a row.

use penstock_types::{
    BatchPosition, Incarnation, LeaderEpoch, ObjectId, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    TopicPartition, Versionstamp,
};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::KeyRange;

const NAME: &str = "log row";
const DATA: u8 = 1;
const MARKER: u8 = 2;

/// Most batches of one row: keeps a row well below the store's 100 kB.
pub const ROW_BATCHES: usize = 1_000;

/// A batch is compressed, transactional, … (bits of the stored flags byte).
pub mod flags {
    /// The batch belongs to a transaction.
    pub const TRANSACTIONAL: u8 = 0x01;
    /// Its timestamps are the log's append time.
    pub const LOG_APPEND_TIME: u8 = 0x02;
    /// It names an idempotent producer.
    pub const PRODUCER: u8 = 0x04;
    /// Its records are compressed.
    pub const COMPRESSED: u8 = 0x08;
    /// A marker that aborts.
    pub const ABORT: u8 = 0x10;
    /// A marker with a delete horizon.
    pub const HORIZON: u8 = 0x20;
}

/// The producer of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub base_sequence: Sequence,
}

/// What the log knows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    /// Bytes.
    pub length: u32,
    /// Offsets that it takes: last offset delta + 1.
    pub records: u32,
    /// See [`flags`]; without the producer bit, which follows from `producer`.
    pub flags: u8,
    /// Timestamp of its first record.
    pub base_timestamp: TimestampMs,
    /// Largest timestamp.
    pub max_timestamp: TimestampMs,
    /// Its idempotent producer, if it has one.
    pub producer: Option<BatchProducer>,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRow {
    /// Batches of one object, contiguous in it.
    Data {
        /// The epoch that fetch answers show.
        leader_epoch: LeaderEpoch,
        /// Where the bytes are.
        object: ObjectId,
        /// Where the first batch begins in the object.
        position: u64,
        /// The batches.
        batches: Vec<BatchFacts>,
    },
    /// The end of a transaction in this partition; has no bytes, its control record is made up on read.
    Marker {
        /// The epoch that fetch answers show.
        leader_epoch: LeaderEpoch,
        /// Whose transaction.
        producer: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// Aborted, else committed.
        abort: bool,
        /// The transaction coordinator's epoch, as the control record tells it.
        coordinator_epoch: i32,
        /// When it ended.
        timestamp: TimestampMs,
        /// When log compaction may take it out: set once nothing of the transaction is left below it (KIP-534).
        horizon: Option<TimestampMs>,
    },
}

impl LogRow {
    /// Offsets that the row takes.
    pub fn records(&self) -> i64 {
        match self {
            Self::Data { batches, .. } => batches.iter().map(|batch| i64::from(batch.records)).sum(),
            Self::Marker { .. } => 1,
        }
    }

    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Data { leader_epoch, object, position, batches } => {
                let mut writer = Writer::format(DATA);
                writer.varint(leader_epoch.get() as u64).fixed(object.as_bytes()).varint(*position);
                writer.varint(batches.len() as u64);
                for batch in batches {
                    write_batch(&mut writer, batch);
                }
                writer.finish()
            }
            Self::Marker { leader_epoch, producer, epoch, abort, coordinator_epoch, timestamp, horizon } => {
                let mut writer = Writer::format(MARKER);
                let set = |flag: u8, is_set: bool| if is_set { flag } else { 0 };
                let bits = set(flags::ABORT, *abort) | set(flags::HORIZON, horizon.is_some());
                writer.varint(leader_epoch.get() as u64).u8(bits);
                writer.varint(producer.get() as u64).varint(epoch.get() as u64);
                writer.zigzag(i64::from(*coordinator_epoch)).zigzag(*timestamp);
                if let Some(horizon) = horizon {
                    writer.zigzag(*horizon);
                }
                writer.finish()
            }
        }
    }

    /// Reads a stored value.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(NAME, value);
        let row = match reader.u8()? {
            DATA => {
                let leader_epoch = read_epoch(&mut reader)?;
                let object = ObjectId::from_bytes(reader.array()?);
                let position = reader.varint()?;
                let count = reader.count(5)?;
                let mut batches = Vec::with_capacity(count);
                for _ in 0..count {
                    batches.push(read_batch(&mut reader)?);
                }
                Self::Data { leader_epoch, object, position, batches }
            }
            MARKER => {
                let leader_epoch = read_epoch(&mut reader)?;
                let bits = reader.u8()?;
                let abort = bits & flags::ABORT != 0;
                let (producer, epoch) = read_producer(&mut reader)?;
                let coordinator_epoch = i32::try_from(reader.zigzag()?)
                    .map_err(|_| reader.corrupt("a coordinator epoch is out of range"))?;
                let timestamp = reader.zigzag()?;
                let horizon = if bits & flags::HORIZON == 0 { None } else { Some(reader.zigzag()?) };
                Self::Marker { leader_epoch, producer, epoch, abort, coordinator_epoch, timestamp, horizon }
            }
            _ => return Err(reader.corrupt("unknown format")),
        };
        reader.finish()?;
        Ok(row)
    }
}

/// Writes a batch's facts (also used by the packed index).
pub(crate) fn write_batch(writer: &mut Writer, batch: &BatchFacts) {
    let producer = if batch.producer.is_some() { flags::PRODUCER } else { 0 };
    writer.varint(u64::from(batch.length)).varint(u64::from(batch.records)).u8(batch.flags | producer);
    writer.zigzag(batch.base_timestamp).zigzag(batch.max_timestamp.wrapping_sub(batch.base_timestamp));
    if let Some(producer) = &batch.producer {
        writer.varint(producer.id.get() as u64).varint(producer.epoch.get() as u64);
        writer.varint(producer.base_sequence.get() as u64);
    }
}

/// Reads a batch's facts.
pub(crate) fn read_batch(reader: &mut Reader<'_>) -> Result<BatchFacts, Corrupt> {
    let length = reader.varint_u32()?;
    let records = reader.varint_u32()?;
    if records == 0 || i32::try_from(records).is_err() {
        return Err(reader.corrupt("a batch takes no offsets, or too many"));
    }
    let bits = reader.u8()?;
    let base_timestamp = reader.zigzag()?;
    let max_timestamp = base_timestamp.wrapping_add(reader.zigzag()?);
    let producer = if bits & flags::PRODUCER == 0 {
        None
    } else {
        let (id, epoch) = read_producer(reader)?;
        let base_sequence =
            i32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a sequence is out of range"))?;
        Some(BatchProducer { id, epoch, base_sequence: Sequence::new(base_sequence) })
    };
    Ok(BatchFacts {
        length,
        records,
        flags: bits & !flags::PRODUCER,
        base_timestamp,
        max_timestamp,
        producer,
    })
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<LeaderEpoch, Corrupt> {
    let raw =
        i32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a leader epoch is out of range"))?;
    Ok(LeaderEpoch::new(raw))
}

pub(crate) fn read_producer(reader: &mut Reader<'_>) -> Result<(ProducerId, ProducerEpoch), Corrupt> {
    let id = i64::try_from(reader.varint()?).map_err(|_| reader.corrupt("a producer id is out of range"))?;
    let epoch = i16::try_from(reader.varint()?).map_err(|_| reader.corrupt("an epoch is out of range"))?;
    Ok((ProducerId::new(id), ProducerEpoch::new(epoch)))
}

/// The key of a row whose commit is known.
pub fn row_key(keyspace: &Keyspace, partition: TopicPartition, position: &BatchPosition) -> Vec<u8> {
    let mut key = keyspace.partition(Family::Log, partition);
    key.extend_from_slice(&position.to_bytes());
    key
}

/// What stands before the versionstamp in a row's key.
pub fn row_prefix(keyspace: &Keyspace, partition: TopicPartition, incarnation: Incarnation) -> Vec<u8> {
    let mut key = keyspace.partition(Family::Log, partition);
    key.extend_from_slice(&incarnation.get().to_be_bytes());
    key
}

/// From behind the row at `position` to the partition's last.
pub fn rows_after(keyspace: &Keyspace, partition: TopicPartition, position: &BatchPosition) -> KeyRange {
    let mut start = row_key(keyspace, partition, position);
    start.push(0);
    start..behind_rows(keyspace, partition)
}

/// Behind every row of a partition, in whatever incarnation.
pub fn behind_rows(keyspace: &Keyspace, partition: TopicPartition) -> Vec<u8> {
    row_prefix(keyspace, partition, Incarnation::AFTER_ALL)
}

/// Reads a key of this family back.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<(TopicPartition, BatchPosition), Corrupt> {
    let rest = keyspace
        .strip(Family::Log, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let partition = super::read_partition(&mut reader)?;
    let incarnation = Incarnation::new(reader.u32()?);
    let stamp = Versionstamp::from_bytes(reader.array()?);
    let n = reader.u32()?;
    reader.finish()?;
    Ok((partition, BatchPosition { incarnation, stamp, n }))
}
