//! The 61 bytes in front of a batch's records.
//!
//! ```text
//!  0        8      12       16 17   21     23         27        35       43       51   53       57     61
//!  +--------+------+--------+--+----+------+----------+---------+--------+--------+----+--------+------+---------
//!  | base   |batch |leader  |2 |CRC |attri-|last      |base     |max     |producer|pro-|base    |record| records
//!  | offset |length|epoch   |  |-32C|butes |off. delta|timestamp|timest. |id      |duc.|sequence|count | ...
//!  |        |      |        |  |    |      |          |         |        |        |ep. |        |      |
//!  +--------+------+--------+--+----+------+----------+---------+--------+--------+----+--------+------+---------
//!           '- counts from 12      '- the CRC covers everything from here to the end
//! ```
//!
//! The base offset and the leader epoch stand outside the CRC: what is stored keeps the producer's, and
//! [`patched_prefix`] puts the log's own in their place on the way out.

use penstock_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use super::error::{BatchError, Corruption};

/// Bytes in front of the records.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts: base offset and the length itself.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// Where the CRC begins to cover.
pub const CRC_START: usize = 21;
/// Bytes of [`patched_prefix`].
pub const PREFIX_BYTES: usize = 16;
/// The only magic that is written.
pub const MAGIC: u8 = 2;

const MAGIC_AT: usize = 16;

/// How the records behind the header are compressed: the low three bits of the attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in snappy-java's framing or as one raw block.
    Snappy,
    /// LZ4's frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of number `id`; `None` if there is no such codec.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in Kafka's options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Whose clock a batch's timestamps are of (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    CreateTime,
    /// The broker's; all records have the batch's max timestamp.
    LogAppendTime,
}

/// The batch's attribute bits.
///
/// ```text
/// 15 .. 7 unused | 6 delete horizon | 5 control | 4 transactional | 3 timestamp type | 2 .. 0 codec
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(u16);

impl Attributes {
    const CODEC: u16 = 0x07;
    const LOG_APPEND_TIME: u16 = 0x08;
    const TRANSACTIONAL: u16 = 0x10;
    const CONTROL: u16 = 0x20;
    const DELETE_HORIZON: u16 = 0x40;
    const KNOWN: u16 = 0x7F;

    /// The bits as on the wire.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
    /// Those of a producer's batch.
    pub const fn new(codec: Codec, timestamp_type: TimestampType, is_transactional: bool) -> Self {
        let transactional = if is_transactional { Self::TRANSACTIONAL } else { 0 };
        Self(codec.id() as u16 | transactional).with_timestamp_type(timestamp_type)
    }
    /// The bits as on the wire.
    pub const fn bits(self) -> u16 {
        self.0
    }
    /// The codec's number.
    pub const fn codec_id(self) -> u8 {
        (self.0 & Self::CODEC) as u8
    }
    /// The codec; `None` if its number stands for none.
    pub const fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }
    /// Whose clock the timestamps are of.
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }
    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }
    /// Whether it holds control records (transaction markers).
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
    /// Whether the base timestamp is the delete horizon that compaction set (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
    /// The same with another codec.
    #[must_use]
    pub const fn with_codec(self, codec: Codec) -> Self {
        Self(self.0 & !Self::CODEC | codec.id() as u16)
    }
    /// The same with a delete horizon or without. Unused bits are cleared, as Kafka does when it rewrites attributes.
    #[must_use]
    pub const fn with_delete_horizon(self, has_delete_horizon: bool) -> Self {
        let rest = self.0 & Self::KNOWN & !Self::DELETE_HORIZON;
        if has_delete_horizon { Self(rest | Self::DELETE_HORIZON) } else { Self(rest) }
    }
    /// The same with another timestamp type. Unused bits are cleared, as Kafka does when it rewrites attributes.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        let rest = self.0 & Self::KNOWN & !Self::LOG_APPEND_TIME;
        match timestamp_type {
            TimestampType::CreateTime => Self(rest),
            TimestampType::LogAppendTime => Self(rest | Self::LOG_APPEND_TIME),
        }
    }
}

/// A batch's header, as read; nothing of it is believed but the magic and that the length covers the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record: 0 from a producer, and 0 in a data object (see [`patched_prefix`]).
    pub base_offset: i64,
    /// Bytes behind the length field: at least 49.
    pub batch_length: i32,
    /// What stands in the stored bytes; of no meaning there (see [`patched_prefix`]).
    pub partition_leader_epoch: i32,
    /// The stored CRC-32C.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// The last record's offset less the base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from: the first one's, or the delete horizon.
    pub base_timestamp: TimestampMs,
    /// The largest timestamp of the records, or the broker's time if the type is LogAppendTime.
    pub max_timestamp: TimestampMs,
    /// The producer's id; -1 without idempotence.
    pub producer_id: ProducerId,
    /// The producer's epoch; -1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence; -1 without idempotence.
    pub base_sequence: Sequence,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which need not hold all of the records.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Corruption::TooShort { bytes: bytes.len() }.into());
        };
        if header[MAGIC_AT] != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic: header[MAGIC_AT] as i8 });
        }
        let batch_length = i32::from_be_bytes(field(header, 8));
        if batch_length < (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return Err(Corruption::Length { length: batch_length }.into());
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: Attributes::from_bits(u16::from_be_bytes(field(header, 21))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: ProducerId::new(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch::new(i16::from_be_bytes(field(header, 51))),
            base_sequence: Sequence::new(i32::from_be_bytes(field(header, 53))),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The header as on the wire.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        bytes[MAGIC_AT] = MAGIC;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.bits().to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.get().to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.get().to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.get().to_be_bytes());
        bytes[57..].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch: at least [`HEADER_BYTES`].
    pub fn size_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + self.batch_length as usize
    }

    /// The codec of the records.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        self.attributes.codec().ok_or(BatchError::UnknownCodec { id: self.attributes.codec_id() })
    }

    /// From when on compaction may remove the batch's tombstones (KIP-534); `None` until it kept one.
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote it.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// The sequence of the last record; [`Sequence::NONE`] without idempotence.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence == Sequence::NONE || self.last_offset_delta < 0 {
            Sequence::NONE
        } else {
            self.base_sequence.plus(self.last_offset_delta)
        }
    }
}

/// The first 16 bytes of a batch as a consumer gets them: base offset, the stored batch length, leader epoch. They
/// replace as many stored ones, are no part of the CRC, and are all that is copied of a batch on its way out.
pub fn patched_prefix(
    header: &BatchHeader,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> [u8; PREFIX_BYTES] {
    prefix_with_length(header.batch_length, base_offset, leader_epoch)
}

/// As [`patched_prefix`], of a batch of `size_bytes` whose header is not at hand.
///
/// # Panics
/// If no batch has that size: sizes come from placements that were checked when they were made.
pub fn patched_prefix_of_size(
    size_bytes: u32,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> [u8; PREFIX_BYTES] {
    let length =
        size_bytes.checked_sub(LOG_OVERHEAD_BYTES as u32).and_then(|length| i32::try_from(length).ok());
    prefix_with_length(length.expect("a batch is larger than its overhead"), base_offset, leader_epoch)
}

fn prefix_with_length(length: i32, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..8].copy_from_slice(&base_offset.get().to_be_bytes());
    prefix[8..12].copy_from_slice(&length.to_be_bytes());
    prefix[12..].copy_from_slice(&leader_epoch.get().to_be_bytes());
    prefix
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
