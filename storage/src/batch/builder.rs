//! Batches made here: for tests, tools and jobs that write records themselves.

use std::io::Write;

use bytes::Bytes;
use penstock_types::{ProducerEpoch, ProducerId, Sequence, TimestampMs};

use super::codec::{Compressor, Output};
use super::header::{Attributes, BatchHeader, Codec, HEADER_BYTES, TimestampType};
use super::rewrite::seal;
use super::source::{put_varint, put_varlong};
use super::validate::ValidatedBatch;

/// Builds one batch, as a producer would: base offset 0, offsets 0, 1, 2, ...
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    level: Option<i32>,
    timestamp_type: TimestampType,
    producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    is_transactional: bool,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    records: Vec<u8>,
    record_count: i32,
}

/// A header of a record to write: a key, and a value if it has one.
pub type NewHeader<'a> = (&'a str, Option<&'a [u8]>);

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            level: None,
            timestamp_type: TimestampType::CreateTime,
            producer: None,
            is_transactional: false,
            base_timestamp: None,
            max_timestamp: -1,
            records: Vec::new(),
            record_count: 0,
        }
    }

    /// With a level of the codec's own.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Of an idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self.producer = Some((id, epoch, base_sequence));
        self
    }

    /// Part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.is_transactional = true;
        self
    }

    /// With the timestamp type's bit as given.
    #[must_use]
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Adds a record.
    pub fn record(&mut self, timestamp: TimestampMs, key: Option<&[u8]>, value: Option<&[u8]>) -> &mut Self {
        self.record_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record with headers.
    pub fn record_with_headers(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[NewHeader<'_>],
    ) -> &mut Self {
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut body = vec![0];
        put_varlong(&mut body, timestamp.wrapping_sub(base_timestamp));
        put_varint(&mut body, self.record_count);
        put_field(&mut body, key);
        put_field(&mut body, value);
        put_varlong(&mut body, headers.len() as i64);
        for (key, value) in headers {
            put_field(&mut body, Some(key.as_bytes()));
            put_field(&mut body, *value);
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(&body);
        self.record_count += 1;
        self
    }

    /// How many records it holds.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch.
    ///
    /// # Panics
    /// If the codec refuses the level, or the batch is larger than 2 GiB.
    pub fn build(&self) -> ValidatedBatch {
        let (producer_id, producer_epoch, base_sequence) =
            self.producer.unwrap_or((ProducerId::NONE, ProducerEpoch::NONE, Sequence::NONE));
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: Attributes::new(self.codec, self.timestamp_type, self.is_transactional),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.record_count,
        };
        let output = Output::new(&[0; HEADER_BYTES], i32::MAX as usize);
        let packed = Compressor::new(self.codec, self.level, output)
            .and_then(|mut compressor| {
                compressor.write_all(&self.records)?;
                compressor.finish()
            })
            .expect("a codec writes to memory");
        seal(packed.into_bytes().expect("a batch is smaller than 2 GiB"), header)
    }

    /// The batch's bytes.
    pub fn bytes(&self) -> Bytes {
        self.build().bytes
    }
}

/// Writes a batch of raw `records` (already packed) under `header`, with the length and the CRC that it then has: for
/// tests of what no builder would write.
pub fn seal_raw(header: BatchHeader, records: &[u8]) -> ValidatedBatch {
    let mut batch = vec![0; HEADER_BYTES];
    batch.extend_from_slice(records);
    seal(batch, header)
}

/// Writes a field of a key, a value or a header, as [`Source::skip_field`](super::source::Source::skip_field) reads it.
pub(super) fn put_field(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(bytes, -1),
        Some(field) => {
            put_varlong(bytes, field.len() as i64);
            bytes.extend_from_slice(field);
        }
    }
}
