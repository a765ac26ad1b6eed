use std::collections::BTreeSet;

use penstock_types::{ProducerEpoch, ProducerId, Sequence};
use proptest::prelude::*;

use super::super::{BatchBuilder, CRC_START, NewHeader, Record, records, seal_raw};
use super::*;

const FIRST: i64 = 1_700_000_000_000;
const NOW: i64 = FIRST + 100_000;
const BASE: i64 = 1_000;

fn options() -> FilterOptions {
    FilterOptions { discard: false, keep_empty: false, now: NOW, delete_retention_ms: 86_400_000 }
}

fn filter(
    batch: &Bytes,
    options: &FilterOptions,
    keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Filtered, BatchError> {
    filter_batch(batch, Offset::at(BASE), LeaderEpoch::new(3), options, keep)
}

fn rewritten(filtered: Result<Filtered, BatchError>) -> Bytes {
    let Ok(Filtered::Rewritten { bytes, header }) = filtered else { panic!("{filtered:?}") };
    assert_eq!(BatchHeader::parse(&bytes), Ok(header));
    assert_eq!(verify_crc(&bytes, &header), Ok(()));
    bytes
}

/// Values at even places, tombstones at odd ones.
fn batch(codec: Codec, count: i64) -> Bytes {
    let mut builder =
        BatchBuilder::new(codec).producer(ProducerId::new(7), ProducerEpoch::new(1), Sequence::new(10));
    for place in 0..count {
        let value = (place % 2 == 0).then_some(&b"value"[..]);
        builder.record(FIRST + place, Some(format!("key-{place}").as_bytes()), value);
    }
    builder.bytes()
}

/// A case of `tests/golden/filter-kafka-4.1.jsonl`.
#[derive(serde::Deserialize)]
struct Case {
    name: String,
    input: String,
    keep: BTreeSet<i64>,
    retention: String,
    now: i64,
    delete_retention_ms: i64,
    output: String,
}

impl Case {
    fn options(&self) -> FilterOptions {
        FilterOptions {
            discard: self.retention == "DELETE",
            keep_empty: self.retention == "RETAIN_EMPTY",
            now: self.now,
            delete_retention_ms: self.delete_retention_ms,
        }
    }

    fn input(&self) -> Bytes {
        unhex(&self.input)
    }

    /// As Kafka filters, by the batch's own base offset.
    fn filter(&self, batch: &Bytes) -> Result<Filtered, BatchError> {
        let header = BatchHeader::parse(&self.input()).expect("a header");
        let leader_epoch = LeaderEpoch::new(header.partition_leader_epoch);
        filter_batch(batch, Offset::at(header.base_offset), leader_epoch, &self.options(), |record| {
            self.keep.contains(&record.offset.get())
        })
    }
}

fn unhex(digits: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
}

fn cases() -> Vec<Case> {
    include_str!("../../../tests/golden/filter-kafka-4.1.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a case"))
        .collect()
}

/// Two batches with the same records; to the byte if they are not compressed.
fn assert_same(name: &str, made: &Bytes, expected: &Bytes) {
    let mut header = BatchHeader::parse(made).expect("a header");
    let wanted = BatchHeader::parse(expected).expect("a header");
    assert_eq!(verify_crc(made, &header), Ok(()), "{name}");
    if wanted.codec() == Ok(Codec::None) {
        assert_eq!(header, wanted, "{name}");
        assert_eq!(made, expected, "{name}");
        return;
    }
    let plain = |batch: &Bytes| unpacked(batch).expect("a sound batch").1;
    assert_eq!(plain(made), plain(expected), "{name}");
    (header.batch_length, header.crc) = (wanted.batch_length, wanted.crc);
    assert_eq!(header, wanted, "{name}");
}

#[test]
fn filters_as_apache_kafka_does() {
    let cases = cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    for case in &cases {
        let (input, expected) = (case.input(), unhex(&case.output));
        match case.filter(&input).unwrap_or_else(|error| panic!("{}: {error}", case.name)) {
            Filtered::Unchanged => assert_eq!(input, expected, "{}", case.name),
            Filtered::Gone => assert!(expected.is_empty(), "{}", case.name),
            Filtered::Rewritten { bytes, header } => {
                assert_ne!(input, expected, "{}: it was not to change", case.name);
                assert_eq!(BatchHeader::parse(&bytes), Ok(header), "{}", case.name);
                assert_same(&case.name, &bytes, &expected);
            }
        }
    }
}

/// What is stored has a base offset of 0 and any leader epoch: only what the log says counts.
#[test]
fn the_stored_place_is_of_no_meaning() {
    for case in &cases() {
        let mut stored = case.input().to_vec();
        stored[..8].fill(0);
        stored[12..16].fill(0xEE);
        let of_stored = case.filter(&stored.into());
        assert_eq!(of_stored, case.filter(&case.input()), "{}", case.name);
    }
}

#[test]
fn every_record_is_visited_with_its_offset() {
    for codec in Codec::ALL {
        let mut seen = Vec::new();
        let visited = for_each_record(&batch(codec, 5), Offset::at(BASE), |record| {
            seen.push((record.offset.get(), record.key.map(<[u8]>::to_vec), record.value.is_some()));
        });
        assert_eq!(visited, Ok(()));
        let expected: Vec<_> = (0..5)
            .map(|place| (BASE + place, Some(format!("key-{place}").into_bytes()), place % 2 == 0))
            .collect();
        assert_eq!(seen, expected, "{codec:?}");
    }
}

#[test]
fn the_horizon_is_set_once() {
    for codec in Codec::ALL {
        let first = rewritten(filter(&batch(codec, 6), &options(), |_| true));
        let header = BatchHeader::parse(&first).expect("a header");
        assert_eq!(header.delete_horizon(), Some(NOW + 86_400_000));
        assert_eq!(header.record_count, 6);
        let later = FilterOptions { now: NOW + 5, delete_retention_ms: 1, ..options() };
        assert_eq!(filter(&first, &later, |_| true), Ok(Filtered::Unchanged));
        let second = rewritten(filter(&first, &later, |record| record.offset.get() > BASE));
        let header = BatchHeader::parse(&second).expect("a header");
        assert_eq!(header.delete_horizon(), Some(NOW + 86_400_000));
        let timestamps: Vec<_> =
            records(&second).expect("records").map(|record| record.expect("a record").timestamp).collect();
        assert_eq!(timestamps, (1..6).map(|place| FIRST + place).collect::<Vec<_>>());
    }
}

#[test]
fn discarded_records_are_not_read() {
    let mut header = BatchHeader::parse(&batch(Codec::Zstd, 4)).expect("a header");
    let damaged = seal_raw(header, b"no zstd").bytes;
    let unread = FilterOptions { discard: true, ..options() };
    assert_eq!(filter(&damaged, &unread, |_| panic!("asked")), Ok(Filtered::Gone));
    let kept = FilterOptions { keep_empty: true, ..unread };
    let empty = rewritten(filter(&damaged, &kept, |_| panic!("asked")));
    assert_eq!(empty.len(), HEADER_BYTES);
    header = BatchHeader::parse(&empty).expect("a header");
    assert_eq!((header.record_count, header.last_offset_delta), (0, 3));
    assert_eq!(header.last_sequence(), Sequence::new(13));
    assert_eq!(filter(&empty, &kept, |_| true), Ok(Filtered::Unchanged));
    assert_eq!(filter(&empty, &unread, |_| true), Ok(Filtered::Gone));
}

#[test]
fn damage_is_refused() {
    let refused = |batch: Bytes| {
        assert!(for_each_record(&batch, Offset::at(BASE), |_| ()).is_err());
        filter(&batch, &options(), |record| record.offset.get() > BASE).expect_err("refused")
    };
    for codec in Codec::ALL {
        let good = batch(codec, 4);
        let header = BatchHeader::parse(&good).expect("a header");
        let resealed = |change: &dyn Fn(&mut BatchHeader)| {
            let mut header = header;
            change(&mut header);
            seal_raw(header, &good[HEADER_BYTES..]).bytes
        };
        for at in CRC_START..good.len() {
            let mut flipped = good.to_vec();
            flipped[at] ^= 1;
            assert!(matches!(refused(flipped.into()), BatchError::Corrupt(_)), "{codec:?} byte {at}");
        }
        refused(good.slice(..good.len() - 1));
        refused(resealed(&|header| header.record_count = -1));
        refused(resealed(&|header| header.record_count = 3));
        refused(resealed(&|header| header.record_count = 5));
        refused(resealed(&|header| header.record_count = i32::MAX));
        refused(resealed(&|header| header.last_offset_delta = -1));
        refused(resealed(&|header| header.last_offset_delta = 2));
        let end = filter_batch(&good, Offset::at(i64::MAX - 2), LeaderEpoch::FIRST, &options(), |_| true);
        assert!(matches!(end, Err(BatchError::Invalid(InvalidBatch::OffsetRange { .. }))));
    }
    let one = [14, 0, 0, 0, 1, 1, 0, 0];
    let header = BatchHeader { record_count: 2, ..BatchHeader::parse(&batch(Codec::None, 2)).expect("ok") };
    let mut twice = one.to_vec();
    twice.extend_from_slice(&one);
    let error = refused(seal_raw(header, &twice).bytes);
    assert!(matches!(error, BatchError::MalformedRecord { .. }), "{error}");
}

#[test]
fn what_unpacks_without_end_is_refused() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.record(FIRST, Some(b"key"), Some(&vec![0; 130 << 20]));
    let bomb = builder.bytes();
    let error = filter(&bomb, &options(), |_| true).expect_err("refused");
    assert!(matches!(error, BatchError::DecompressionBomb { .. }), "{error}");
}

/// Timestamp, key, value, headers.
type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_fields() -> impl Strategy<Value = Fields> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let headers = prop::collection::vec((".{0,9}", bytes()), 0..3);
    (-1..NOW, bytes(), bytes(), headers)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL[..])
}

fn built(codec: Codec, written: &[Fields]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (timestamp, key, value, headers) in written {
        let headers: Vec<NewHeader<'_>> =
            headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        builder.record_with_headers(*timestamp, key.as_deref(), value.as_deref(), &headers);
    }
    builder.bytes()
}

fn fields(record: &Record) -> Fields {
    let text = |key: Bytes| String::from_utf8(key.to_vec()).expect("UTF-8");
    let headers = record.headers().map(|(key, value)| (text(key), value.map(Vec::from))).collect();
    (record.timestamp, record.key.clone().map(Vec::from), record.value.clone().map(Vec::from), headers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_stays_is_what_was(
        codec in any_codec(),
        written in prop::collection::vec((any_fields(), any::<bool>()), 1..30),
    ) {
        let all: Vec<Fields> = written.iter().map(|(fields, _)| fields.clone()).collect();
        let batch = built(codec, &all);
        let stays = |record: &RecordView<'_>| written[(record.offset.get() - BASE) as usize].1;
        let expected: Vec<(i32, Fields)> =
            (0..).zip(&written).filter(|(_, (_, stays))| *stays).map(|(delta, (f, _))| (delta, f.clone())).collect();
        match filter(&batch, &options(), stays).expect("a sound batch") {
            Filtered::Gone => prop_assert!(expected.is_empty()),
            Filtered::Unchanged => prop_assert_eq!(expected.len(), written.len()),
            Filtered::Rewritten { bytes, header } => {
                let read: Vec<(i32, Fields)> = records(&bytes)
                    .expect("records")
                    .map(|record| record.expect("a record"))
                    .map(|record| (record.offset_delta, fields(&record)))
                    .collect();
                prop_assert_eq!(&read, &expected);
                prop_assert_eq!(verify_crc(&bytes, &header), Ok(()));
                prop_assert_eq!(header.codec(), Ok(codec));
                prop_assert_eq!(header.base_offset, BASE);
                prop_assert_eq!(header.last_offset_delta, written.len() as i32 - 1);
                prop_assert_eq!(Some(header.max_timestamp), expected.iter().map(|(_, fields)| fields.0).max());
                let has_tombstones = expected.iter().any(|(_, fields)| fields.2.is_none());
                prop_assert_eq!(header.delete_horizon().is_some(), has_tombstones);
                prop_assert_eq!(filter(&bytes, &options(), stays), Ok(Filtered::Unchanged));
            }
        }
    }

    #[test]
    fn keeping_values_changes_nothing(codec in any_codec(), written in prop::collection::vec(any_fields(), 1..30)) {
        let written: Vec<Fields> =
            written.into_iter().map(|(time, key, value, headers)| (time, key, value.or(Some(vec![])), headers)).collect();
        prop_assert_eq!(filter(&built(codec, &written), &options(), |_| true), Ok(Filtered::Unchanged));
    }

    #[test]
    fn damaged_bytes_never_panic(
        case in prop::sample::select(cases().into_iter().map(|case| case.input).collect::<Vec<_>>()),
        flips in prop::collection::vec(any::<(u16, u8)>(), 1..6),
        resealed: bool,
        odd: bool,
    ) {
        let mut bytes = unhex(&case).to_vec();
        for (at, flip) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= flip;
        }
        if resealed {
            let length = (bytes.len() - LOG_OVERHEAD_BYTES) as u32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[CRC_START..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        let options = FilterOptions { keep_empty: odd, ..options() };
        if let Ok(Filtered::Rewritten { bytes, header }) = filter(&bytes, &options, |r| (r.offset.get() % 2 == 1) == odd) {
            prop_assert_eq!(verify_crc(&bytes, &header), Ok(()));
            let visited = for_each_record(&bytes, Offset::at(BASE), |_| ());
            prop_assert_eq!(visited, Ok(()), "what was made can be read");
        }
        let _ = for_each_record(&bytes, Offset::at(BASE), |_| ());
    }
}
