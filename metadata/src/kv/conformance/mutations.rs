//! What mutations do.

use futures::future::join_all;

use super::Context;
use crate::kv::{Isolation, WriteConflict};

const YES: WriteConflict = WriteConflict::Yes;

pub(super) async fn mutations_apply_in_order(context: Context) {
    context.set("kept", "old").await;
    context.set("removed", "old").await;
    let key = |suffix: &str| context.key(suffix);
    let range = context.range("", "zz");
    context
        .write(|t| {
            t.set(&key("kept"), b"1", YES);
            t.clear(&key("kept"), YES);
            t.set(&key("kept"), b"2", YES);
            t.clear(&key("removed"), YES);
            t.set(&key("gone"), b"x", YES);
            t.clear(&key("gone"), YES);
            t.set(&key("n"), &40i64.to_le_bytes(), YES);
            t.atomic_add(&key("n"), 2, YES);
            t.atomic_max(&key("n"), 7, YES);
            t.atomic_add(&key("m"), 1, YES);
            t.clear(&key("m"), YES);
            t.atomic_add(&key("m"), 5, YES);
        })
        .await;
    let rows = context.rows().await;
    let number = |number: i64| number.to_le_bytes().to_vec();
    let expected =
        vec![(b"kept".to_vec(), b"2".to_vec()), (b"m".to_vec(), number(5)), (b"n".to_vec(), number(42))];
    assert_eq!(rows, expected);
    context
        .write(|t| {
            t.clear_range(range.clone(), YES);
            t.set(&key("kept"), b"3", YES);
            t.atomic_add(&key("n"), 1, YES);
        })
        .await;
    assert_eq!(context.rows().await, [(b"kept".to_vec(), b"3".to_vec()), (b"n".to_vec(), number(1))]);
}

pub(super) async fn additions_wrap_and_start_at_zero(context: Context) {
    // Not repeated where the outcome is unknown: an addition counts each time.
    let add = async |addend: i64| {
        let mut transaction = context.begin();
        transaction.atomic_add(&context.key("n"), addend, YES);
        transaction.commit().await.expect("an addition");
        context.number("n").await.expect("a number")
    };
    assert_eq!(add(5).await, 5);
    assert_eq!(add(-8).await, -3);
    assert_eq!(add(0).await, -3);
    assert_eq!(add(i64::MIN).await, (-3i64).wrapping_add(i64::MIN));
    assert_eq!(add(i64::MIN).await, -3);
    context.set("n", i64::MAX.to_le_bytes()).await;
    assert_eq!(add(1).await, i64::MIN);
}

pub(super) async fn maxima_are_unsigned_and_start_at_zero(context: Context) {
    let key = context.key("n");
    let raise = async |candidate: u64| {
        context.write(|t| t.atomic_max(&key, candidate, YES)).await;
        context.number("n").await.expect("a number") as u64
    };
    assert_eq!(raise(0).await, 0);
    assert_eq!(raise(5).await, 5);
    assert_eq!(raise(3).await, 5);
    assert_eq!(raise(256).await, 256);
    assert_eq!(raise(255).await, 256);
    assert_eq!(raise(u64::MAX).await, u64::MAX);
    assert_eq!(raise(1 << 63).await, u64::MAX);
}

pub(super) async fn numbers_are_padded_and_cut(context: Context) {
    let key = context.key("n");
    for (before, sum, most) in [
        (&b""[..], 1, 1),
        (&[7], 8, 7),
        (&[255, 255], 65_536, 65_535),
        (&[1, 0, 0, 0, 0, 0, 0, 0, 9, 9], 2, 1),
    ] {
        context.set("n", before).await;
        let mut transaction = context.begin();
        transaction.atomic_add(&key, 1, YES);
        transaction.commit().await.expect("an addition");
        assert_eq!(context.number("n").await, Some(sum), "{before:?}");
        context.set("n", before).await;
        context.write(|t| t.atomic_max(&key, 1, YES)).await;
        assert_eq!(context.number("n").await, Some(most), "{before:?}");
    }
}

pub(super) async fn numbers_side_by_side_are_added(context: Context) {
    let key = context.key("n");
    let wide = |numbers: &[i64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    for (before, addend, after) in [
        (wide(&[]), wide(&[1, 2, 3]), wide(&[1, 2, 3])),
        (wide(&[1, 0, i64::MAX]), wide(&[i64::MAX - 1, 5, 0]), wide(&[i64::MAX, 5, i64::MAX])),
        (wide(&[7]), wide(&[1, 1]), wide(&[8, 1])),
        (wide(&[7, 7, 7]), wide(&[1, 1]), wide(&[8, 8])),
        (vec![0xFF; 20], [vec![1], vec![0; 19]].concat(), vec![0; 20]),
        (vec![9], vec![0xF8, 0, 0], vec![1, 1, 0]),
    ] {
        context.set("n", &before).await;
        // Not repeated where the outcome is unknown: an addition counts each time.
        let mut transaction = context.begin();
        transaction.atomic_add_bytes(&key, &addend, WriteConflict::No);
        transaction.commit().await.expect("an addition");
        assert_eq!(context.rows().await, [(b"n".to_vec(), after)], "{before:?} and {addend:?}");
    }
    let thousand = wide(&[1; 33]);
    let add = |_| {
        let mut transaction = context.begin();
        transaction.atomic_add_bytes(&context.key("sum"), &thousand, WriteConflict::No);
        transaction.commit()
    };
    for result in join_all((0..100).map(add)).await {
        result.expect("blind additions never conflict");
    }
    let rows = context.rows().await;
    assert_eq!(rows[1].1, wide(&[100; 33]));
}

pub(super) async fn ranges_are_cleared_to_their_bounds(context: Context) {
    let suffixes = ["a", "b", "b\0", "bb", "c", "c\0", "d"];
    for (range, kept) in [
        (context.range("b", "c"), vec!["a", "c", "c\0", "d"]),
        (context.range("b\0", "c\0"), vec!["a", "b", "c\0", "d"]),
        (context.range("c", "c"), suffixes.to_vec()),
        (context.everything(), vec![]),
    ] {
        for suffix in suffixes {
            context.set(suffix, suffix).await;
        }
        context.write(|t| t.clear_range(range.clone(), YES)).await;
        let kept: Vec<_> = kept.into_iter().map(|suffix| suffix.as_bytes().to_vec()).collect();
        assert_eq!(context.suffixes().await, kept);
    }
}

pub(super) async fn a_cleared_range_takes_earlier_writes_of_its_transaction(context: Context) {
    context.set("b1", "old").await;
    context.set("c", "old").await;
    let key = |suffix: &str| context.key(suffix);
    let range = context.range("b", "c");
    context
        .write(|t| {
            t.set(&key("b0"), b"x", YES);
            t.atomic_add(&key("b2"), 3, YES);
            t.set(&key("c"), b"new", YES);
            t.clear_range(range.clone(), YES);
            t.set(&key("b3"), b"x", YES);
        })
        .await;
    assert_eq!(context.rows().await, [(b"b3".to_vec(), b"x".to_vec()), (b"c".to_vec(), b"new".to_vec())]);
}

pub(super) async fn concurrent_additions_all_count(context: Context) {
    let add = |addend: i64| {
        let mut transaction = context.begin();
        transaction.atomic_add(&context.key("sum"), addend, WriteConflict::No);
        transaction.atomic_add(&context.key("count"), 1, WriteConflict::No);
        transaction.commit()
    };
    for _ in 0..5 {
        for result in join_all((1..=100).map(add)).await {
            result.expect("blind additions never conflict");
        }
    }
    assert_eq!(context.number("sum").await, Some(5 * 5_050));
    assert_eq!(context.number("count").await, Some(500));
    let value = context.begin().get(&context.key("sum"), Isolation::Snapshot).await.expect("a read");
    assert_eq!(value.expect("the sum").len(), 8);
}
