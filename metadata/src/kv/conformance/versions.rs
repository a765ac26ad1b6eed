//! Read versions, and what is refused.

use penstock_types::StoreVersion;

use super::{Context, page};
use crate::kv::{Isolation, StoreError, WriteConflict, limits, single_key};

const YES: WriteConflict = WriteConflict::Yes;

pub(super) async fn read_versions_see_every_commit_that_returned(context: Context) {
    for number in 0..50u8 {
        let committed = context.set("a", [number]).await;
        let mut transaction = context.begin();
        let version = transaction.read_version().await.expect("a version");
        assert!(version >= committed.version);
        assert_eq!(transaction.read_version().await.expect("a version"), version, "it stays");
        let value = transaction.get(&context.key("a"), Isolation::Snapshot).await.expect("a read");
        assert_eq!(value.as_deref(), Some(&[number][..]));
    }
}

pub(super) async fn an_old_version_can_be_read(context: Context) {
    context.set("a", "1").await;
    let mut transaction = context.begin();
    let version = transaction.read_version().await.expect("a version");
    context.set("a", "2").await;
    let mut transaction = context.begin();
    transaction.set_read_version(version);
    let value = transaction.get(&context.key("a"), Isolation::Serializable).await.expect("a read");
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
    assert_eq!(transaction.read_version().await.expect("a version"), version);
    transaction.set(&context.key("b"), b"x", YES);
    assert_eq!(transaction.commit().await, Err(StoreError::Conflict));
}

pub(super) async fn a_version_ahead_is_refused(context: Context) {
    let version = context.set("a", "1").await.version;
    let mut transaction = context.begin();
    transaction.set_read_version(StoreVersion::new(version.get() + 1_000_000_000));
    let result = transaction.get(&context.key("a"), Isolation::Snapshot).await;
    assert_eq!(result, Err(StoreError::FutureVersion));
}

pub(super) async fn large_keys_and_values_are_refused(context: Context) {
    let longest = vec![b'k'; limits::KEY_BYTES - context.prefix.len()];
    context.set(&longest, vec![1; limits::VALUE_BYTES]).await;
    assert_eq!(context.get(&longest).await.map(|value| value.len()), Some(limits::VALUE_BYTES));
    context.write(|t| t.clear(&context.key(&longest), YES)).await;
    let (long, large) = (context.key([longest, vec![b'k']].concat()), vec![1; limits::VALUE_BYTES + 1]);
    let key = context.key("a");
    type Refused<'a> = (&'a str, Box<dyn Fn(&mut dyn crate::kv::Transaction) + Send + 'a>);
    let refused: [Refused<'_>; 7] = [
        ("set a long key", Box::new(|t| t.set(&long, b"x", YES))),
        ("set a large value", Box::new(|t| t.set(&key, &large, YES))),
        ("stamp a large value", Box::new(|t| t.set_stamped_value(&key, &large, 0, YES))),
        ("stamp a long key", Box::new(|t| t.set_stamped_key(&long[10..], b"x", b"x", YES))),
        ("add to a long key", Box::new(|t| t.atomic_add(&long, 1, YES))),
        ("raise a long key", Box::new(|t| t.atomic_max(&long, 1, YES))),
        ("stamp a large value under a key", Box::new(|t| t.set_stamped_key(&key, b"", &large, YES))),
    ];
    for (what, refuse) in refused {
        let mut transaction = context.begin();
        transaction.set(&context.key("beside"), b"x", YES);
        refuse(&mut *transaction);
        let result = transaction.commit().await;
        assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{what}: {result:?}");
    }
    assert!(context.rows().await.is_empty(), "nothing of them happened");
}

pub(super) async fn large_transactions_are_refused(context: Context) {
    let value = vec![1; 90_000];
    let fill = |count: u8| {
        let mut transaction = context.begin();
        let empty = transaction.size();
        for number in 0..count {
            transaction.set(&context.key([number]), &value, WriteConflict::No);
        }
        assert!(transaction.size() - empty >= usize::from(count) * value.len());
        transaction
    };
    fill(105).commit().await.expect("9.5 MB fit");
    assert_eq!(context.rows().await.len(), 105);
    context.write(|t| t.clear_range(context.everything(), YES)).await;
    let result = fill(115).commit().await;
    assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
    assert!(context.rows().await.is_empty());
    // Conflict ranges count too.
    let mut transaction = context.begin();
    for number in 0..1_200u32 {
        let start = context.key([&number.to_be_bytes()[..], &[b'k'; 9_000]].concat());
        transaction.add_read_conflict(single_key(&start));
    }
    transaction.set(&context.key("a"), b"x", YES);
    assert!(transaction.size() > limits::TRANSACTION_BYTES);
    let result = transaction.commit().await;
    assert!(matches!(result, Err(StoreError::TooLarge { .. })), "{result:?}");
}

pub(super) async fn keys_outside_are_refused(context: Context) {
    let mut transaction = context.begin();
    transaction.set(&[0xFF, 1], b"x", YES);
    let refused = transaction.commit().await.expect_err("not ours");
    assert!(!refused.is_retryable());
    let mut transaction = context.begin();
    transaction.clear_range(context.key("a")..vec![0xFF, 1], YES);
    let refused = transaction.commit().await.expect_err("not ours");
    assert!(!refused.is_retryable());
    let refused = context.begin().get(&[0xFF, 1], Isolation::Snapshot).await.expect_err("not ours");
    assert!(!refused.is_retryable());
}

pub(super) async fn inverted_ranges_are_refused(context: Context) {
    let refused = context.begin().range(context.range("b", "a"), page(10)).await.expect_err("inverted");
    assert!(!refused.is_retryable());
    let mut transaction = context.begin();
    transaction.clear_range(context.range("b", "a"), YES);
    let refused = transaction.commit().await.expect_err("inverted");
    assert!(!refused.is_retryable());
}

pub(super) async fn old_transactions_are_refused(context: Context) {
    let Some(let_transactions_age) = context.let_transactions_age else {
        println!("    skipped: transactions don't age in this run");
        return;
    };
    context.set("a", "1").await;
    let mut reading = context.begin();
    let mut writing = context.begin();
    let mut fresh = context.begin();
    let mut blind = context.begin();
    let version = reading.read_version().await.expect("a version");
    writing.get(&context.key("a"), Isolation::Serializable).await.expect("a read");
    writing.set(&context.key("b"), b"x", YES);
    blind.set(&context.key("c"), b"x", YES);
    let_transactions_age().await;
    context.set("else", "x").await;
    assert_eq!(reading.get(&context.key("a"), Isolation::Snapshot).await, Err(StoreError::TooOld));
    assert_eq!(reading.range(context.everything(), page(1)).await, Err(StoreError::TooOld));
    assert_eq!(writing.commit().await, Err(StoreError::TooOld));
    let mut behind = context.begin();
    behind.set_read_version(version);
    assert_eq!(behind.get(&context.key("a"), Isolation::Snapshot).await, Err(StoreError::TooOld));
    blind.commit().await.expect("what read nothing does not age");
    let value = fresh.get(&context.key("a"), Isolation::Snapshot).await.expect("its version is taken now");
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
    assert_eq!(context.get("b").await, None);
}
