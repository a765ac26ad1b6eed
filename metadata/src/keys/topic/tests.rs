use penstock_types::StoreVersion;
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn version(version: u64, order: u16) -> MetadataVersion {
    MetadataVersion {
        incarnation: Incarnation::FIRST,
        stamp: Versionstamp::new(StoreVersion::new(version), order),
    }
}

fn row() -> TopicRow {
    TopicRow {
        id: TopicId::from_bytes([7; 16]),
        changed: version(0, 0),
        created: version(3, 1),
        created_ms: 1,
        name: "a.b".to_owned(),
        partitions: 3,
        replication_factor: 1,
        configs: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    }
}

#[test]
fn stored_bytes_are_pinned() {
    let keyspace = Keyspace::new(b"p");
    let row = row();
    assert_eq!(name_key(&keyspace, "a.b"), b"p\x02a_b");
    assert_eq!(row_key(&keyspace, row.id), [b"p\x03\x01".as_slice(), &[7; 16]].concat());
    let fresh = encode_row(Incarnation::FIRST, &row, None);
    assert_eq!(fresh.stamp_at, 5);
    assert_eq!(
        hex(&fresh.value),
        "010000000100000000000000000000000203612e620301 0101 6b0176".replace(' ', "")
    );
    let changed = encode_row(Incarnation::FIRST, &row, Some(row.created));
    assert_eq!(
        hex(&changed.value),
        "0100000001000000000000000000000100000001000000000000000300010203612e62030101016b0176"
    );
    assert_eq!(decode_row(row.id, &changed.value).expect("row"), row);
    assert_eq!(decode_row(row.id, &fresh.value).expect("row").created, version(0, 0));
    let floor = Floor { trimmed: version(9, 2), rows: 5 };
    assert_eq!(hex(&encode_floor(floor)), "01000000010000000000000009000200000000000000 05".replace(' ', ""));
    assert_eq!(decode_floor(Some(&encode_floor(floor))).expect("floor"), floor);
    assert_eq!(hex(&encode_change(Change::Configuration)), "0102");
}

#[test]
fn a_deleted_topic_reads_back() {
    let keyspace = Keyspace::new(b"p");
    let id = TopicId::from_bytes([9; 16]);
    let value = encode_deleted(Incarnation::FIRST, "gone", 4, 77);
    let read = decode_deleted(&keyspace, &deleted_key(&keyspace, id), &value.value).expect("row");
    let expected = DeletedTopicRow {
        id,
        deleted: version(0, 0),
        deleted_ms: 77,
        name: "gone".to_owned(),
        partitions: 4,
    };
    assert_eq!(read, expected);
    assert!(decode_deleted(&keyspace, &row_key(&keyspace, id), &value.value).is_err());
}

#[test]
fn changes_after_a_version_begin_behind_all_its_rows() {
    let keyspace = Keyspace::new(b"p");
    let key = |at: MetadataVersion, number| {
        let mut key = change_prefix(&keyspace, at.incarnation);
        key.extend_from_slice(at.stamp.as_bytes());
        key.extend_from_slice(&change_suffix(number));
        key
    };
    let range = changes_after(&keyspace, version(5, 1));
    assert!(!range.contains(&key(version(5, 1), 0)));
    assert!(!range.contains(&key(version(5, 1), u16::MAX)));
    assert!(range.contains(&key(version(5, 2), 0)));
    let later = MetadataVersion { incarnation: Incarnation::new(2), stamp: Versionstamp::ZERO };
    assert!(range.contains(&key(later, 0)));
    let id = TopicId::from_bytes([1; 16]);
    let read = decode_change(&keyspace, &key(version(5, 2), 3), &encode_change(Change::Topic(id)));
    assert_eq!(read.expect("change"), (version(5, 2), Change::Topic(id)));
}

proptest! {
    #[test]
    fn garbage_never_panics(key: Vec<u8>, value: Vec<u8>) {
        let keyspace = Keyspace::new(b"");
        let _ = decode_name(&value);
        let _ = decode_row(TopicId::NIL, &value);
        let _ = decode_row_key(&keyspace, &key);
        let _ = decode_deleted(&keyspace, &key, &value);
        let _ = decode_change(&keyspace, &key, &value);
        let _ = decode_floor(Some(&value));
        let _ = decode_written(Some(&value));
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_share_a_key(name in "[a-c._-]{1,8}", other in "[a-c._-]{1,8}") {
        let keyspace = Keyspace::new(b"");
        let same = name.replace('.', "_") == other.replace('.', "_");
        prop_assert_eq!(name_key(&keyspace, &name) == name_key(&keyspace, &other), same);
    }
}
