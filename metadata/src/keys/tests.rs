//! The log's key families: stored bytes are pinned, values round-trip, garbage is an error and never a panic.

use std::collections::BTreeMap;

use penstock_types::{
    BatchPosition, Incarnation, LeaderEpoch, ObjectId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    Sequence, StoreVersion, TopicId, TopicPartition, Versionstamp,
};
use proptest::prelude::*;

use super::counters::{Counters, Stripe};
use super::index::PackedIndex;
use super::log::{BatchFacts, BatchProducer, LogRow, flags};
use super::object::{Fate, ObjectRow, ObjectState, Refusal, Verdict};
use super::producer::{ProducerState, RememberedAt, RememberedBatch, StoredProducerState};
use super::{
    Keyspace, aborted, allocation, counters, feed, index, log, log_start, object, order, producer, seal,
};
use crate::fold::{AbortedTransaction, FoldState, LogEntry, MaxTimestamp};
use crate::kv::Row;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyspace() -> Keyspace {
    Keyspace::new(b"")
}

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([0xAA; 16]), partition: PartitionIndex::new(3) }
}

fn position() -> BatchPosition {
    let stamp = Versionstamp::new(StoreVersion::new(0x0102), 5);
    BatchPosition { incarnation: Incarnation::FIRST, stamp, n: 7 }
}

fn object_id() -> ObjectId {
    ObjectId::new(Incarnation::FIRST, StoreVersion::new(0x11), 0x22)
}

fn data_row() -> LogRow {
    LogRow::Data {
        leader_epoch: LeaderEpoch::FIRST,
        object: object_id(),
        position: 300,
        batches: vec![
            BatchFacts {
                length: 200,
                records: 3,
                flags: flags::COMPRESSED,
                base_timestamp: 1_000,
                max_timestamp: 1_002,
                producer: Some(BatchProducer {
                    id: ProducerId::new(9),
                    epoch: ProducerEpoch::new(1),
                    base_sequence: Sequence::new(4),
                }),
            },
            BatchFacts {
                length: 70,
                records: 1,
                flags: 0,
                base_timestamp: -1,
                max_timestamp: -1,
                producer: None,
            },
        ],
    }
}

const TOPIC: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OBJECT: &str = "0000000100000000000000110000000000000022";

#[test]
fn counters_and_order_rows_are_pinned() {
    let numbered = |number| TopicPartition { partition: PartitionIndex::new(number), ..partition() };
    let stripe = Stripe::of(numbered(67));
    assert_eq!((stripe.number, Stripe::of(numbered(95)), Stripe::of(numbered(64))), (2, stripe, stripe));
    let key = counters::key(&keyspace(), stripe);
    assert_eq!(hex(&key), format!("18{TOPIC}00000002"));
    assert_eq!(counters::parse_key(&keyspace(), &key), Ok(stripe));
    let mut added = Counters::default();
    added.append(numbered(64), 1);
    added.append(numbered(95), 0x0102);
    added.change();
    let value = added.encode();
    let zeros = "0".repeat(30 * 16);
    assert_eq!(hex(&value), format!("0100000000000000{zeros}02010000000000000100000000000000"));
    assert_eq!(Counters::decode(Some(&value)), Ok(added));
    assert_eq!((added.of(numbered(95)), added.of(numbered(65)), added.changes()), (0x0102, 0, 1));
    assert_eq!(Counters::decode(None), Ok(Counters::default()));
    assert!(Counters::decode(Some(&value[1..])).is_err());
    assert!(Counters::decode(Some(&[0xFF; counters::VALUE_BYTES])).is_err());

    let stamp = Versionstamp::from_bytes([0, 0, 0, 0, 0, 0, 1, 2, 0, 5]);
    let key = order::key(&keyspace(), Incarnation::FIRST, stamp, 1);
    assert_eq!(hex(&key), "1900000001000000000000010200050001");
    assert_eq!(order::parse_key(&keyspace(), &key), Ok((Incarnation::FIRST, stamp, 1)));
    let behind = order::behind(&keyspace(), Incarnation::FIRST, stamp);
    assert!(!behind.contains(&key), "its own rows don't stand behind it");
    for (stands, version, order) in [(true, 0x0102, 6), (false, 0x0102, 4), (false, 0x0103, 0)] {
        let stamp = Versionstamp::new(StoreVersion::new(version), order);
        let key = order::key(&keyspace(), Incarnation::FIRST, stamp, 0);
        assert_eq!(behind.contains(&key), stands, "{version} {order}");
    }
    let counts = BTreeMap::from([(numbered(3), 2), (numbered(300), 300)]);
    let values = order::encode(&counts);
    assert_eq!(
        values.iter().map(|value| hex(value)).collect::<Vec<_>>(),
        [format!("01{TOPIC}020302ac02ac02")]
    );
    // However many partitions and topics a commit touches, no row comes near the store's bound.
    let of = |number: u32| {
        let mut topic = [0; 16];
        topic[..4].copy_from_slice(&(number / 3).to_be_bytes());
        TopicPartition {
            topic: TopicId::from_bytes(topic),
            partition: PartitionIndex::new(i32::MAX - (number % 3) as i32),
        }
    };
    let counts: BTreeMap<_, _> = (0..30_000).map(|number| (of(number), i64::MAX)).collect();
    let values = order::encode(&counts);
    assert!(values.len() > 1 && values.iter().all(|value| value.len() < 80_000));
    let decoded: Vec<_> = values.iter().flat_map(|value| order::decode(value).expect("a row")).collect();
    assert_eq!(decoded, counts.into_iter().collect::<Vec<_>>());
}

#[test]
fn log_rows_are_pinned() {
    let key = log::row_key(&keyspace(), partition(), &position());
    assert_eq!(hex(&key), format!("10{TOPIC}00000003000000010000000000000102000500000007"));
    assert_eq!(log::parse_key(&keyspace(), &key).expect("key"), (partition(), position()));
    assert_eq!(hex(&log::behind_rows(&keyspace(), partition())), format!("10{TOPIC}00000003ffffffff"));
    let value = data_row().encode();
    assert_eq!(hex(&value), format!("0100{OBJECT}ac0202c801030cd00f04090104460100010") + "0");
    assert_eq!(LogRow::decode(&value).expect("row"), data_row());
    let marker = LogRow::Marker {
        leader_epoch: LeaderEpoch::FIRST,
        producer: ProducerId::new(9),
        epoch: ProducerEpoch::new(1),
        abort: true,
        coordinator_epoch: 2,
        timestamp: 50,
        horizon: None,
    };
    assert_eq!(hex(&marker.encode()), "02001009010464");
    assert_eq!(LogRow::decode(&marker.encode()).expect("row"), marker);
    let LogRow::Marker { leader_epoch, producer, epoch, coordinator_epoch, timestamp, .. } = marker else {
        panic!("a marker");
    };
    let (abort, horizon) = (false, Some(80));
    let marker =
        LogRow::Marker { leader_epoch, producer, epoch, abort, coordinator_epoch, timestamp, horizon };
    assert_eq!(hex(&marker.encode()), "02002009010464a001");
    assert_eq!(LogRow::decode(&marker.encode()).expect("row"), marker);
}

#[test]
fn seals_indexes_and_aborted_transactions_are_pinned() {
    let state = FoldState {
        position: position(),
        next_offset: Offset::at(40),
        bytes: 1_000,
        max_timestamp: MaxTimestamp { timestamp: 77, base_offset: Offset::at(30) },
        open_transactions: BTreeMap::from([(ProducerId::new(9), Offset::at(35))]),
    };
    let value = seal::encode(&state);
    assert_eq!(hex(&value), "0100000001000000000000010200050000000728e8079a011e010923");
    assert_eq!(seal::decode(Some(&value)).expect("seal"), state);
    assert_eq!(seal::decode(None).expect("none"), FoldState::default());
    let entry = |base| LogEntry { base_offset: Offset::at(base), at: position(), row: data_row() };
    // A gap of 6 between the two, as log compaction leaves.
    let packed =
        PackedIndex { max_timestamp_so_far: 1_002, entries: vec![entry(10), entry(20)], section_end: None };
    assert_eq!(packed.last_offset(), Some(Offset::at(23)));
    let value = packed.encode();
    assert!(hex(&value).starts_with("010ad40f0200000000010000000000000102000500000007"));
    assert_eq!(PackedIndex::decode(&value).expect("index"), packed);
    let key = index::key(&keyspace(), partition(), Offset::at(23));
    assert_eq!(hex(&key), format!("12{TOPIC}000000030000000000000017"));
    assert_eq!(index::parse_key(&keyspace(), &key).expect("key"), (partition(), Offset::at(23)));
    let gone = AbortedTransaction {
        producer: ProducerId::new(9),
        first_offset: Offset::at(35),
        last_offset: Offset::at(39),
    };
    let key = aborted::key(&keyspace(), partition(), gone.last_offset);
    assert_eq!(hex(&key), format!("16{TOPIC}000000030000000000000027"));
    let row = Row { key: key.into(), value: aborted::encode(&gone).into() };
    assert_eq!(hex(&row.value), "010923");
    assert_eq!(aborted::decode(&keyspace(), &row).expect("row"), gone);
}

fn object_row() -> ObjectRow {
    let here = |n| Verdict::DuplicateHere { n };
    ObjectRow {
        state: ObjectState::Committed,
        stamp: position().stamp,
        incarnation: Incarnation::FIRST,
        first_n: 100,
        size: 5_000,
        batches: 9,
        verdicts: vec![
            (1, Verdict::Refused(Refusal::OutOfOrderSequence)),
            (2, Verdict::Refused(Refusal::OutOfOrderSequence)),
            (4, Verdict::Duplicate(position())),
            (5, Verdict::Duplicate(BatchPosition { n: 8, ..position() })),
            (7, here(100)),
        ],
        level: 0,
    }
}

#[test]
fn object_rows_are_pinned() {
    let row = object_row();
    let value = row.encode();
    assert_eq!(
        hex(&value),
        "010100000000000001020005000000010000006488270903010200020402020000000100000000000001020005000000070701\
         0100000064"
    );
    assert_eq!(ObjectRow::decode(&value).expect("row"), row);
    assert_eq!(row.fate(0), Fate::Appended(BatchPosition { n: 100, ..position() }));
    assert_eq!(row.fate(2), Fate::Refused(Refusal::OutOfOrderSequence));
    assert_eq!(row.fate(5), Fate::Duplicate(BatchPosition { n: 8, ..position() }));
    assert_eq!(row.fate(7), Fate::Duplicate(BatchPosition { n: 100, ..position() }));
    assert_eq!(row.fate(8), Fate::Appended(BatchPosition { n: 108, ..position() }));
    let key = object::key(&keyspace(), object_id());
    assert_eq!(hex(&key), format!("20{OBJECT}"));
    assert_eq!(object::parse_key(&keyspace(), &key), Ok(object_id()));
}

#[test]
fn producers_feeds_log_starts_and_allocations_are_pinned() {
    let batch = |at| RememberedBatch { base_sequence: Sequence::new(4), records: 3, at };
    let state = ProducerState {
        epoch: ProducerEpoch::new(1),
        batches: vec![batch(RememberedAt::Earlier(position())), batch(RememberedAt::Here { n: 9 })],
    };
    let mut value = state.encode(Incarnation::FIRST);
    assert_eq!(
        hex(&value),
        "0100000000000000000000000000010001020000000402000000070100000001000000000000010200050000000402000000\
         0900"
    );
    let stamp = Versionstamp::new(StoreVersion::new(0x0103), 0);
    value[producer::STAMP_AT..producer::STAMP_AT + 10].copy_from_slice(stamp.as_bytes());
    let stored = StoredProducerState::decode(&value).expect("state");
    let own = BatchPosition { incarnation: Incarnation::FIRST, stamp, n: 9 };
    assert_eq!(stored.changed, StoreVersion::new(0x0103));
    assert_eq!(stored.state.batches[1].at, RememberedAt::Earlier(own));
    let key = producer::key(&keyspace(), partition(), ProducerId::new(9));
    assert_eq!(hex(&key), format!("14{TOPIC}000000030000000000000009"));
    assert_eq!(producer::parse_key(&keyspace(), &key), Ok((partition(), ProducerId::new(9))));

    let slot = feed::Slot::of(partition());
    assert_eq!(slot.get(), 151, "a partition's slot is the same for ever");
    assert_eq!(hex(&feed::key(&keyspace(), slot)), "150097");
    assert_eq!(hex(&feed::template(Incarnation::FIRST)), "0000000100000000000000000000");

    assert_eq!(hex(&log_start::key(&keyspace(), partition())), format!("13{TOPIC}00000003"));
    assert_eq!(log_start::decode(Some(&5u64.to_le_bytes())), Ok(Offset::at(5)));
    assert!(log_start::decode(Some(&u64::MAX.to_le_bytes())).is_err());

    assert_eq!(hex(&allocation::next_producer_id_key(&keyspace())), "3001");
    assert_eq!(hex(&allocation::block_key(&keyspace(), ProducerId::new(5))), "30020000000000000005");
    let block = allocation::block_template(Incarnation::FIRST, 1_000);
    assert_eq!(hex(&block), "010000000000000000000000000001000003e8");
    assert_eq!(allocation::decode_block(&block).expect("block").ids, 1_000);
}

fn any_facts() -> impl Strategy<Value = BatchFacts> {
    let producer = (0..i64::MAX, 0..i16::MAX, 0..i32::MAX).prop_map(|(id, epoch, sequence)| BatchProducer {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(sequence),
    });
    (any::<u32>(), 1..=i32::MAX as u32, 0u8..4, any::<i64>(), any::<i64>(), proptest::option::of(producer))
        .prop_map(|(length, records, flags, base_timestamp, max_timestamp, producer)| BatchFacts {
            length,
            records,
            flags,
            base_timestamp,
            max_timestamp,
            producer,
        })
}

proptest! {
    #[test]
    fn rows_round_trip(at in any::<u64>(), batches in prop::collection::vec(any_facts(), 0..20)) {
        let row = LogRow::Data { leader_epoch: LeaderEpoch::FIRST, object: object_id(), position: at, batches };
        prop_assert_eq!(LogRow::decode(&row.encode()), Ok(row));
    }

    /// Whatever came of the batches of an object, the row says it of each.
    #[test]
    fn verdicts_round_trip(kinds in prop::collection::vec(0u8..5, 0..60)) {
        let mut verdicts = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let index = index as u32;
            match kind {
                1 => verdicts.push((index, Verdict::Refused(Refusal::UnknownTopic))),
                2 => verdicts.push((index, Verdict::DuplicateHere { n: index })),
                3 => verdicts.push((index, Verdict::Duplicate(BatchPosition { n: index + 1, ..position() }))),
                4 => verdicts.push((index, Verdict::Duplicate(position()))),
                _ => {}
            }
        }
        let row = ObjectRow { verdicts, batches: kinds.len() as u32, ..object_row() };
        prop_assert_eq!(ObjectRow::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let keyspace = keyspace();
        let _ = LogRow::decode(&bytes);
        let _ = PackedIndex::decode(&bytes);
        let _ = ObjectRow::decode(&bytes).map(|row| row.fate(0));
        let _ = StoredProducerState::decode(&bytes);
        let _ = seal::decode(Some(&bytes));
        let _ = feed::decode(Some(&bytes));
        let _ = log_start::decode(Some(&bytes));
        let _ = allocation::decode_block(&bytes);
        let _ = log::parse_key(&keyspace, &bytes);
        let _ = index::parse_key(&keyspace, &bytes);
        let _ = object::parse_key(&keyspace, &bytes);
        let _ = producer::parse_key(&keyspace, &bytes);
    }

    /// A truncated or changed value is an error or another value, never a panic.
    #[test]
    fn damage_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let entry = LogEntry { base_offset: Offset::at(10), at: position(), row: data_row() };
        let packed = PackedIndex { max_timestamp_so_far: 5, entries: vec![entry], section_end: None };
        for mut value in [data_row().encode(), object_row().encode(), packed.encode()] {
            let at = at.index(value.len());
            if cut { value.truncate(at) } else { value[at] ^= 1 << bit }
            let _ = LogRow::decode(&value);
            let _ = ObjectRow::decode(&value);
            let _ = PackedIndex::decode(&value);
        }
    }
}
