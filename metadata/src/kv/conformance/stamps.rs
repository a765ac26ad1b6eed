//! Stamps and commit versions.

use futures::future::join_all;
use penstock_types::Versionstamp;

use super::{Context, assert_committed};
use crate::kv::{Committed, Isolation, WriteConflict};

fn stamp(bytes: &[u8]) -> Versionstamp {
    Versionstamp::from_bytes(bytes.try_into().expect("10 bytes"))
}

pub(super) async fn stamps_stand_in_keys_and_values(context: Context) {
    let mut transaction = context.begin();
    transaction.set_stamped_key(&context.key("row/"), b"/end", b"value", WriteConflict::Yes);
    transaction.set_stamped_value(&context.key("whole"), &[9; 10], 0, WriteConflict::Yes);
    transaction.set_stamped_value(&context.key("inside"), &[9; 30], 7, WriteConflict::Yes);
    let committed = assert_committed(transaction.commit().await);
    let written = committed.stamp.expect("a stamp");
    assert_eq!(written.version(), committed.version);
    let rows = context.rows().await;
    assert_eq!(rows.len(), 3);
    let (inside, row, whole) = (&rows[0], &rows[1], &rows[2]);
    assert_eq!(row.0, [b"row/", &written.as_bytes()[..], b"/end"].concat());
    assert_eq!(row.1, b"value");
    assert_eq!(whole.1, written.as_bytes());
    assert_eq!(inside.1, [&[9; 7][..], written.as_bytes(), &[9; 13]].concat());
}

pub(super) async fn one_transaction_has_one_stamp(context: Context) {
    let mut transaction = context.begin();
    for number in 0..5u8 {
        transaction.set_stamped_key(&context.key("row/"), &[number], b"x", WriteConflict::No);
        transaction.set_stamped_value(&context.key([b'v', number]), &[0; 10], 0, WriteConflict::No);
    }
    let written = assert_committed(transaction.commit().await).stamp.expect("a stamp");
    let rows = context.rows().await;
    assert_eq!(rows.len(), 10);
    for (suffix, value) in rows {
        let found = if suffix[0] == b'v' { stamp(&value) } else { stamp(&suffix[4..14]) };
        assert_eq!(found, written);
    }
}

async fn append(context: &Context, name: u32) -> Committed {
    let mut transaction = context.begin();
    transaction.set_stamped_key(&context.key("row/"), b"", &name.to_be_bytes(), WriteConflict::No);
    transaction.atomic_add(&context.key("row0count"), 1, WriteConflict::No);
    assert_committed(transaction.commit().await)
}

pub(super) async fn stamps_are_unique_and_ordered(context: Context) {
    let mut highest = Versionstamp::ZERO;
    let mut names = Vec::new();
    for round in 0..5u32 {
        let round = round * 100..(round + 1) * 100;
        let committed = join_all(round.map(async |name| (append(&context, name).await, name))).await;
        let mut stamps: Vec<_> =
            committed.iter().map(|(committed, name)| (committed.stamp.expect("a stamp"), *name)).collect();
        stamps.sort();
        assert!(stamps[0].0 > highest, "a commit that began later is stamped higher");
        assert!(stamps.windows(2).all(|pair| pair[0].0 < pair[1].0), "no two share a stamp");
        highest = stamps[99].0;
        names.extend(stamps.into_iter().map(|(_, name)| name));
    }
    // The rows lie in the order of the stamps that the commits were told.
    let rows = context.rows().await;
    let lying: Vec<_> = rows[..500]
        .iter()
        .map(|(_, value)| u32::from_be_bytes(value.as_slice().try_into().expect("4 bytes")))
        .collect();
    assert_eq!(lying, names);
}

pub(super) async fn a_commit_is_seen_at_its_own_version(context: Context) {
    for name in 0..20 {
        let committed = append(&context, name).await;
        append(&context, 1_000).await;
        let mut transaction = context.begin();
        transaction.set_read_version(committed.version);
        let key = context.key([b"row/", &committed.stamp.expect("a stamp").as_bytes()[..]].concat());
        let value = transaction.get(&key, Isolation::Snapshot).await.expect("a read");
        assert_eq!(value.as_deref(), Some(&name.to_be_bytes()[..]));
        assert_eq!(transaction.read_version().await.expect("a version"), committed.version);
    }
}

pub(super) async fn rows_and_counter_agree_at_every_version(context: Context) {
    let check = async |name: u32| {
        let committed = append(&context, name).await;
        let mut transaction = context.begin();
        transaction.set_read_version(committed.version);
        let rows = context.rows_seen_by(&mut *transaction).await;
        let (counter, rows) = rows.split_last().expect("the counter lies behind the rows");
        let count = i64::from_le_bytes(counter.1.as_slice().try_into().expect("8 bytes"));
        assert_eq!(rows.len() as i64, count);
        let own = committed.stamp.expect("a stamp");
        let last = stamp(&rows.last().expect("a row").0[4..]);
        assert!(own <= last && last.version() == own.version(), "nothing above the version is seen");
        assert!(rows.iter().any(|row| stamp(&row.0[4..]) == own), "and all of it is");
    };
    for _ in 0..4 {
        join_all((0..25).map(check)).await;
    }
    assert_eq!(context.number("row0count").await, Some(100));
}

pub(super) async fn read_only_commits_have_no_stamp(context: Context) {
    context.set("a", "x").await;
    let mut transaction = context.begin();
    let version = transaction.read_version().await.expect("a version");
    let committed = assert_committed(transaction.commit().await);
    assert_eq!(committed, Committed { version, stamp: None });
}
