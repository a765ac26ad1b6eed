//! Batches that are stored otherwise than they came: another max timestamp or timestamp type in the header, or the
//! records packed anew. Written as Kafka's `MemoryRecordsBuilder` writes them.

use std::io::Write;

use bytes::Bytes;
use penstock_types::TimestampMs;

use super::check::{RecordChecker, RecordHead};
use super::codec::{CodecError, Compressor, Output};
use super::error::BatchError;
use super::header::{
    Attributes, BatchHeader, CRC_START, Codec, HEADER_BYTES, LOG_OVERHEAD_BYTES, TimestampType,
};
use super::source::{Fault, Source, Stream, StreamFault, put_varint, put_varlong};
use super::validate::{TopicCompression, ValidatedBatch, ValidationRules};

/// Bytes that are gathered before they go into the codec.
const PENDING_BYTES: usize = 32 * 1024;

/// Sets the max timestamp and its type. A batch that has them already is left as it is, to the bit.
pub(super) fn patch(
    bytes: Bytes,
    mut header: BatchHeader,
    timestamp_type: TimestampType,
    max_timestamp: TimestampMs,
) -> ValidatedBatch {
    if header.attributes.timestamp_type() == timestamp_type && header.max_timestamp == max_timestamp {
        return ValidatedBatch { bytes, header };
    }
    header.attributes = header.attributes.with_timestamp_type(timestamp_type);
    header.max_timestamp = max_timestamp;
    seal(bytes.to_vec(), header)
}

/// Puts `header` in front of the records in `batch` (with room for it), with the length and the CRC that they have.
pub(super) fn seal(mut batch: Vec<u8>, mut header: BatchHeader) -> ValidatedBatch {
    header.batch_length =
        i32::try_from(batch.len() - LOG_OVERHEAD_BYTES).expect("a batch is bounded by max.message.bytes");
    batch[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    header.crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    ValidatedBatch { bytes: batch.into(), header }
}

/// Checks the records while they are packed anew with codec `target` and consecutive offsets.
pub(super) fn rebuild(
    bytes: &Bytes,
    header: &BatchHeader,
    codec: Codec,
    target: Codec,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, BatchError> {
    let level = match rules.compression {
        TopicCompression::Codec { level, .. } => level,
        TopicCompression::Producer => None,
    };
    let mut checker = RecordChecker::new(rules, header, false);
    let mut stream = Stream::new(codec, &bytes[HEADER_BYTES..]).map_err(|fault| fault.of_record(0))?;
    let mut packer = Packer::new(target, level, rules.max_message_bytes).map_err(undecodable)?;
    let mut base_timestamp = None;
    for index in 0..header.record_count {
        let length = stream.varint().map_err(|fault| match fault {
            // Kafka's decoder has a code for this only where it reads what was compressed.
            StreamFault::Record(Fault::NumberTooLong) if codec == Codec::None => {
                BatchError::MalformedRecordLength { index }
            }
            fault => fault.of_record(index),
        })?;
        copy_record(&mut stream, length, &mut packer, &mut checker, &mut base_timestamp)
            .map_err(|fault| fault.of_record(index))?;
    }
    let last = header.record_count - 1;
    if !stream.is_at_end().map_err(|fault| fault.of_record(last))? {
        return Err(Fault::BytesLeft.of_record(last));
    }
    checker.finish()?;
    if let (true, Some(timestamp)) = (codec != target, checker.negative_timestamp) {
        return Err(BatchError::NegativeTimestamp { timestamp });
    }
    let batch = packer.finish().map_err(undecodable)?;
    let batch =
        batch.into_bytes().map_err(|bytes| BatchError::TooLarge { bytes, limit: rules.max_message_bytes })?;
    let attributes = Attributes::new(target, rules.timestamp_type, header.attributes.is_transactional());
    let header = BatchHeader {
        attributes,
        base_timestamp: base_timestamp.unwrap_or(header.base_timestamp),
        max_timestamp: checker.stored_max_timestamp(),
        ..*header
    };
    Ok(seal(batch, header))
}

/// One record, with its timestamp and offset counted anew; key, value and headers go over as they are.
fn copy_record(
    stream: &mut Stream<'_>,
    length: i32,
    packer: &mut Packer,
    checker: &mut RecordChecker<'_>,
    base_timestamp: &mut Option<TimestampMs>,
) -> Result<(), StreamFault> {
    let left = usize::try_from(length).map_err(|_| Fault::Length)?;
    let mut body = Body { stream, packer, left, copies: false };
    let _attributes = body.byte()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let timestamp = checker.timestamp(timestamp_delta);
    let base_timestamp = *base_timestamp.get_or_insert(timestamp);
    let mut start = Vec::with_capacity(24);
    start.push(0);
    put_varlong(&mut start, timestamp.wrapping_sub(base_timestamp));
    put_varint(&mut start, checker.index());
    let mut prefix = Vec::with_capacity(8);
    put_varlong(&mut prefix, (start.len() + body.left) as i64);
    body.packer.push(&prefix)?;
    body.packer.push(&start)?;
    body.copies = true;
    let key_bytes = body.skip_field()?;
    let value_bytes = body.skip_field()?;
    body.skip_headers()?;
    if body.left > 0 {
        return Err(Fault::Length.into());
    }
    checker.check(RecordHead { timestamp_delta, offset_delta, key_bytes, value_bytes });
    Ok(())
}

/// A record's body: no more than its length, and copied from where the copy begins.
struct Body<'s, 'a> {
    stream: &'s mut Stream<'a>,
    packer: &'s mut Packer,
    left: usize,
    copies: bool,
}

impl Source for Body<'_, '_> {
    type Error = StreamFault;

    fn byte(&mut self) -> Result<u8, StreamFault> {
        self.left = self.left.checked_sub(1).ok_or(Fault::Length)?;
        let byte = self.stream.byte()?;
        if self.copies {
            self.packer.push(&[byte])?;
        }
        Ok(byte)
    }

    /// Only fields are passed over, and those are copied.
    fn skip(&mut self, mut count: usize) -> Result<(), StreamFault> {
        self.left = self.left.checked_sub(count).ok_or(Fault::Length)?;
        while count > 0 {
            let window = self.stream.window()?;
            let passed = window.len().min(count);
            if passed == 0 {
                return Err(Fault::EndsEarly.into());
            }
            self.packer.push(&window[..passed])?;
            self.stream.consume(passed);
            count -= passed;
        }
        Ok(())
    }
}

/// A codec behind a small buffer, since codecs don't like single bytes.
struct Packer {
    compressor: Compressor,
    pending: Vec<u8>,
}

impl Packer {
    fn new(codec: Codec, level: Option<i32>, limit_bytes: usize) -> Result<Self, CodecError> {
        let compressor = Compressor::new(codec, level, Output::new(&[0; HEADER_BYTES], limit_bytes))?;
        Ok(Self { compressor, pending: Vec::with_capacity(PENDING_BYTES) })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        if self.pending.len() + bytes.len() > PENDING_BYTES {
            self.compressor.write_all(&self.pending)?;
            self.pending.clear();
        }
        if bytes.len() >= PENDING_BYTES {
            self.compressor.write_all(bytes)?;
        } else {
            self.pending.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Output, CodecError> {
        self.compressor.write_all(&self.pending)?;
        self.compressor.finish()
    }
}

pub(super) fn undecodable(CodecError(reason): CodecError) -> BatchError {
    BatchError::Undecodable { reason }
}
