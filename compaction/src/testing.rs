//! A cluster's stores with a topic, and agents' work on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use penstock_config::broker::BrokerConfig;
use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::burial::bury;
use penstock_metadata::cluster;
use penstock_metadata::commit::Committer;
use penstock_metadata::fold::{BatchEntry, BatchSource};
use penstock_metadata::ground::AllExist;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::keys::counters::{self, Counters};
use penstock_metadata::keys::log::{self, BatchFacts, LogRow};
use penstock_metadata::keys::object::{self, ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace, dead, topic};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{
    Isolation, Priority, RangeOptions, Row, SharedStore, WriteConflict, prefixed, single_key,
};
use penstock_metadata::log_starts::{NewStart, move_log_starts};
use penstock_metadata::lookup::{LogReader, PlanLimits};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_metadata::topics::{NewTopic, Request, Terms, TopicAdmin, TopicCatalog};
use penstock_metadata::transact::Policy;
use penstock_metadata::trimming::trim_partition;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_storage::batch::{BatchBuilder, Codec, ValidatedBatch};
use penstock_storage::bucket::faults::FaultyStore;
use penstock_storage::bucket::{Bucket, BucketOptions, Listed};
use penstock_storage::object::{ObjectBuilder, object_key};
use penstock_types::{
    LeaderEpoch, ObjectId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness,
    TestClock, TimestampMs, TopicId, TopicPartition,
};
use tokio::time::Instant;

use crate::checkpoint::{CheckpointParts, CheckpointSettings, Checkpoints};
use crate::collector::{Collector, CollectorParts, CollectorSettings};
use crate::compact::{Compaction, CompactionParts, CompactionSettings};
use crate::facts::facts_of;
use crate::merge::{Merge, MergeParts, MergeSettings};
use crate::retention::Clocks;
use crate::share::Everything;
use crate::sweeper::{Sweeper, SweeperSettings};

pub(crate) const BATCH_BYTES: u32 = 100;

pub(crate) fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(index) }
}

pub(crate) struct World {
    pub(crate) store: SharedStore,
    /// The same, for its faults.
    pub(crate) memory: Arc<MemoryStore>,
    /// What the bucket stands on, for its faults.
    pub(crate) faulty: Arc<FaultyStore>,
    pub(crate) keyspace: Keyspace,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) cluster: ClusterIdentity,
    randomness: SeededRandomness,
}

impl World {
    /// With one topic, of which nothing but its existence is known.
    pub(crate) async fn new() -> Self {
        let world = Self::without_topics().await;
        let mut transaction = world.store.begin(Priority::Default);
        let key = topic::row_key(&world.keyspace, partition(0).topic);
        transaction.set(&key, b"there", WriteConflict::Yes);
        transaction.commit().await.expect("a commit");
        world
    }

    pub(crate) async fn without_topics() -> Self {
        Self::seeded(1).await
    }

    pub(crate) async fn seeded(seed: u64) -> Self {
        let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
        let store: SharedStore = memory.clone();
        let options = BucketOptions::default();
        let faulty = FaultyStore::in_memory(Arc::new(SeededRandomness::new(seed + 1)));
        let bucket =
            Bucket::with_store(faulty.clone(), "", &options, Arc::new(SeededRandomness::new(seed + 2)));
        let (keyspace, randomness) = (Keyspace::new(b"c/"), SeededRandomness::new(seed + 3));
        let cluster = cluster::open_or_create(&store, &keyspace, &randomness, &TestClock::at(5)).await;
        let cluster = cluster.expect("a cluster");
        bucket.claim(&cluster.cluster_id, cluster.incarnation).await.expect("claimed");
        Self { store, memory, faulty, keyspace, bucket, cluster, randomness }
    }

    pub(crate) fn parts(&self) -> CollectorParts {
        CollectorParts {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            cluster: self.cluster.clone(),
            bucket: Arc::clone(&self.bucket),
            share: Arc::new(Everything),
        }
    }

    /// Puts an object, and commits it if it has batches: (partition, records).
    pub(crate) async fn put(&self, batches: &[(i32, u32)]) -> ObjectId {
        let batches: Vec<_> = batches.iter().map(|(index, records)| (partition(*index), *records)).collect();
        self.put_at(&batches, 1).await
    }

    /// The same, of any partitions, with batches of that timestamp.
    pub(crate) async fn put_at(&self, batches: &[(TopicPartition, u32)], timestamp: i64) -> ObjectId {
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        let id = ObjectId::new(self.cluster.incarnation, version, self.randomness.next_u64());
        self.put_again(id).await;
        if batches.is_empty() {
            return id;
        }
        let facts = |records| BatchFacts {
            length: BATCH_BYTES,
            records,
            flags: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer: None,
        };
        let batches: Vec<BatchToCommit> = batches
            .iter()
            .enumerate()
            .map(|(index, (of, records))| BatchToCommit {
                partition: *of,
                position: index as u64 * u64::from(BATCH_BYTES),
                facts: facts(*records),
                refused: None,
            })
            .collect();
        let committer = Committer {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            incarnation: self.cluster.incarnation,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        committer.attempt(&[ObjectToCommit { id, size: 1_000, batches }]).await.expect("a commit");
        id
    }

    pub(crate) async fn put_again(&self, id: ObjectId) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let body = vec![Bytes::from_static(b"batches")];
        self.bucket.put(&object_key(id), body, deadline).await.expect("an upload");
    }

    pub(crate) async fn seal(&self, index: i32) {
        self.seal_one(partition(index)).await;
    }

    pub(crate) async fn seal_one(&self, partition: TopicPartition) {
        let seal = || seal_partition(&self.store, &self.keyspace, partition, SealDue::NOW);
        while seal().await.expect("a seal").more {}
    }

    pub(crate) async fn move_start(&self, index: i32, to: NewStart) -> Offset {
        let policy = Policy::interactive(Duration::from_secs(5));
        let wanted = [(partition(index), to)];
        let moved =
            move_log_starts(&self.store, &self.keyspace, self.cluster.incarnation, policy, &wanted).await;
        moved[0].clone().expect("moved")
    }

    /// The keys of all objects in the bucket.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let listed: Vec<Listed> = self.bucket.list("objects").try_collect().await.expect("a listing");
        let mut keys: Vec<String> = listed.into_iter().map(|listed| listed.key).collect();
        keys.sort();
        keys
    }
}

/// The keys of these objects, as a listing gives them.
pub(crate) fn keys(objects: &[ObjectId]) -> Vec<String> {
    let mut keys: Vec<String> = objects.iter().map(|id| object_key(*id)).collect();
    keys.sort();
    keys
}

/// Whoever makes and deletes topics; another name makes other ids.
pub(crate) fn admin(world: &World, name: &str) -> TopicAdmin {
    let seed = name.bytes().fold(9, |hash: u64, byte| hash.wrapping_mul(31) ^ u64::from(byte));
    let (store, keyspace) = (Arc::clone(&world.store), world.keyspace.clone());
    let (clock, randomness) = (Arc::new(TestClock::at(5)), Arc::new(SeededRandomness::new(seed)));
    TopicAdmin::new(store, keyspace, world.cluster.incarnation, clock, randomness)
}

/// Makes a topic.
pub(crate) async fn topic(
    world: &World,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Vec<TopicPartition> {
    let admin = admin(world, name);
    let configs =
        configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    let wanted =
        NewTopic { name: name.to_owned(), partitions, replication_factor: 1, configs, ..NewTopic::default() };
    let broker = BrokerConfig::default();
    let plan = admin.plan_topic(&wanted, Terms { broker: &broker, brokers: &[1] }).expect("a good topic");
    let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
    let made = admin.create_topics(vec![plan], request).await.remove(0).expect("a free name");
    let of = |index| TopicPartition { topic: made.id, partition: PartitionIndex::new(index) };
    (0..partitions).map(of).collect()
}

/// A batch of `records` records with values of `bytes` bytes.
pub(crate) fn batch(timestamp: i64, records: usize, bytes: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in 0..records {
        builder.record(timestamp + record as i64, None, Some(&vec![timestamp as u8; bytes]));
    }
    builder.build()
}

impl World {
    /// Writes an object of real batches, as an agent does.
    pub(crate) async fn flush(&self, batches: &[(TopicPartition, ValidatedBatch)]) -> ObjectId {
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        let id = ObjectId::new(self.cluster.incarnation, version, self.randomness.next_u64());
        let mut sorted = batches.to_vec();
        sorted.sort_by_key(|(of, _)| *of);
        let mut builder = ObjectBuilder::new();
        let mut position = 0;
        let mut commits = Vec::new();
        for (of, batch) in &sorted {
            builder.add(*of, batch);
            let facts = facts_of(&batch.header, batch.bytes.len());
            commits.push(BatchToCommit { partition: *of, position, facts, refused: None });
            position += u64::from(facts.length);
        }
        let object = builder.finish(id);
        let deadline = Instant::now() + Duration::from_secs(60);
        self.bucket.put(&object_key(id), object.chunks().to_vec(), deadline).await.expect("an upload");
        let committer = Committer {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            incarnation: self.cluster.incarnation,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        let to_commit = ObjectToCommit { id, size: object.length(), batches: commits };
        committer.attempt(&[to_commit]).await.expect("a commit");
        id
    }
}

/// Merges everything at once, into objects of a mebibyte.
pub(crate) fn merge_settings() -> MergeSettings {
    MergeSettings {
        interval: Duration::from_secs(10),
        settle: Duration::ZERO,
        unit_bytes: 1 << 20,
        age: Duration::ZERO,
        level_age: Duration::from_secs(86_400),
        level_bytes: 1 << 40,
        section_bytes: 1 << 20,
        object_bytes: 1 << 20,
        swap_bytes: 1 << 20,
        bytes_per_second: 1 << 40,
        requests_per_second: 1_000_000,
    }
}

/// An agent's job.
pub(crate) async fn merge_job(world: &World, settings: MergeSettings, seed: u64) -> Arc<Merge> {
    let (store, keyspace) = (Arc::clone(&world.store), world.keyspace.clone());
    let topics = TopicCatalog::open(store, keyspace, 1, BrokerConfig::default()).await.expect("a catalog");
    let parts = MergeParts {
        store: Arc::clone(&world.store),
        keyspace: world.keyspace.clone(),
        incarnation: world.cluster.incarnation,
        bucket: Arc::clone(&world.bucket),
        randomness: Arc::new(SeededRandomness::new(seed)),
        topics: Arc::new(topics),
        share: Arc::new(Everything),
        collected: Arc::default(),
    };
    Merge::new(parts, settings)
}

/// A round of checkpoints.
pub(crate) async fn checkpoint(world: &World) {
    let parts = CheckpointParts {
        store: world.store.clone(),
        keyspace: world.keyspace.clone(),
        cluster: world.cluster.clone(),
        bucket: world.bucket.clone(),
        randomness: Arc::new(SeededRandomness::new(5)),
        share: Arc::new(Everything),
    };
    let settings = CheckpointSettings {
        interval: Duration::ZERO,
        bytes_per_second: 1 << 30,
        look: Duration::from_secs(1),
    };
    Checkpoints::new(parts, settings).round().await.expect("a round");
}

/// Moves a log's start, and does with what is below it what retention would.
pub(crate) async fn delete_below(world: &World, of: TopicPartition, to: NewStart) {
    let policy = Policy::interactive(Duration::from_secs(5));
    let (store, keyspace, life) = (&world.store, &world.keyspace, world.cluster.incarnation);
    move_log_starts(store, keyspace, life, policy, &[(of, to)]).await[0].clone().expect("moved");
    while {
        let trimmed = trim_partition(store, keyspace, life, of).await.expect("a trim");
        let objects: Vec<ObjectId> = trimmed.dead.objects().collect();
        bury(store, keyspace, life, &objects).await.expect("a burial");
        trimmed.more
    } {}
}

/// How long what is dead stays in the bucket.
pub(crate) const DELAY: Duration = Duration::from_secs(900);

/// A log from its start on, as a fetch plans it.
pub(crate) async fn plan(world: &World, partition: TopicPartition) -> Vec<BatchEntry> {
    let views = Views::new(Arc::clone(&world.store), world.keyspace.clone(), 10);
    let view = views.validated(&[partition]).await.expect("feed").remove(0).expect("view");
    let (start, end) = view.read(|tail| (tail.log_start, TailView::high_watermark(tail)));
    let reader = LogReader::new(Arc::clone(&world.store), world.keyspace.clone());
    let limits = PlanLimits { end, max_bytes: u64::MAX, at_least_one: true };
    reader.plan(&view, start, limits).await.expect("a plan")
}

pub(crate) fn object_of(batch: &BatchEntry) -> (ObjectId, u64) {
    match batch.source {
        BatchSource::Object { object, position } => (object, position),
        BatchSource::Marker { .. } => panic!("a marker"),
    }
}

pub(crate) async fn object_row(world: &World, id: ObjectId) -> Option<ObjectRow> {
    let key = object::key(&world.keyspace, id);
    let value = world.store.begin(Priority::Default).get(&key, Isolation::Snapshot).await.expect("a store");
    value.map(|value| ObjectRow::decode(&value).expect("a row"))
}

pub(crate) async fn rows(world: &World, family: Family) -> Vec<Row> {
    let mut range = prefixed(&world.keyspace.family(family));
    let mut rows = Vec::new();
    loop {
        let mut transaction = world.store.begin(Priority::Default);
        let options = RangeOptions::page(1_000, Isolation::Snapshot);
        let page = transaction.range(range.clone(), options).await.expect("a page");
        rows.extend(page.rows);
        match rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            _ => return rows,
        }
    }
}

/// The objects that the logs of `partitions` refer to, and how often.
pub(crate) async fn live(world: &World, partitions: &[TopicPartition]) -> BTreeMap<ObjectId, u64> {
    let mut live = BTreeMap::new();
    for partition in partitions {
        for batch in plan(world, *partition).await {
            if let BatchSource::Object { object, .. } = batch.source {
                *live.entry(object).or_default() += 1;
            }
        }
    }
    live
}

/// What an object's row counts is what the logs refer to and what has left them.
pub(crate) async fn check_counts(world: &World, partitions: &[TopicPartition]) {
    let live = live(world, partitions).await;
    let mut counts = BTreeMap::new();
    for row in rows(world, Family::Dead).await {
        let id = dead::parse_key(&world.keyspace, &row.key).expect("a key");
        counts.insert(id, dead::decode(Some(&row.value)).expect("a count").batches);
    }
    for row in rows(world, Family::Object).await {
        let id = object::parse_key(&world.keyspace, &row.key).expect("a key");
        let found = ObjectRow::decode(&row.value).expect("a row");
        let (alive, dead) = (live.get(&id).copied().unwrap_or(0), counts.get(&id).copied().unwrap_or(0));
        match found.state {
            ObjectState::Committed => assert_eq!(found.appended(), alive + dead, "{id}: {found:?}"),
            ObjectState::Intent => assert_eq!((alive, dead), (0, 0), "{id}"),
            ObjectState::Tombstone | ObjectState::Collected => assert_eq!(alive, 0, "{id}"),
        }
    }
    for id in live.keys() {
        assert!(object_row(world, *id).await.is_some_and(|row| row.state == ObjectState::Committed), "{id}");
    }
}

/// Buries, collects and sweeps until nothing more goes.
pub(crate) async fn clean(world: &World) {
    let second = Duration::from_secs(1);
    let settings = CollectorSettings { delay: DELAY, merged_delay: DELAY, interval: second };
    let collector = Collector::new(world.parts(), settings);
    let lag = Duration::from_secs(3_600);
    let sweeper = Sweeper::new(world.parts(), SweeperSettings { lag, interval: lag });
    for _ in 0..3 {
        collector.walk().await.expect("a walk");
        tokio::time::advance(DELAY + lag + Duration::from_secs(1)).await;
        collector.round().await.expect("a round");
        sweeper.round().await.expect("a sweep");
    }
    assert_eq!(collector.stats().contradictions.load(Ordering::Relaxed), 0);
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl World {
    /// Ends a transaction in a partition.
    pub(crate) async fn marker(&self, of: TopicPartition, producer: ProducerId, abort: bool, timestamp: i64) {
        let row = LogRow::Marker {
            leader_epoch: LeaderEpoch::FIRST,
            producer,
            epoch: ProducerEpoch::new(0),
            abort,
            coordinator_epoch: 0,
            timestamp,
            horizon: None,
        };
        let mut transaction = self.store.begin(Priority::Default);
        let prefix = log::row_prefix(&self.keyspace, of, self.cluster.incarnation);
        transaction.set_stamped_key(&prefix, &0_u32.to_be_bytes(), &row.encode(), WriteConflict::No);
        let mut counters = Counters::default();
        counters.append(of, 1);
        let key = counters::key(&self.keyspace, counters::Stripe::of(of));
        transaction.atomic_add_bytes(&key, &counters.encode(), WriteConflict::No);
        transaction.commit().await.expect("a commit");
    }
}

/// A clock that others move.
#[derive(Debug, Default)]
pub(crate) struct Hand(AtomicI64);

impl Hand {
    pub(crate) fn at(now_ms: TimestampMs) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now_ms)))
    }

    pub(crate) fn get(&self) -> TimestampMs {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clocks for Hand {
    fn clocks(&self) -> Vec<TimestampMs> {
        vec![self.get()]
    }
}

/// Compacts everything dirty at once.
pub(crate) fn compaction_settings() -> CompactionSettings {
    CompactionSettings {
        interval: Duration::from_secs(10),
        due_bytes: 0,
        delay: Duration::ZERO,
        map_bytes: 1 << 20,
        read_bytes: 1 << 20,
        object_bytes: 1 << 20,
        swap_bytes: 1 << 20,
        bytes_per_second: 1 << 40,
        requests_per_second: 1_000_000,
        seal_age: Duration::ZERO,
        clock_step: Duration::from_secs(1 << 32),
    }
}

/// An agent's job.
pub(crate) async fn compaction_job(
    world: &World,
    clock: &Arc<Hand>,
    settings: CompactionSettings,
    seed: u64,
) -> Arc<Compaction> {
    let (store, keyspace) = (Arc::clone(&world.store), world.keyspace.clone());
    let topics = TopicCatalog::open(store, keyspace, 1, BrokerConfig::default()).await.expect("a catalog");
    let parts = CompactionParts {
        store: Arc::clone(&world.store),
        keyspace: world.keyspace.clone(),
        incarnation: world.cluster.incarnation,
        bucket: Arc::clone(&world.bucket),
        randomness: Arc::new(SeededRandomness::new(seed)),
        topics: Arc::new(topics),
        clocks: Arc::clone(clock) as Arc<dyn Clocks>,
        share: Arc::new(Everything),
        collected: Arc::default(),
    };
    Compaction::new(parts, settings)
}

/// CPU-seconds that this process has used: its own and the system's for it.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may have spaces: the 12th and 13th field are ticks of 1/100 s.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
