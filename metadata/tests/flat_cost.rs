//! A measurement by hand: what a commit and a look-up cost as partitions and objects become many.
//! `cargo test --release -p penstock-metadata --test flat_cost -- --ignored --nocapture`
//!
//! CPU time of the whole process, the store's own threads included: a busy machine changes it little. Each commit is one
//! object with a batch of an idempotent producer for each of ten partitions, and its offsets are read at its version;
//! partitions are sealed as an agent seals them, and that is counted in. A look-up validates the view by the feed and
//! plans 1 MiB, at the log's end or anywhere in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::{Committer, ObjectOutcome};
use penstock_metadata::ground::AllExist;
use penstock_metadata::keys::log::{BatchFacts, BatchProducer};
use penstock_metadata::keys::{Keyspace, topic};
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::{Priority, SharedStore, WriteConflict};
use penstock_metadata::lookup::{LogReader, PlanLimits};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness,
    Sequence, StoreVersion, TopicId, TopicPartition,
};

/// The agent's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Partitions that one object holds.
const TOUCHED: u64 = 10;
/// Committers at a time.
const COMMITTERS: u64 = 8;
/// A partition with so many rows is sealed.
const SEAL_ROWS: u64 = 1_000;
/// Commits of one measurement.
const MEASURED: u64 = 2_000;
/// Look-ups of one measurement.
const LOOKUPS: u64 = 5_000;
const RECORDS: u32 = 10;
const TOPIC: TopicId = TopicId::from_bytes([7; 16]);

fn partition(index: u64) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionIndex::new(index as i32) }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// One producer, in lanes that don't share state: each committer has its own.
struct Lane {
    id: u64,
    next: BTreeMap<u64, i32>,
    randomness: SeededRandomness,
}

impl Lane {
    fn object(&mut self, partitions: u64) -> (ObjectToCommit, Vec<u64>) {
        let mut touched = BTreeSet::new();
        while (touched.len() as u64) < TOUCHED.min(partitions) {
            touched.insert(self.randomness.below(partitions));
        }
        let mut batches = Vec::new();
        let mut position = 0;
        for index in &touched {
            let next = self.next.entry(*index).or_insert(0);
            let producer = BatchProducer {
                id: ProducerId::new(self.id as i64),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(*next),
            };
            *next += RECORDS as i32;
            let facts = BatchFacts {
                length: 16 << 10,
                records: RECORDS,
                flags: 0,
                base_timestamp: 1_000,
                max_timestamp: 1_000,
                producer: Some(producer),
            };
            batches.push(BatchToCommit { partition: partition(*index), position, facts, refused: None });
            position += u64::from(facts.length);
        }
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), self.randomness.next_u64());
        (ObjectToCommit { id, size: position, batches }, touched.into_iter().collect())
    }
}

struct Bench {
    store: SharedStore,
    keyspace: Keyspace,
    committer: Committer<AllExist>,
    lanes: Vec<Lane>,
    unsealed: BTreeMap<u64, u64>,
    partitions: u64,
    objects: u64,
}

impl Bench {
    async fn open(store: SharedStore, partitions: u64) -> Self {
        let keyspace = Keyspace::new(b"flat");
        let mut transaction = store.begin(Priority::Default);
        transaction.set(&topic::row_key(&keyspace, TOPIC), b"there", WriteConflict::Yes);
        transaction.commit().await.expect("the topic");
        let committer = Committer {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            incarnation: Incarnation::FIRST,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        let lanes = (0..COMMITTERS)
            .map(|id| Lane { id, next: BTreeMap::new(), randomness: SeededRandomness::new(id) })
            .collect();
        Self { store, keyspace, committer, lanes, unsealed: BTreeMap::new(), partitions, objects: 0 }
    }

    /// Commits about so many objects, and seals what is due.
    async fn commit(&mut self, count: u64) {
        for _ in 0..count.div_ceil(COMMITTERS) {
            let made: Vec<_> = self.lanes.iter_mut().map(|lane| lane.object(self.partitions)).collect();
            let commits =
                made.iter().map(|(object, _)| self.committer.first_attempt(std::slice::from_ref(object)));
            for outcome in join_all(commits).await {
                let outcomes = outcome.expect("nobody conflicts");
                let ObjectOutcome::Committed { offsets, .. } = &outcomes[0] else {
                    panic!("no cutoff moves")
                };
                assert_eq!(offsets.len() as u64, TOUCHED.min(self.partitions), "every offset is found");
            }
            self.objects += COMMITTERS;
            for index in made.into_iter().flat_map(|(_, touched)| touched) {
                let rows = self.unsealed.entry(index).or_default();
                *rows += 1;
                if *rows >= SEAL_ROWS {
                    *rows = 0;
                    seal_partition(&self.store, &self.keyspace, partition(index), SealDue::NOW)
                        .await
                        .expect("a seal");
                }
            }
        }
    }

    /// Looks so many times, at the end or anywhere; the views are warm.
    async fn look(&self, at_end: bool) {
        let views = Views::new(Arc::clone(&self.store), self.keyspace.clone(), 100_000);
        let log = LogReader::new(Arc::clone(&self.store), self.keyspace.clone());
        let randomness = SeededRandomness::new(1);
        for _ in 0..LOOKUPS {
            let of = partition(randomness.below(TOUCHED.min(self.partitions)));
            let view = views.validated(&[of]).await.expect("the feed").remove(0).expect("a view");
            let end = view.read(TailView::high_watermark);
            let batches = end.get() as u64 / u64::from(RECORDS);
            let batch = if at_end { batches - 1 } else { randomness.below(batches) };
            let offset = Offset::new((batch * u64::from(RECORDS)) as i64).expect("an offset");
            let limits = PlanLimits { end, max_bytes: 1 << 20, at_least_one: true };
            let plan = log.plan(&view, offset, limits).await.expect("a plan");
            assert_eq!(plan.first().map(|batch| batch.base_offset), Some(offset));
        }
    }

    /// Prints a line and gives the microseconds of a commit, of a look at the end, and of one anywhere.
    async fn measure(&mut self) -> [f64; 3] {
        let micros = |took: Duration, count: u64| took.as_secs_f64() * 1e6 / count as f64;
        let begun = cpu_time();
        self.commit(MEASURED).await;
        let commit = micros(cpu_time() - begun, MEASURED);
        let mut looks = [0.0; 2];
        for (took, at_end) in looks.iter_mut().zip([true, false]) {
            let begun = cpu_time();
            self.look(at_end).await;
            *took = micros(cpu_time() - begun, LOOKUPS);
        }
        let [end, anywhere] = looks;
        let (partitions, objects) = (self.partitions, self.objects);
        println!("| {partitions} | {objects} | {commit:.0} | {end:.0} | {anywhere:.0} |");
        [commit, end, anywhere]
    }
}

fn with_bench<F: AsyncFnOnce(Bench)>(partitions: u64, run: F) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = EmbeddedStore::open(directory.path(), EmbeddedOptions::default()).expect("the store opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async move { run(Bench::open(store, partitions).await).await });
}

fn ratio(what: &str, first: [f64; 3], last: [f64; 3]) {
    let [commit, end, anywhere] = std::array::from_fn(|at| last[at] / first[at]);
    println!(
        "{what}: commit {commit:.2}, look at the end {end:.2}, anywhere {anywhere:.2} times the first\n"
    );
}

#[test]
#[ignore = "a measurement"]
fn cost_by_partitions() {
    println!(
        "| partitions | objects | commit, CPU µs | look at the end, µs | look anywhere, µs |\n|---|---|---|---|---|"
    );
    let mut lines = Vec::new();
    for partitions in [10, 100, 1_000, 10_000] {
        with_bench(partitions, async |mut bench| {
            bench.commit(4_000).await;
            lines.push(bench.measure().await);
        });
    }
    ratio("10 to 10,000 partitions", lines[0], lines[lines.len() - 1]);
}

#[test]
#[ignore = "a measurement"]
fn cost_by_objects() {
    println!(
        "| partitions | objects | commit, CPU µs | look at the end, µs | look anywhere, µs |\n|---|---|---|---|---|"
    );
    with_bench(10, async |mut bench| {
        let mut lines = Vec::new();
        for objects in [10, 100, 1_000, 10_000, 100_000] {
            bench.commit(objects - bench.objects.min(objects)).await;
            lines.push(bench.measure().await);
        }
        ratio("10 to 100,000 objects", lines[0], lines[lines.len() - 1]);
    });
}
