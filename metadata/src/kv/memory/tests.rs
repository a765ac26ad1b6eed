use std::future::Future;

use futures::FutureExt;
use futures::future::join_all;
use penstock_types::{SeededRandomness, StoreVersion, Versionstamp};

use super::*;
use crate::kv::{Isolation, WriteConflict};

const YES: WriteConflict = WriteConflict::Yes;

fn store(faults: MemoryFaults) -> Arc<MemoryStore> {
    let store = MemoryStore::new(Arc::new(SeededRandomness::new(7)));
    store.set_faults(faults);
    store
}

async fn set(store: &MemoryStore, key: &str, value: &str) -> Result<Committed, StoreError> {
    let mut transaction = store.begin(Priority::Default);
    transaction.set(key.as_bytes(), value.as_bytes(), YES);
    transaction.commit().await
}

async fn get(store: &MemoryStore, key: &str) -> Result<Option<Bytes>, StoreError> {
    store.begin(Priority::Default).get(key.as_bytes(), Isolation::Serializable).await
}

/// A transaction that has read `key` and writes "own".
async fn reader(store: &MemoryStore, key: &str) -> Box<dyn Transaction> {
    let mut transaction = store.begin(Priority::Default);
    transaction.get(key.as_bytes(), Isolation::Serializable).await.expect("a read");
    transaction.set(b"own", b"x", YES);
    transaction
}

async fn watch(store: &MemoryStore, key: &str) -> super::super::Watch {
    let mut transaction = store.begin(Priority::Default);
    let watch = transaction.watch(key.as_bytes());
    transaction.commit().await.expect("a commit that writes nothing");
    watch
}

#[tokio::test(start_paused = true)]
async fn commits_made_together_share_a_version() {
    let store = store(MemoryFaults::default());
    let committed = join_all((0..10).map(|_| set(&store, "a", "x"))).await;
    let stamps: Vec<_> =
        committed.into_iter().map(|result| result.expect("a commit").stamp.expect("a stamp")).collect();
    assert!(stamps.iter().all(|stamp| stamp.version() == stamps[0].version()));
    assert!(stamps.iter().map(Versionstamp::order).eq(0..10));
    let later = set(&store, "a", "x").await.expect("a commit");
    assert!(later.version > stamps[0].version());
}

#[tokio::test(start_paused = true)]
async fn versions_follow_the_clock() {
    let store = store(MemoryFaults::default());
    let before = set(&store, "a", "x").await.expect("a commit").version.get();
    tokio::time::advance(Duration::from_millis(1_500)).await;
    let idle = store.begin(Priority::Default).read_version().await.expect("a version").get();
    let after = set(&store, "a", "x").await.expect("a commit").version.get();
    assert!((1_490_000..1_510_000).contains(&(idle - before)), "{}", idle - before);
    assert!((1..10_000).contains(&(after - idle)));
}

#[tokio::test(start_paused = true)]
async fn history_is_forgotten() {
    let store = store(MemoryFaults::default());
    for round in 0..100 {
        for key in 0..10 {
            set(&store, &key.to_string(), &round.to_string()).await.expect("a commit");
        }
        let mut transaction = store.begin(Priority::Default);
        transaction.clear(b"3", YES);
        transaction.commit().await.expect("a commit");
        tokio::time::advance(Duration::from_millis(200)).await;
    }
    let entries = store.shared.state.lock().rows.entries();
    assert!(entries < 30 * 11, "{entries} entries for five seconds of eleven changes every 200 ms");
    tokio::time::advance(Duration::from_secs(6)).await;
    set(&store, "0", "x").await.expect("a commit");
    assert_eq!(store.shared.state.lock().rows.entries(), 10);
}

#[tokio::test(start_paused = true)]
async fn asked_for_conflicts_and_refusals_happen() {
    let faults = MemoryFaults { conflict: 1.0, ..MemoryFaults::default() };
    assert_eq!(set(&store(faults), "a", "x").await, Err(StoreError::Conflict));
    let faults = MemoryFaults { unavailable: 1.0, ..MemoryFaults::default() };
    let unavailable = store(faults);
    assert!(matches!(set(&unavailable, "a", "x").await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(get(&unavailable, "a").await, Err(StoreError::Unavailable { .. })));
    unavailable.set_faults(MemoryFaults::default());
    assert_eq!(get(&unavailable, "a").await, Ok(None), "the commit did not happen");
    let faults = MemoryFaults { too_old: 1.0, ..MemoryFaults::default() };
    assert_eq!(get(&store(faults), "a").await, Err(StoreError::TooOld));
    let faults = MemoryFaults { future_version: 1.0, ..MemoryFaults::default() };
    assert_eq!(get(&store(faults), "a").await, Err(StoreError::FutureVersion));
    let throttled = store(MemoryFaults { throttled: 1.0, ..MemoryFaults::default() });
    let batch = throttled.begin(Priority::Batch).read_version().await;
    assert_eq!(batch, Err(StoreError::Throttled));
    assert!(throttled.begin(Priority::Default).read_version().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_of_three_kinds() {
    let applied = store(MemoryFaults { unknown_applied: 1.0, ..MemoryFaults::default() });
    assert_eq!(set(&applied, "a", "x").await, Err(StoreError::CommitUnknown));
    assert_eq!(get(&applied, "a").await.expect("a read").as_deref(), Some(&b"x"[..]));

    let never = store(MemoryFaults { unknown_not_applied: 1.0, ..MemoryFaults::default() });
    assert_eq!(set(&never, "a", "x").await, Err(StoreError::CommitUnknown));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(get(&never, "a").await, Ok(None));

    let later = store(MemoryFaults {
        unknown_applied_later: 1.0,
        applied_later_after: Duration::from_millis(500)..Duration::from_millis(501),
        ..MemoryFaults::default()
    });
    assert_eq!(set(&later, "a", "x").await, Err(StoreError::CommitUnknown));
    assert_eq!((get(&later, "a").await, later.parked_commits()), (Ok(None), 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(get(&later, "a").await.expect("a read").as_deref(), Some(&b"x"[..]));
    assert_eq!(later.parked_commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parked_commit_that_conflicts_never_lands() {
    let later = MemoryFaults { unknown_applied_later: 1.0, ..MemoryFaults::default() };
    let store = store(later);
    let transaction = reader(&store, "a").await;
    assert_eq!(transaction.commit().await, Err(StoreError::CommitUnknown));
    store.set_faults(MemoryFaults::default());
    set(&store, "a", "changed").await.expect("a commit");
    assert_eq!(store.land_parked_commits(), 0);
    assert_eq!((get(&store, "own").await, store.parked_commits()), (Ok(None), 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_commit_may_happen_later() {
    let store = store(MemoryFaults::default());
    let mut transaction = store.begin(Priority::Default);
    transaction.set(b"a", b"x", YES);
    let mut commit = transaction.commit();
    assert!((&mut commit).now_or_never().is_none());
    drop(commit);
    assert_eq!(get(&store, "a").await, Ok(None));
    set(&store, "b", "x").await.expect("a commit");
    assert!(get(&store, "a").await.expect("a read").is_some());
}

#[tokio::test(start_paused = true)]
async fn latency_takes_time() {
    let millis = Duration::from_millis(10)..Duration::from_millis(11);
    let store = store(MemoryFaults { latency: Some(millis), ..MemoryFaults::default() });
    let before = Instant::now();
    reader(&store, "a").await.commit().await.expect("a commit");
    let took = before.elapsed();
    assert!((40..50).contains(&took.as_millis()), "a version, a read and two halves of a commit: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn jumps_of_versions_make_transactions_too_old() {
    let store = store(MemoryFaults::default());
    let transaction = reader(&store, "a").await;
    let before = transaction.size();
    assert!(before > 0);
    store.jump_versions(100_000_000);
    assert_eq!(transaction.commit().await, Err(StoreError::TooOld));
    let first = set(&store, "a", "x").await.expect("a commit");
    store.set_faults(MemoryFaults { version_jump: 1.0, ..MemoryFaults::default() });
    let second = set(&store, "a", "x").await.expect("a commit");
    assert!(second.version.get() - first.version.get() > 99_000_000);
}

#[tokio::test(start_paused = true)]
async fn wake_ups_are_lost_late_or_false_on_demand() {
    let second = Duration::from_secs(1);
    let faulty = store(MemoryFaults { watch_lost: 1.0, ..MemoryFaults::default() });
    let mut lost = watch(&faulty, "a").await;
    set(&faulty, "a", "1").await.expect("a commit");
    assert!(tokio::time::timeout(second * 60, &mut lost).await.is_err());
    faulty.set_faults(MemoryFaults::default());
    set(&faulty, "a", "2").await.expect("a commit");
    lost.await.expect("the next change wakes");

    let late = MemoryFaults { watch_late: 1.0, watch_late_by: second..second * 2, ..MemoryFaults::default() };
    faulty.set_faults(late);
    let watching = watch(&faulty, "a").await;
    set(&faulty, "a", "3").await.expect("a commit");
    let before = Instant::now();
    watching.await.expect("it wakes");
    assert!(before.elapsed() >= second);

    faulty.set_faults(MemoryFaults { watch_spurious: 1.0, ..MemoryFaults::default() });
    watch(&faulty, "a").await.await.expect("it wakes without a change");
    faulty.set_faults(MemoryFaults { watch_error: 1.0, ..MemoryFaults::default() });
    watch(&faulty, "a").await.await.expect_err("it fails");
}

/// Twice the same chance: what is counted is what struck, and counting draws nothing.
#[tokio::test(start_paused = true)]
async fn faults_are_counted_by_kind() {
    let store = store(MemoryFaults { conflict: 0.5, ..MemoryFaults::default() });
    let mut conflicts = 0;
    for _ in 0..40 {
        conflicts += u64::from(set(&store, "a", "1").await == Err(StoreError::Conflict));
    }
    assert!((1..40).contains(&conflicts));
    assert_eq!(store.faults_struck(), BTreeMap::from([(FaultKind::Conflict, conflicts)]));
    store.set_faults(MemoryFaults::default());
    let _lost = watch(&store, "a").await;
    store.set_faults(MemoryFaults { unknown_applied: 1.0, watch_lost: 1.0, ..MemoryFaults::default() });
    assert_eq!(set(&store, "a", "2").await, Err(StoreError::CommitUnknown));
    store.set_faults(MemoryFaults { too_old: 1.0, ..MemoryFaults::default() });
    assert_eq!(get(&store, "a").await, Err(StoreError::TooOld));
    let struck = store.faults_struck();
    assert_eq!(struck[&FaultKind::Conflict], conflicts);
    assert_eq!(struck[&FaultKind::UnknownApplied], 1);
    assert_eq!((struck[&FaultKind::WatchLost], struck[&FaultKind::TooOld]), (1, 1));
}

/// A backup has what was there when it was taken, and its store's versions are its own.
#[tokio::test(start_paused = true)]
async fn contents_are_restored_at_other_versions() {
    let first = store(MemoryFaults::default());
    set(&first, "a", "1").await.expect("a commit");
    set(&first, "b", "1").await.expect("a commit");
    let mut clears = first.begin(Priority::Default);
    clears.clear(b"b", YES);
    clears.commit().await.expect("a commit");
    let backup = first.contents();
    set(&first, "a", "2").await.expect("a commit");
    let ahead = first.last_version() + 1_000_000_000;
    for version in [1, ahead] {
        let second = MemoryStore::restored(&backup, version, Arc::new(SeededRandomness::new(8)));
        assert_eq!(get(&second, "a").await, Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(get(&second, "b").await, Ok(None));
        let committed = set(&second, "c", "3").await.expect("a commit");
        assert_eq!(committed.version.get(), version + 1);
        let mut late = second.begin(Priority::Default);
        late.set_read_version(StoreVersion::new(ahead + 1_000_000_000));
        assert_eq!(late.get(b"a", Isolation::Snapshot).await, Err(StoreError::FutureVersion));
    }
    assert_eq!(get(&first, "a").await, Ok(Some(Bytes::from_static(b"2"))), "the other one is left alone");
}

#[tokio::test(start_paused = true)]
async fn dropped_watches_are_forgotten() {
    let store = store(MemoryFaults::default());
    let watches = join_all((0..5).map(|_| watch(&store, "a"))).await;
    assert_eq!(store.armed_watches(), 5);
    drop(watches);
    assert_eq!(store.armed_watches(), 0);
}

/// What a few clients see of a store with every fault.
async fn history(seed: u64) -> Vec<String> {
    let store = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
    store.set_faults(MemoryFaults {
        conflict: 0.05,
        unknown_applied: 0.05,
        unknown_not_applied: 0.05,
        unknown_applied_later: 0.05,
        too_old: 0.02,
        future_version: 0.02,
        unavailable: 0.02,
        latency: Some(Duration::from_micros(10)..Duration::from_millis(5)),
        watch_late: 0.2,
        watch_spurious: 0.2,
        version_jump: 0.01,
        ..MemoryFaults::default()
    });
    let client = async |number: usize| {
        let mut log = Vec::new();
        for round in 0..50 {
            let mut transaction = store.begin(Priority::Default);
            let key = format!("{}", (number + round) % 3);
            let value = transaction.get(key.as_bytes(), Isolation::Serializable).await;
            transaction.set(key.as_bytes(), format!("{number}.{round}").as_bytes(), YES);
            log.push(format!("{number} {value:?} {:?}", transaction.commit().await));
        }
        log
    };
    join_all((0..4).map(client)).await.concat()
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

#[test]
fn one_seed_gives_one_history() {
    let first = paused(history(3));
    assert_eq!(first, paused(history(3)));
    assert_ne!(first, paused(history(4)));
    for outcome in ["Conflict", "CommitUnknown", "TooOld", "FutureVersion", "Unavailable", "Ok"] {
        assert!(first.iter().any(|line| line.contains(outcome)), "no {outcome}");
    }
}
