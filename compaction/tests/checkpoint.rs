//! Checkpoints against a bucket and a metadata store in memory: what they hold, what they cost, and that nothing is left
//! behind, whatever fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use penstock_compaction::checkpoint::format::{CHECKPOINTS_PREFIX, Part, PartBuilder, PartName};
use penstock_compaction::checkpoint::{CheckpointParts, CheckpointSettings, Checkpoints};
use penstock_compaction::share::{Everything, Share};
use penstock_metadata::checkpoints::standings;
use penstock_metadata::fold::FoldState;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::keys::log::{self, BatchFacts, LogRow};
use penstock_metadata::keys::{Family, Keyspace, checkpoint, index, log_start, seal, topic};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_metadata::kv::{
    Isolation, Priority, RangeOptions, Row, SharedStore, StoreError, Transaction, WriteConflict, prefixed,
};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_storage::bucket::faults::{FaultRates, Faults, FaultyStore};
use penstock_storage::bucket::{Bucket, BucketOptions};
use penstock_types::{
    Incarnation, LeaderEpoch, ObjectId, Offset, PartitionIndex, Randomness, SeededRandomness, StoreVersion,
    TopicId, TopicPartition, pause,
};

const MINUTE: Duration = Duration::from_secs(60);
const SETTINGS: CheckpointSettings =
    CheckpointSettings { interval: MINUTE, bytes_per_second: 1 << 20, look: Duration::from_secs(5) };

struct World {
    memory: Arc<MemoryStore>,
    store: SharedStore,
    keyspace: Keyspace,
    bucket: Arc<Bucket>,
    faulty: Arc<FaultyStore>,
    parts: CheckpointParts,
    randomness: Arc<SeededRandomness>,
}

fn partition(number: u64) -> TopicPartition {
    let topic = TopicId::from_bytes([(number % 3) as u8 + 1; 16]);
    TopicPartition { topic, partition: PartitionIndex::new((number / 3) as i32) }
}

impl World {
    async fn new(seed: u64) -> Self {
        let randomness = Arc::new(SeededRandomness::new(seed));
        let memory = MemoryStore::new(Arc::clone(&randomness) as _);
        let store: SharedStore = memory.clone();
        let faulty = FaultyStore::in_memory(Arc::clone(&randomness) as _);
        let bucket = Bucket::with_store(
            Arc::clone(&faulty) as _,
            "p",
            &BucketOptions::default(),
            Arc::clone(&randomness) as _,
        );
        let cluster = ClusterIdentity {
            cluster_id: "cluster".to_owned(),
            incarnation: Incarnation::FIRST,
            schema_version: 1,
            oldest_writer: 1,
            created_ms: 1,
        };
        bucket.claim("cluster", Incarnation::FIRST).await.expect("a free bucket");
        let keyspace = Keyspace::new(b"c/");
        let parts = CheckpointParts {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            cluster,
            bucket: Arc::clone(&bucket),
            randomness: Arc::clone(&randomness) as _,
            share: Arc::new(Everything),
        };
        let world = Self { memory, store, keyspace, bucket, faulty, parts, randomness };
        world.make_topics().await;
        world
    }

    async fn make_topics(&self) {
        let mut transaction = self.store.begin(Priority::Default);
        for number in 0..3 {
            let key = topic::row_key(&self.keyspace, partition(number).topic);
            // Neither the seal nor a checkpoint looks into it.
            transaction.set(&key, format!("topic {number}").as_bytes(), WriteConflict::Yes);
        }
        transaction.commit().await.expect("topics");
    }

    fn job(&self) -> Arc<Checkpoints> {
        Checkpoints::new(self.parts.clone(), SETTINGS)
    }

    /// Commits a few rows to a partition and seals them.
    async fn write_and_seal(&self, of: TopicPartition) {
        let rows = 1 + self.randomness.below(4);
        retried(async || {
            let mut transaction = self.store.begin(Priority::Default);
            for n in 0..rows {
                let facts = BatchFacts {
                    length: 100,
                    records: 2,
                    flags: 0,
                    base_timestamp: 5,
                    max_timestamp: 6,
                    producer: None,
                };
                let object = ObjectId::new(Incarnation::FIRST, StoreVersion::new(n), 9);
                let row = LogRow::Data {
                    leader_epoch: LeaderEpoch::FIRST,
                    object,
                    position: 0,
                    batches: vec![facts],
                };
                let prefix = log::row_prefix(&self.keyspace, of, Incarnation::FIRST);
                let n = (n as u32).to_be_bytes();
                transaction.set_stamped_key(&prefix, &n, &row.encode(), WriteConflict::No);
            }
            count(transaction.as_mut(), &self.keyspace, of, 2 * rows as i64);
            transaction.commit().await.map(drop)
        })
        .await;
        retried(async || seal_partition(&self.store, &self.keyspace, of, SealDue::NOW).await.map(drop)).await;
    }

    /// All rows of a family.
    async fn family(&self, family: Family) -> Vec<Row> {
        let mut transaction = self.store.begin(Priority::Default);
        let options = RangeOptions {
            limit: usize::MAX,
            target_bytes: usize::MAX,
            reverse: false,
            isolation: Isolation::Snapshot,
            written_at: None,
        };
        transaction.range(prefixed(&self.keyspace.family(family)), options).await.expect("rows").rows
    }

    async fn keys(&self) -> BTreeSet<String> {
        let listed: Vec<_> = self.bucket.list(CHECKPOINTS_PREFIX).collect().await;
        listed.into_iter().map(|listed| listed.expect("listed").key).collect()
    }

    /// The keys of the current checkpoints, as the metadata says.
    async fn expected_keys(&self) -> BTreeSet<String> {
        let (_, standings) = standings(&self.store, &self.keyspace).await.expect("standings");
        let mut keys = BTreeSet::new();
        for (slot, standing) in standings {
            assert!(!standing.is_behind(), "slot {} is behind", slot.get());
            let current = standing.state.current.expect("not behind");
            keys.extend((0..current.parts).map(|part| PartName { slot, id: current.id, part }.key()));
        }
        keys
    }

    async fn read(&self, key: &str) -> Part {
        let object = self.bucket.get_with_etag(key).await.expect("it is there").data;
        let part = Part::decode(&object).expect("a whole part");
        assert_eq!((part.name.key(), &*part.cluster_id), (key.to_owned(), "cluster"));
        part
    }

    /// What lies in the bucket is what was sealed, and nothing else.
    async fn check(&self) {
        assert_eq!(self.keys().await, self.expected_keys().await);
        let mut found: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        for key in self.keys().await {
            let part = self.read(&key).await;
            assert!(part.is_last, "{key}");
            for row in part.rows {
                found.insert(row.key, row.value);
            }
        }
        let mut expected = BTreeMap::new();
        // The topics of which something is sealed: their ids stand behind prefix, family and one byte more.
        let sealed: BTreeSet<Bytes> =
            self.family(Family::Seal).await.into_iter().map(|row| row.key.slice(3..19)).collect();
        for family in [Family::Topic, Family::Seal, Family::Index, Family::LogStart, Family::Aborted] {
            for row in self.family(family).await {
                if family != Family::Topic || sealed.contains(&row.key.slice(4..20)) {
                    expected.insert(row.key.slice(2..), row.value);
                }
            }
        }
        assert!(found.len() > 3 && found == expected, "{} rows of {}", found.len(), expected.len());
    }
}

async fn retried(mut run: impl AsyncFnMut() -> Result<(), StoreError>) {
    while let Err(error) = run().await {
        assert!(error.is_retryable(), "{error}");
        pause(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_holds_what_is_sealed_and_replaces_its_predecessor() {
    let world = World::new(1).await;
    let job = world.job();
    job.round().await.expect("nothing to do");
    assert_eq!(job.stats().objects.load(Relaxed), 0, "no PUT where nothing was sealed");

    let all: Vec<_> = (0..9).map(partition).collect();
    for of in &all {
        world.write_and_seal(*of).await;
    }
    let mut moved = world.store.begin(Priority::Default);
    moved.atomic_max(&log_start::key(&world.keyspace, all[0]), 1, WriteConflict::No);
    moved.commit().await.expect("log start");
    job.round().await.expect("a round");
    world.check().await;
    let slots = all.iter().map(|of| Slot::of(*of)).collect::<BTreeSet<_>>().len() as u64;
    assert_eq!(job.stats().written.load(Relaxed), slots);
    assert_eq!(job.stats().behind.load(Relaxed), 0);

    // Idle slots cost nothing, and busy ones no more than one checkpoint an interval.
    pause(10 * MINUTE).await;
    job.round().await.expect("a round");
    assert_eq!(job.stats().objects.load(Relaxed), slots);
    world.write_and_seal(all[0]).await;
    job.round().await.expect("a round");
    assert_eq!(job.stats().objects.load(Relaxed), slots + 1);
    world.write_and_seal(all[0]).await;
    pause(MINUTE / 2).await;
    job.round().await.expect("a round");
    assert_eq!(job.stats().objects.load(Relaxed), slots + 1, "too early");
    assert_eq!(job.stats().behind.load(Relaxed), 1);
    pause(MINUTE).await;
    job.round().await.expect("a round");
    assert_eq!(job.stats().objects.load(Relaxed), slots + 2);
    assert_eq!(job.stats().deleted.load(Relaxed), 2);
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_gone_leaves_no_rows() {
    let world = World::new(2).await;
    let job = world.job();
    let of = partition(4);
    world.write_and_seal(of).await;
    let mut gone = world.store.begin(Priority::Default);
    gone.clear(&topic::row_key(&world.keyspace, of.topic), WriteConflict::Yes);
    gone.commit().await.expect("deleted");
    job.round().await.expect("a round");
    let keys = world.keys().await;
    assert_eq!(keys.len(), 1);
    assert_eq!(world.read(keys.first().expect("one")).await.rows, []);
}

/// More than fits one object is spread over several, of which the last says so.
#[tokio::test(start_paused = true)]
async fn a_large_checkpoint_has_parts() {
    let world = World::new(3).await;
    let of = partition(0);
    let (values, end) = (400_i64, Offset::at(400 * 10));
    for first in (0..values).step_by(100) {
        let mut transaction = world.store.begin(Priority::Default);
        for number in first..first + 100 {
            let key = index::key(&world.keyspace, of, Offset::at(number * 10 + 9));
            transaction.set(&key, &[number as u8; 30_000], WriteConflict::Yes);
        }
        transaction.commit().await.expect("an index");
    }
    let mut transaction = world.store.begin(Priority::Default);
    let state = FoldState { next_offset: end, ..FoldState::default() };
    transaction.set(&seal::key(&world.keyspace, of), &seal::encode(&state), WriteConflict::Yes);
    // Sealed meanwhile: not below the seal that was read.
    let above = index::key(&world.keyspace, of, end);
    transaction.set(&above, b"above", WriteConflict::Yes);
    transaction.atomic_add(&checkpoint::seals_key(&world.keyspace, Slot::of(of)), 1, WriteConflict::No);
    transaction.commit().await.expect("a seal");

    let job = world.job();
    job.round().await.expect("a round");
    let keys: Vec<String> = world.keys().await.into_iter().collect();
    assert_eq!(keys.len(), 3, "12 MB of rows in parts of 4 MiB");
    assert_eq!(world.expected_keys().await, keys.iter().cloned().collect());
    let mut index_rows = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let part = world.read(key).await;
        assert_eq!(part.is_last, number == 2);
        index_rows.extend(part.rows.into_iter().filter(|row| row.key[0] == Family::Index as u8));
    }
    assert_eq!(index_rows.len(), values as usize);
    assert!(index_rows.is_sorted_by_key(|row| row.key.clone()));
    // A large one waits longer for its successor.
    let slow = CheckpointSettings { bytes_per_second: 16 << 10, ..SETTINGS };
    let slow = Checkpoints::new(world.parts.clone(), slow);
    let mut transaction = world.store.begin(Priority::Default);
    transaction.atomic_add(&checkpoint::seals_key(&world.keyspace, Slot::of(of)), 1, WriteConflict::No);
    transaction.commit().await.expect("a seal");
    pause(5 * MINUTE).await;
    slow.round().await.expect("a round");
    assert_eq!(slow.stats().objects.load(Relaxed), 0);
    pause(10 * MINUTE).await;
    slow.round().await.expect("a round");
    assert_eq!(slow.stats().objects.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_refers_to_is_swept_and_nothing_else() {
    let world = World::new(4).await;
    let job = world.job();
    world.write_and_seal(partition(0)).await;
    job.round().await.expect("a round");
    let kept = world.keys().await;
    let slot = Slot::of(partition(0));
    let put = async |incarnation, slot, part| {
        let id = ObjectId::new(Incarnation::new(incarnation), StoreVersion::new(1), 7);
        let name = PartName { slot, id, part };
        let object = PartBuilder::new(&name, "cluster").finish(true);
        let deadline = tokio::time::Instant::now() + MINUTE;
        world.bucket.put(&name.key(), vec![object], deadline).await.expect("put");
        name.key()
    };
    put(1, slot, 0).await;
    put(1, Slot::numbered(200).expect("a slot"), 3).await;
    let of_another = put(2, slot, 0).await;
    job.sweep().await.expect("a sweep");
    let with_other: BTreeSet<String> = kept.iter().cloned().chain([of_another]).collect();
    assert_eq!(world.keys().await, with_other);

    // Not where the bucket has become another's.
    world.bucket.raise_claim("cluster", Incarnation::new(2)).await.expect("raised");
    put(1, slot, 1).await;
    assert!(job.sweep().await.is_err());
    assert_eq!(world.keys().await.len(), with_other.len() + 1);
}

/// Several agents write, fail, are stopped half-way and begin anew, over stores that lose answers. After quiet each slot
/// has its checkpoint, whole and up to date, and the bucket holds nothing else.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_left_under_faults() {
    for seed in 10..22 {
        let world = World::new(seed).await;
        world.memory.set_faults(MemoryFaults {
            conflict: 0.05,
            unknown_applied: 0.05,
            unknown_not_applied: 0.05,
            unknown_applied_later: 0.05,
            too_old: 0.03,
            unavailable: 0.02,
            latency: Some(Duration::ZERO..Duration::from_millis(5)),
            ..MemoryFaults::default()
        });
        let rates = FaultRates {
            unavailable: 100,
            lost_answer: 100,
            late: 50,
            late_by: Duration::from_secs(200),
            ..FaultRates::default()
        };
        world.faulty.set(Faults::everywhere(rates));
        for _ in 0..15 {
            for _ in 0..world.randomness.below(4) {
                world.write_and_seal(partition(world.randomness.below(9))).await;
            }
            let patience = Duration::from_millis(world.randomness.below(2_000));
            let (one, other) = (world.job(), world.job());
            let both = async { tokio::join!(one.round(), other.round(), one.sweep()) };
            // Dropped in the middle: the agent died.
            let _ = tokio::time::timeout(patience, both).await;
            pause(Duration::from_secs(world.randomness.below(100))).await;
        }
        world.memory.set_faults(MemoryFaults::default());
        world.memory.land_parked_commits();
        world.faulty.set(Faults::default());
        assert!(world.faulty.injected() > 0, "seed {seed}");
        world.write_and_seal(partition(0)).await;
        // Past every claim of a dead writer.
        pause(15 * MINUTE).await;
        let job = world.job();
        job.round().await.expect("calm");
        job.sweep().await.expect("calm");
        assert_eq!(job.stats().failures.load(Relaxed), 0, "seed {seed}");
        world.check().await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(48).fold(String::new(), |mut text, line| {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes everything"));
        text + "\n"
    })
}

/// `PENSTOCK_WRITE_GOLDEN=1` writes the file anew (a change of format needs a new version and a line in
/// docs/checkpoint.md's history).
#[test]
fn the_format_is_pinned() {
    let id = ObjectId::new(Incarnation::new(1), StoreVersion::new(0x0102_0304), 0x0506_0708);
    let name = PartName { slot: Slot::numbered(0x2a).expect("a slot"), id, part: 1 };
    let mut builder = PartBuilder::new(&name, "MkU3OEVBNTcwNTJENDM2Qk");
    let keyspace = Keyspace::new(b"");
    let of = partition(1);
    let state = FoldState { next_offset: Offset::at(300), bytes: 12_345, ..FoldState::default() };
    for (key, value) in [
        (topic::row_key(&keyspace, of.topic), b"a topic's row".to_vec()),
        (seal::key(&keyspace, of), seal::encode(&state)),
        (index::key(&keyspace, of, Offset::at(299)), vec![0xAB; 200]),
    ] {
        builder.row(&Row { key: key.into(), value: value.into() });
    }
    let object = builder.finish(true);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoint-v1.hex");
    if std::env::var_os("PENSTOCK_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, hex(&object)).expect("the golden file can be written");
    }
    let pinned = std::fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(hex(&object), pinned);
    assert_eq!(Part::decode(&object).expect("readable").rows.len(), 3);
}

/// What is somebody else's to do.
#[derive(Debug)]
struct Nothing;

impl Share for Nothing {
    fn is_mine(&self, _what: &str) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_written_by_the_agent_whose_it_is() {
    let world = World::new(5).await;
    world.write_and_seal(partition(0)).await;
    let idle =
        Checkpoints::new(CheckpointParts { share: Arc::new(Nothing), ..world.parts.clone() }, SETTINGS);
    idle.round().await.expect("a round");
    assert_eq!((idle.stats().written.load(Relaxed), idle.stats().behind.load(Relaxed)), (0, 1));
    let job = world.job();
    job.round().await.expect("a round");
    assert_eq!((job.stats().written.load(Relaxed), job.stats().behind.load(Relaxed)), (1, 0));
}

/// Counts records that a transaction appends to a partition.
fn count(transaction: &mut dyn Transaction, keyspace: &Keyspace, of: TopicPartition, records: i64) {
    let mut added = Counters::default();
    added.append(of, records);
    let key = counters::key(keyspace, Stripe::of(of));
    transaction.atomic_add_bytes(&key, &added.encode(), WriteConflict::No);
}
