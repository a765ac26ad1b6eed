//! The records inside a stored batch, for lookups by timestamp and for tools.
//!
//! What is stored was validated when it came; it is read here as if it had not been.

use bytes::Bytes;
use penstock_types::TimestampMs;

use super::codec::decompressed_limit;
use super::error::{BatchError, Corruption};
use super::header::{BatchHeader, Codec, HEADER_BYTES, TimestampType};
use super::source::{Fault, Slice, Source, Stream, StreamFault};

/// A record. Key and value are slices of the batch, or of what it was unpacked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What to add to the batch's base offset.
    pub offset_delta: i32,
    /// The record's own timestamp, or the batch's if the broker's clock counts.
    pub timestamp: TimestampMs,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none in a tombstone.
    pub value: Option<Bytes>,
    headers: Bytes,
    header_count: i32,
}

impl Record {
    /// Its headers: keys (not checked to be UTF-8) and values.
    pub fn headers(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        let mut rest = Slice(&self.headers);
        (0..self.header_count).map_while(move |_| {
            let key = take_field(&mut rest, &self.headers).ok()??;
            Some((key, take_field(&mut rest, &self.headers).ok()?))
        })
    }

    /// How many headers it has.
    pub fn header_count(&self) -> i32 {
        self.header_count
    }
}

/// The records of the batch at the start of `batch`. A compressed one is unpacked whole, up to
/// [`decompressed_limit`](super::decompressed_limit).
pub fn records(batch: &Bytes) -> Result<Records, BatchError> {
    let (header, records) = unpacked(batch)?;
    Ok(Records { header, records, position: 0, index: 0 })
}

/// The header and the uncompressed records of the batch at the start of `batch`.
pub(super) fn unpacked(batch: &Bytes) -> Result<(BatchHeader, Bytes), BatchError> {
    let header = stored_header(batch)?;
    let packed = batch.slice(HEADER_BYTES..header.size_bytes());
    let codec = header.codec()?;
    let records = if codec == Codec::None {
        packed
    } else {
        unpack(codec, &packed).map_err(|fault| fault.of_record(0))?
    };
    Ok((header, records))
}

/// An iterator over a batch's records; ends behind the first error.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    records: Bytes,
    position: usize,
    index: i32,
}

impl Records {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Record, Fault> {
        let mut source = Slice(&self.records[self.position..]);
        let length = usize::try_from(source.varint()?).map_err(|_| Fault::Length)?;
        let mut body = Slice(source.take(length)?);
        let _attributes = body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = take_field(&mut body, &self.records)?;
        let value = take_field(&mut body, &self.records)?;
        let mut fields = body;
        fields.skip_headers()?;
        if !fields.0.is_empty() {
            return Err(Fault::Length);
        }
        let header_count = body.varint()?;
        let end = self.records.len() - source.0.len();
        self.position = end;
        Ok(Record {
            offset_delta,
            timestamp: timestamp(&self.header, timestamp_delta),
            key,
            value,
            headers: self.records.slice(end - body.0.len()..end),
            header_count,
        })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let last = self.header.record_count.saturating_sub(1);
        if self.index >= self.header.record_count {
            let is_done = self.index > self.header.record_count || self.position == self.records.len();
            self.index = i32::MAX;
            return (!is_done).then(|| Err(Fault::BytesLeft.of_record(last)));
        }
        let record = self.read().map_err(|fault| fault.of_record(self.index));
        self.index = if record.is_ok() { self.index + 1 } else { i32::MAX };
        Some(record)
    }
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundRecord {
    /// What to add to the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp.
    pub timestamp: TimestampMs,
}

/// The first record of the batch with a timestamp of at least `target` and an offset delta of at least
/// `first_offset_delta` (the log may start inside the batch): ListOffsets by time.
pub fn find_timestamp(
    batch: &[u8],
    target: TimestampMs,
    first_offset_delta: i32,
) -> Result<Option<FoundRecord>, BatchError> {
    find(batch, |record| record.timestamp >= target && record.offset_delta >= first_offset_delta)
}

/// The first record that has the batch's max timestamp: ListOffsets for the max timestamp (KIP-734).
pub fn find_max_timestamp(batch: &[u8]) -> Result<Option<FoundRecord>, BatchError> {
    let max_timestamp = stored_header(batch)?.max_timestamp;
    find(batch, |record| record.timestamp == max_timestamp)
}

fn find(batch: &[u8], wanted: impl Fn(&FoundRecord) -> bool) -> Result<Option<FoundRecord>, BatchError> {
    let header = stored_header(batch)?;
    let packed = &batch[HEADER_BYTES..header.size_bytes()];
    let mut stream = Stream::new(header.codec()?, packed).map_err(|fault| fault.of_record(0))?;
    for index in 0..header.record_count {
        let record = next_found(&mut stream, &header).map_err(|fault| fault.of_record(index))?;
        if wanted(&record) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn next_found(stream: &mut Stream<'_>, header: &BatchHeader) -> Result<FoundRecord, StreamFault> {
    let _length = stream.varint()?;
    let _attributes = stream.byte()?;
    let timestamp_delta = stream.varlong()?;
    let offset_delta = stream.varint()?;
    stream.skip_field()?;
    stream.skip_field()?;
    stream.skip_headers()?;
    Ok(FoundRecord { offset_delta, timestamp: timestamp(header, timestamp_delta) })
}

/// A record's timestamp, as a reader takes it.
pub(super) fn timestamp(header: &BatchHeader, timestamp_delta: i64) -> TimestampMs {
    match header.attributes.timestamp_type() {
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
        TimestampType::LogAppendTime => header.max_timestamp,
    }
}

/// The header of a batch that must be there whole.
pub(super) fn stored_header(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.size_bytes() > batch.len() {
        return Err(Corruption::Length { length: header.batch_length }.into());
    }
    Ok(header)
}

fn unpack(codec: Codec, packed: &[u8]) -> Result<Bytes, StreamFault> {
    let mut stream = Stream::new(codec, packed)?;
    let mut unpacked = Vec::new();
    loop {
        let window = stream.window()?;
        if window.is_empty() {
            break;
        }
        let passed = window.len();
        unpacked.extend_from_slice(window);
        stream.consume(passed);
    }
    debug_assert!(unpacked.len() as u64 <= decompressed_limit(packed.len()), "a stream keeps its bound");
    Ok(unpacked.into())
}

/// A field as a slice of `whole`, in which `source` lies.
fn take_field(source: &mut Slice<'_>, whole: &Bytes) -> Result<Option<Bytes>, Fault> {
    let length = source.varint()?;
    match usize::try_from(length) {
        Err(_) => Ok(None),
        Ok(length) => Ok(Some(whole.slice_ref(source.take(length)?))),
    }
}
