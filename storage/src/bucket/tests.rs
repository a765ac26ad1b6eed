//! The bucket over a store that fails on demand, in paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use penstock_types::{Incarnation, SeededRandomness, pause};
use tokio::time::Instant;

use super::faults::{FaultRates, Faults, FaultyStore};
use super::*;

const SEED: u64 = 0x5EED;

fn faulty(seed: u64, options: &BucketOptions) -> (Arc<FaultyStore>, Arc<Bucket>) {
    let randomness = Arc::new(SeededRandomness::new(seed));
    let store = FaultyStore::new(Arc::new(InMemory::new()), randomness.clone());
    let bucket = Bucket::with_store(store.clone(), "a/prefix", options, randomness);
    (store, bucket)
}

fn without_hedging() -> BucketOptions {
    BucketOptions {
        hedge: HedgeOptions { enabled: false, ..HedgeOptions::default() },
        ..BucketOptions::default()
    }
}

fn on_puts(puts: FaultRates) -> Faults {
    Faults { puts, ..Faults::default() }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn data() -> Vec<Bytes> {
    vec![Bytes::from_static(b"hello, "), Bytes::from_static(b"world")]
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_an_upload_at_its_deadline_and_not_after() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    store.set(Faults::outage());
    let begun = Instant::now();
    let error = bucket.put("k", data(), within(20)).await.expect_err("an outage");
    assert!(begun.elapsed() <= Duration::from_secs(20) && begun.elapsed() > Duration::from_secs(15));
    assert_eq!((error.class, error.outcome), (ErrorClass::Throttled, Outcome::MayHaveHappened));
    assert!(error.attempts > 10, "{error}");
    store.set(Faults::default());
    bucket.put("k", data(), within(1)).await.expect("the store is back");
}

#[tokio::test(start_paused = true)]
async fn an_upload_gets_through_as_soon_as_the_store_is_back() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    store.set(Faults::outage());
    let back = async {
        pause(Duration::from_secs(30)).await;
        store.set(Faults::default());
    };
    let begun = Instant::now();
    let (put, ()) = tokio::join!(bucket.put("k", data(), within(60)), back);
    put.expect("it comes back");
    assert!(begun.elapsed() <= Duration::from_secs(32), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_cut_by_the_request_and_by_the_deadline() {
    let (store, bucket) = faulty(SEED, &without_hedging());
    store.set(on_puts(FaultRates { hang: 1000, ..FaultRates::default() }));
    let begun = Instant::now();
    let error = bucket.put("k", data(), within(20)).await.expect_err("it hangs");
    assert_eq!(
        (error.class, error.outcome, error.attempts),
        (ErrorClass::Timeout, Outcome::MayHaveHappened, 3)
    );
    assert_eq!(begun.elapsed().as_secs(), 20);
    let heal = async {
        pause(Duration::from_secs(1)).await;
        store.set(Faults::default());
    };
    let (put, ()) = tokio::join!(bucket.put("k", data(), within(20)), heal);
    assert_eq!(put.expect("the second request").attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn larger_uploads_get_more_time() {
    let options = BucketOptions { slowest_bytes_per_second: 1 << 20, ..without_hedging() };
    let (store, bucket) = faulty(SEED, &options);
    let (second, minute) = (Duration::from_secs(12), Duration::from_secs(13));
    store.set(on_puts(FaultRates { slow: 1000, slow_by: second..minute, ..FaultRates::default() }));
    let large = vec![Bytes::from(vec![1; 8 << 20])];
    assert_eq!(bucket.put("large", large, within(60)).await.expect("8 s + 8 s").attempts, 1);
    let error = bucket.put("small", data(), within(25)).await.expect_err("8 s");
    assert_eq!(error.class, ErrorClass::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_overtaken_by_its_second_copy() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    let slow = FaultRates {
        slow: 30,
        slow_by: Duration::from_secs(2)..Duration::from_secs(3),
        ..FaultRates::default()
    };
    store.set(on_puts(slow));
    let mut over = 0;
    for i in 0..2000 {
        let put = bucket.put(&format!("k{i}"), data(), within(60)).await.expect("an upload");
        over += u32::from(put.elapsed > Duration::from_millis(30));
    }
    let stats = bucket.stats().snapshot();
    assert!(stats.hedges >= 30 && stats.hedges <= 101, "{} hedges", stats.hedges);
    assert!(stats.hedge_wins >= stats.hedges * 9 / 10, "{} of {} won", stats.hedge_wins, stats.hedges);
    assert!(over <= 12, "{over} of 2000 were slow: those before the delay is known, and those hit twice");
    assert_eq!(stats.puts, 2000);
    assert_eq!(stats.put_requests, 2000 + stats.hedges);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_is_never_sent_twice_at_a_time() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    let limit = BucketOptions::default().attempt_timeout;
    let slow = FaultRates { slow: 1000, slow_by: limit * 2..limit * 3, ..FaultRates::default() };
    store.set(on_puts(slow));
    for i in 0..20 {
        let put = bucket.put_unhurried(&format!("k{i}"), data(), within(600)).await.expect("an upload");
        assert!(!put.hedged && put.attempts == 1 && put.elapsed > limit, "it takes its time");
    }
    let stats = bucket.stats().snapshot();
    assert_eq!((stats.hedges, stats.puts, stats.put_requests), (0, 20, 20));
    store.set(Faults::default());
    let hurried = bucket.put("k", data(), within(60)).await.expect("an upload");
    assert_eq!(hurried.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn hedges_stay_within_their_budget() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    for i in 0..100 {
        bucket.put(&format!("k{i}"), data(), within(60)).await.expect("an upload");
    }
    let slow_by = Duration::from_millis(300)..Duration::from_millis(301);
    store.set(on_puts(FaultRates { slow: 1000, slow_by, ..FaultRates::default() }));
    for i in 0..1000 {
        bucket.put(&format!("k{i}"), data(), within(60)).await.expect("an upload");
    }
    let hedges = bucket.stats().snapshot().hedges;
    assert!((1..=1100 / 20 + 1).contains(&hedges), "{hedges}");
}

#[tokio::test(start_paused = true)]
async fn hangs_are_hedged_however_common_they_become() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    store.set(on_puts(FaultRates { hang: 20, ..FaultRates::default() }));
    let mut cut = 0;
    for i in 0..2000 {
        let put = bucket.put(&format!("k{i}"), data(), within(60)).await.expect("an upload");
        cut += u32::from(put.elapsed > Duration::from_secs(2));
    }
    assert!(cut <= 4, "{cut} of 2000 waited for the time-out");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_refusals_leave_every_object_whole() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    let rates =
        FaultRates { unavailable: 200, lost_answer: 200, hang: 20, short_read: 200, ..FaultRates::default() };
    store.set(Faults::everywhere(rates));
    for i in 0..200_u32 {
        let key = format!("k{i}");
        let content = Bytes::from(vec![i as u8; 1000 + i as usize]);
        let chunks = content.chunks(100).map(Bytes::copy_from_slice).collect();
        bucket.put(&key, chunks, within(60)).await.expect("an upload");
        assert_eq!(bucket.get_range(&key, 10..900).await.expect("a read"), content.slice(10..900));
        let (end, bytes) = bucket.get_suffix(&key, 100).await.expect("a read");
        assert_eq!((end, bytes), (content.slice(content.len() - 100..), content.len() as u64));
    }
    assert!(store.injected() > 200);
    let stats = bucket.stats().snapshot();
    assert!(stats.retries > 100 && stats.errors.iter().map(|(_, count)| count).sum::<u64>() > 100);
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_land_after_it_was_given_up() {
    let (store, bucket) = faulty(SEED, &without_hedging());
    let late = FaultRates { late: 1000, late_by: Duration::from_secs(60), ..FaultRates::default() };
    store.set(on_puts(late));
    let error = bucket.put("k", data(), within(5)).await.expect_err("broken off");
    assert_eq!((error.class, error.outcome), (ErrorClass::Unavailable, Outcome::MayHaveHappened));
    assert!(bucket.head("k").await.expect_err("not yet").is_not_found());
    pause(Duration::from_secs(61)).await;
    assert_eq!(bucket.head("k").await.expect("landed").bytes, 12);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    let (_, bucket) = faulty(SEED, &BucketOptions::default());
    let error = bucket.get_range("nothing", 0..1).await.expect_err("nothing there");
    assert_eq!((error.class, error.attempts), (ErrorClass::NotFound, 1));
    bucket.put("k", data(), within(1)).await.expect("an upload");
    for range in [0..13, 12..13, 100..101, 11..u64::MAX] {
        let error = bucket.get_range("k", range.clone()).await.expect_err("too far");
        assert_eq!((error.class, error.attempts), (ErrorClass::OutOfRange, 1), "{range:?}");
    }
    for key in ["", "/", "a//b", "a/../b", "ä", "a b", "a%20b"] {
        let error = bucket.put(key, data(), within(1)).await.expect_err("no key");
        assert_eq!(
            (error.class, error.outcome, error.attempts),
            (ErrorClass::Other, Outcome::DidNotHappen, 0),
            "{key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_conditional_put_is_not_repeated_blindly() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    store.set(on_puts(FaultRates { lost_answer: 1000, ..FaultRates::default() }));
    let error = bucket.put_if_absent("k", Bytes::from_static(b"mine")).await.expect_err("lost");
    assert_eq!((error.outcome, error.attempts), (Outcome::MayHaveHappened, 1));
    store.set(Faults::default());
    assert_eq!(bucket.get_with_etag("k").await.expect("it landed").data, "mine");
    let error = bucket.put_if_absent("k", Bytes::from_static(b"again")).await.expect_err("there");
    assert!(error.is_precondition() && error.outcome == Outcome::DidNotHappen);
}

#[tokio::test(start_paused = true)]
async fn a_listing_carries_on_where_a_page_broke() {
    let mut injected = 0;
    for seed in 0..20 {
        let (store, bucket) = faulty(seed, &BucketOptions::default());
        let mut written = BTreeSet::new();
        for i in 0..100 {
            let key = format!("objects/{:02x}/{i}", i % 7);
            bucket.put(&key, data(), within(60)).await.expect("an upload");
            written.insert(key);
        }
        bucket.put("objects-else", data(), within(60)).await.expect("an upload");
        let others = FaultRates { unavailable: 200, lost_answer: 900, ..FaultRates::default() };
        store.set(Faults { others, ..Faults::default() });
        let listed: Vec<Listed> = bucket.list("objects").try_collect().await.expect("a listing");
        assert_eq!(
            listed.iter().map(|object| object.key.clone()).collect::<BTreeSet<_>>(),
            written,
            "seed {seed}"
        );
        assert_eq!(listed.len(), 100, "none twice, seed {seed}");
        assert!(listed.is_sorted_by(|a, b| a.key < b.key) && listed.iter().all(|object| object.bytes == 12));
        injected += store.injected();
    }
    assert!(injected > 50, "{injected}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_ends_after_an_error() {
    let (store, bucket) = faulty(SEED, &BucketOptions::default());
    store.set(Faults::outage());
    let mut listing = bucket.list("");
    let error = listing.next().await.expect("an answer").expect_err("an outage");
    assert_eq!((error.class, error.operation), (ErrorClass::Throttled, Operation::List));
    assert!(listing.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_of_two_clusters_gets_the_prefix_whatever_goes_wrong() {
    for seed in 0..50 {
        let (store, bucket) = faulty(seed, &BucketOptions::default());
        let rates = FaultRates { unavailable: 150, lost_answer: 250, hang: 20, ..FaultRates::default() };
        store.set(Faults::everywhere(rates));
        let claim = |cluster: &'static str| {
            let bucket = bucket.clone();
            async move {
                for _ in 0..20 {
                    match bucket.claim(cluster, Incarnation::FIRST).await {
                        Err(ClaimError::Bucket(_)) => {}
                        settled => return settled,
                    }
                }
                panic!("seed {seed}: not settled in 20 tries");
            }
        };
        let (one, two) = tokio::join!(claim("one"), claim("two"));
        assert!(one.is_ok() != two.is_ok(), "seed {seed}: {one:?} {two:?}");
        let lost = one.err().or(two.err()).expect("one of them lost");
        assert!(matches!(lost, ClaimError::OtherCluster { .. }), "seed {seed}: {lost}");
        assert!(lost.to_string().contains("one") && lost.to_string().contains("two"), "{lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_raised_only_by_the_explicit_step() {
    let home = tempfile::tempdir().expect("a directory");
    let options = BucketOptions::default();
    let directory =
        Bucket::open_directory(home.path(), &options, Arc::new(SeededRandomness::new(SEED))).expect("opens");
    for bucket in [faulty(SEED, &options).1, directory] {
        let (first, second) = (Incarnation::FIRST, Incarnation::new(2));
        assert_eq!(bucket.read_claim().await, Ok(None));
        bucket.claim("c", first).await.expect("free");
        bucket.claim("c", first).await.expect("ours");
        let older = bucket.claim("c", second).await.expect_err("older");
        assert!(matches!(older, ClaimError::OlderIncarnation { ours: 2, theirs: 1, .. }), "{older}");
        bucket.raise_claim("c", second).await.expect("raised");
        bucket.raise_claim("c", second).await.expect("raised already");
        bucket.claim("c", second).await.expect("ours");
        for refused in [bucket.claim("c", first).await, bucket.raise_claim("c", first).await] {
            let newer = refused.expect_err("newer");
            assert!(matches!(newer, ClaimError::NewerIncarnation { ours: 1, theirs: 2, .. }), "{newer}");
        }
        let other = bucket.raise_claim("d", Incarnation::new(9)).await.expect_err("another cluster");
        assert!(matches!(other, ClaimError::OtherCluster { .. }), "{other}");
        let claim = bucket.read_claim().await.expect("readable").expect("there");
        assert_eq!((claim.cluster_id.as_str(), claim.incarnation), ("c", second));
        bucket
            .put(CLAIM_KEY, vec![Bytes::from_static(b"{\"format\":7}")], within(5))
            .await
            .expect("an upload");
        let unreadable = bucket.claim("c", second).await.expect_err("no claim");
        assert!(matches!(unreadable, ClaimError::Unreadable { .. }), "{unreadable}");
    }
}

#[tokio::test]
async fn replacing_a_file_is_atomic_among_many() {
    let home = tempfile::tempdir().expect("a directory");
    let open = || {
        Bucket::open_directory(home.path(), &BucketOptions::default(), Arc::new(SeededRandomness::new(SEED)))
            .expect("opens")
    };
    open().put_if_absent("n", Bytes::from_static(b"0")).await.expect("created");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let bucket = open();
        tasks.spawn(async move {
            let mut added = 0;
            while added < 5 {
                let now = bucket.get_with_etag("n").await.expect("a read");
                let number: u32 = std::str::from_utf8(&now.data).expect("text").parse().expect("a number");
                // Another length each time: a file's tag is made of its inode, time and size.
                let next = Bytes::from((number + 1).to_string());
                match bucket.put_if_matches("n", next, &now.etag.expect("a tag")).await {
                    Ok(_) => added += 1,
                    Err(error) => assert!(error.is_precondition(), "{error}"),
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    assert_eq!(open().get_with_etag("n").await.expect("a read").data, "40");
}

#[tokio::test]
async fn blocks_own_exactly_their_bytes() {
    let home = tempfile::tempdir().expect("a directory");
    let directory =
        Bucket::open_directory(home.path(), &BucketOptions::default(), Arc::new(SeededRandomness::new(SEED)))
            .expect("opens");
    for bucket in [faulty(SEED, &BucketOptions::default()).1, directory] {
        let content: Vec<u8> = (0..100_000_u32).map(|i| (i % 253) as u8).collect();
        bucket.put("k", vec![Bytes::from(content.clone())], within(10)).await.expect("an upload");
        let loaded = bucket.get_blocks("k", 10_000..200_000, 30_000).await.expect("a read");
        assert_eq!(loaded.object_bytes, 100_000);
        assert_eq!(loaded.blocks.concat(), &content[10_000..]);
        assert_eq!(loaded.blocks.iter().map(Bytes::len).collect::<Vec<_>>(), [30_000; 3]);
        for block in loaded.blocks {
            let length = block.len();
            let alone = block.try_into_mut().expect("nobody shares it");
            assert_eq!(alone.capacity(), length);
        }
    }
}

#[tokio::test]
async fn a_full_or_missing_directory_says_so() {
    let home = tempfile::tempdir().expect("a directory");
    let bucket =
        Bucket::open_directory(home.path(), &BucketOptions::default(), Arc::new(SeededRandomness::new(SEED)))
            .expect("opens");
    std::fs::write(home.path().join("objects"), b"a file").expect("writes");
    let error = bucket.put("objects/k", data(), within(5)).await.expect_err("a file is in the way");
    assert!(!error.class.is_retriable() && error.attempts == 1, "{error}");
}
