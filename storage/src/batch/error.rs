//! Why a batch is refused, and what Kafka would answer.

use penstock_types::TimestampMs;

/// The smallest length field that any of Kafka's formats has.
pub(super) const SMALLEST_LENGTH: i32 = 14;
/// Record errors that are kept (and sent) of one batch; further ones are only counted. Kafka sends them all.
pub const MAX_RECORD_ERRORS: usize = 4096;

/// Kafka's answers to a refused batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// CORRUPT_MESSAGE (2).
    CorruptMessage,
    /// MESSAGE_TOO_LARGE (10).
    MessageTooLarge,
    /// INVALID_TIMESTAMP (32).
    InvalidTimestamp,
    /// UNSUPPORTED_COMPRESSION_TYPE (76).
    UnsupportedCompressionType,
    /// INVALID_RECORD (87).
    InvalidRecord,
    /// UNKNOWN_SERVER_ERROR (-1): what Kafka answers where its decoder throws something that has no code.
    UnknownServerError,
}

/// A batch that is refused, or that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no whole batch.
    #[error("there is no record batch")]
    NoBatch,
    /// There is more than one.
    #[error("there is more than one record batch")]
    SeveralBatches,
    /// A message set of the formats before version 2.
    #[error("record batches of magic {magic} are not accepted")]
    UnsupportedMagic {
        /// The magic.
        magic: i8,
    },
    /// The bytes are damaged.
    #[error("the batch is corrupt: {0}")]
    Corrupt(#[from] Corruption),
    /// So short that Kafka runs over its end while it looks for the producer's id.
    #[error("{bytes} bytes have no producer id")]
    NoProducerId {
        /// How long it is.
        bytes: usize,
    },
    /// Larger than `max.message.bytes`, as sent or after it was compressed anew.
    #[error("the batch has {bytes} bytes, the topic takes {limit} at most")]
    TooLarge {
        /// How large it is; after compression anew at least that.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// zstd in a version of Produce from before zstd (KIP-110).
    #[error("zstd is not allowed in this version of Produce")]
    ZstdNotAllowed,
    /// A codec that is none.
    #[error("there is no codec {id}")]
    UnknownCodec {
        /// Its number.
        id: u8,
    },
    /// The header contradicts itself or says what no client may say.
    #[error("the batch is invalid: {0}")]
    Invalid(#[from] InvalidBatch),
    /// The records are not what the header says, or not records.
    #[error("record {index} is malformed: {reason}")]
    MalformedRecord {
        /// Its place in the batch, from 0.
        index: i32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A record's length is no number, where Kafka's decoder throws what has no code.
    #[error("the length of record {index} is malformed")]
    MalformedRecordLength {
        /// Its place in the batch, from 0.
        index: i32,
    },
    /// The codec's decoder gave up.
    #[error("the records can't be decompressed: {reason}")]
    Undecodable {
        /// What it said.
        reason: String,
    },
    /// The records unpack to more than any batch of this size may.
    #[error("the records unpack to more than {limit} bytes")]
    DecompressionBomb {
        /// The bound.
        limit: u64,
    },
    /// The offsets inside a compressed batch are not 0, 1, 2, ...
    #[error("the offsets inside the compressed batch are not consecutive")]
    OffsetsNotConsecutive,
    /// A timestamp below zero that is not -1, in a batch that would have to be written anew.
    #[error("the timestamp {timestamp} can't be written")]
    NegativeTimestamp {
        /// The timestamp.
        timestamp: TimestampMs,
    },
    /// Single records are refused, and with them the batch.
    #[error("{} records are refused", .0.total)]
    Records(RecordErrors),
}

impl BatchError {
    /// Kafka's answer.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Corrupt(_) => Refusal::CorruptMessage,
            Self::TooLarge { .. } => Refusal::MessageTooLarge,
            Self::ZstdNotAllowed => Refusal::UnsupportedCompressionType,
            Self::NoBatch
            | Self::SeveralBatches
            | Self::UnsupportedMagic { .. }
            | Self::Invalid(_)
            | Self::MalformedRecord { .. }
            | Self::DecompressionBomb { .. } => Refusal::InvalidRecord,
            Self::NoProducerId { .. }
            | Self::UnknownCodec { .. }
            | Self::MalformedRecordLength { .. }
            | Self::Undecodable { .. }
            | Self::OffsetsNotConsecutive
            | Self::NegativeTimestamp { .. } => Refusal::UnknownServerError,
            Self::Records(errors) if errors.has_timestamp_error => Refusal::InvalidTimestamp,
            Self::Records(_) => Refusal::InvalidRecord,
        }
    }

    /// The partition's error message in Kafka's answer; most errors have none. `topic_partition` is written as
    /// `topic-0`.
    pub fn message(&self, topic_partition: &str) -> Option<String> {
        match self {
            Self::Records(errors) => Some(errors.message(topic_partition)),
            Self::Corrupt(Corruption::Magic { magic }) => {
                Some(format!("Invalid magic found in record: {magic}"))
            }
            Self::Corrupt(Corruption::Length { length }) if *length < SMALLEST_LENGTH => Some(format!(
                "Record size {length} is less than the minimum record overhead ({SMALLEST_LENGTH})"
            )),
            _ => None,
        }
    }

    /// The refused records (batch index and message) in Kafka's answer.
    pub fn record_errors(&self, topic_partition: &str) -> Vec<(i32, String)> {
        match self {
            Self::Records(errors) => {
                errors.errors.iter().map(|error| (error.index, error.message(topic_partition))).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// How a batch is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The length field is smaller than any batch, or larger than what is there.
    #[error("a length of {length}")]
    Length {
        /// What it says.
        length: i32,
    },
    /// There was never such a magic.
    #[error("a magic of {magic}")]
    Magic {
        /// What it says.
        magic: i8,
    },
    /// What follows the batch is none, and not the piece of one either.
    #[error("garbage behind the batch")]
    Trailing,
    /// Shorter than a header.
    #[error("{bytes} bytes are no header")]
    TooShort {
        /// How long it is.
        bytes: usize,
    },
    /// The checksum is wrong.
    #[error("stored crc = {stored}, computed crc = {computed}")]
    Crc {
        /// What stands in the header.
        stored: u32,
        /// What it should be.
        computed: u32,
    },
}

/// What no client may say in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// Offsets are the broker's to give.
    #[error("the base offset should be 0, but is {base_offset}")]
    BaseOffset {
        /// What it says.
        base_offset: i64,
    },
    /// The last offset lies before the first.
    #[error("the last offset delta is {last_offset_delta}")]
    OffsetRange {
        /// What it says.
        last_offset_delta: i32,
    },
    /// No records, or fewer.
    #[error("the record count is {record_count}")]
    RecordCount {
        /// What it says.
        record_count: i32,
    },
    /// The offsets and the count don't fit together.
    #[error("{record_count} records, but a last offset delta of {last_offset_delta}")]
    InconsistentCount {
        /// The count.
        record_count: i32,
        /// The offsets.
        last_offset_delta: i32,
    },
    /// Markers are the broker's to write.
    #[error("clients are not allowed to write control records")]
    ControlBatch,
    /// An idempotent producer without a sequence.
    #[error("sequence {base_sequence} with a producer id")]
    Sequence {
        /// What it says.
        base_sequence: i32,
    },
}

/// Records that are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordErrors {
    /// The first [`MAX_RECORD_ERRORS`] of them, in the order of the batch.
    pub errors: Vec<RecordError>,
    /// How many there are.
    pub total: u64,
    /// Whether a timestamp is among the reasons.
    pub has_timestamp_error: bool,
}

impl RecordErrors {
    pub(super) fn push(&mut self, index: i32, reason: RecordErrorReason) {
        self.total += 1;
        self.has_timestamp_error |= reason != RecordErrorReason::MissingKey;
        if self.errors.len() < MAX_RECORD_ERRORS {
            self.errors.push(RecordError { index, reason });
        }
    }

    /// Kafka's message for the whole.
    pub fn message(&self, topic_partition: &str) -> String {
        if self.has_timestamp_error {
            return "One or more records have been rejected due to invalid timestamp".to_owned();
        }
        let shown: Vec<String> = self
            .errors
            .iter()
            .take(3)
            .map(|error| {
                format!(
                    "RecordError(batchIndex={}, message='{}')",
                    error.index,
                    error.message(topic_partition)
                )
            })
            .collect();
        format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first \
             three errors at most: [{}]",
            self.total,
            shown.join(", ")
        )
    }
}

/// One refused record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// Why.
    pub reason: RecordErrorReason,
}

impl RecordError {
    /// Kafka's message.
    pub fn message(&self, topic_partition: &str) -> String {
        match self.reason {
            RecordErrorReason::MissingKey => format!(
                "Compacted topic cannot accept message without key in topic partition {topic_partition}"
            ),
            RecordErrorReason::TimestampOutOfRange { offset, timestamp, earliest, latest } => format!(
                "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be \
                 within [{earliest}, {latest}]"
            ),
            RecordErrorReason::LogAppendTime { offset, timestamp, key_bytes, value_bytes, skimmed } => {
                let (kind, key_bytes, value_bytes) = if skimmed {
                    ("PartialDefaultRecord", key_bytes, value_bytes)
                } else {
                    ("DefaultRecord", key_bytes.max(0), value_bytes.max(0))
                };
                format!(
                    "Invalid timestamp type in message {kind}(offset={offset}, timestamp={timestamp}, \
                     key={key_bytes} bytes, value={value_bytes} bytes). Producer should not set timestamp type to \
                     LogAppendTime."
                )
            }
        }
    }
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordErrorReason {
    /// A compacted topic needs keys.
    MissingKey,
    /// Outside `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    TimestampOutOfRange {
        /// The record's offset within the batch, as it says.
        offset: i64,
        /// Its timestamp.
        timestamp: TimestampMs,
        /// The earliest that is taken.
        earliest: TimestampMs,
        /// The latest that is taken.
        latest: TimestampMs,
    },
    /// The producer set the broker's timestamp type.
    LogAppendTime {
        /// The record's offset within the batch, as it says.
        offset: i64,
        /// Its timestamp.
        timestamp: TimestampMs,
        /// Bytes of the key, below zero if there is none.
        key_bytes: i32,
        /// Bytes of the value, below zero if there is none.
        value_bytes: i32,
        /// Whether keys and values were skipped (Kafka's message tells).
        skimmed: bool,
    },
}
