//! Write and read path of a whole agent over faulty stores, without sockets: what is acknowledged is readable, once
//! and in order; what fails is not there; long polls wake; memory is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_agent::fetch::{FetchRequest, FetchTarget, IsolationLevel, OffsetQuery};
use penstock_agent::produce::{AppendError, BatchResult, IncomingBatch};
use penstock_agent::start::{Parts, RunningAgent, start};
use penstock_config::{AgentConfig, MetadataKind, ObjectStoreUrl};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_metadata::topics::{NewTopic, Request, Terms};
use penstock_storage::batch::{BatchBuilder, Codec, records};
use penstock_storage::bucket::faults::{FaultRates, Faults, FaultyStore};
use penstock_storage::bucket::{Bucket, BucketOptions};
use penstock_types::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness, Sequence, SystemClock,
    TopicPartition, pause,
};

struct World {
    agent: RunningAgent,
    metadata: Arc<MemoryStore>,
    bucket: Arc<FaultyStore>,
    randomness: Arc<SeededRandomness>,
}

impl World {
    async fn new(seed: u64, set: &[(&str, &str)]) -> Self {
        let randomness = Arc::new(SeededRandomness::new(seed));
        let metadata = MemoryStore::new(randomness.clone());
        let bucket = FaultyStore::in_memory(randomness.clone());
        let options =
            BucketOptions { attempt_timeout: Duration::from_millis(500), ..BucketOptions::default() };
        let over = Bucket::with_store(bucket.clone(), "", &options, randomness.clone());
        let mut config = AgentConfig::default();
        config.node.metadata = MetadataKind::Memory;
        config.node.object_store = Some(ObjectStoreUrl::Memory);
        config.server.listen.port = 0;
        config.http.http.port = 0;
        config.set("flush.put.budget.per.second", "1000").expect("known").expect("allowed");
        for (name, value) in set {
            config.set(name, value).expect("known").expect("allowed");
        }
        let parts = Parts {
            clock: Arc::new(SystemClock),
            randomness: randomness.clone(),
            store: Some(metadata.clone()),
            bucket: Some(over),
            can_abort: false,
        };
        let agent = start(config, parts).await.expect("starts");
        Self { agent, metadata, bucket, randomness }
    }

    async fn topic(&self, name: &str, partitions: i32) -> Vec<TopicPartition> {
        let broker = &self.agent.broker;
        let options = broker.topics.broker();
        let terms = Terms { broker: &options, brokers: &[1] };
        let new = NewTopic {
            name: name.to_owned(),
            partitions,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        let plan = broker.topic_admin.plan_topic(&new, terms).expect("plan");
        broker
            .topic_admin
            .create_topics(vec![plan], Request::new(false, 5_000))
            .await
            .remove(0)
            .expect("made");
        broker.topics.refresh().await.expect("refresh");
        let topic = broker.topics.by_name(name).expect("there");
        (0..partitions)
            .map(|index| TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) })
            .collect()
    }

    async fn send(&self, batches: Vec<IncomingBatch>) -> Vec<BatchResult> {
        let bytes = batches.iter().map(|batch| batch.batch.bytes.len()).sum();
        let receipt = self.agent.broker.produce.admit(batches, bytes).await.expect("admitted");
        receipt.await.expect("answered")
    }

    fn request(&self, partition: TopicPartition, offset: i64) -> FetchRequest {
        let target = FetchTarget {
            partition,
            offset,
            max_bytes: 1 << 20,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            elsewhere: None,
        };
        FetchRequest {
            targets: vec![target],
            min_bytes: 1,
            max_bytes: 50 << 20,
            max_wait: Duration::ZERO,
            isolation: IsolationLevel::ReadUncommitted,
        }
    }

    /// Every record's value from the log's start, with its offset.
    async fn read_all(&self, partition: TopicPartition) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        let mut offset = 0;
        loop {
            let mut fetched = self.agent.broker.fetch.fetch(&self.request(partition, offset), false).await;
            let fetched = fetched.partitions.remove(0).expect("readable");
            let mut bytes = bytes::Bytes::from(fetched.records.concat());
            if bytes.is_empty() {
                assert_eq!(offset, fetched.high_watermark.get(), "a fetch ends at the high watermark");
                return found;
            }
            while !bytes.is_empty() {
                let header = penstock_storage::batch::BatchHeader::parse(&bytes).expect("a batch");
                let batch = bytes.split_to(header.size_bytes());
                penstock_storage::batch::verify_crc(&batch, &header).expect("checksum");
                assert_eq!(header.base_offset, offset, "offsets are dense");
                for record in records(&batch).expect("records") {
                    let record = record.expect("record");
                    let value = String::from_utf8(record.value.expect("value").to_vec()).expect("text");
                    found.push((header.base_offset + i64::from(record.offset_delta), value));
                }
                offset = header.base_offset + i64::from(header.last_offset_delta) + 1;
            }
        }
    }
}

fn batch(partition: TopicPartition, values: &[&str], producer: Option<(i64, i32)>) -> IncomingBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId::new(id), ProducerEpoch::new(0), Sequence::new(sequence));
    }
    for value in values {
        builder.record(1_000, None, Some(value.as_bytes()));
    }
    IncomingBatch::new(partition, builder.build())
}

fn offset(result: &BatchResult) -> i64 {
    result.as_ref().expect("appended").map_or(-1, Offset::get)
}

#[tokio::test]
async fn what_is_acknowledged_is_read_back() {
    let world = World::new(1, &[]).await;
    let partitions = world.topic("t", 2).await;
    let results =
        world.send(vec![batch(partitions[1], &["a", "b"], None), batch(partitions[0], &["x"], None)]).await;
    assert_eq!(results.iter().map(offset).collect::<Vec<_>>(), [0, 0]);
    let results = world.send(vec![batch(partitions[1], &["c"], None)]).await;
    assert_eq!(offset(&results[0]), 2);
    let read = world.read_all(partitions[1]).await;
    assert_eq!(read, [(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())]);
    world.agent.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_duplicate_is_told_its_first_offset() {
    let world = World::new(2, &[]).await;
    let partition = world.topic("t", 1).await[0];
    for _ in 0..2 {
        let results = world.send(vec![batch(partition, &["a", "b"], Some((7, 0)))]).await;
        assert_eq!(offset(&results[0]), 0);
    }
    let results = world.send(vec![batch(partition, &["c"], Some((7, 2)))]).await;
    assert_eq!(offset(&results[0]), 2);
    assert_eq!(world.read_all(partition).await.len(), 3);
    // Far behind: remembered no more.
    for sequence in 3..9 {
        world.send(vec![batch(partition, &["d"], Some((7, sequence)))]).await;
    }
    let results = world.send(vec![batch(partition, &["c"], Some((7, 2)))]).await;
    assert!(matches!(results[0], Err(AppendError::OutOfOrderSequence)), "{results:?}");
    world.agent.shutdown().await.expect("stops");
}

/// While the bucket is down nothing is committed, producers are told to try again, and a later batch of the same
/// producer never overtakes a failed one.
#[tokio::test]
async fn an_outage_of_the_bucket_fails_cleanly_and_passes() {
    let world = World::new(3, &[("upload.deadline.ms", "300ms"), ("upload.concurrency", "4")]).await;
    let partition = world.topic("t", 1).await[0];
    assert_eq!(offset(&world.send(vec![batch(partition, &["0"], Some((7, 0)))]).await[0]), 0);
    world.bucket.set(Faults::outage());
    let mut receipts = Vec::new();
    for sequence in 1..20 {
        let sent = vec![batch(partition, &["lost"], Some((7, sequence)))];
        receipts.push(world.agent.broker.produce.admit(sent, 100).await.expect("admitted"));
        if sequence == 10 {
            pause(Duration::from_millis(250)).await;
            world.bucket.set(Faults::default());
        }
    }
    let mut results = Vec::new();
    for receipt in receipts {
        results.extend(receipt.await.expect("answered"));
    }
    // Some prefix may have made it; behind the first failure nothing of this producer may stand.
    let appended = results.iter().take_while(|result| result.is_ok()).count();
    assert!(results[appended..].iter().all(Result::is_err), "{results:?}");
    let read = world.read_all(partition).await;
    assert_eq!(read.len(), 1 + appended);
    let next = 1 + appended as i32;
    let results = world.send(vec![batch(partition, &["again"], Some((7, next)))]).await;
    assert_eq!(offset(&results[0]), i64::from(next));
    world.agent.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_long_poll_wakes_on_a_commit() {
    let world = World::new(4, &[]).await;
    let partition = world.topic("t", 1).await[0];
    let request = FetchRequest { max_wait: Duration::from_secs(60), ..world.request(partition, 0) };
    let fetch = Arc::clone(&world.agent.broker.fetch);
    let waiting = tokio::spawn(async move { fetch.fetch(&request, false).await });
    pause(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "there is nothing to fetch");
    world.send(vec![batch(partition, &["a"], None)]).await;
    let mut fetched =
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("woken").expect("fetched");
    assert!(fetched.partitions.remove(0).expect("readable").bytes > 0);
    world.agent.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_fetch_waits_for_its_minimum_and_no_longer_than_it_says() {
    let world = World::new(5, &[]).await;
    let partition = world.topic("t", 1).await[0];
    world.send(vec![batch(partition, &["a"], None)]).await;
    let wait = Duration::from_millis(100);
    let request = FetchRequest { max_wait: wait, min_bytes: 1_000_000, ..world.request(partition, 0) };
    let begun = tokio::time::Instant::now();
    let mut fetched = world.agent.broker.fetch.fetch(&request, false).await;
    assert!(begun.elapsed() >= wait);
    assert!(fetched.partitions.remove(0).expect("readable").bytes > 0, "what there is, is answered then");
    world.agent.shutdown().await.expect("stops");
}

#[tokio::test]
async fn offsets_are_listed_by_time_above_and_below_the_seal() {
    let world = World::new(6, &[("seal.rows", "1"), ("seal.interval.ms", "10ms")]).await;
    let partition = world.topic("t", 1).await[0];
    for (index, timestamp) in [10, 30, 20, 40, 40].into_iter().enumerate() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.record(timestamp, None, Some(index.to_string().as_bytes()));
        builder.record(timestamp + 1, None, Some(b"second"));
        world.send(vec![IncomingBatch::new(partition, builder.build())]).await;
        if index == 2 {
            while world.agent.broker.views.get(partition).read(|tail| tail.sealed.get()) < 2 {
                pause(Duration::from_millis(10)).await;
                world
                    .agent
                    .broker
                    .views
                    .get(partition)
                    .ensure(penstock_types::StoreVersion::new(u64::MAX))
                    .await
                    .ok();
            }
        }
    }
    let fetch = &world.agent.broker.fetch;
    let level = IsolationLevel::ReadUncommitted;
    for (query, timestamp, offset) in [
        (OffsetQuery::Earliest, -1, 0),
        (OffsetQuery::Latest, -1, 10),
        (OffsetQuery::AtOrAfter(0), 10, 0),
        (OffsetQuery::AtOrAfter(11), 11, 1),
        (OffsetQuery::AtOrAfter(12), 30, 2),
        (OffsetQuery::AtOrAfter(31), 31, 3),
        (OffsetQuery::AtOrAfter(32), 40, 6),
        (OffsetQuery::AtOrAfter(42), -1, -1),
        (OffsetQuery::MaxTimestamp, 41, 7),
    ] {
        let listed = fetch.list_offset(partition, query, level, None).await.expect("listed");
        assert_eq!((listed.timestamp, listed.offset), (timestamp, offset), "{query:?}");
    }
    world.agent.shutdown().await.expect("stops");
}

/// Several producers over faulty stores: whatever was acknowledged is there once, in order, at the told offset.
#[tokio::test]
async fn acknowledged_records_survive_faults_of_both_stores() {
    for seed in 10..16 {
        let world = World::new(
            seed,
            &[
                ("upload.concurrency", "4"),
                ("seal.rows", "5"),
                ("seal.interval.ms", "20ms"),
                ("cache.bytes", "1MiB"),
            ],
        )
        .await;
        let partitions = world.topic("t", 3).await;
        world.metadata.set_faults(MemoryFaults {
            conflict: 0.05,
            unknown_applied: 0.05,
            unknown_not_applied: 0.05,
            unknown_applied_later: 0.05,
            applied_later_after: Duration::ZERO..Duration::from_millis(20),
            too_old: 0.01,
            unavailable: 0.01,
            ..MemoryFaults::default()
        });
        let rates = FaultRates { unavailable: 100, lost_answer: 50, ..FaultRates::default() };
        world.bucket.set(Faults { puts: rates.clone(), gets: rates, ..Faults::default() });
        let mut acknowledged: BTreeMap<TopicPartition, BTreeMap<i64, String>> = BTreeMap::new();
        let mut next = [0; 3];
        for round in 0..60 {
            let index = world.randomness.below(3) as usize;
            let value = format!("{index}-{round}");
            let sent = batch(partitions[index], &[&value], Some((7, next[index])));
            // As a client does: the same batch again until it is acknowledged.
            let told = loop {
                let admitted = world.agent.broker.produce.admit(vec![sent.clone()], 100).await;
                let Ok(receipt) = admitted else { continue };
                match receipt.await.expect("answered").remove(0) {
                    Ok(offset) => break offset,
                    Err(AppendError::NotStored) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            next[index] += 1;
            let of = acknowledged.entry(partitions[index]).or_default();
            let at = told.map_or(of.len() as i64, Offset::get);
            of.insert(at, value);
        }
        world.metadata.set_faults(MemoryFaults::default());
        world.bucket.set(Faults::default());
        for (partition, expected) in &acknowledged {
            let read: BTreeMap<i64, String> = world.read_all(*partition).await.into_iter().collect();
            assert_eq!(&read, expected, "seed {seed}");
        }
        world.agent.shutdown().await.expect("stops");
    }
}

#[tokio::test]
async fn admission_waits_at_the_memory_bound() {
    let world = World::new(7, &[("produce.memory.bytes", "16MiB"), ("upload.deadline.ms", "5s")]).await;
    let partition = world.topic("t", 1).await[0];
    world.bucket.set(Faults::outage());
    let produce = &world.agent.broker.produce;
    let held = 4 << 20;
    let mut receipts = Vec::new();
    for _ in 0..4 {
        receipts.push(produce.admit(vec![batch(partition, &["a"], None)], held).await.expect("admitted"));
    }
    let fifth = produce.admit(vec![batch(partition, &["b"], None)], held);
    assert!(tokio::time::timeout(Duration::from_millis(100), fifth).await.is_err(), "the budget is used up");
    world.bucket.set(Faults::default());
    for receipt in receipts {
        assert!(receipt.await.expect("answered")[0].is_ok());
    }
    assert_eq!(world.send(vec![batch(partition, &["c"], None)]).await.len(), 1);
    assert_eq!(world.read_all(partition).await.len(), 5, "what wasn't admitted isn't there");
    world.agent.shutdown().await.expect("stops");
}
