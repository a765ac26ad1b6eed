//! Whether a producer's bytes are a batch that the log takes: Kafka 4.1's `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords` and `LogValidator`, in their order, so that a batch that is wrong in two
//! ways gets Kafka's answer.
//!
//! Kafka reads every record of every batch, compressed or not: a wrong count, bytes left over, a bad timestamp and a
//! missing key are seen whatever the codec. So do we, without an allocation per record and, for compressed batches,
//! in windows of bounded size. What differs is listed in docs/record-batch.md.

use bytes::Bytes;
use penstock_types::TimestampMs;

use super::check::{RecordChecker, check_slice, check_stream};
use super::error::{BatchError, Corruption, InvalidBatch, SMALLEST_LENGTH};
use super::header::{BatchHeader, CRC_START, Codec, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, TimestampType};
use super::rewrite;
use super::source::Stream;

const MAGIC_AT: usize = 16;
const ATTRIBUTES_LOW_BYTE_AT: usize = 22;
const PRODUCER_ID_END: usize = 51;

/// What a topic's configuration and the request's version ask of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationRules {
    /// `max.message.bytes`: the largest batch, headers included.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// The wall clock.
    pub now_ms: TimestampMs,
    /// `message.timestamp.before.max.ms`: how far back a CreateTime timestamp may lie.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead it may lie.
    pub after_max_ms: i64,
    /// Whether `cleanup.policy` holds `compact`: every record needs a key.
    pub compacted: bool,
    /// `compression.type`.
    pub compression: TopicCompression,
    /// Whether the request's version knows zstd: Produce 7 and above.
    pub allow_zstd: bool,
}

/// A topic's `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCompression {
    /// Whatever the producer chose.
    Producer,
    /// This codec, whatever the producer chose.
    Codec {
        /// The codec.
        codec: Codec,
        /// `compression.gzip.level`, `compression.lz4.level` or `compression.zstd.level`; `None` for the codec's default.
        /// Snappy has no level.
        level: Option<i32>,
    },
}

/// A batch that the log takes, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// Exactly one batch. A slice of what the producer sent, or a rewritten copy where the topic's settings ask for one.
    pub bytes: Bytes,
    /// Its header: the base offset is 0, the counts agree, the max timestamp is that of the records.
    pub header: BatchHeader,
}

/// Checks the records that a Produce request holds for one partition, and rewrites them where the topic asks for it
/// (LogAppendTime, `compression.type`). The bytes are not copied unless they change.
pub fn validate(bytes: &Bytes, rules: &ValidationRules) -> Result<ValidatedBatch, BatchError> {
    let bytes = bytes.slice(..only_batch(bytes, rules.allow_zstd)?);
    if bytes.len() < PRODUCER_ID_END {
        return Err(BatchError::NoProducerId { bytes: bytes.len() });
    }
    let base_offset = bytes.first_chunk::<8>().map_or(0, |offset| i64::from_be_bytes(*offset));
    if base_offset != 0 {
        return Err(InvalidBatch::BaseOffset { base_offset }.into());
    }
    if bytes.len() > rules.max_message_bytes {
        return Err(BatchError::TooLarge { bytes: bytes.len(), limit: rules.max_message_bytes });
    }
    if bytes.len() < HEADER_BYTES {
        return Err(Corruption::TooShort { bytes: bytes.len() }.into());
    }
    let header = BatchHeader::parse(&bytes)?;
    verify_crc(&bytes, &header)?;
    let codec = header.codec()?;
    check_header(&header)?;
    let target = match rules.compression {
        TopicCompression::Producer => codec,
        TopicCompression::Codec { codec, .. } => codec,
    };
    if codec != target {
        return rewrite::rebuild(&bytes, &header, codec, target, rules);
    }
    let records = &bytes[HEADER_BYTES..];
    let mut checker = RecordChecker::new(rules, &header, codec != Codec::None);
    if codec == Codec::None {
        check_slice(records, &mut checker)?;
    } else {
        let mut stream = Stream::new(codec, records).map_err(|fault| fault.of_record(0))?;
        check_stream(&mut stream, &mut checker)?;
    }
    checker.finish()?;
    if checker.is_consecutive {
        return Ok(rewrite::patch(
            bytes.clone(),
            header,
            rules.timestamp_type,
            checker.stored_max_timestamp(),
        ));
    }
    if codec != Codec::None {
        return Err(BatchError::OffsetsNotConsecutive);
    }
    rewrite::rebuild(&bytes, &header, codec, target, rules)
}

/// Checks that the CRC in `header` is that of the batch that fills `batch`.
pub fn verify_crc(batch: &[u8], header: &BatchHeader) -> Result<(), BatchError> {
    let Some(covered) = batch.get(CRC_START..header.size_bytes()) else {
        return Err(Corruption::Length { length: header.batch_length }.into());
    };
    let computed = crc32c::crc32c(covered);
    if computed == header.crc { Ok(()) } else { Err(Corruption::Crc { stored: header.crc, computed }.into()) }
}

/// Bytes of the one batch at the start of `bytes`. As in Kafka, what follows and is no whole batch is cut off.
fn only_batch(bytes: &[u8], allow_zstd: bool) -> Result<usize, BatchError> {
    let size = next_batch(bytes)?.ok_or(BatchError::NoBatch)?;
    let magic = bytes[MAGIC_AT];
    if magic != MAGIC {
        return Err(BatchError::UnsupportedMagic { magic: magic as i8 });
    }
    if !allow_zstd && bytes[ATTRIBUTES_LOW_BYTE_AT] & 7 == Codec::Zstd.id() {
        return Err(BatchError::ZstdNotAllowed);
    }
    match next_batch(&bytes[size..]) {
        Ok(None) => Ok(size),
        Ok(Some(_)) => Err(BatchError::SeveralBatches),
        Err(_) => Err(Corruption::Trailing.into()),
    }
}

/// Kafka's `ByteBufferLogInputStream.nextBatch`: the size of the batch (of any magic) at the start of `bytes`, `None`
/// if there is no whole one.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
    let Some(overhead) = bytes.first_chunk::<LOG_OVERHEAD_BYTES>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([overhead[8], overhead[9], overhead[10], overhead[11]]);
    if length < SMALLEST_LENGTH {
        return Err(Corruption::Length { length }.into());
    }
    let Some(&magic) = bytes.get(MAGIC_AT) else {
        return Ok(None);
    };
    if magic > MAGIC {
        return Err(Corruption::Magic { magic: magic as i8 }.into());
    }
    let size = LOG_OVERHEAD_BYTES + length as usize;
    Ok((size <= bytes.len()).then_some(size))
}

/// Kafka's `LogValidator.validateBatch` for a client's batch.
fn check_header(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let BatchHeader { last_offset_delta, record_count, .. } = *header;
    if last_offset_delta < 0 {
        return Err(InvalidBatch::OffsetRange { last_offset_delta });
    }
    if record_count <= 0 {
        return Err(InvalidBatch::RecordCount { record_count });
    }
    if last_offset_delta != record_count - 1 {
        return Err(InvalidBatch::InconsistentCount { record_count, last_offset_delta });
    }
    if header.attributes.is_control() {
        return Err(InvalidBatch::ControlBatch);
    }
    if header.has_producer_id() && header.base_sequence.get() < 0 {
        return Err(InvalidBatch::Sequence { base_sequence: header.base_sequence.get() });
    }
    Ok(())
}
