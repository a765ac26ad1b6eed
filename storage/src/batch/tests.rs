use bytes::Bytes;
use penstock_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use proptest::prelude::*;

use super::source::{put_varint, put_varlong};
use super::*;

const NOW: i64 = 1_700_000_000_000;

fn rules() -> ValidationRules {
    ValidationRules {
        max_message_bytes: 1_048_588,
        timestamp_type: TimestampType::CreateTime,
        now_ms: NOW,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        compacted: false,
        compression: TopicCompression::Producer,
        allow_zstd: true,
    }
}

fn batch(codec: Codec) -> ValidatedBatch {
    let mut builder =
        BatchBuilder::new(codec).producer(ProducerId::new(7), ProducerEpoch::new(1), Sequence::new(10));
    builder.record(NOW, Some(b"a"), Some(b"first"));
    builder.record_with_headers(NOW - 5, None, Some(b"second"), &[("h", Some(b"1")), ("empty", None)]);
    builder.record(NOW + 3, Some(b"c"), None);
    builder.build()
}

/// `batch` with another header, and the CRC that this one needs.
fn with_header(batch: &ValidatedBatch, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = batch.header;
    change(&mut header);
    seal_raw(header, &batch.bytes[HEADER_BYTES..]).bytes
}

fn refusal(bytes: &Bytes, rules: &ValidationRules) -> Refusal {
    validate(bytes, rules).expect_err("refused").refusal()
}

fn raw_record(timestamp_delta: i64, offset_delta: i32, fields: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    put_varlong(&mut body, timestamp_delta);
    put_varint(&mut body, offset_delta);
    body.extend_from_slice(fields);
    let mut record = Vec::new();
    put_varint(&mut record, body.len() as i32);
    record.extend_from_slice(&body);
    record
}

/// A batch of hand-made records.
fn raw_batch(codec: Codec, count: i32, records: &[u8]) -> Bytes {
    let mut header = batch(codec).header;
    header.record_count = count;
    header.last_offset_delta = count - 1;
    header.max_timestamp = header.base_timestamp;
    seal_raw(header, &pack(codec, records)).bytes
}

fn pack(codec: Codec, records: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let output = codec::Output::new(&[], usize::MAX);
    let mut compressor = codec::Compressor::new(codec, None, output).expect("a codec at its default level");
    compressor.write_all(records).expect("memory takes everything");
    compressor.finish().expect("memory takes everything").into_bytes().expect("no limit")
}

/// No key, the value "v", no headers.
const PLAIN: [u8; 4] = [1, 2, b'v', 0];

#[test]
fn a_good_batch_is_taken_without_a_copy() {
    for codec in Codec::ALL {
        let batch = batch(codec);
        let taken = validate(&batch.bytes, &rules()).expect("a good batch");
        assert_eq!(taken, batch, "{codec:?}");
        assert_eq!(taken.bytes.as_ptr(), batch.bytes.as_ptr(), "{codec:?}");
        assert_eq!(taken.header.codec(), Ok(codec));
        assert_eq!(taken.header.last_sequence(), Sequence::new(12));
        let read: Vec<Record> =
            records(&taken.bytes).expect("records").map(|record| record.expect("record")).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].key.as_deref(), Some(&b"a"[..]));
        assert_eq!(read[1].timestamp, NOW - 5);
        assert_eq!(read[2].value, None);
        assert_eq!(read[2].offset_delta, 2);
        let headers: Vec<_> = read[1].headers().collect();
        assert_eq!(headers[0], (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))));
        assert_eq!(headers[1], (Bytes::from_static(b"empty"), None));
        assert_eq!(headers.len(), 2);
    }
}

#[test]
fn what_is_no_batch() {
    let good = batch(Codec::None).bytes;
    assert_eq!(validate(&Bytes::new(), &rules()), Err(BatchError::NoBatch));
    assert_eq!(validate(&good.slice(..good.len() - 1), &rules()), Err(BatchError::NoBatch));
    let twice = Bytes::from([&good[..], &good[..]].concat());
    assert_eq!(validate(&twice, &rules()), Err(BatchError::SeveralBatches));
    for magic in [0, 1] {
        let mut old = good.to_vec();
        old[16] = magic;
        assert_eq!(refusal(&old.into(), &rules()), Refusal::InvalidRecord);
    }
    for magic in [3u8, 0x80, 0xFF] {
        let mut unknown = good.to_vec();
        unknown[16] = magic;
        let error = validate(&unknown.into(), &rules()).expect_err("refused");
        assert_eq!(error.refusal(), Refusal::CorruptMessage);
        assert_eq!(error.message("t-0"), Some(format!("Invalid magic found in record: {}", magic as i8)));
    }
    for length in [-1i32, 0, 13] {
        let mut short = good.to_vec();
        short[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(refusal(&short.into(), &rules()), Refusal::CorruptMessage, "{length}");
    }
    // Where Kafka runs over the batch's end it has no code for it.
    let refusals = [
        (14i32, Refusal::UnknownServerError),
        (38, Refusal::UnknownServerError),
        (39, Refusal::CorruptMessage),
        (48, Refusal::CorruptMessage),
    ];
    for (length, expected) in refusals {
        let mut short = good[..12 + length as usize].to_vec();
        short[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(refusal(&short.into(), &rules()), expected, "{length}");
    }
}

#[test]
fn a_piece_of_a_batch_behind_the_batch_is_cut_off() {
    let good = batch(Codec::None).bytes;
    for behind in [&good[..11], &good[..61]] {
        let bytes = Bytes::from([&good[..], behind].concat());
        assert_eq!(validate(&bytes, &rules()).map(|batch| batch.bytes), Ok(good.clone()));
    }
    let bytes = Bytes::from([&good[..], &[0; 12]].concat());
    assert_eq!(refusal(&bytes, &rules()), Refusal::CorruptMessage);
}

#[test]
fn headers_that_no_client_may_send() {
    type Change = fn(&mut BatchHeader);
    let changes: [(Change, Refusal); 10] = [
        (|header| header.base_offset = 1, Refusal::InvalidRecord),
        (|header| header.last_offset_delta = -1, Refusal::InvalidRecord),
        (|header| header.record_count = 0, Refusal::InvalidRecord),
        (|header| header.record_count = -3, Refusal::InvalidRecord),
        (|header| header.record_count = 4, Refusal::InvalidRecord),
        (|header| header.last_offset_delta = 3, Refusal::InvalidRecord),
        (|header| header.base_sequence = Sequence::new(-1), Refusal::InvalidRecord),
        (|header| header.attributes = Attributes::from_bits(0x20), Refusal::InvalidRecord),
        (|header| header.attributes = Attributes::from_bits(5), Refusal::UnknownServerError),
        (|header| header.attributes = Attributes::from_bits(7), Refusal::UnknownServerError),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let bytes = with_header(&batch(Codec::None), change);
        assert_eq!(refusal(&bytes, &rules()), expected, "change {number}");
    }
    // Count and offsets agree with one another, but not with the records.
    for codec in Codec::ALL {
        for count in [1, 2, 4, i32::MAX] {
            let bytes = with_header(&batch(codec), |header| {
                header.record_count = count;
                header.last_offset_delta = count - 1;
            });
            assert_eq!(refusal(&bytes, &rules()), Refusal::InvalidRecord, "{codec:?} {count}");
        }
    }
}

#[test]
fn size_comes_before_checksum_and_zstd_before_both() {
    let good = batch(Codec::Zstd);
    let mut damaged = good.bytes.to_vec();
    *damaged.last_mut().expect("a byte") ^= 1;
    let damaged = Bytes::from(damaged);
    assert_eq!(refusal(&damaged, &rules()), Refusal::CorruptMessage);
    let small = ValidationRules { max_message_bytes: good.bytes.len() - 1, ..rules() };
    assert_eq!(refusal(&damaged, &small), Refusal::MessageTooLarge);
    let exact = ValidationRules { max_message_bytes: good.bytes.len(), ..rules() };
    assert!(validate(&good.bytes, &exact).is_ok());
    let old = ValidationRules { allow_zstd: false, ..small };
    assert_eq!(refusal(&damaged, &old), Refusal::UnsupportedCompressionType);
    assert!(validate(&batch(Codec::Lz4).bytes, &ValidationRules { allow_zstd: false, ..rules() }).is_ok());
}

#[test]
fn malformed_records() {
    let good = raw_record(0, 0, &PLAIN);
    let behind = [&good[..], &[0]].concat();
    let too_long = {
        let mut record = good.clone();
        record[0] += 2;
        record
    };
    let too_short = {
        let mut record = good.clone();
        record[0] -= 2;
        record
    };
    let negative_length = {
        let mut record = good.clone();
        record[0] = 1;
        record
    };
    let key_too_long = raw_record(0, 0, &[40, b'k', 1, 0]);
    let many_headers = raw_record(0, 0, &[1, 1, 0x7E]);
    let negative_headers = raw_record(0, 0, &[1, 1, 1]);
    let header_without_key = raw_record(0, 0, &[1, 1, 2, 1, 1]);
    let long_number = raw_record(0, 0, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1, 0]);
    for codec in Codec::ALL {
        assert!(validate(&raw_batch(codec, 1, &good), &rules()).is_ok(), "{codec:?}");
        let all =
            [&behind, &key_too_long, &many_headers, &negative_headers, &header_without_key, &long_number];
        for (number, records) in all.into_iter().enumerate() {
            let bytes = raw_batch(codec, 1, records);
            assert_eq!(refusal(&bytes, &rules()), Refusal::InvalidRecord, "{codec:?} {number}");
        }
        // Kafka doesn't look at the lengths of records that stay compressed.
        let lies = [
            (&too_long, codec == Codec::None),
            (&too_short, codec == Codec::None),
            (&negative_length, codec == Codec::None),
        ];
        for (records, refused) in lies {
            let bytes = raw_batch(codec, 1, records);
            assert_eq!(validate(&bytes, &rules()).is_err(), refused, "{codec:?}");
            let other = if codec == Codec::Gzip { Codec::Zstd } else { Codec::Gzip };
            let rebuilt = ValidationRules {
                compression: TopicCompression::Codec { codec: other, level: None },
                ..rules()
            };
            assert_eq!(refusal(&bytes, &rebuilt), Refusal::InvalidRecord, "{codec:?} rebuilt");
        }
    }
}

#[test]
fn a_length_that_is_no_number() {
    let endless = [0xFF; 12];
    assert_eq!(refusal(&raw_batch(Codec::None, 1, &endless), &rules()), Refusal::UnknownServerError);
    assert_eq!(refusal(&raw_batch(Codec::Lz4, 1, &endless), &rules()), Refusal::InvalidRecord);
    let ends_early = [0xFF; 3];
    assert_eq!(refusal(&raw_batch(Codec::None, 1, &ends_early), &rules()), Refusal::InvalidRecord);
}

#[test]
fn garbage_instead_of_what_a_codec_writes() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let header = batch(codec).header;
        let bytes = seal_raw(header, b"this is no compressed data at all").bytes;
        assert_eq!(refusal(&bytes, &rules()), Refusal::UnknownServerError, "{codec:?}");
    }
}

#[test]
fn offsets_inside_the_batch() {
    let backwards = [raw_record(0, 1, &PLAIN), raw_record(0, 0, &PLAIN)].concat();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = raw_batch(codec, 2, &backwards);
        assert_eq!(refusal(&bytes, &rules()), Refusal::UnknownServerError, "{codec:?}");
    }
    // Where the records are written anew (and where nothing is packed) they are put right.
    let gzip = ValidationRules {
        compression: TopicCompression::Codec { codec: Codec::Gzip, level: None },
        ..rules()
    };
    for (codec, rules) in [(Codec::None, rules()), (Codec::Zstd, gzip)] {
        let taken = validate(&raw_batch(codec, 2, &backwards), &rules).expect("put right");
        let offsets: Vec<i32> = records(&taken.bytes)
            .expect("records")
            .map(|record| record.expect("record").offset_delta)
            .collect();
        assert_eq!(offsets, [0, 1]);
    }
}

#[test]
fn compacted_topics_need_keys() {
    let compacted = ValidationRules { compacted: true, ..rules() };
    for codec in Codec::ALL {
        let error = validate(&batch(codec).bytes, &compacted).expect_err("one record has no key");
        assert_eq!(error.refusal(), Refusal::InvalidRecord);
        let message = "Compacted topic cannot accept message without key in topic partition t-3";
        assert_eq!(error.record_errors("t-3"), [(1, message.to_owned())]);
        assert_eq!(
            error.message("t-3"),
            Some(format!(
                "One or more records have been rejected due to 1 record errors in total, and only showing the first \
                 three errors at most: [RecordError(batchIndex=1, message='{message}')]"
            ))
        );
    }
}

#[test]
fn timestamps_out_of_bounds() {
    let narrow = ValidationRules { before_max_ms: 4, after_max_ms: 2, ..rules() };
    for codec in Codec::ALL {
        let error = validate(&batch(codec).bytes, &narrow).expect_err("two records are out of bounds");
        assert_eq!(error.refusal(), Refusal::InvalidTimestamp);
        assert_eq!(
            error.message("t-0").as_deref(),
            Some("One or more records have been rejected due to invalid timestamp")
        );
        let errors = error.record_errors("t-0");
        assert_eq!(errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            errors[1].1,
            "Timestamp 1700000000003 of message with offset 2 is out of range. The timestamp should be within \
             [1699999999996, 1700000000002]"
        );
    }
    let exact = ValidationRules { before_max_ms: 5, after_max_ms: 3, ..rules() };
    assert!(validate(&batch(Codec::None).bytes, &exact).is_ok());
    let mut none = BatchBuilder::new(Codec::None);
    none.record(-1, None, Some(b"no timestamp"));
    assert!(validate(&none.bytes(), &narrow).is_ok());
    let late = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..narrow };
    assert!(validate(&batch(Codec::None).bytes, &late).is_ok(), "the producer's clock doesn't count");
}

#[test]
fn producers_may_not_claim_log_append_time() {
    let claim = |codec, timestamp| {
        let mut builder = BatchBuilder::new(codec).timestamp_type(TimestampType::LogAppendTime);
        builder.record(timestamp, None, Some(b"value"));
        builder.bytes()
    };
    let late = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    let message = |codec| {
        let error = validate(&claim(codec, NOW), &late).expect_err("refused");
        assert_eq!(error.refusal(), Refusal::InvalidTimestamp);
        error.record_errors("t-0")[0].1.clone()
    };
    assert_eq!(
        message(Codec::None),
        "Invalid timestamp type in message DefaultRecord(offset=0, timestamp=1700000000000, key=0 bytes, value=5 \
         bytes). Producer should not set timestamp type to LogAppendTime."
    );
    assert!(
        message(Codec::Gzip)
            .contains("PartialDefaultRecord(offset=0, timestamp=1700000000000, key=-1 bytes, value=5 bytes)")
    );
    // Kafka lets it pass where the topic's type is CreateTime and there is a timestamp, and puts the type right.
    let taken = validate(&claim(Codec::None, NOW), &rules()).expect("taken");
    assert_eq!(taken.header.attributes.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(refusal(&claim(Codec::None, -1), &rules()), Refusal::InvalidTimestamp);
}

#[test]
fn log_append_time_changes_the_header_alone() {
    let late = ValidationRules { timestamp_type: TimestampType::LogAppendTime, now_ms: NOW + 77, ..rules() };
    for codec in Codec::ALL {
        let batch = batch(codec);
        let taken = validate(&batch.bytes, &late).expect("taken");
        assert_eq!(taken.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(taken.header.max_timestamp, NOW + 77);
        assert_eq!(taken.bytes[HEADER_BYTES..], batch.bytes[HEADER_BYTES..]);
        assert_eq!(verify_crc(&taken.bytes, &taken.header), Ok(()));
        assert_eq!(BatchHeader::parse(&taken.bytes), Ok(taken.header));
        for record in records(&taken.bytes).expect("records") {
            assert_eq!(record.expect("record").timestamp, NOW + 77);
        }
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    for codec in Codec::ALL {
        let wrong = with_header(&batch(codec), |header| header.max_timestamp = NOW + 1_000_000);
        assert_eq!(validate(&wrong, &rules()), Ok(batch(codec)));
    }
}

#[test]
fn every_codec_becomes_every_other() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
                let rules = ValidationRules {
                    compression: TopicCompression::Codec { codec: to, level: None },
                    timestamp_type,
                    ..rules()
                };
                let source = batch(from);
                let taken = validate(&source.bytes, &rules).expect("rebuilt");
                assert_eq!(taken.header.codec(), Ok(to));
                assert_eq!(taken.header.attributes.timestamp_type(), timestamp_type);
                assert_eq!(verify_crc(&taken.bytes, &taken.header), Ok(()));
                assert_eq!(taken.header.producer_id, source.header.producer_id);
                assert_eq!(taken.header.base_sequence, source.header.base_sequence);
                assert_eq!(taken.header.record_count, 3);
                let fields = |bytes: &Bytes| -> Vec<_> {
                    let records = records(bytes).expect("records").map(|record| record.expect("record"));
                    records
                        .map(|record| {
                            let headers: Vec<_> = record.headers().collect();
                            (record.offset_delta, record.key, record.value, headers)
                        })
                        .collect()
                };
                assert_eq!(fields(&taken.bytes), fields(&source.bytes), "{from:?} to {to:?}");
                if timestamp_type == TimestampType::CreateTime {
                    assert_eq!(taken.header.max_timestamp, NOW + 3);
                    assert_eq!(taken, batch(to), "as if the producer had packed it");
                }
            }
        }
    }
}

#[test]
fn levels_reach_the_codec() {
    let mut builder = BatchBuilder::new(Codec::None);
    for number in 0..2000 {
        builder.record(NOW, None, Some(format!("{number} {}", number * 7919 % 1000).as_bytes()));
    }
    let size = |codec, level| {
        let compression = TopicCompression::Codec { codec, level };
        validate(&builder.bytes(), &ValidationRules { compression, ..rules() }).expect("rebuilt").bytes.len()
    };
    assert!(size(Codec::Gzip, Some(9)) < size(Codec::Gzip, Some(1)));
    assert!(size(Codec::Zstd, Some(19)) < size(Codec::Zstd, Some(-50)));
    assert_eq!(size(Codec::Gzip, Some(-1)), size(Codec::Gzip, None));
}

#[test]
fn a_rebuilt_batch_is_bounded_too() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.record(NOW, None, Some(&[0; 100_000]));
    let unpacked = ValidationRules {
        compression: TopicCompression::Codec { codec: Codec::None, level: None },
        max_message_bytes: 50_000,
        ..rules()
    };
    assert_eq!(refusal(&builder.bytes(), &unpacked), Refusal::MessageTooLarge);
    let negative = {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.record(-5, None, None);
        builder.bytes()
    };
    assert!(validate(&negative, &rules()).is_ok());
    let gzip = ValidationRules {
        compression: TopicCompression::Codec { codec: Codec::Gzip, level: None },
        ..rules()
    };
    assert_eq!(refusal(&negative, &gzip), Refusal::UnknownServerError);
}

#[test]
fn decompression_bombs_are_refused() {
    let zeros = vec![0u8; 1 << 20];
    for codec in [Codec::Gzip, Codec::Zstd] {
        use std::io::Write;
        let output = codec::Output::new(&[0; HEADER_BYTES], usize::MAX);
        let mut compressor = codec::Compressor::new(codec, None, output).expect("a codec");
        let mut start = Vec::new();
        put_varint(&mut start, 1 << 30);
        start.extend_from_slice(&[0, 0, 0, 1]);
        put_varint(&mut start, 1 << 30);
        compressor.write_all(&start).expect("memory takes everything");
        for _ in 0..130 {
            compressor.write_all(&zeros).expect("memory takes everything");
        }
        let packed = compressor.finish().expect("memory").into_bytes().expect("no limit");
        assert!(packed.len() < 1 << 20);
        let bytes = {
            let mut header = batch(codec).header;
            header.record_count = 1;
            header.last_offset_delta = 0;
            seal_raw(header, &packed[HEADER_BYTES..]).bytes
        };
        assert!(matches!(validate(&bytes, &rules()), Err(BatchError::DecompressionBomb { .. })), "{codec:?}");
        assert!(matches!(records(&bytes), Err(BatchError::DecompressionBomb { .. })), "{codec:?}");
    }
}

#[test]
fn refused_records_are_bounded_but_counted() {
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..MAX_RECORD_ERRORS + 10 {
        builder.record(NOW, None, None);
    }
    let error =
        validate(&builder.bytes(), &ValidationRules { compacted: true, ..rules() }).expect_err("no keys");
    let BatchError::Records(errors) = error else { panic!("{error}") };
    assert_eq!(errors.errors.len(), MAX_RECORD_ERRORS);
    assert_eq!(errors.total, MAX_RECORD_ERRORS as u64 + 10);
    assert!(
        errors.message("t-0").starts_with("One or more records have been rejected due to 4106 record errors")
    );
}

#[test]
fn lookups_by_timestamp() {
    for codec in Codec::ALL {
        let bytes = batch(codec).bytes;
        let found = |target, first| find_timestamp(&bytes, target, first).expect("readable");
        assert_eq!(found(0, 0), Some(FoundRecord { offset_delta: 0, timestamp: NOW }));
        assert_eq!(found(0, 1), Some(FoundRecord { offset_delta: 1, timestamp: NOW - 5 }));
        assert_eq!(found(NOW + 1, 0), Some(FoundRecord { offset_delta: 2, timestamp: NOW + 3 }));
        assert_eq!(found(NOW + 4, 0), None);
        assert_eq!(find_max_timestamp(&bytes), Ok(Some(FoundRecord { offset_delta: 2, timestamp: NOW + 3 })));
    }
}

#[test]
fn the_patched_prefix_is_outside_the_checksum() {
    let batch = batch(Codec::Lz4);
    let prefix = patched_prefix(&batch.header, Offset::at(1 << 40), LeaderEpoch::new(3));
    let size = batch.bytes.len() as u32;
    assert_eq!(patched_prefix_of_size(size, Offset::at(1 << 40), LeaderEpoch::new(3)), prefix);
    let sent = [&prefix[..], &batch.bytes[PREFIX_BYTES..]].concat();
    let header = BatchHeader::parse(&sent).expect("a header");
    assert_eq!(header.base_offset, 1 << 40);
    assert_eq!(header.partition_leader_epoch, 3);
    assert_eq!(verify_crc(&sent, &header), Ok(()));
}

#[test]
fn every_truncation_and_every_flip_is_seen() {
    for codec in Codec::ALL {
        let good = batch(codec);
        for length in 0..good.bytes.len() {
            assert!(validate(&good.bytes.slice(..length), &rules()).is_err(), "{codec:?} cut to {length}");
            let _ = records(&good.bytes.slice(..length)).map(Iterator::count);
        }
        for at in 0..good.bytes.len() {
            for bit in 0..8 {
                let mut flipped = good.bytes.to_vec();
                flipped[at] ^= 1 << bit;
                let flipped = Bytes::from(flipped);
                let _ = records(&flipped).map(Iterator::count);
                // The leader epoch is nobody's business; all else is checked.
                let taken = validate(&flipped, &rules());
                assert_eq!(taken.is_ok(), (12..16).contains(&at), "{codec:?} byte {at} bit {bit}");
            }
        }
    }
}

type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_fields() -> impl Strategy<Value = Fields> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let headers = prop::collection::vec((".{0,20}", bytes()), 0..4);
    (NOW - 1_000_000..NOW + 1_000_000, bytes(), bytes(), headers)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn records_round_trip(codec in any_codec(), to in any_codec(), written in prop::collection::vec(any_fields(), 1..40)) {
        let mut builder = BatchBuilder::new(codec);
        for (timestamp, key, value, headers) in &written {
            let headers: Vec<NewHeader<'_>> =
                headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            builder.record_with_headers(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let compression = TopicCompression::Codec { codec: to, level: None };
        let taken = validate(&builder.bytes(), &ValidationRules { compression, ..rules() });
        let taken = taken.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let read: Vec<Fields> = records(&taken.bytes)
            .expect("records")
            .map(|record| record.expect("record"))
            .map(|record| {
                let text = |key: Bytes| String::from_utf8(key.to_vec()).expect("UTF-8");
                let headers = record.headers().map(|(key, value)| (text(key), value.map(Vec::from))).collect();
                (record.timestamp, record.key.clone().map(Vec::from), record.value.map(Vec::from), headers)
            })
            .collect();
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(Some(taken.header.max_timestamp), written.iter().map(|fields| fields.0).max());
    }

    #[test]
    fn headers_round_trip(bytes in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform29(any::<u8>())) {
        let mut header = [bytes.as_slice(), rest.as_slice()].concat();
        header[16] = MAGIC;
        if let Ok(parsed) = BatchHeader::parse(&header) {
            prop_assert_eq!(parsed.to_bytes().to_vec(), header);
        }
    }

    #[test]
    fn fuzzing_holds_for_damaged_batches(codec in any_codec(), flips in prop::collection::vec(any::<(u16, u8)>(), 0..6)) {
        let mut bytes = batch(codec).bytes.to_vec();
        for (at, flip) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= flip;
        }
        crate::fuzzing::fuzz_batch(&bytes);
    }

    #[test]
    fn fuzzing_holds_for_garbage(bytes: Vec<u8>) {
        crate::fuzzing::fuzz_batch(&bytes);
        crate::fuzzing::fuzz_footer(&bytes);
    }
}
