//! Persisted and foreign bytes, pinned: what Penstock writes must not change unnoticed, what Kafka's clients write
//! must be read.
//!
//! The files are hexadecimal, 48 bytes a line. `PENSTOCK_WRITE_GOLDEN=1` writes ours anew (a change of format needs a new
//! version and a line in docs/data-object.md's history); `batch-kafka-4.1-*` were written by Apache Kafka 4.1.1's
//! `MemoryRecords.withIdempotentRecords` and are never regenerated.
//!
//! `filter-kafka-4.1.jsonl` is Kafka's, too: `FilterGolden.java` made it, the tests of `storage/src/batch/filter.rs` read it.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use penstock_storage::batch::{
    BatchBuilder, BatchHeader, Codec, Record, TimestampType, TopicCompression, ValidationRules, records,
    validate,
};
use penstock_storage::object::{DataObject, Footer, ObjectBuilder, verify_section};
use penstock_types::{
    Incarnation, ObjectId, PartitionIndex, ProducerEpoch, ProducerId, Sequence, StoreVersion, TopicId,
    TopicPartition,
};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str) -> Bytes {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(48).fold(String::new(), |mut text, line| {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes everything"));
        text + "\n"
    })
}

/// What is written now must be what the file holds.
fn pinned(name: &str, bytes: &[u8]) {
    if std::env::var_os("PENSTOCK_WRITE_GOLDEN").is_some() {
        std::fs::write(path(name), hex(bytes)).expect("the golden file can be written");
    }
    assert_eq!(hex(bytes), hex(&read(name)), "{name} has changed");
}

fn rules(compression: TopicCompression) -> ValidationRules {
    ValidationRules {
        max_message_bytes: 1_048_588,
        timestamp_type: TimestampType::CreateTime,
        now_ms: 1_700_000_000_000,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        compacted: false,
        compression,
        allow_zstd: true,
    }
}

fn object() -> DataObject {
    let mut builder = ObjectBuilder::new();
    let topic = |byte| TopicId::from_bytes([byte; 16]);
    let places = [(topic(0x11), 0), (topic(0x11), 0), (topic(0x11), 300), (topic(0xAA), 7)];
    for (number, (topic, partition)) in places.into_iter().enumerate() {
        let mut batch = BatchBuilder::new(Codec::None);
        if number % 2 == 0 {
            batch = batch.producer(ProducerId::new(4711), ProducerEpoch::new(2), Sequence::new(40));
        }
        for record in 0..=number {
            let timestamp = 1_700_000_000_000 + 1000 * number as i64 + record as i64;
            batch.record(timestamp, Some(format!("key-{record}").as_bytes()), Some(b"value"));
        }
        builder.add(TopicPartition { topic, partition: PartitionIndex::new(partition) }, &batch.build());
    }
    builder.finish(ObjectId::new(
        Incarnation::FIRST,
        StoreVersion::new(0x0123_4567_89AB),
        0xFEDC_BA98_7654_3210,
    ))
}

#[test]
fn data_object_version_1() {
    let object = object();
    pinned("data-object-v1.hex", &object.chunks().concat());
    let bytes = read("data-object-v1.hex");
    let footer = Footer::parse(&bytes, bytes.len() as u64).expect("a footer");
    assert_eq!(&footer, object.footer());
    for section in &footer.sections {
        let range = section.position as usize..section.end() as usize;
        assert_eq!(verify_section(&bytes.slice(range), section), Ok(()));
    }
}

#[test]
fn empty_data_object_version_1() {
    let object = ObjectBuilder::new().finish(object().id());
    pinned("data-object-v1-empty.hex", &object.chunks().concat());
}

#[test]
fn a_batch_of_our_own() {
    let object = object();
    let batch = &object.chunks()[0];
    pinned("batch-v2.hex", batch);
    assert_eq!(BatchHeader::parse(batch).expect("a header").record_count, 1);
}

/// The twenty records that each of Kafka's batches holds.
fn assert_kafkas_records(batch: &Bytes) {
    let read: Vec<Record> =
        records(batch).expect("records").map(|record| record.expect("a record")).collect();
    assert_eq!(read.len(), 20);
    for (number, record) in (0..20usize).zip(&read) {
        assert_eq!(record.offset_delta, number as i32);
        assert_eq!(record.timestamp, 1_700_000_000_000 + (number as i64 * 37) % 11 * 1000);
        let key = (number % 5 != 4).then(|| format!("key-{number}"));
        assert_eq!(record.key.as_deref(), key.as_ref().map(String::as_bytes));
        let value = (number % 7 != 6).then(|| format!("value {number} {}", "abc".repeat(number)));
        assert_eq!(record.value.as_deref(), value.as_ref().map(String::as_bytes));
        let headers: Vec<_> = record.headers().collect();
        let expected =
            [(Bytes::from_static(b"h"), Some(Bytes::from_static(b"x"))), (Bytes::from_static(b"none"), None)];
        assert_eq!(headers, if number % 3 == 0 { &expected[..] } else { &[] });
    }
}

#[test]
fn what_kafkas_client_writes_is_taken_as_it_is() {
    for codec in Codec::ALL {
        let bytes = read(&format!("batch-kafka-4.1-{}.hex", codec.name()));
        let taken = validate(&bytes, &rules(TopicCompression::Producer)).expect("a good batch");
        assert_eq!(taken.bytes, bytes, "{codec:?}");
        assert_eq!(taken.header.codec(), Ok(codec));
        assert_eq!(taken.header.producer_id, ProducerId::new(4711));
        assert_eq!(taken.header.producer_epoch, ProducerEpoch::new(3));
        assert_eq!(taken.header.base_sequence, Sequence::new(42));
        assert_kafkas_records(&taken.bytes);
    }
}

/// Of every codec Kafka's batch becomes the same uncompressed one, to the bit.
#[test]
fn kafkas_batches_unpack_to_the_same_bytes() {
    let plain = read("batch-kafka-4.1-none.hex");
    for codec in Codec::ALL {
        let bytes = read(&format!("batch-kafka-4.1-{}.hex", codec.name()));
        let none = TopicCompression::Codec { codec: Codec::None, level: None };
        assert_eq!(validate(&bytes, &rules(none)).expect("rebuilt").bytes, plain, "{codec:?}");
        let packed = TopicCompression::Codec { codec, level: None };
        let packed = validate(&plain, &rules(packed)).expect("rebuilt");
        assert_eq!(packed.header.codec(), Ok(codec));
        assert_kafkas_records(&packed.bytes);
    }
}
