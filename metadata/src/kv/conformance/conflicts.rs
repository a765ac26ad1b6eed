//! Who conflicts with whom.

use futures::future::join_all;

use super::{Context, assert_committed, assert_conflict, page};
use crate::kv::Isolation::{Serializable, Snapshot};
use crate::kv::{Isolation, StoreError, Transaction, WriteConflict, single_key};

/// A transaction that has read `suffix` and writes something of its own.
async fn reader(context: &Context, suffix: &str, isolation: Isolation) -> Box<dyn Transaction> {
    let mut transaction = context.begin();
    transaction.get(&context.key(suffix), isolation).await.expect("a read");
    transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
    transaction
}

pub(super) async fn a_changed_read_conflicts(context: Context) {
    context.set("a", "old").await;
    let transaction = reader(&context, "a", Serializable).await;
    context.set("a", "new").await;
    assert_conflict(transaction.commit().await);
    let transaction = reader(&context, "a", Serializable).await;
    context.set("a", "new").await;
    // Writing the same value is writing too.
    assert_conflict(transaction.commit().await);
    let transaction = reader(&context, "a", Serializable).await;
    context.set("b", "new").await;
    assert_committed(transaction.commit().await);
}

pub(super) async fn an_absent_key_that_appears_conflicts(context: Context) {
    let transaction = reader(&context, "a", Serializable).await;
    context.set("a", "new").await;
    assert_conflict(transaction.commit().await);
    let key = context.key("b");
    let transaction = reader(&context, "b", Serializable).await;
    context.write(|t| t.clear(&key, WriteConflict::Yes)).await;
    assert_conflict(transaction.commit().await);
}

pub(super) async fn write_skew_is_refused(context: Context) {
    let mut first = context.begin();
    let mut second = context.begin();
    for transaction in [&mut first, &mut second] {
        for suffix in ["a", "b"] {
            transaction.get(&context.key(suffix), Serializable).await.expect("a read");
        }
    }
    first.set(&context.key("a"), b"1", WriteConflict::Yes);
    second.set(&context.key("b"), b"1", WriteConflict::Yes);
    assert_committed(first.commit().await);
    assert_conflict(second.commit().await);
    // At the same time, one of the two at most.
    let mut first = context.begin();
    let mut second = context.begin();
    for transaction in [&mut first, &mut second] {
        transaction.range(context.everything(), page(10)).await.expect("a page");
    }
    first.set(&context.key("a"), b"2", WriteConflict::Yes);
    second.set(&context.key("b"), b"2", WriteConflict::Yes);
    let (first, second) = futures::join!(first.commit(), second.commit());
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    assert_eq!(first.and(second), Err(StoreError::Conflict));
}

pub(super) async fn phantoms_conflict(context: Context) {
    context.set("b", "x").await;
    let mut transaction = context.begin();
    transaction.range(context.range("a", "d"), page(10)).await.expect("a page");
    transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
    context.set("c", "phantom").await;
    assert_conflict(transaction.commit().await);
    let mut transaction = context.begin();
    transaction.range(context.range("a", "d"), page(10)).await.expect("a page");
    transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
    context.set("d", "just outside").await;
    assert_committed(transaction.commit().await);
}

pub(super) async fn a_cleared_range_conflicts(context: Context) {
    context.set("b", "x").await;
    for (suffix, conflicts) in [("b", true), ("bb", true), ("c", false), ("a", true), ("0", false)] {
        let transaction = reader(&context, suffix, Serializable).await;
        let range = context.range("a", "c");
        context.write(|t| t.clear_range(range.clone(), WriteConflict::Yes)).await;
        assert_eq!(transaction.commit().await.is_err(), conflicts, "{suffix}");
    }
}

pub(super) async fn a_page_conflicts_as_far_as_it_reached(context: Context) {
    for suffix in ["b", "d", "f", "h"] {
        context.set(suffix, "x").await;
    }
    // What the page of two rows covers: from the start to "d" forwards, from "f" to the end backwards.
    let forwards = [("a", true), ("d", true), ("d0", false), ("f", false), ("z", false)];
    let backwards = [("a", false), ("e", false), ("f", true), ("g", true), ("z", true)];
    for (options, writes) in [(page(2), forwards), (page(2).reversed(), backwards)] {
        for (written, conflicts) in writes {
            let mut transaction = context.begin();
            let found = transaction.range(context.range("", "zz"), options).await.expect("a page");
            assert!(found.rows.len() == 2 && found.more);
            transaction.set(&context.key("~own"), b"x", WriteConflict::No);
            let key = context.key(written);
            // Written and removed again: the rows stay as they are.
            let existed = context.get(written).await;
            context.write(|t| t.set(&key, b"y", WriteConflict::Yes)).await;
            if existed.is_none() {
                context.write(|t| t.clear(&key, WriteConflict::Yes)).await;
            }
            let result = transaction.commit().await;
            assert_eq!(result.is_err(), conflicts, "reverse: {}, {written}", options.reverse);
        }
    }
}

pub(super) async fn snapshot_reads_do_not_conflict(context: Context) {
    let mut transaction = reader(&context, "a", Snapshot).await;
    let options = crate::kv::RangeOptions { isolation: Snapshot, ..page(10) };
    transaction.range(context.everything(), options).await.expect("a page");
    context.set("a", "new").await;
    assert_committed(transaction.commit().await);
}

pub(super) async fn blind_writes_do_not_conflict(context: Context) {
    let mut first = context.begin();
    let mut second = context.begin();
    for transaction in [&mut first, &mut second] {
        transaction.read_version().await.expect("a version");
        transaction.set(&context.key("a"), b"x", WriteConflict::Yes);
        transaction.atomic_add(&context.key("n"), 1, WriteConflict::Yes);
        transaction.clear_range(context.range("x", "y"), WriteConflict::Yes);
    }
    assert_committed(first.commit().await);
    assert_committed(second.commit().await);
    assert_eq!(context.number("n").await, Some(2));
}

pub(super) async fn writes_may_disturb_nobody(context: Context) {
    for suffix in ["a", "b", "c", "n", "s"] {
        context.set(suffix, [0; 10]).await;
    }
    let mut transaction = context.begin();
    transaction.range(context.range("a", "own"), page(10)).await.expect("a page");
    transaction.get(&context.key("s"), Serializable).await.expect("a read");
    transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
    let keys = ["a", "b", "n", "s"].map(|suffix| context.key(suffix));
    let range = context.range("c", "d");
    context
        .write(|t| {
            t.set(&keys[0], b"new", WriteConflict::No);
            t.clear(&keys[1], WriteConflict::No);
            t.atomic_add(&keys[2], 1, WriteConflict::No);
            t.atomic_max(&keys[2], 1, WriteConflict::No);
            t.clear_range(range.clone(), WriteConflict::No);
            t.set_stamped_value(&keys[3], &[0; 10], 0, WriteConflict::No);
        })
        .await;
    assert_committed(transaction.commit().await);
    assert_eq!(context.suffixes().await, [&b"a"[..], b"n", b"own", b"s"]);
}

pub(super) async fn stamped_keys_disturb_their_range(context: Context) {
    for (prefix, conflicts) in [("row/", true), ("other/", false)] {
        let mut transaction = context.begin();
        transaction.range(context.range("row/", "row0"), page(10)).await.expect("a page");
        transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
        let prefix = context.key(prefix);
        context.write(|t| t.set_stamped_key(&prefix, b"", b"x", WriteConflict::No)).await;
        assert_eq!(transaction.commit().await.is_err(), conflicts);
    }
}

pub(super) async fn conflict_ranges_can_be_added(context: Context) {
    // A read conflict without a read.
    let mut transaction = context.begin();
    transaction.read_version().await.expect("a version");
    transaction.add_read_conflict(single_key(&context.key("a")));
    transaction.set(&context.key("own"), b"x", WriteConflict::Yes);
    context.set("a", "new").await;
    assert_conflict(transaction.commit().await);
    // A write conflict beside a write that has none of its own, and one without any write.
    for with_a_write in [true, false] {
        let transaction = reader(&context, "a", Serializable).await;
        let other = reader(&context, "a0", Serializable).await;
        let (range, key) = (single_key(&context.key("a")), context.key("else"));
        context
            .write(|t| {
                t.add_write_conflict(range.clone());
                if with_a_write {
                    t.set(&key, b"x", WriteConflict::No);
                }
            })
            .await;
        assert_conflict(transaction.commit().await);
        assert_committed(other.commit().await);
    }
    assert_eq!(context.get("a").await.as_deref(), Some(&b"new"[..]));
}

pub(super) async fn read_only_transactions_never_conflict(context: Context) {
    let mut transaction = context.begin();
    transaction.get(&context.key("a"), Serializable).await.expect("a read");
    transaction.range(context.everything(), page(10)).await.expect("a page");
    context.set("a", "new").await;
    assert_committed(transaction.commit().await);
    assert_committed(context.begin().commit().await);
}

pub(super) async fn own_writes_do_not_conflict(context: Context) {
    context.set("a", "old").await;
    let mut transaction = context.begin();
    transaction.get(&context.key("a"), Serializable).await.expect("a read");
    transaction.range(context.everything(), page(10)).await.expect("a page");
    transaction.set(&context.key("a"), b"new", WriteConflict::Yes);
    transaction.clear_range(context.range("b", "c"), WriteConflict::Yes);
    assert_committed(transaction.commit().await);
    assert_eq!(context.get("a").await.as_deref(), Some(&b"new"[..]));
}

pub(super) async fn what_was_read_after_the_write_does_not_conflict(context: Context) {
    for _ in 0..20 {
        context.set("a", "new").await;
        assert_committed(reader(&context, "a", Serializable).await.commit().await);
    }
}

pub(super) async fn nothing_remains_of_a_refused_transaction(context: Context) {
    let mut transaction = reader(&context, "a", Serializable).await;
    transaction.atomic_add(&context.key("n"), 1, WriteConflict::Yes);
    transaction.set_stamped_key(&context.key("row/"), b"", b"x", WriteConflict::Yes);
    let bystander = reader(&context, "n", Serializable).await;
    context.set("a", "new").await;
    assert_conflict(transaction.commit().await);
    assert_eq!(context.suffixes().await, [b"a"]);
    // Nor do its write conflict ranges.
    assert_committed(bystander.commit().await);
    let mut dropped = context.begin();
    dropped.set(&context.key("dropped"), b"x", WriteConflict::Yes);
    drop(dropped);
    assert_eq!(context.get("dropped").await, None);
}

pub(super) async fn concurrent_increments_are_serializable(context: Context) {
    let increment = |_| async {
        let mut conflicts = 0u32;
        loop {
            let mut transaction = context.begin();
            let key = context.key("n");
            let before = transaction.get(&key, Serializable).await.expect("a read");
            let before =
                before.map_or(0, |value| i64::from_le_bytes(value.as_ref().try_into().expect("8 bytes")));
            transaction.set(&key, &(before + 1).to_le_bytes(), WriteConflict::Yes);
            match transaction.commit().await {
                Ok(_) => return conflicts,
                Err(StoreError::Conflict) => conflicts += 1,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let conflicts: u32 = join_all((0..20).map(increment)).await.into_iter().sum();
    assert_eq!(context.number("n").await, Some(20));
    assert!(conflicts > 0, "twenty that read the same and write it can't all be first");
}
