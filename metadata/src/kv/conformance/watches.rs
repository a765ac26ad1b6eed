//! Watches.

use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, join};

use super::Context;
use crate::kv::{Isolation, StoreError, Watch, WriteConflict};

const YES: WriteConflict = WriteConflict::Yes;

/// Arms a watch on `suffix` from a transaction that read it.
async fn watch(context: &Context, suffix: &str) -> Watch {
    let mut transaction = context.begin();
    let key = context.key(suffix);
    transaction.get(&key, Isolation::Snapshot).await.expect("a read");
    let watch = transaction.watch(&key);
    transaction.commit().await.expect("a commit that writes nothing");
    watch
}

/// Waits for a wake-up that must come.
async fn woken(watch: Watch) -> Result<(), StoreError> {
    tokio::time::timeout(Duration::from_secs(30), watch).await.expect("the watch wakes")
}

pub(super) async fn a_change_wakes(context: Context) {
    context.set("a", "1").await;
    let watch = watch(&context, "a").await;
    context.set("a", "2").await;
    woken(watch).await.expect("no error");
}

pub(super) async fn a_removal_wakes(context: Context) {
    for by_range in [true, false] {
        context.set("a", "1").await;
        let watch = watch(&context, "a").await;
        let (key, range) = (context.key("a"), context.everything());
        context
            .write(|t| {
                if by_range {
                    t.clear_range(range.clone(), YES);
                } else {
                    t.clear(&key, YES);
                }
            })
            .await;
        woken(watch).await.expect("no error");
    }
}

pub(super) async fn other_keys_do_not_wake(context: Context) {
    context.set("a", "1").await;
    let mut watch = watch(&context, "a").await;
    assert!((&mut watch).now_or_never().is_none(), "nothing changed");
    context.set("b", "2").await;
    context.set("a0", "2").await;
    assert!((&mut watch).now_or_never().is_none(), "others changed");
    context.set("a", "2").await;
    woken(watch).await.expect("no error");
}

pub(super) async fn a_change_before_arming_wakes(context: Context) {
    context.set("a", "1").await;
    let mut transaction = context.begin();
    transaction.read_version().await.expect("a version");
    context.set("a", "2").await;
    let watch = transaction.watch(&context.key("a"));
    transaction.commit().await.expect("a commit that writes nothing");
    woken(watch).await.expect("no error");
}

pub(super) async fn a_watch_without_commit_fails(context: Context) {
    let mut transaction = context.begin();
    let watch = transaction.watch(&context.key("a"));
    drop(transaction);
    woken(watch).await.expect_err("nobody would wake it");
    let mut transaction = context.begin();
    transaction.get(&context.key("b"), Isolation::Serializable).await.expect("a read");
    transaction.set(&context.key("c"), b"x", YES);
    let watch = transaction.watch(&context.key("a"));
    context.set("b", "new").await;
    assert_eq!(transaction.commit().await, Err(StoreError::Conflict));
    woken(watch).await.expect_err("nobody would wake it");
}

pub(super) async fn a_watch_may_come_with_writes(context: Context) {
    let mut transaction = context.begin();
    transaction.set(&context.key("b"), b"x", YES);
    let watch = transaction.watch(&context.key("a"));
    transaction.commit().await.expect("a commit");
    let numbers = context.key("a");
    context.write(|t| t.set_stamped_value(&numbers, &[0; 10], 0, WriteConflict::No)).await;
    woken(watch).await.expect("no error");
}

pub(super) async fn all_watchers_wake(context: Context) {
    let watches = join_all((0..20).map(|_| watch(&context, "a"))).await;
    context.set("a", "2").await;
    for result in join_all(watches.into_iter().map(woken)).await {
        result.expect("no error");
    }
}

pub(super) async fn no_change_is_missed(context: Context) {
    const CHANGES: i64 = 100;
    let write = async {
        for _ in 0..CHANGES {
            let mut transaction = context.begin();
            transaction.atomic_add(&context.key("n"), 1, WriteConflict::No);
            transaction.commit().await.expect("an addition");
            if context.randomness.below(2) == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    let follow = async || {
        loop {
            let mut transaction = context.begin();
            let key = context.key("n");
            let value = transaction.get(&key, Isolation::Snapshot).await.expect("a read");
            let seen = value.map_or(0, |v| i64::from_le_bytes(v.as_ref().try_into().expect("8 bytes")));
            if seen == CHANGES {
                return;
            }
            let watch = transaction.watch(&key);
            transaction.commit().await.expect("a commit that writes nothing");
            // An error only means to read again.
            let _ = woken(watch).await;
        }
    };
    join!(write, follow(), follow());
}
