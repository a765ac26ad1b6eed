use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use penstock_metadata::keys::Family;
use penstock_metadata::keys::object::{ObjectRow, ObjectState};
use penstock_metadata::kv::memory::MemoryFaults;
use penstock_metadata::log_starts::{NewStart, move_log_starts};
use penstock_metadata::lookup::{LogReader, PlanLimits};
use penstock_metadata::topics::Request;
use penstock_metadata::transact::Policy;
use penstock_metadata::trimming::trim_partition;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_storage::batch::{BatchHeader, verify_crc};
use penstock_storage::bucket::faults::{FaultRates, Faults};
use penstock_storage::cache::{Cache, CacheOptions, ReadKind};
use penstock_storage::object::object_key;
use penstock_types::{Offset, SeededRandomness, TopicPartition};

use penstock_metadata::burial::bury;
use penstock_types::ObjectId;

use super::*;
use crate::collector::{Collector, CollectorSettings};
use crate::sweeper::{Sweeper, SweeperSettings};
use crate::testing::{
    DELAY, World, admin, batch, check_counts, clean, count, keys, live, merge_job as job,
    merge_settings as settings, object_of, object_row, plan, rows, topic,
};

mod cost;
mod failing;

const MIB: u64 = 1024 * 1024;

/// Each batch's offset and the checksum of its bytes, which are read and held against the metadata.
async fn log(world: &World, partition: TopicPartition) -> Vec<(i64, u32)> {
    let mut log = Vec::new();
    for entry in plan(world, partition).await {
        let (object, position) = object_of(&entry);
        let range = position..position + u64::from(entry.facts.length);
        let bytes = world.bucket.get_range(&object_key(object), range).await.expect("there");
        let header = BatchHeader::parse(&bytes).expect("a batch");
        verify_crc(&bytes, &header).expect("sound");
        assert_eq!(header.size_bytes(), bytes.len());
        assert_eq!(header.last_offset_delta as u32 + 1, entry.facts.records);
        if object_row(world, object).await.is_some_and(|row| row.level > 0) {
            assert_eq!(header.base_offset, entry.base_offset.get(), "what is merged carries its offset");
        }
        log.push((entry.base_offset.get(), header.crc));
    }
    log
}

#[tokio::test(start_paused = true)]
async fn mixed_objects_become_one_in_which_each_partition_is_contiguous() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 3, &[]).await;
    let mut sources = Vec::new();
    for round in 0..5 {
        let mut batches = Vec::new();
        for (index, partition) in partitions.iter().enumerate() {
            batches.push((*partition, batch(round * 10 + index as i64, 2 + index, 50)));
            batches.push((*partition, batch(round * 10 + index as i64 + 5, 1, 5_000)));
        }
        sources.push(world.flush(&batches).await);
    }
    // One partition isn't sealed by the time: the job does it.
    world.seal_one(partitions[0]).await;
    world.seal_one(partitions[1]).await;
    let mut before = Vec::new();
    for partition in &partitions {
        before.push(log(&world, *partition).await);
    }
    let job = job(&world, settings(), 1).await;
    job.round().await.expect("a round");
    let mut after = Vec::new();
    for partition in &partitions {
        after.push(log(&world, *partition).await);
        let plan = plan(&world, *partition).await;
        for pair in plan.windows(2) {
            let ((object, position), next) = (object_of(&pair[0]), object_of(&pair[1]));
            assert_eq!(next, (object, position + u64::from(pair[0].facts.length)), "one behind the other");
        }
    }
    assert_eq!(after, before);
    check_counts(&world, &partitions).await;
    let stats = job.stats();
    assert_eq!(
        (count(&stats.units), count(&stats.inputs), count(&stats.gets)),
        (1, 5, 5),
        "one request each"
    );
    assert_eq!((count(&stats.outputs), count(&stats.batches), count(&stats.failures)), (1, 30, 0));
    assert!(count(&stats.written_bytes) <= count(&stats.read_bytes));
    assert_eq!(count(&stats.waiting_units), 0);
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &partitions).await.into_keys().collect();
    assert_eq!((live.len(), world.objects().await), (1, keys(&live)));
    assert!(sources.iter().all(|source| !live.contains(source)));
    job.round().await.expect("nothing to do");
    assert_eq!(count(&job.stats().units), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_merge_does_not_wait_for_its_age() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    for round in 0..3 {
        let batches: Vec<_> = partitions.iter().map(|partition| (*partition, batch(round, 1, 500))).collect();
        world.flush(&batches).await;
    }
    let long = Duration::from_secs(86_400);
    let job = job(&world, MergeSettings { age: long, interval: long, ..settings() }, 1).await;
    job.round().await.expect("nothing is due");
    assert_eq!(count(&job.stats().units), 0);
    let (stop, number) = (CancellationToken::new(), job.turns().ask());
    let waits = async {
        while job.turns().status().asked_ended < number {
            pause(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(Arc::clone(&job).run(stop.clone()), waits);
    let status = job.turns().status();
    assert_eq!((count(&job.stats().units), status.turns, status.failures), (1, 1, 0));
    assert!(status.progress.0 > 1_000 && status.progress.0 == status.progress.1, "all of it is done");
}

#[tokio::test(start_paused = true)]
async fn what_expires_at_other_times_lies_apart() {
    let world = World::without_topics().await;
    let mut partitions = topic(&world, "short", 2, &[("retention.ms", "3600000")]).await;
    partitions.extend(topic(&world, "long", 2, &[("retention.ms", "-1")]).await);
    for round in 0..3 {
        let batches: Vec<_> = partitions.iter().map(|partition| (*partition, batch(round, 1, 100))).collect();
        world.flush(&batches).await;
    }
    job(&world, settings(), 1).await.round().await.expect("a round");
    let mut objects = Vec::new();
    for partition in &partitions {
        let found: BTreeSet<ObjectId> =
            plan(&world, *partition).await.iter().map(|batch| object_of(batch).0).collect();
        assert_eq!(found.len(), 1);
        objects.extend(found);
    }
    assert!(objects[0] == objects[1] && objects[2] == objects[3] && objects[0] != objects[2]);
}

#[tokio::test(start_paused = true)]
async fn levels_lead_to_long_sections() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 4, &[]).await;
    // Four partitions of some 1 kB a unit: worth a request each behind four units.
    let settings = MergeSettings { section_bytes: 4_000, object_bytes: 1 << 20, ..settings() };
    let job = job(&world, settings, 1).await;
    let (mut before, mut flushed) = (BTreeMap::new(), 0);
    for round in 0..8 {
        for _ in 0..2 {
            let batches: Vec<_> = partitions.iter().map(|of| (*of, batch(round, 1, 500))).collect();
            flushed += batches.iter().map(|(_, batch)| batch.bytes.len() as u64).sum::<u64>();
            world.flush(&batches).await;
        }
        for partition in &partitions {
            world.seal_one(*partition).await;
        }
        job.round().await.expect("a round");
    }
    for partition in &partitions {
        before.insert(*partition, log(&world, *partition).await);
        let objects = live(&world, &[*partition]).await;
        assert!(objects.len() <= 3, "{} requests for 9 kB", objects.len());
        for object in objects.keys() {
            assert!(object_row(&world, *object).await.expect("a row").level >= 1);
        }
    }
    check_counts(&world, &partitions).await;
    assert_eq!(before[&partitions[0]].len(), 16);
    // Each byte is written three times at most: flushed, merged, merged again.
    let written = count(&job.stats().written_bytes);
    assert!(written <= 2 * flushed + 40 * 400, "{written} of {flushed}");
    // The index is as short as its entries allow: sixteen values of one entry each were sealed.
    assert!(rows(&world, Family::Index).await.len() <= 3 * partitions.len());
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &partitions).await.into_keys().collect();
    assert_eq!(world.objects().await, keys(&live));
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_stays_where_it_is() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let mut sources = Vec::new();
    for round in 0..3 {
        let batches: Vec<_> = partitions.iter().map(|of| (*of, batch(round, 1, 500))).collect();
        sources.push(world.flush(&batches).await);
    }
    let key = object_key(sources[1]);
    let mut bytes = world.bucket.get_with_etag(&key).await.expect("there").data.to_vec();
    bytes[100] ^= 1;
    let deadline = Instant::now() + Duration::from_secs(60);
    world.bucket.put(&key, vec![bytes.into()], deadline).await.expect("an upload");
    let job = job(&world, settings(), 1).await;
    failing::until_believed(&job).await;
    assert_eq!((count(&job.stats().unreadable), count(&job.stats().units)), (1, 1));
    let found: Vec<ObjectId> =
        plan(&world, partitions[0]).await.iter().map(|batch| object_of(batch).0).collect();
    assert_eq!((found[1], found[0] == found[2], found[0] == sources[0]), (sources[1], true, false));
    check_counts(&world, &partitions).await;
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &partitions).await.into_keys().collect();
    assert!(live.contains(&sources[1]));
    assert_eq!(world.objects().await, keys(&live));
}

#[tokio::test(start_paused = true)]
async fn an_output_is_cut_between_partitions_where_that_is_possible() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 6, &[]).await;
    for round in 0..4 {
        let batches: Vec<_> = partitions.iter().map(|of| (*of, batch(round, 1, 1_000))).collect();
        world.flush(&batches).await;
    }
    // Each partition has some 4.3 kB: two fit, and one of another size doesn't.
    let large = MergeSettings { object_bytes: 9_000, ..settings() };
    let job = job(&world, large, 1).await;
    job.round().await.expect("a round");
    assert_eq!(count(&job.stats().outputs), 3);
    for partition in &partitions {
        assert_eq!(live(&world, &[*partition]).await.len(), 1);
    }
    check_counts(&world, &partitions).await;
}

/// A cluster whose logs are known, and what happens to it.
struct Model {
    world: World,
    numbers: SeededRandomness,
    partitions: Vec<TopicPartition>,
    /// Of each partition every batch ever: offset, end, checksum.
    logs: BTreeMap<TopicPartition, Vec<(i64, i64, u32)>>,
    starts: BTreeMap<TopicPartition, i64>,
    settings: MergeSettings,
    timestamp: i64,
}

impl Model {
    async fn new(seed: u64) -> Self {
        let world = World::seeded(seed * 100).await;
        let mut partitions = topic(&world, "a", 3, &[("retention.ms", "-1")]).await;
        partitions.extend(topic(&world, "b", 2, &[("retention.ms", "3600000")]).await);
        partitions.extend(topic(&world, "c", 2, &[("cleanup.policy", "compact")]).await);
        let numbers = SeededRandomness::new(seed);
        let settings = MergeSettings {
            unit_bytes: 4_000 + numbers.below(20_000),
            section_bytes: 500 + numbers.below(4_000),
            object_bytes: 2_000 + numbers.below(10_000),
            swap_bytes: numbers.below(1_000),
            level_age: Duration::from_secs(numbers.below(60)),
            ..settings()
        };
        let (logs, starts, timestamp) = (BTreeMap::new(), BTreeMap::new(), 0);
        Self { world, numbers, partitions, logs, starts, settings, timestamp }
    }

    fn any(&self) -> TopicPartition {
        self.partitions[self.numbers.below(self.partitions.len() as u64) as usize]
    }

    async fn flush(&mut self) {
        let mut batches = Vec::new();
        for _ in 0..=self.numbers.below(6) {
            self.timestamp += 1;
            let (records, bytes) = (1 + self.numbers.below(3) as usize, self.numbers.below(900) as usize);
            batches.push((self.any(), batch(self.timestamp, records, bytes)));
        }
        self.world.flush(&batches).await;
        for (partition, batch) in &batches {
            let log = self.logs.entry(*partition).or_default();
            let base = log.last().map_or(0, |(_, end, _)| *end);
            log.push((base, base + i64::from(batch.header.last_offset_delta) + 1, batch.header.crc));
        }
    }

    async fn delete_records(&mut self) {
        let partition = self.any();
        let end = self.logs.get(&partition).and_then(|log| log.last()).map_or(0, |(_, end, _)| *end);
        let start = self.starts.get(&partition).copied().unwrap_or(0);
        let wanted = start + self.numbers.below((end - start + 1) as u64) as i64;
        let World { store, keyspace, cluster, .. } = &self.world;
        let policy = Policy::interactive(Duration::from_secs(60));
        let wanted_start = [(partition, NewStart::At(Offset::at(wanted)))];
        let moved = move_log_starts(store, keyspace, cluster.incarnation, policy, &wanted_start).await;
        moved[0].clone().expect("moved");
        self.starts.insert(partition, wanted.max(start));
        self.trim(partition).await;
    }

    /// Deletes the last of the topics.
    async fn delete_topic(&mut self) {
        let gone = self.partitions.split_off(self.partitions.len().min(5));
        let Some(topic) = gone.first().map(|partition| partition.topic) else { return };
        let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
        admin(&self.world, "c").delete_topics(&[topic], request).await.remove(0).expect("deleted");
    }

    /// Collects and sweeps with hardly any delay, as far as that goes among faults.
    async fn clean_some(&self) {
        let second = Duration::from_secs(1);
        let settings = CollectorSettings { delay: second * 60, merged_delay: second * 60, interval: second };
        let collector = Collector::new(self.world.parts(), settings);
        let lag = second * self.numbers.below(5) as u32;
        let sweeper = Sweeper::new(self.world.parts(), SweeperSettings { lag, interval: second });
        let _walked = collector.walk().await;
        let _collected = collector.round().await;
        let _swept = sweeper.round().await;
    }

    async fn trim(&self, partition: TopicPartition) {
        let World { store, keyspace, cluster, .. } = &self.world;
        loop {
            let trimmed =
                again!(trim_partition(store, keyspace, cluster.incarnation, partition)).expect("trimmed");
            let objects: Vec<ObjectId> = trimmed.dead.objects().collect();
            again!(bury(store, keyspace, cluster.incarnation, &objects)).expect("buried");
            if !trimmed.more {
                return;
            }
        }
    }

    fn break_things(&self) {
        let often = self.numbers.below(10) as f64 / 100.0;
        self.world.memory.set_faults(MemoryFaults {
            conflict: often,
            unknown_applied: often,
            unknown_not_applied: often,
            unknown_applied_later: often,
            too_old: often / 2.0,
            latency: Some(Duration::ZERO..Duration::from_millis(5)),
            ..MemoryFaults::default()
        });
        let rates = FaultRates {
            unavailable: self.numbers.below(100) as u32,
            lost_answer: self.numbers.below(100) as u32,
            late: self.numbers.below(50) as u32,
            late_by: Duration::from_secs(self.numbers.below(30)),
            short_read: self.numbers.below(50) as u32,
            slow: 300,
            slow_by: Duration::ZERO..Duration::from_millis(50),
            ..FaultRates::default()
        };
        self.world.faulty.set(Faults::everywhere(rates));
    }

    fn mend_things(&self) {
        self.world.memory.set_faults(MemoryFaults::default());
        self.world.faulty.set(Faults::default());
    }

    /// One or two agents merge, among faults, and die at any point.
    async fn merge(&self) {
        let one = job(&self.world, self.settings, self.numbers.next_u64()).await;
        let two = job(&self.world, self.settings, self.numbers.next_u64()).await;
        self.break_things();
        let lives = [self.numbers.below(400), self.numbers.below(4_000)].map(Duration::from_millis);
        let run = async |job: Arc<Merge>, life: Duration| {
            let _died = tokio::time::timeout(life, job.round()).await;
        };
        match self.numbers.below(3) {
            0 => drop(tokio::join!(run(one, lives[0]), run(two, lives[1]))),
            1 => drop(tokio::join!(run(one, lives[1]), self.clean_some())),
            _ => run(one, lives[1]).await,
        }
        self.mend_things();
    }

    async fn check(&self) {
        for partition in &self.partitions {
            let start = self.starts.get(partition).copied().unwrap_or(0);
            let all = self.logs.get(partition).map_or(&[][..], Vec::as_slice);
            let expected: Vec<_> =
                all.iter().filter(|(_, end, _)| *end > start).map(|(base, _, crc)| (*base, *crc)).collect();
            assert_eq!(log(&self.world, *partition).await, expected, "{partition}");
        }
    }
}

/// Whatever merges meet and wherever they die: every record stays where it was, each object counts exactly what refers to it,
/// and in the end nothing is in the bucket but what the logs refer to.
#[tokio::test(start_paused = true)]
async fn logs_survive_merges_that_fail_anywhere() {
    let mut merged = 0;
    let seeds = std::env::var("MERGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(25);
    for seed in 0..seeds {
        let mut model = Model::new(seed).await;
        for _ in 0..25 {
            match model.numbers.below(40) {
                0 => model.delete_topic().await,
                1..=2 => model.clean_some().await,
                3..=15 => model.flush().await,
                16..=21 => {
                    let partition = model.any();
                    model.world.seal_one(partition).await;
                }
                22..=25 => model.delete_records().await,
                _ => model.merge().await,
            }
            tokio::time::advance(Duration::from_secs(model.numbers.below(30))).await;
        }
        model.mend_things();
        tokio::time::advance(Duration::from_secs(60)).await;
        model.world.memory.land_parked_commits();
        model.check().await;
        let last = job(&model.world, model.settings, 1).await;
        for _ in 0..4 {
            last.round().await.expect("a round");
        }
        assert_eq!(
            (count(&last.stats().waiting_units), count(&last.stats().unreadable)),
            (0, 0),
            "seed {seed}"
        );
        merged += count(&last.stats().units);
        for partition in model.partitions.clone() {
            model.world.seal_one(partition).await;
            model.trim(partition).await;
        }
        model.check().await;
        // Takes the deleted topic's rows out.
        clean(&model.world).await;
        check_counts(&model.world, &model.partitions).await;
        let live: Vec<ObjectId> = live(&model.world, &model.partitions).await.into_keys().collect();
        assert_eq!(model.world.objects().await, keys(&live), "seed {seed}");
        model.check().await;
    }
    assert!(merged > 0);
}

/// Reads a log from its beginning, a megabyte at a time, as a lagging consumer: how many requests that takes.
async fn requests_to_read(world: &World, partition: TopicPartition) -> u64 {
    let cache = Cache::new(Arc::clone(&world.bucket), CacheOptions::default());
    let views = Views::new(Arc::clone(&world.store), world.keyspace.clone(), 10);
    let view = views.validated(&[partition]).await.expect("feed").remove(0).expect("view");
    let reader = LogReader::new(Arc::clone(&world.store), world.keyspace.clone());
    let end = view.read(TailView::high_watermark);
    let before = world.bucket.stats().snapshot().get_requests;
    let mut offset = Offset::ZERO;
    while offset < end {
        let limits = PlanLimits { end, max_bytes: MIB, at_least_one: true };
        let plan = reader.plan_ahead(&view, offset, limits).await.expect("a plan");
        for batch in &plan.batches {
            let (object, position) = object_of(batch);
            let own_end = position + u64::from(batch.facts.length);
            let ahead = plan.ahead.filter(|ahead| ahead.object == object).map(|ahead| ahead.end);
            let kind = ReadKind::Lagging { section_end: ahead.unwrap_or(own_end) };
            let read = cache.read(object, position..own_end, kind).await.expect("there");
            assert_eq!(read.iter().map(Bytes::len).sum::<usize>(), batch.facts.length as usize);
            offset = batch.end_offset();
        }
    }
    world.bucket.stats().snapshot().get_requests - before
}

#[tokio::test(start_paused = true)]
async fn a_log_is_read_from_its_beginning_with_a_request_for_each_8_mib() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 3, &[]).await;
    for round in 0..6 {
        let mut batches = Vec::new();
        for partition in &partitions {
            for _ in 0..8 {
                batches.push((*partition, batch(round, 1, (MIB / 2) as usize)));
            }
        }
        world.flush(&batches).await;
        for partition in &partitions {
            world.seal_one(*partition).await;
        }
    }
    let mut before = 0;
    for partition in &partitions {
        before += requests_to_read(&world, *partition).await;
    }
    let settings = MergeSettings { unit_bytes: 256 * MIB, object_bytes: 128 * MIB, ..settings() };
    job(&world, settings, 1).await.round().await.expect("a round");
    for partition in &partitions {
        let requests = requests_to_read(&world, *partition).await;
        assert!(requests <= 3, "{requests} requests for 24 MiB; {before} for three partitions before");
    }
    assert!(before >= 18, "{before}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_leaves_nothing_behind() {
    let world = World::without_topics().await;
    let kept = topic(&world, "kept", 1, &[]).await;
    let gone = topic(&world, "gone", 1, &[]).await;
    for round in 0..3 {
        world.flush(&[(kept[0], batch(round, 1, 50)), (gone[0], batch(round, 2, 50))]).await;
    }
    let before = log(&world, kept[0]).await;
    let job = job(&world, settings(), 1).await;
    // As its deletion does: the row goes, and the name's with it.
    let mut transaction = world.store.begin(Priority::Default);
    let key = penstock_metadata::keys::topic::row_key(&world.keyspace, gone[0].topic);
    transaction.clear(&key, penstock_metadata::kv::WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    job.round().await.expect("a round");
    assert_eq!(log(&world, kept[0]).await, before);
    assert_eq!((count(&job.stats().units), count(&job.stats().batches)), (1, 3));
    assert!(rows(&world, Family::MergeUnit).await.is_empty());
}

#[test]
fn the_job_can_be_run_on_any_thread() {
    fn is_send<T: Send>(_: &impl Fn(Arc<Merge>, CancellationToken) -> T) {}
    is_send(&Merge::run);
}
