//! Reading.

use super::{Context, page};
use crate::kv::{Isolation, RangeOptions, WriteConflict};

pub(super) async fn keys_sort_as_unsigned_bytes(context: Context) {
    let suffixes: [&[u8]; 8] = [b"", &[0], &[0, 0], &[0, 255], &[1], &[127], &[128, 1], &[255, 255]];
    let keys: Vec<_> = suffixes.iter().rev().map(|suffix| context.key(suffix)).collect();
    context.write(|t| keys.iter().for_each(|key| t.set(key, b"x", WriteConflict::Yes))).await;
    assert_eq!(context.suffixes().await, suffixes);
}

pub(super) async fn absent_and_empty_values_differ(context: Context) {
    context.set("empty", "").await;
    assert_eq!(context.get("empty").await.as_deref(), Some(&[][..]));
    assert_eq!(context.get("absent").await, None);
    assert_eq!(context.rows().await, [(b"empty".to_vec(), Vec::new())]);
}

pub(super) async fn ranges_are_half_open(context: Context) {
    for suffix in ["a", "b", "c", "d"] {
        context.set(suffix, suffix).await;
    }
    let mut transaction = context.begin();
    let found = transaction.range(context.range("b", "d"), page(10)).await.expect("a page");
    assert_eq!(found.rows.iter().map(|row| row.value.as_ref()).collect::<Vec<_>>(), [b"b", b"c"]);
    assert!(!found.more);
    let found = transaction.range(context.range("b", "b"), page(10)).await.expect("a page");
    assert!(found.rows.is_empty() && !found.more);
    let found = transaction.range(context.range("x", "z"), page(10)).await.expect("a page");
    assert!(found.rows.is_empty() && !found.more);
}

pub(super) async fn pages_end_at_their_limit(context: Context) {
    for number in 0..10u8 {
        context.set([number], [number]).await;
    }
    let mut transaction = context.begin();
    let forwards = transaction.range(context.everything(), page(4)).await.expect("a page");
    assert_eq!(forwards.rows.iter().map(|row| row.value[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(forwards.more);
    let backwards = transaction.range(context.everything(), page(4).reversed()).await.expect("a page");
    assert_eq!(backwards.rows.iter().map(|row| row.value[0]).collect::<Vec<_>>(), [9, 8, 7, 6]);
    assert!(backwards.more);
    let all = transaction.range(context.everything(), page(11)).await.expect("a page");
    assert!(all.rows.len() == 10 && !all.more);
    let all = transaction.range(context.everything(), page(11).reversed()).await.expect("a page");
    assert!(all.rows.len() == 10 && !all.more && all.rows[0].value[0] == 9);
}

pub(super) async fn pages_end_at_their_bytes(context: Context) {
    let value = vec![7; 1_000];
    for number in 0..20u8 {
        context.set([number], &value).await;
    }
    let mut transaction = context.begin();
    let options = RangeOptions { target_bytes: 5_000, ..page(100) };
    let mut range = context.everything();
    let mut seen = 0;
    let mut pages = 0;
    loop {
        let found = transaction.range(range.clone(), options).await.expect("a page");
        assert!(!found.rows.is_empty() || !found.more, "a page has a row at least");
        assert!(found.rows.len() <= 6, "{} rows are more than 5,000 bytes ask for", found.rows.len());
        seen += found.rows.len();
        pages += 1;
        let Some(last) = found.rows.last().filter(|_| found.more) else { break };
        range.start = crate::kv::single_key(&last.key).end;
    }
    assert_eq!(seen, 20);
    assert!(pages >= 4);
    let tiny = RangeOptions { target_bytes: 1, ..page(100) };
    let found = transaction.range(context.everything(), tiny).await.expect("a page");
    assert!(found.rows.len() == 1 && found.more);
}

pub(super) async fn several_reads_answer_in_order(context: Context) {
    context.set("a", "1").await;
    context.set("b", "2").await;
    let mut transaction = context.begin();
    let keys = [context.key("b"), context.key("none"), context.key("a")];
    let values = transaction.get_many(&keys, Isolation::Serializable).await.expect("values");
    let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
    assert_eq!(values, [Some(&b"2"[..]), None, Some(&b"1"[..])]);
    let ranges = vec![context.range("b", "c"), context.range("a", "b"), context.range("x", "y")];
    let pages = transaction.ranges(ranges, page(5)).await.expect("pages");
    let counts: Vec<_> = pages.iter().map(|page| page.rows.len()).collect();
    assert_eq!(counts, [1, 1, 0]);
    assert_eq!(pages[0].rows[0].value.as_ref(), b"2");
}

pub(super) async fn all_reads_see_one_version(context: Context) {
    context.set("a", "old").await;
    context.set("b", "old").await;
    let mut transaction = context.begin();
    let a = transaction.get(&context.key("a"), Isolation::Serializable).await.expect("a");
    let (key_a, key_b, key_c) = (context.key("a"), context.key("b"), context.key("c"));
    context
        .write(|t| {
            for key in [&key_a, &key_b, &key_c] {
                t.set(key, b"new", WriteConflict::Yes);
            }
        })
        .await;
    context.write(|t| t.clear(&key_a, WriteConflict::Yes)).await;
    let b = transaction.get(&context.key("b"), Isolation::Serializable).await.expect("b");
    assert_eq!((a.as_deref(), b.as_deref()), (Some(&b"old"[..]), Some(&b"old"[..])));
    let rows = context.rows_seen_by(&mut *transaction).await;
    assert_eq!(rows, [(b"a".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
}

pub(super) async fn own_writes_are_not_seen(context: Context) {
    context.set("a", "old").await;
    context.set("b", "old").await;
    let mut transaction = context.begin();
    transaction.set(&context.key("a"), b"new", WriteConflict::Yes);
    transaction.clear(&context.key("b"), WriteConflict::Yes);
    transaction.set(&context.key("c"), b"new", WriteConflict::Yes);
    transaction.clear_range(context.range("x", "y"), WriteConflict::Yes);
    let rows = context.rows_seen_by(&mut *transaction).await;
    assert_eq!(rows, [(b"a".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"old".to_vec())]);
    let a = transaction.get(&context.key("a"), Isolation::Snapshot).await.expect("a");
    assert_eq!(a.as_deref(), Some(&b"old"[..]));
    transaction.commit().await.expect("nobody disturbs");
    let rows = context.rows().await;
    assert_eq!(rows, [(b"a".to_vec(), b"new".to_vec()), (b"c".to_vec(), b"new".to_vec())]);
}

/// Whoever commits reads back at that version, saying that all of it was written then.
pub(super) async fn what_a_commit_wrote_is_read_at_its_version(context: Context) {
    context.set("a", "before").await;
    context.set("r1", "before").await;
    context.set("z", "before").await;
    for number in 0..3u8 {
        let (r1, r2, r3) = (context.key("r1"), context.key("r2"), context.key("r3"));
        let committed = context
            .write(|t| {
                t.set(&r1, &[number], WriteConflict::Yes);
                t.atomic_add(&r2, 1, WriteConflict::No);
                t.set(&r3, b"gone", WriteConflict::No);
                t.clear(&r3, WriteConflict::No);
            })
            .await;
        let mut transaction = context.begin();
        transaction.set_read_version(committed.version);
        let options = page(10).all_written_at(committed.version);
        let found = transaction.range(context.range("r", "s"), options).await.expect("a page");
        assert!(!found.more);
        let values: Vec<Vec<u8>> = found.rows.iter().map(|row| row.value.to_vec()).collect();
        assert_eq!(values, [vec![number], u64::from(number + 1).to_le_bytes().to_vec()]);
        let last =
            transaction.range(context.range("r", "s"), RangeOptions { limit: 1, ..options.reversed() }).await;
        let last = last.expect("a page");
        assert!(last.more && last.rows[0].key == r2);
        let pages = vec![context.range("r2", "s"), context.range("r3", "s")];
        let pages = transaction.ranges(pages, options).await.expect("pages");
        assert_eq!((pages[0].rows.len(), pages[1].rows.len()), (1, 0));
    }
}
