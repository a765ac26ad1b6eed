use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_types::{Incarnation, ObjectId, PartitionIndex, StoreVersion, TopicId, TopicPartition};
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, Codec, ValidatedBatch};

fn id() -> ObjectId {
    ObjectId::new(Incarnation::FIRST, StoreVersion::new(123_456), 0xDEAD_BEEF)
}

fn partition(topic: u8, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([topic; 16]), partition: PartitionIndex::new(partition) }
}

fn batch(seed: i64, records: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in 0..records {
        builder.record(seed + record as i64, None, Some(b"value"));
    }
    builder.build()
}

fn whole(object: &DataObject) -> Bytes {
    object.chunks().concat().into()
}

fn parse(object: &Bytes) -> Result<Footer, FooterError> {
    Footer::parse(object, object.len() as u64)
}

#[test]
fn sections_are_sorted_and_batches_keep_their_order() {
    let mut builder = ObjectBuilder::new();
    assert!(builder.is_empty());
    let added = [(partition(2, 0), 5), (partition(1, 300), 4), (partition(1, 2), 3), (partition(2, 0), 2)];
    for (number, (partition, records)) in added.into_iter().enumerate() {
        builder.add(partition, &batch(1000 * (number as i64 + 1), records));
    }
    assert_eq!(builder.batch_count(), 4);
    let body_length = builder.body_length();
    let object = builder.finish(id());
    let bytes = whole(&object);
    assert_eq!(bytes.len() as u64, object.length());
    let footer = parse(&bytes).expect("a footer");
    assert_eq!(&footer, object.footer());
    assert_eq!((footer.id, footer.body_length()), (id(), body_length));
    let partitions: Vec<_> = footer.sections.iter().map(|section| section.partition).collect();
    assert_eq!(partitions, [partition(1, 2), partition(1, 300), partition(2, 0)]);
    let last = footer.section(partition(2, 0)).expect("a section");
    assert_eq!((last.batch_count, last.record_count), (2, 7));
    assert_eq!((last.min_timestamp, last.max_timestamp), (1000, 4001));
    assert_eq!(footer.section(partition(2, 1)), None);
    let section = bytes.slice(last.position as usize..last.end() as usize);
    let counts: Vec<_> = batches(&section).map(|batch| batch.expect("a batch").0.record_count).collect();
    assert_eq!(counts, [5, 2]);
}

#[test]
fn chunks_are_the_batches_themselves() {
    let mut builder = ObjectBuilder::new();
    let (first, second) = (batch(0, 10), batch(0, 20));
    builder.add(partition(1, 0), &first);
    builder.add(partition(1, 1), &second);
    let object = builder.finish(id());
    assert_eq!(object.chunks()[0].as_ptr(), first.bytes.as_ptr());
    assert_eq!(object.chunks()[1].as_ptr(), second.bytes.as_ptr());
    assert_eq!(object.chunks().len(), 3);
}

#[test]
fn another_id_changes_the_footer_alone() {
    let mut builder = ObjectBuilder::new();
    builder.add(partition(1, 0), &batch(0, 10));
    let object = builder.finish(id());
    let other = ObjectId::new(Incarnation::FIRST, StoreVersion::new(9), 9);
    let renamed = object.clone().with_id(other);
    assert_eq!(renamed.sections(), object.sections());
    assert_eq!(renamed.chunks()[0], object.chunks()[0]);
    assert_eq!(parse(&whole(&renamed)).map(|footer| footer.id), Ok(other));
}

#[test]
fn an_empty_object_is_an_object() {
    let object = ObjectBuilder::new().finish(id());
    assert_eq!(parse(&whole(&object)), Ok(Footer { id: id(), sections: Vec::new(), has_offsets: false }));
}

#[test]
fn a_short_tail_says_how_much_it_takes() {
    let mut builder = ObjectBuilder::new();
    for number in 0..50 {
        builder.add(partition(1, number), &batch(0, 1));
    }
    let object = builder.finish(id());
    let bytes = whole(&object);
    let needed = object.length() - object.footer().body_length();
    for length in 0..needed as usize {
        let tail = &bytes[bytes.len() - length..];
        let expected = if length < TRAILER_BYTES { TRAILER_BYTES as u64 } else { needed };
        let parsed = Footer::parse(tail, object.length());
        assert_eq!(parsed, Err(FooterError::Incomplete { tail_bytes: expected }), "{length}");
    }
    let tail = &bytes[bytes.len() - needed as usize..];
    assert_eq!(Footer::parse(tail, object.length()).as_ref(), Ok(object.footer()));
    assert!(Footer::parse(tail, object.length() + 1).is_err(), "the length is part of it");
    assert!(Footer::parse(tail, needed - 1).is_err());
    assert_eq!(Footer::parse(&[], 0), Err(FooterError::NotAnObject));
}

#[test]
fn later_versions_and_flags_are_refused() {
    let bytes = whole(&ObjectBuilder::new().finish(id()));
    for at in [5, 7] {
        let mut later = bytes.to_vec();
        let place = later.len() - TRAILER_BYTES + at;
        later[place] ^= 4;
        assert!(matches!(parse(&later.into()), Err(FooterError::Unsupported { .. })));
    }
}

#[test]
fn every_truncation_and_every_flip_is_seen() {
    let mut builder = ObjectBuilder::new();
    builder.add(partition(1, 0), &batch(5, 2));
    builder.add(partition(1, 700), &batch(7, 1));
    builder.add(partition(3, 1), &batch(-9, 1));
    let object = builder.finish(id());
    let bytes = whole(&object);
    for length in 0..bytes.len() {
        assert!(parse(&bytes.slice(..length)).is_err(), "cut to {length}");
    }
    let body_length = object.footer().body_length() as usize;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            let flipped = Bytes::from(flipped);
            if at >= body_length {
                assert!(parse(&flipped).is_err(), "byte {at} bit {bit}");
                continue;
            }
            let damaged = object.sections().iter().filter(|section| {
                let section_bytes = flipped.slice(section.position as usize..section.end() as usize);
                verify_section(&section_bytes, section).is_err()
            });
            let damaged: Vec<_> =
                damaged.map(|section| section.position as usize..section.end() as usize).collect();
            assert_eq!(damaged.len(), 1, "byte {at} bit {bit}");
            assert!(damaged[0].contains(&at));
        }
    }
}

#[test]
fn a_section_is_checked_against_its_footer() {
    let mut builder = ObjectBuilder::new();
    builder.add(partition(1, 0), &batch(5, 2));
    builder.add(partition(1, 0), &batch(5, 2));
    let object = builder.finish(id());
    let section = object.sections()[0];
    let bytes = whole(&object).slice(..section.length as usize);
    assert_eq!(verify_section(&bytes, &section), Ok(()));
    let mismatches = [
        SectionPlacement { batch_count: 3, ..section },
        SectionPlacement { record_count: 3, ..section },
        SectionPlacement { min_timestamp: 4, ..section },
        SectionPlacement { max_timestamp: 4, ..section },
        SectionPlacement { checksum: 4, ..section },
        SectionPlacement { length: 4, ..section },
    ];
    for mismatch in mismatches {
        assert!(matches!(verify_section(&bytes, &mismatch), Err(SectionError::Mismatch { .. })));
    }
    let half = bytes.slice(..bytes.len() / 2 + 1);
    assert!(matches!(verify_section(&half, &section), Err(SectionError::Batch { .. })));
}

#[test]
fn keys_name_their_object() {
    let key = object_key(id());
    assert_eq!(key, "objects/ef/00000001000000000001e24000000000deadbeef");
    assert_eq!(id_of_key(&key), Some(id()));
    assert!(key.starts_with(&shard_prefix(0xEF)));
    for other in
        ["objects/ee/00000001000000000001e24000000000deadbeef", "objects/ef/zz", "claim", "objects/", ""]
    {
        assert_eq!(id_of_key(other), None, "{other}");
    }
    assert_eq!(
        id_of_key("objects/ef/00000001000000000001E24000000000DEADBEEF"),
        None,
        "keys have one spelling"
    );
}

proptest! {
    #[test]
    fn footers_round_trip(
        added in prop::collection::vec((0u8..5, 0i32..1000, any::<i64>(), 1usize..4), 0..60),
        version: u64,
        random: u64,
    ) {
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(version), random);
        let mut builder = ObjectBuilder::new();
        let mut expected = BTreeMap::<TopicPartition, Vec<Bytes>>::new();
        for (topic, number, timestamp, records) in added {
            let batch = batch(timestamp / 2, records);
            builder.add(partition(topic, number), &batch);
            expected.entry(partition(topic, number)).or_default().push(batch.bytes);
        }
        let object = builder.finish(id);
        let bytes = whole(&object);
        let footer = parse(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&footer, object.footer());
        prop_assert_eq!(footer.sections.len(), expected.len());
        for (section, (partition, batches)) in footer.sections.iter().zip(expected) {
            prop_assert_eq!(section.partition, partition);
            let section_bytes = bytes.slice(section.position as usize..section.end() as usize);
            prop_assert_eq!(&section_bytes[..], &batches.concat()[..]);
            prop_assert_eq!(verify_section(&section_bytes, section), Ok(()));
        }
        crate::fuzzing::fuzz_footer(&bytes);
    }

    #[test]
    fn damaged_footers_never_panic(flips in prop::collection::vec(any::<(u16, u8)>(), 1..4)) {
        let mut builder = ObjectBuilder::new();
        for number in 0..5 {
            builder.add(partition(1, number), &batch(i64::from(number), 1));
        }
        let object = builder.finish(id());
        let mut footer = object.chunks().last().expect("a footer").to_vec();
        footer.truncate(footer.len() - TRAILER_BYTES);
        for (at, flip) in flips {
            let at = usize::from(at) % footer.len();
            footer[at] ^= flip;
        }
        crate::fuzzing::fuzz_footer(&footer);
    }
}
