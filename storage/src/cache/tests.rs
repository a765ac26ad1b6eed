//! The cache over a source that can be held up, and over a bucket that fails.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;
use penstock_types::{Incarnation, ObjectId, SeededRandomness, StoreVersion};
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::entry::BlockKey;
use super::*;
use crate::bucket::faults::{FaultRates, Faults, FaultyStore};
use crate::bucket::{BucketOptions, InMemory, LoadedBlocks};

const KIB: u64 = 1024;
const BLOCK: u64 = 4 * KIB;

fn id(number: u64) -> ObjectId {
    ObjectId::new(Incarnation::FIRST, StoreVersion::new(number), number)
}

fn content(object: ObjectId, bytes: u64) -> Bytes {
    let seed = object.version().get();
    (0..bytes)
        .map(|i| (i.wrapping_mul(31).wrapping_add(i >> 8).wrapping_add(seed * 7)) as u8)
        .collect::<Vec<u8>>()
        .into()
}

/// Small blocks, so that small data does what large data would.
fn options() -> CacheOptions {
    CacheOptions {
        tail_bytes: 64 * BLOCK,
        lagging_bytes: 32 * BLOCK,
        block_bytes: BLOCK,
        tail_load_bytes: 8 * BLOCK,
        lagging_load_bytes: 8 * BLOCK,
        readahead_bytes: 8 * BLOCK,
        tail_loading_bytes: 64 * BLOCK,
        lagging_loading_bytes: 32 * BLOCK,
        most_blocks_loading: 64,
        load_timeout: Duration::from_secs(20),
        copy_chunks_below: 512,
    }
}

/// Objects of one size; loads wait for the gate.
#[derive(Debug)]
struct TestSource {
    object_bytes: u64,
    gate: Semaphore,
    fails: AtomicBool,
    panics: AtomicBool,
    loads: Mutex<Vec<(ObjectId, Range<u64>)>>,
}

impl TestSource {
    fn open(object_bytes: u64) -> Arc<Self> {
        let source = Self::closed(object_bytes);
        source.gate.add_permits(1_000_000);
        source
    }

    fn closed(object_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            object_bytes,
            gate: Semaphore::new(0),
            fails: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            loads: Mutex::default(),
        })
    }

    fn loads(&self) -> usize {
        self.loads.lock().len()
    }
}

#[async_trait]
impl BlockSource for TestSource {
    async fn load(
        &self,
        object: ObjectId,
        range: Range<u64>,
        block_bytes: u64,
    ) -> Result<LoadedBlocks, ReadError> {
        self.loads.lock().push((object, range.clone()));
        self.gate.acquire().await.expect("never closed").forget();
        assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
        if self.fails.load(Ordering::SeqCst) {
            return Err(ReadError::Unavailable {
                object,
                class: ErrorClass::Throttled,
                detail: "told to".to_owned(),
            });
        }
        let all = content(object, self.object_bytes);
        let range = range.start as usize..range.end.min(self.object_bytes) as usize;
        let blocks = all[range].chunks(block_bytes as usize).map(Bytes::copy_from_slice).collect();
        Ok(LoadedBlocks { blocks, object_bytes: self.object_bytes })
    }
}

async fn check(cache: &Cache, object: ObjectId, range: Range<u64>, kind: ReadKind) {
    let read = cache.read(object, range.clone(), kind).await.expect("a read").concat();
    let all = content(object, range.end);
    assert!(read == all[range.start as usize..], "{object} {range:?}");
}

/// Lets the other tasks go on until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition never came about");
}

#[tokio::test]
async fn a_block_is_loaded_once_however_many_wait() {
    let source = TestSource::closed(16 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    let readers: Vec<_> = (0..100)
        .map(|i| {
            let cache = cache.clone();
            tokio::spawn(async move { check(&cache, id(1), 10 + i..3 * BLOCK - i, ReadKind::Tail).await })
        })
        .collect();
    until(|| cache.stats().misses == 300).await;
    assert_eq!(cache.stats().blocks_loading, 3);
    source.gate.add_permits(100);
    for reader in readers {
        reader.await.expect("no panic");
    }
    assert_eq!(*source.loads.lock(), [(id(1), 0..3 * BLOCK)], "neighbours in one request");
    check(&cache, id(1), 0..3 * BLOCK, ReadKind::Tail).await;
    assert_eq!((source.loads(), cache.stats().blocks_loading), (1, 0));
}

#[tokio::test]
async fn everybody_who_waits_gets_the_error_and_nobody_later_does() {
    let source = TestSource::closed(16 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    for panics in [false, true] {
        source.fails.store(!panics, Ordering::SeqCst);
        source.panics.store(panics, Ordering::SeqCst);
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.read(id(1), 0..BLOCK, ReadKind::Tail).await })
            })
            .collect();
        let before = source.loads();
        until(|| source.loads() > before && cache.stats().misses >= 50).await;
        source.gate.add_permits(1);
        for reader in readers {
            let error = reader.await.expect("no panic").expect_err("told to fail");
            assert!(matches!(error, ReadError::Unavailable { .. }), "{error}");
        }
    }
    source.panics.store(false, Ordering::SeqCst);
    source.gate.add_permits(1);
    check(&cache, id(1), 0..BLOCK, ReadKind::Tail).await;
    assert_eq!(cache.stats().load_failures, 1, "a load that panicked couldn't count itself");
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_the_load_to_the_others() {
    let source = TestSource::closed(16 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    let read =
        |cache: Arc<Cache>| tokio::spawn(async move { check(&cache, id(1), 0..BLOCK, ReadKind::Tail).await });
    let first = read(cache.clone());
    until(|| source.loads() == 1).await;
    let second = read(cache.clone());
    until(|| cache.stats().misses == 2).await;
    first.abort();
    assert!(first.await.expect_err("aborted").is_cancelled());
    source.gate.add_permits(1);
    second.await.expect("answered");
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn requests_are_as_large_as_they_may_be() {
    let source = TestSource::open(64 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    check(&cache, id(1), 3 * BLOCK..4 * BLOCK, ReadKind::Tail).await;
    check(&cache, id(1), 0..20 * BLOCK, ReadKind::Tail).await;
    let mut loads = source.loads.lock().clone();
    loads.sort_by_key(|(_, range)| range.start);
    let expected = [0..3, 3..4, 4..12, 12..20]
        .map(|blocks: Range<u64>| (id(1), blocks.start * BLOCK..blocks.end * BLOCK));
    assert_eq!(loads, expected);
}

#[tokio::test]
async fn what_was_written_is_there_without_a_copy() {
    let source = TestSource::open(0);
    let cache = Cache::with_source(source.clone(), options());
    let all = content(id(1), 5 * BLOCK);
    let chunks: Vec<Bytes> = [0..7, 7..5000, 5000..5010, 5010..20480].map(|range| all.slice(range)).to_vec();
    cache.insert_written(id(1), &chunks).await;
    check(&cache, id(1), 3..20_000, ReadKind::Tail).await;
    check(&cache, id(1), 0..20_480, ReadKind::Lagging { section_end: 20_480 }).await;
    let read = cache.read(id(1), 6000..7000, ReadKind::Tail).await.expect("a read");
    assert_eq!((read.len(), read[0].as_ptr()), (1, all[6000..].as_ptr()), "the slice that was uploaded");
    let error = cache.read(id(1), 20_000..20_481, ReadKind::Tail).await.expect_err("too far");
    assert_eq!(error, ReadError::OutOfRange { object: id(1), object_bytes: 20_480, range: 20_000..20_481 });
    assert!(cache.read(id(1), 5..5, ReadKind::Tail).await.expect("nothing").is_empty());
    assert_eq!((source.loads(), cache.stats().misses), (0, 0));
}

#[tokio::test]
async fn what_was_just_written_is_always_let_in() {
    let cache = Cache::with_source(TestSource::open(0), options());
    let default = moka::future::Cache::builder()
        .max_capacity(64 * BLOCK)
        .weigher(|_, entry: &Arc<Entry>| entry.weight())
        .eviction_policy(EvictionPolicy::tiny_lfu())
        .build();
    let keep = |number: u64| {
        let chunks = [content(id(number), 4 * BLOCK)];
        let entry = Arc::new(Entry::written(&chunks, 0, &Arc::new(AtomicU64::new(0))));
        (chunks, entry)
    };
    for number in 0..13 {
        let (chunks, entry) = keep(number);
        cache.insert_written(id(number), &chunks).await;
        default.insert(BlockKey::written(id(number)), entry).await;
    }
    for _ in 0..50 {
        for number in 0..13 {
            check(&cache, id(number), 0..BLOCK, ReadKind::Tail).await;
            default.get(&BlockKey::written(id(number))).await;
        }
        default.run_pending_tasks().await;
    }
    let mut refused = 0;
    for number in 100..130 {
        let (chunks, entry) = keep(number);
        cache.insert_written(id(number), &chunks).await;
        check(&cache, id(number), 0..4 * BLOCK, ReadKind::Tail).await;
        default.insert(BlockKey::written(id(number)), entry).await;
        default.run_pending_tasks().await;
        refused += u32::from(!default.contains_key(&BlockKey::written(id(number))));
    }
    assert_eq!(cache.stats().misses, 0, "each one was there");
    assert!(refused > 0, "the library's default policy would have refused some");
}

#[tokio::test]
async fn a_lagging_reader_evicts_nothing_from_the_tail() {
    let source = TestSource::open(1024 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    for number in 0..10 {
        cache.insert_written(id(number), &[content(id(number), 4 * BLOCK)]).await;
    }
    check(&cache, id(50), 0..8 * BLOCK, ReadKind::Tail).await;
    let loads = source.loads();
    let end = 1024 * BLOCK;
    for at in (0..end).step_by(2 * BLOCK as usize) {
        check(&cache, id(99), at..at + 2 * BLOCK, ReadKind::Lagging { section_end: end }).await;
    }
    assert!(source.loads() > loads);
    let (loads, misses) = (source.loads(), cache.stats().misses);
    for number in 0..10 {
        check(&cache, id(number), 0..4 * BLOCK, ReadKind::Tail).await;
    }
    check(&cache, id(50), 0..8 * BLOCK, ReadKind::Tail).await;
    assert_eq!((source.loads(), cache.stats().misses), (loads, misses), "all still there");
    let stats = cache.stats();
    assert!(stats.lagging_weight_bytes <= 32 * BLOCK && stats.tail_weight_bytes <= 64 * BLOCK, "{stats:?}");
}

#[tokio::test]
async fn a_lagging_reader_is_read_ahead_for_within_its_section() {
    let source = TestSource::open(1024 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    let end = 256 * BLOCK + 100;
    let kind = ReadKind::Lagging { section_end: end };
    for at in (0..end).step_by(BLOCK as usize) {
        check(&cache, id(1), at..(at + BLOCK).min(end), kind).await;
        // The reader sends what it got, and the loads go on meanwhile.
        until(|| cache.stats().blocks_loading == 0).await;
    }
    let loads = source.loads.lock().clone();
    let mut blocks: Vec<u64> =
        loads.iter().flat_map(|(_, range)| range.start / BLOCK..range.end.div_ceil(BLOCK)).collect();
    blocks.sort_unstable();
    assert_eq!(blocks, (0..257).collect::<Vec<_>>(), "each block once, none behind the section");
    // Eight at a time, and the one that is left over with the last.
    assert!(loads.len() <= 33, "{} requests for 257 blocks", loads.len());
    let stats = cache.stats();
    assert!(stats.misses == 1 && stats.readahead_loads > 30, "{stats:?}");
}

#[tokio::test]
async fn memory_stays_within_the_budgets() {
    let source = TestSource::open(64 * BLOCK);
    let cache = Cache::with_source(source, options());
    let mut most = 0;
    for number in 0..500 {
        cache.insert_written(id(number), &[content(id(number), 3 * BLOCK)]).await;
        check(&cache, id(number + 1000), 0..4 * BLOCK, ReadKind::Tail).await;
        check(&cache, id(number + 2000), 0..4 * BLOCK, ReadKind::Lagging { section_end: 64 * BLOCK }).await;
        let stats = cache.stats();
        assert!(
            stats.tail_weight_bytes <= 64 * BLOCK && stats.lagging_weight_bytes <= 32 * BLOCK,
            "{stats:?}"
        );
        most = most.max(stats.held_bytes);
    }
    // The cache's own garbage goes when no thread holds it up: far less stays than the 8,000 blocks that went through.
    assert!(most <= 8 * 96 * BLOCK, "{most} bytes alive: evicted entries are dropped, not only forgotten");
    assert!(cache.stats().evictions > 1000);
}

#[tokio::test(start_paused = true)]
async fn loads_end_in_time_and_their_number_is_bounded() {
    let source = TestSource::closed(1024 * BLOCK);
    let cache = Cache::with_source(source.clone(), options());
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.read(id(number), 0..8 * BLOCK, ReadKind::Tail).await })
        })
        .collect();
    until(|| cache.stats().blocks_loading == 64).await;
    assert_eq!(cache.read(id(100), 0..1, ReadKind::Tail).await, Err(ReadError::Busy));
    let begun = tokio::time::Instant::now();
    for reader in readers {
        let error = reader.await.expect("no panic").expect_err("never loaded");
        assert!(matches!(error, ReadError::Unavailable { class: ErrorClass::Timeout, .. }), "{error}");
    }
    assert_eq!(begun.elapsed().as_secs(), 20);
    source.gate.add_permits(100);
    check(&cache, id(100), 0..BLOCK, ReadKind::Tail).await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_bytes_are_loaded_at_once() {
    let source = TestSource::closed(1024 * BLOCK);
    let bounds = CacheOptions { tail_loading_bytes: 16 * BLOCK, ..options() };
    let cache = Cache::with_source(source.clone(), bounds);
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let cache = cache.clone();
            tokio::spawn(async move { check(&cache, id(number), 0..8 * BLOCK, ReadKind::Tail).await })
        })
        .collect();
    until(|| cache.stats().blocks_loading == 64 && source.loads() == 2).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(source.loads(), 2, "two of eight blocks fill sixteen");
    // Lagging readers have loads of their own.
    source.gate.add_permits(100);
    for reader in readers {
        reader.await.expect("all in their turn");
    }
}

fn bucket_cache(seed: u64) -> (Arc<FaultyStore>, Arc<Bucket>, Arc<Cache>) {
    let randomness = Arc::new(SeededRandomness::new(seed));
    let store = FaultyStore::new(Arc::new(InMemory::new()), randomness.clone());
    let bucket = Bucket::with_store(store.clone(), "", &BucketOptions::default(), randomness);
    let tiny = CacheOptions {
        tail_bytes: 12 * BLOCK,
        lagging_bytes: 20 * BLOCK,
        tail_load_bytes: 3 * BLOCK,
        lagging_load_bytes: 4 * BLOCK,
        readahead_bytes: 6 * BLOCK,
        ..options()
    };
    (store, bucket.clone(), Cache::new(bucket, tiny))
}

async fn upload(bucket: &Bucket, object: ObjectId, all: &Bytes) {
    let key = crate::object::object_key(object);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(600);
    bucket.put(&key, vec![all.clone()], deadline).await.expect("an upload");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_says_so_and_may_come_back() {
    let (_, bucket, cache) = bucket_cache(1);
    let gone = cache.read(id(1), 0..10, ReadKind::Tail).await.expect_err("nothing there");
    assert_eq!(gone, ReadError::Gone { object: id(1) });
    upload(&bucket, id(1), &content(id(1), 100)).await;
    check(&cache, id(1), 0..100, ReadKind::Tail).await;
    let error = cache.read(id(1), 50..101, ReadKind::Tail).await.expect_err("too far");
    assert_eq!(error, ReadError::OutOfRange { object: id(1), object_bytes: 100, range: 50..101 });
    for range in [BLOCK..BLOCK + 1, u64::MAX - 1..u64::MAX] {
        let error = cache.read(id(1), range, ReadKind::Tail).await.expect_err("too far");
        assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write { object: u64, bytes: u64, chunk: usize },
    Read { object: u64, from: u64, length: u64, lagging: bool },
    Together { reads: Vec<(u64, u64, u64, bool)> },
    Faults(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let read = || (0..6_u64, 0..12 * BLOCK, 1..5 * BLOCK, any::<bool>());
    let step = prop_oneof![
        2 => (0..6_u64, 1..12 * BLOCK, 1..6000_usize)
            .prop_map(|(object, bytes, chunk)| Step::Write { object, bytes, chunk }),
        6 => read().prop_map(|(object, from, length, lagging)| Step::Read { object, from, length, lagging }),
        3 => prop::collection::vec(read(), 2..6).prop_map(|reads| Step::Together { reads }),
        1 => any::<bool>().prop_map(Step::Faults),
    ];
    prop::collection::vec(step, 1..60)
}

/// One read against what was written: the same bytes, or an error that the truth or the faults explain.
async fn compare(
    cache: &Cache,
    written: &BTreeMap<u64, Bytes>,
    faulty: bool,
    (object, from, length, lagging): (u64, u64, u64, bool),
) {
    let range = from..from + length;
    let all = written.get(&object);
    let section_end = all.map_or(0, |all| all.len() as u64);
    let kind = if lagging { ReadKind::Lagging { section_end } } else { ReadKind::Tail };
    match (cache.read(id(object), range.clone(), kind).await, all) {
        (Ok(read), Some(all)) => {
            assert!(range.end <= all.len() as u64, "{range:?} of {}", all.len());
            assert!(
                read.concat() == all[range.start as usize..range.end as usize],
                "object {object} {range:?}"
            );
        }
        (Err(ReadError::Gone { .. }), None) => {}
        (Err(ReadError::OutOfRange { .. }), Some(all)) => assert!(range.end > all.len() as u64, "{range:?}"),
        (Err(ReadError::Unavailable { .. }), _) if faulty => {}
        (answer, all) => panic!("object {object} {range:?} of {:?}: {answer:?}", all.map(Bytes::len)),
    }
}

async fn play(seed: u64, steps: Vec<Step>) {
    let (store, bucket, cache) = bucket_cache(seed);
    let mut written: BTreeMap<u64, Bytes> = BTreeMap::new();
    let mut faulty = false;
    for step in steps {
        match step {
            Step::Write { object, bytes, chunk } => {
                if written.contains_key(&object) {
                    continue;
                }
                let all = content(id(object), bytes);
                upload(&bucket, id(object), &all).await;
                let chunks: Vec<Bytes> = (0..all.len())
                    .step_by(chunk)
                    .map(|at| all.slice(at..all.len().min(at + chunk)))
                    .collect();
                cache.insert_written(id(object), &chunks).await;
                written.insert(object, all);
            }
            Step::Read { object, from, length, lagging } => {
                compare(&cache, &written, faulty, (object, from, length, lagging)).await;
            }
            Step::Together { reads } => {
                let reads = reads.into_iter().map(|read| compare(&cache, &written, faulty, read));
                futures::future::join_all(reads).await;
            }
            Step::Faults(on) => {
                faulty |= on;
                let rates = FaultRates {
                    unavailable: 150,
                    lost_answer: 100,
                    short_read: 100,
                    hang: 50,
                    slow: 300,
                    slow_by: Duration::ZERO..Duration::from_millis(100),
                    ..FaultRates::default()
                };
                store.set(if on { Faults::everywhere(rates) } else { Faults::default() });
            }
        }
        let stats = cache.stats();
        assert!(
            stats.tail_weight_bytes <= 12 * BLOCK && stats.lagging_weight_bytes <= 20 * BLOCK,
            "{stats:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn reads_give_the_bytes_of_the_object_whatever_happens(seed in any::<u64>(), steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(play(seed, steps));
    }
}
