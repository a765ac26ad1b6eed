//! What a fuzzer calls: each function takes any bytes, must return, and panics only where an invariant is broken.

use bytes::Bytes;
use penstock_types::{LeaderEpoch, Offset};

use crate::batch::{
    BatchHeader, CRC_START, Codec, FilterOptions, Filtered, HEADER_BYTES, LOG_OVERHEAD_BYTES, TimestampType,
    TopicCompression, ValidationRules, filter_batch, find_max_timestamp, find_timestamp, for_each_record,
    records, validate,
};
use crate::object::{Footer, TRAILER_BYTES, batches};

/// Record batches: `data` as it is, and again with a header that gets past the checksum, so that the fuzzer reaches
/// the records and the codecs.
pub fn fuzz_batch(data: &[u8]) {
    check_batch(&Bytes::copy_from_slice(data), data);
    if data.len() >= HEADER_BYTES {
        check_batch(&past_the_checksum(data), data);
    }
}

/// Footers of data objects: `data` as the end of an object, and again with a trailer that gets past the checksum.
pub fn fuzz_footer(data: &[u8]) {
    check_footer(data);
    let mut sealed = data.to_vec();
    sealed.extend_from_slice(&[0; TRAILER_BYTES]);
    let at = data.len();
    sealed[at + 5] = 1;
    sealed[at + 8..at + 12].copy_from_slice(&(at as u32).to_be_bytes());
    sealed[at + 12..].copy_from_slice(b"PENSTOCK");
    let checksum = crc32c::crc32c_append(crc32c::crc32c(data), &sealed[at + 4..at + 12]);
    sealed[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
    check_footer(&sealed);
}

fn past_the_checksum(data: &[u8]) -> Bytes {
    let mut batch = data.to_vec();
    let length = (data.len() - LOG_OVERHEAD_BYTES) as u32;
    batch[..8].fill(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[22] &= 0b1101_1111;
    // Few records, so that counts are met by chance.
    let count = u32::from(data[60] % 8) + 1;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn check_batch(bytes: &Bytes, seed: &[u8]) {
    if let Ok(header) = BatchHeader::parse(bytes) {
        assert_eq!(header.to_bytes()[..], bytes[..HEADER_BYTES], "a header is read as it is written");
    }
    let _ = find_timestamp(bytes, 0, 0);
    let _ = find_max_timestamp(bytes);
    if let Ok(records) = records(bytes) {
        for record in records.take(1 << 16).flatten() {
            assert!(record.headers().count() == record.header_count() as usize, "headers were counted");
        }
    }
    let _ = batches(bytes).count();
    check_filter(bytes);
    let mut rules = ValidationRules {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        now_ms: 0,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        compacted: seed.first().is_some_and(|byte| byte & 1 != 0),
        compression: TopicCompression::Producer,
        allow_zstd: true,
    };
    check_validate(bytes, &rules);
    let codec = Codec::ALL[usize::from(seed.last().copied().unwrap_or(0)) % Codec::ALL.len()];
    rules.compression = TopicCompression::Codec { codec, level: None };
    check_validate(bytes, &rules);
}

/// Every other record goes; what stays is filtered again.
fn check_filter(bytes: &Bytes) {
    let options = FilterOptions { discard: false, keep_empty: true, now: 0, delete_retention_ms: 1 };
    let filter = |batch: &Bytes| {
        filter_batch(batch, Offset::ZERO, LeaderEpoch::FIRST, &options, |record| record.offset.get() % 2 == 0)
    };
    let Ok(filtered) = filter(bytes) else {
        return;
    };
    assert_eq!(for_each_record(bytes, Offset::ZERO, |_| ()), Ok(()), "what was filtered can be read");
    let Filtered::Rewritten { bytes, header } = filtered else {
        return;
    };
    let mut records = 0;
    assert_eq!(for_each_record(&bytes, Offset::ZERO, |_| records += 1), Ok(()), "what was made can be read");
    assert_eq!(records, header.record_count, "records were counted");
    let again = filter(&bytes);
    assert!(again.is_ok(), "what was made is filtered again: {again:?}");
    if header.delete_horizon().is_some() {
        assert_eq!(again, Ok(Filtered::Unchanged), "and stays as it is");
    }
}

fn check_validate(bytes: &Bytes, rules: &ValidationRules) {
    let Ok(batch) = validate(bytes, rules) else {
        return;
    };
    assert!(batch.bytes.len() <= rules.max_message_bytes, "a batch keeps its bound");
    assert_eq!(BatchHeader::parse(&batch.bytes).as_ref(), Ok(&batch.header), "the header is the batch's");
    // A producer that claims LogAppendTime leaves a max timestamp that is not its records' (as in Kafka).
    let claimed = BatchHeader::parse(bytes).map(|header| header.attributes.timestamp_type());
    if claimed == Ok(TimestampType::CreateTime) {
        assert_eq!(
            validate(&batch.bytes, rules).as_ref(),
            Ok(&batch),
            "what was taken is taken again, as it is"
        );
    }
    if batch.header.codec() == Ok(Codec::None) {
        let count = records(&batch.bytes).map(|records| records.filter(Result::is_ok).count());
        assert_eq!(count, Ok(batch.header.record_count as usize), "its records can be read");
    }
}

fn check_footer(tail: &[u8]) {
    for object_length in [tail.len() as u64, tail.len() as u64 + 100_000] {
        if let Ok(footer) = Footer::parse(tail, object_length) {
            let bytes = footer.to_bytes();
            assert!(tail.ends_with(&bytes), "a footer is written as it was read");
            assert_eq!(
                footer.body_length() + bytes.len() as u64,
                object_length,
                "nothing else is in the object"
            );
        }
    }
}
