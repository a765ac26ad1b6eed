//! Producer state (family 0x14): what makes a producer idempotent in a partition.
//!
//! ```text
//! key    0x14 | topic id 16 | partition 4 | producer id 8
//! value  01 | versionstamp 10 | incarnation 4 | epoch 2 | batch count 1 | batch…
//!   batch  base sequence 4 | records - 1 varint | n 4 | 00                                  (this commit's stamp)
//!                                                     | 01 incarnation 4 | versionstamp 10
//! ```
//!
//! The stamp in front is that of the commit which wrote the value; batches of that commit share it, older ones carry
//! theirs. Offsets are not known inside a commit, so a batch is remembered by its position.
//!
//! - **Written** and read (serializably) by the append itself: it conflicts only when one producer races with
//!   itself in one partition. Removed by producer expiry.
//! - **Cardinality**: one per (partition, producer id) that wrote within `producer.id.expiration.ms`.
//! - **Size**: 29-byte keys, at most 18 + 5 × 28 bytes.

use penstock_types::{
    BatchPosition, Incarnation, ProducerEpoch, ProducerId, Sequence, StoreVersion, TopicPartition,
    Versionstamp,
};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};

const FORMAT: u8 = 1;
/// Where the versionstamp stands in the value.
pub const STAMP_AT: usize = 1;
/// How many batches are remembered: as many as a client may have in flight (KIP-98).
pub const REMEMBERED: usize = 5;

/// Where a remembered batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RememberedAt {
    /// In the transaction that writes this state.
    Here {
        /// Its number there.
        n: u32,
    },
    /// In an earlier one.
    Earlier(BatchPosition),
}

/// A batch that a retry may repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Its first sequence.
    pub base_sequence: Sequence,
    /// Its records, at least 1.
    pub records: u32,
    /// Its place in the log.
    pub at: RememberedAt,
}

impl RememberedBatch {
    /// Its last sequence.
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.plus((self.records - 1) as i32)
    }
}

/// A producer's state in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// The last batches of that epoch, oldest first, at most [`REMEMBERED`].
    pub batches: Vec<RememberedBatch>,
}

/// A state as stored: with the version of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProducerState {
    /// The state; all its batches are [`RememberedAt::Earlier`].
    pub state: ProducerState,
    /// The incarnation of its last change.
    pub incarnation: Incarnation,
    /// The version of its last change.
    pub changed: StoreVersion,
}

impl ProducerState {
    /// The stored value, its stamp left to the store.
    pub fn encode(&self, incarnation: Incarnation) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.fixed(Versionstamp::ZERO.as_bytes()).u32(incarnation.get()).u16(self.epoch.get() as u16);
        writer.u8(self.batches.len() as u8);
        for batch in &self.batches {
            writer.u32(batch.base_sequence.get() as u32).varint(u64::from(batch.records - 1));
            match batch.at {
                RememberedAt::Here { n } => writer.u32(n).u8(0),
                RememberedAt::Earlier(at) => {
                    writer.u32(at.n).u8(1).u32(at.incarnation.get()).fixed(at.stamp.as_bytes())
                }
            };
        }
        writer.finish()
    }
}

impl StoredProducerState {
    /// Reads a stored value.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format("producer state", value, FORMAT)?;
        let stamp = Versionstamp::from_bytes(reader.array()?);
        let incarnation = Incarnation::new(reader.u32()?);
        let epoch = ProducerEpoch::new(reader.u16()? as i16);
        let count = usize::from(reader.u8()?);
        if count > REMEMBERED {
            return Err(reader.corrupt("it remembers too many batches"));
        }
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            let base_sequence = Sequence::new(reader.u32()? as i32);
            let records = reader.varint_u32()?;
            if i32::try_from(records).is_err() || base_sequence.get() < 0 {
                return Err(reader.corrupt("a remembered batch is out of range"));
            }
            let n = reader.u32()?;
            let at = match reader.u8()? {
                0 => BatchPosition { incarnation, stamp, n },
                1 => BatchPosition {
                    incarnation: Incarnation::new(reader.u32()?),
                    stamp: Versionstamp::from_bytes(reader.array()?),
                    n,
                },
                _ => return Err(reader.corrupt("a remembered batch is nowhere")),
            };
            batches.push(RememberedBatch {
                base_sequence,
                records: records + 1,
                at: RememberedAt::Earlier(at),
            });
        }
        reader.finish()?;
        Ok(Self { state: ProducerState { epoch, batches }, incarnation, changed: stamp.version() })
    }
}

/// The key of a producer's state.
pub fn key(keyspace: &Keyspace, partition: TopicPartition, producer: ProducerId) -> Vec<u8> {
    let mut key = keyspace.partition(Family::Producer, partition);
    key.extend_from_slice(&producer.get().to_be_bytes());
    key
}

/// Reads a key back.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<(TopicPartition, ProducerId), Corrupt> {
    let rest = keyspace
        .strip(Family::Producer, key)
        .ok_or(Corrupt { family: "producer state", reason: "a key of another family" })?;
    let mut reader = Reader::new("producer state", rest);
    let partition = super::read_partition(&mut reader)?;
    let producer = ProducerId::new(i64::from_be_bytes(reader.array()?));
    reader.finish()?;
    Ok((partition, producer))
}
