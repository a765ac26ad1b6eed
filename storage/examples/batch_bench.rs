//! What a batch costs on its way in: `cargo run --release -p penstock-storage --example batch_bench`.
//!
//! Prints wall time on one core, which is CPU time here, as nanoseconds per record and CPU-seconds per GiB (for codecs: per
//! GiB of the records as the application wrote them). Each line is the best of several runs.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use penstock_storage::batch::{
    BatchBuilder, BatchHeader, Codec, FilterOptions, TimestampType, TopicCompression, ValidationRules,
    filter_batch, for_each_record, validate, verify_crc,
};
use penstock_storage::object::{Footer, ObjectBuilder, verify_section};
use penstock_types::{
    Incarnation, LeaderEpoch, ObjectId, Offset, PartitionIndex, StoreVersion, TopicId, TopicPartition,
};
use tokio::time::Instant;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const NOW: i64 = 1_700_000_000_000;

fn main() {
    println!("{:<58} {:>10} {:>12}", "", "ns/record", "CPU-s/GiB");
    for (name, batch_bytes, record_bytes) in [
        ("512 KiB batches of 1 KiB records", 512 * 1024, 1024),
        ("16 KiB batches of 100 B records", 16 * 1024, 100),
    ] {
        let batches = batches(Codec::None, batch_bytes, record_bytes, 32 * 1024 * 1024);
        row(name, "header and CRC", &batches, || {
            for batch in &batches {
                let header = BatchHeader::parse(batch).expect("a header");
                verify_crc(batch, &header).expect("a sound batch");
                black_box(header);
            }
        });
        let rules = rules(TimestampType::CreateTime, TopicCompression::Producer);
        row(name, "validation", &batches, || {
            for batch in &batches {
                black_box(validate(batch, &rules).expect("a good batch"));
            }
        });
        let late = ValidationRules { timestamp_type: TimestampType::LogAppendTime, ..rules.clone() };
        row(name, "validation, LogAppendTime", &batches, || {
            for batch in &batches {
                black_box(validate(batch, &late).expect("a good batch"));
            }
        });
        compaction(name, &batches);
        objects(name, &batches, &rules);
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            codecs(name, codec, batch_bytes, record_bytes, &rules);
        }
    }
}

/// Log compaction of single batches: their keys read, all records kept, and every other one.
fn compaction(name: &str, batches: &[Bytes]) {
    row(name, "keys read", batches, || {
        for batch in batches {
            for_each_record(batch, Offset::ZERO, |record| {
                black_box((record.offset, record.key));
            })
            .expect("a sound batch");
        }
    });
    let options =
        FilterOptions { discard: false, keep_empty: false, now: NOW, delete_retention_ms: 86_400_000 };
    for (what, step) in [("filtered, all stay", 1), ("filtered, half stay", 2)] {
        row(name, what, batches, || {
            for batch in batches {
                let keep = |offset: Offset| offset.get() % step == 0;
                let filtered = filter_batch(batch, Offset::ZERO, LeaderEpoch::FIRST, &options, |record| {
                    keep(record.offset)
                });
                black_box(filtered.expect("a sound batch"));
            }
        });
    }
}

/// Objects of 8 MiB over 6 and over 1,000 partitions: built from validated batches, and checked again.
fn objects(name: &str, batches: &[Bytes], rules: &ValidationRules) {
    let taken: Vec<_> = batches.iter().map(|batch| validate(batch, rules).expect("a good batch")).collect();
    let per_object = (8 * 1024 * 1024 / batches[0].len()).max(1);
    for partitions in [6, 1000] {
        let build = || {
            for (number, batches) in taken.chunks(per_object).enumerate() {
                let mut builder = ObjectBuilder::new();
                for (place, batch) in batches.iter().enumerate() {
                    let partition = PartitionIndex::new(place as i32 % partitions);
                    builder.add(TopicPartition { topic: TopicId::from_bytes([7; 16]), partition }, batch);
                }
                let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(number as u64), 7);
                black_box(builder.finish(id));
            }
        };
        row(name, &format!("object of {partitions} partitions"), batches, build);
    }
    let mut builder = ObjectBuilder::new();
    for batch in &taken {
        let topic = TopicId::from_bytes([7; 16]);
        builder.add(TopicPartition { topic, partition: PartitionIndex::new(0) }, batch);
    }
    let object: Bytes =
        builder.finish(ObjectId::new(Incarnation::FIRST, StoreVersion::ZERO, 7)).chunks().concat().into();
    row(name, "object checked to the last byte", batches, || {
        let footer = Footer::parse(&object, object.len() as u64).expect("a footer");
        for section in &footer.sections {
            let bytes = object.slice(section.position as usize..section.end() as usize);
            verify_section(&bytes, section).expect("a sound section");
        }
    });
}

fn codecs(name: &str, codec: Codec, batch_bytes: usize, record_bytes: usize, rules: &ValidationRules) {
    let plain = batches(Codec::None, batch_bytes, record_bytes, 8 * 1024 * 1024);
    let packed = batches(codec, batch_bytes, record_bytes, 8 * 1024 * 1024);
    row(name, &format!("validation, {}", codec.name()), &plain, || {
        for batch in &packed {
            black_box(validate(batch, rules).expect("a good batch"));
        }
    });
    let packs =
        ValidationRules { compression: TopicCompression::Codec { codec, level: None }, ..rules.clone() };
    row(name, &format!("none to {}", codec.name()), &plain, || {
        for batch in &plain {
            black_box(validate(batch, &packs).expect("a good batch"));
        }
    });
}

fn rules(timestamp_type: TimestampType, compression: TopicCompression) -> ValidationRules {
    ValidationRules {
        max_message_bytes: 1_048_588,
        timestamp_type,
        now_ms: NOW,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        compacted: false,
        compression,
        allow_zstd: true,
    }
}

/// Batches of text-like records, `total_bytes` of them.
fn batches(codec: Codec, batch_bytes: usize, record_bytes: usize, total_bytes: usize) -> Vec<Bytes> {
    let mut state = 1u64;
    let mut value = vec![0; record_bytes];
    (0..total_bytes / batch_bytes)
        .map(|_| {
            let mut builder = BatchBuilder::new(codec);
            for record in 0..batch_bytes / record_bytes {
                for byte in &mut value {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    *byte = b'a' + ((state >> 60) as u8);
                }
                builder.record(NOW + record as i64 / 10, None, Some(&value));
            }
            builder.bytes()
        })
        .collect()
}

fn row(name: &str, what: &str, batches: &[Bytes], mut run: impl FnMut()) {
    let best = (0..7).map(|_| timed(&mut run)).min().unwrap_or_default().as_secs_f64();
    let bytes: usize = batches.iter().map(Bytes::len).sum();
    let header = |batch: &Bytes| BatchHeader::parse(batch).expect("a header").record_count;
    let records: i64 = batches.iter().map(|batch| i64::from(header(batch))).sum();
    println!(
        "{:<58} {:>10.2} {:>12.4}",
        format!("{name}: {what}"),
        best * 1e9 / records as f64,
        best * GIB / bytes as f64
    );
}

fn timed(run: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}
