//! What log compaction does to one batch: Apache Kafka 4.1's `MemoryRecords.filterTo` for magic 2, to the byte where
//! nothing is compressed. Which records stay is the caller's to say.
//!
//! What a batch was appended as outlives its records: the base offset, the last offset delta, the producer's fields
//! and the leader epoch stay, so that sequences and the log's end can still be read from it. Tombstones that stay give
//! the batch a delete horizon (KIP-534), from when on the caller may let them go. The horizon takes the place of the base
//! timestamp, and is set only once.
//!
//! A damaged batch is never rewritten, since it would get a sound checksum: checksum, counts and offsets are checked
//! before anything is decided. What differs from Kafka is listed in docs/record-batch.md.

use std::io::Write;

use bytes::Bytes;
use penstock_types::{LeaderEpoch, Offset, TimestampMs};

use super::builder::put_field;
use super::codec::{Compressor, Output};
use super::error::{BatchError, InvalidBatch};
use super::header::{BatchHeader, Codec, HEADER_BYTES, LOG_OVERHEAD_BYTES, TimestampType};
use super::records::{stored_header, timestamp, unpacked};
use super::rewrite::{seal, undecodable};
use super::source::{Fault, Slice, Source, put_varint, put_varlong};
use super::validate::verify_crc;

const NO_TIMESTAMP: TimestampMs = -1;
/// Most bytes of a record besides its key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 31;
/// The largest batch that a length field can tell.
const LARGEST_BATCH_BYTES: usize = i32::MAX as usize;

/// How a batch is filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterOptions {
    /// Whether all records go, unread: those of an aborted transaction.
    pub discard: bool,
    /// Whether the batch stays when no record does, for what its header says: Kafka's RETAIN_EMPTY.
    pub keep_empty: bool,
    /// The wall clock.
    pub now: TimestampMs,
    /// `delete.retention.ms`: how long tombstones stay after they were first kept.
    pub delete_retention_ms: i64,
}

/// A record, where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset in the log.
    pub offset: Offset,
    /// Its own timestamp, or the batch's if the broker's clock counts.
    pub timestamp: TimestampMs,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none in a tombstone.
    pub value: Option<&'a [u8]>,
    /// Their count, and the headers.
    headers: &'a [u8],
    offset_delta: i32,
}

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filtered {
    /// All of it, to the bit.
    Unchanged,
    /// Nothing.
    Gone,
    /// Another batch in its place.
    Rewritten {
        /// The batch, with the base offset and the leader epoch that were given.
        bytes: Bytes,
        /// Its header, which tells how many records there are (there may be none) and whether it has a delete horizon.
        header: BatchHeader,
    },
}

/// Keeps those records of the batch at the start of `batch` for which `keep` says so; it is asked once of each, in
/// order. `base_offset` and `leader_epoch` are what the log says, whatever stands in the stored bytes.
///
/// Costs no copy and no allocation per record as long as everything stays. If it fails, then what `keep` was asked of
/// may not be the batch's true records.
pub fn filter_batch(
    batch: &Bytes,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    options: &FilterOptions,
    keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Filtered, BatchError> {
    let header = sound_header(batch, base_offset)?;
    let kept_header =
        BatchHeader { base_offset: base_offset.get(), partition_leader_epoch: leader_epoch.get(), ..header };
    if options.discard {
        return Ok(without_records(&header, kept_header, options.keep_empty));
    }
    let (_, records) = unpacked(batch)?;
    let survey = Survey::of(&records, &header, base_offset, keep)?;
    if survey.kept == 0 {
        return Ok(without_records(&header, kept_header, options.keep_empty));
    }
    let new_horizon = if survey.has_tombstones && !header.attributes.has_delete_horizon() {
        horizon_from(options)
    } else {
        None
    };
    if survey.dropped.is_empty() && new_horizon.is_none() {
        return Ok(Filtered::Unchanged);
    }
    // A horizon below zero is no horizon to Kafka's builder.
    let horizon = new_horizon.or(header.delete_horizon()).filter(|horizon| *horizon >= 0);
    let kept_header = BatchHeader {
        attributes: header.attributes.with_delete_horizon(horizon.is_some()),
        base_timestamp: horizon.unwrap_or(survey.first_timestamp),
        max_timestamp: match header.attributes.timestamp_type() {
            TimestampType::CreateTime => survey.max_timestamp,
            TimestampType::LogAppendTime => header.max_timestamp,
        },
        record_count: survey.kept,
        ..kept_header
    };
    let plain = write_kept(&records, &header, base_offset, &survey, kept_header.base_timestamp)?;
    let batch = seal(packed(header.codec()?, plain)?, kept_header);
    Ok(Filtered::Rewritten { bytes: batch.bytes, header: batch.header })
}

/// Calls back for each record of the batch at the start of `batch`, in order. Costs no allocation per record. If it fails,
/// then the records before the damage were called back for.
pub fn for_each_record(
    batch: &Bytes,
    base_offset: Offset,
    mut visit: impl FnMut(&RecordView<'_>),
) -> Result<(), BatchError> {
    sound_header(batch, base_offset)?;
    let (header, records) = unpacked(batch)?;
    read_all(&records, &header, base_offset, |_, record| visit(record))
}

/// The header of a batch that is there whole, with the checksum it should have and counts that can be.
fn sound_header(batch: &[u8], base_offset: Offset) -> Result<BatchHeader, BatchError> {
    let header = stored_header(batch)?;
    verify_crc(batch, &header)?;
    let BatchHeader { last_offset_delta, record_count, .. } = header;
    if record_count < 0 {
        return Err(InvalidBatch::RecordCount { record_count }.into());
    }
    if last_offset_delta < 0 || base_offset.get().checked_add(last_offset_delta.into()).is_none() {
        return Err(InvalidBatch::OffsetRange { last_offset_delta }.into());
    }
    Ok(header)
}

/// Kafka's `DefaultRecordBatch.writeEmptyHeader`.
fn without_records(stored: &BatchHeader, kept: BatchHeader, keep_empty: bool) -> Filtered {
    if !keep_empty {
        return Filtered::Gone;
    }
    let attributes = stored.attributes.with_delete_horizon(false).with_codec(Codec::None);
    let is_empty = stored.record_count == 0 && stored.size_bytes() == HEADER_BYTES;
    if is_empty && stored.attributes == attributes && stored.base_timestamp == NO_TIMESTAMP {
        return Filtered::Unchanged;
    }
    let header = BatchHeader { attributes, base_timestamp: NO_TIMESTAMP, record_count: 0, ..kept };
    let batch = seal(vec![0; HEADER_BYTES], header);
    Filtered::Rewritten { bytes: batch.bytes, header: batch.header }
}

/// When tombstones that are kept now may go. `None` if time ends before (Kafka's sum is below zero then, and it sets no
/// horizon either).
fn horizon_from(options: &FilterOptions) -> Option<TimestampMs> {
    options.now.checked_add(options.delete_retention_ms).filter(|horizon| *horizon >= 0)
}

/// Which records stay, and what the header must know of them.
struct Survey {
    /// Places of the records that go, in order.
    dropped: Vec<i32>,
    kept: i32,
    /// What the kept ones may take at most, uncompressed.
    kept_bytes: usize,
    /// That of the first kept one.
    first_timestamp: TimestampMs,
    /// That of the kept ones, at least -1.
    max_timestamp: TimestampMs,
    /// Whether a kept one is a tombstone.
    has_tombstones: bool,
}

impl Survey {
    fn of(
        records: &[u8],
        header: &BatchHeader,
        base_offset: Offset,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let mut survey = Self {
            dropped: Vec::new(),
            kept: 0,
            kept_bytes: 0,
            first_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            has_tombstones: false,
        };
        read_all(records, header, base_offset, |index, record| {
            if keep(record) {
                survey.add(record);
            } else {
                survey.dropped.push(index);
            }
        })?;
        Ok(survey)
    }

    fn add(&mut self, record: &RecordView<'_>) {
        if self.kept == 0 {
            self.first_timestamp = record.timestamp;
        }
        self.kept += 1;
        let fields = [record.key.unwrap_or_default(), record.value.unwrap_or_default(), record.headers];
        self.kept_bytes += fields.map(<[u8]>::len).iter().sum::<usize>() + RECORD_OVERHEAD_BYTES;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.has_tombstones |= record.value.is_none();
    }
}

/// Reads uncompressed records, with their places: as many as the header says, each well-formed, in the order of their
/// offsets.
fn read_all(
    records: &[u8],
    header: &BatchHeader,
    base_offset: Offset,
    mut visit: impl FnMut(i32, &RecordView<'_>),
) -> Result<(), BatchError> {
    let mut source = Slice(records);
    let mut next_delta = 0;
    for index in 0..header.record_count {
        let record =
            read(&mut source, header, base_offset, next_delta).map_err(|fault| fault.of_record(index))?;
        next_delta = i64::from(record.offset_delta) + 1;
        visit(index, &record);
    }
    match source.0 {
        [] => Ok(()),
        _ => Err(Fault::BytesLeft.of_record((header.record_count - 1).max(0))),
    }
}

#[inline]
fn read<'a>(
    source: &mut Slice<'a>,
    header: &BatchHeader,
    base_offset: Offset,
    next_delta: i64,
) -> Result<RecordView<'a>, Fault> {
    let length = usize::try_from(source.varint()?).map_err(|_| Fault::Length)?;
    let mut body = Slice(source.take(length)?);
    let _attributes = body.byte()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    if i64::from(offset_delta) < next_delta || offset_delta > header.last_offset_delta {
        return Err(Fault::OffsetDelta);
    }
    let key = take_field(&mut body)?;
    let value = take_field(&mut body)?;
    let headers = body.0;
    body.skip_headers()?;
    if !body.0.is_empty() {
        return Err(Fault::Length);
    }
    Ok(RecordView {
        offset: base_offset.plus(offset_delta.into()),
        timestamp: timestamp(header, timestamp_delta),
        key,
        value,
        headers,
        offset_delta,
    })
}

#[inline]
fn take_field<'a>(source: &mut Slice<'a>) -> Result<Option<&'a [u8]>, Fault> {
    match usize::try_from(source.varint()?) {
        Err(_) => Ok(None),
        Ok(length) => source.take(length).map(Some),
    }
}

/// The kept records behind an empty header, with timestamps that count from `base_timestamp`.
fn write_kept(
    records: &[u8],
    header: &BatchHeader,
    base_offset: Offset,
    survey: &Survey,
    base_timestamp: TimestampMs,
) -> Result<Vec<u8>, BatchError> {
    let mut plain = Vec::with_capacity(HEADER_BYTES + survey.kept_bytes);
    plain.resize(HEADER_BYTES, 0);
    let mut body = Vec::new();
    let mut dropped = survey.dropped.iter().copied().peekable();
    read_all(records, header, base_offset, |index, record| {
        if dropped.next_if_eq(&index).is_none() {
            body.clear();
            put_body(&mut body, record, base_timestamp);
            put_varlong(&mut plain, body.len() as i64);
            plain.extend_from_slice(&body);
        }
    })?;
    Ok(plain)
}

/// Everything behind a record's length, as Kafka's `DefaultRecord.writeTo` writes it: without attributes, all numbers in
/// the fewest bytes.
fn put_body(body: &mut Vec<u8>, record: &RecordView<'_>, base_timestamp: TimestampMs) {
    body.push(0);
    put_varlong(body, record.timestamp.wrapping_sub(base_timestamp));
    put_varint(body, record.offset_delta);
    put_field(body, record.key);
    put_field(body, record.value);
    if record.headers == [0] {
        body.push(0);
        return;
    }
    let copied = copy_headers(body, record.headers);
    debug_assert_eq!(copied, Ok(()), "the headers were read before");
}

fn copy_headers(body: &mut Vec<u8>, headers: &[u8]) -> Result<(), Fault> {
    let mut source = Slice(headers);
    let count = source.varint()?;
    put_varint(body, count);
    for _ in 0..count {
        put_field(body, take_field(&mut source)?);
        put_field(body, take_field(&mut source)?);
    }
    Ok(())
}

/// `plain` (a header's room, and records), with its records packed by `codec` at its default level.
fn packed(codec: Codec, plain: Vec<u8>) -> Result<Vec<u8>, BatchError> {
    let batch = if codec == Codec::None {
        plain
    } else {
        let output = Output::new(&[0; HEADER_BYTES], LARGEST_BATCH_BYTES);
        let mut compressor = Compressor::new(codec, None, output).map_err(undecodable)?;
        compressor
            .write_all(&plain[HEADER_BYTES..])
            .map_err(|error| BatchError::Undecodable { reason: error.to_string() })?;
        let output = compressor.finish().map_err(undecodable)?;
        output.into_bytes().map_err(|bytes| BatchError::TooLarge { bytes, limit: LARGEST_BATCH_BYTES })?
    };
    if batch.len() - LOG_OVERHEAD_BYTES > LARGEST_BATCH_BYTES {
        return Err(BatchError::TooLarge { bytes: batch.len(), limit: LARGEST_BATCH_BYTES });
    }
    Ok(batch)
}

#[cfg(test)]
mod tests;
