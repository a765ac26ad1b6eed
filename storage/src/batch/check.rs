//! The checks of single records, and what the batch's header must say in the end.

use penstock_types::TimestampMs;

use super::error::{BatchError, RecordErrorReason, RecordErrors};
use super::header::{BatchHeader, TimestampType};
use super::source::{Fault, Slice, Source, Stream};
use super::validate::ValidationRules;

const NO_TIMESTAMP: TimestampMs = -1;

/// What is checked of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    /// Below zero: no key.
    pub(super) key_bytes: i32,
    /// Below zero: no value.
    pub(super) value_bytes: i32,
}

/// Kafka's `LogValidator.validateRecord`, and the sums over all records.
pub(super) struct RecordChecker<'a> {
    rules: &'a ValidationRules,
    header: &'a BatchHeader,
    /// Kafka skips keys and values where it keeps the compressed bytes, and its messages tell.
    skimmed: bool,
    index: i32,
    /// The largest timestamp so far, at least -1.
    pub(super) max_timestamp: TimestampMs,
    /// Whether the offsets are 0, 1, 2, ...
    pub(super) is_consecutive: bool,
    /// The first timestamp below zero that is not "none".
    pub(super) negative_timestamp: Option<TimestampMs>,
    errors: RecordErrors,
}

impl<'a> RecordChecker<'a> {
    pub(super) fn new(rules: &'a ValidationRules, header: &'a BatchHeader, skimmed: bool) -> Self {
        Self {
            rules,
            header,
            skimmed,
            index: 0,
            max_timestamp: NO_TIMESTAMP,
            is_consecutive: true,
            negative_timestamp: None,
            errors: RecordErrors::default(),
        }
    }

    /// The place of the next record.
    pub(super) fn index(&self) -> i32 {
        self.index
    }

    /// A record's timestamp, as a reader would take it.
    #[inline]
    pub(super) fn timestamp(&self, timestamp_delta: i64) -> TimestampMs {
        match self.header.attributes.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        }
    }

    /// The next record.
    #[inline]
    pub(super) fn check(&mut self, record: RecordHead) {
        let timestamp = self.timestamp(record.timestamp_delta);
        if (self.rules.compacted && record.key_bytes < 0) || !self.is_timestamp_fine(timestamp) {
            self.refuse(record, timestamp);
        }
        if timestamp < NO_TIMESTAMP && self.negative_timestamp.is_none() {
            self.negative_timestamp = Some(timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.is_consecutive &= record.offset_delta == self.index;
        self.index += 1;
    }

    #[inline]
    fn is_timestamp_fine(&self, timestamp: TimestampMs) -> bool {
        if self.rules.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
            let age_ms = self.rules.now_ms.wrapping_sub(timestamp);
            age_ms <= self.rules.before_max_ms && age_ms.wrapping_neg() <= self.rules.after_max_ms
        } else {
            self.header.attributes.timestamp_type() == TimestampType::CreateTime
        }
    }

    #[cold]
    fn refuse(&mut self, record: RecordHead, timestamp: TimestampMs) {
        let offset = i64::from(record.offset_delta);
        let reason = if self.rules.compacted && record.key_bytes < 0 {
            RecordErrorReason::MissingKey
        } else if self.rules.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP {
            RecordErrorReason::TimestampOutOfRange {
                offset,
                timestamp,
                earliest: self.rules.now_ms.wrapping_sub(self.rules.before_max_ms),
                latest: self.rules.now_ms.wrapping_add(self.rules.after_max_ms),
            }
        } else {
            RecordErrorReason::LogAppendTime {
                offset,
                timestamp,
                key_bytes: record.key_bytes,
                value_bytes: record.value_bytes,
                skimmed: self.skimmed,
            }
        };
        self.errors.push(self.index, reason);
    }

    /// After the last record: the refused ones, if any.
    pub(super) fn finish(&mut self) -> Result<(), BatchError> {
        match self.errors.total {
            0 => Ok(()),
            _ => Err(BatchError::Records(std::mem::take(&mut self.errors))),
        }
    }

    /// What the max timestamp of the stored batch is.
    pub(super) fn stored_max_timestamp(&self) -> TimestampMs {
        match self.rules.timestamp_type {
            TimestampType::CreateTime => self.max_timestamp,
            TimestampType::LogAppendTime => self.rules.now_ms,
        }
    }
}

/// Checks uncompressed records where they lie: each must be exactly as long as it says.
pub(super) fn check_slice(records: &[u8], checker: &mut RecordChecker<'_>) -> Result<(), BatchError> {
    let mut source = Slice(records);
    for index in 0..checker.header.record_count {
        let length = source.varint().map_err(|fault| match fault {
            Fault::NumberTooLong => BatchError::MalformedRecordLength { index },
            fault => fault.of_record(index),
        })?;
        let record = slice_record(&mut source, length).map_err(|fault| fault.of_record(index))?;
        checker.check(record);
    }
    match source.0 {
        [] => Ok(()),
        _ => Err(Fault::BytesLeft.of_record(checker.header.record_count - 1)),
    }
}

#[inline]
fn slice_record(source: &mut Slice<'_>, length: i32) -> Result<RecordHead, Fault> {
    let length = usize::try_from(length).map_err(|_| Fault::Length)?;
    let mut body = Slice(source.take(length)?);
    let record = record_head(&mut body)?;
    if body.0.is_empty() { Ok(record) } else { Err(Fault::Length) }
}

/// Checks compressed records that will be kept as they are. As in Kafka, a record's own length is not looked at, only
/// that the records' fields follow one another to the end.
pub(super) fn check_stream(
    source: &mut Stream<'_>,
    checker: &mut RecordChecker<'_>,
) -> Result<(), BatchError> {
    for index in 0..checker.header.record_count {
        let record = source
            .varint()
            .and_then(|_length| record_head(source))
            .map_err(|fault| fault.of_record(index))?;
        checker.check(record);
    }
    let last = checker.header.record_count - 1;
    match source.is_at_end() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::BytesLeft.of_record(last)),
        Err(fault) => Err(fault.of_record(last)),
    }
}

/// Everything behind a record's length.
#[inline]
fn record_head<S: Source>(source: &mut S) -> Result<RecordHead, S::Error> {
    let _attributes = source.byte()?;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key_bytes = source.skip_field()?;
    let value_bytes = source.skip_field()?;
    source.skip_headers()?;
    Ok(RecordHead { timestamp_delta, offset_delta, key_bytes, value_bytes })
}
