use penstock_config::broker::BrokerConfig;
use penstock_metadata::keys::{index, log_start};
use penstock_metadata::kv::{Isolation, Priority, RangeOptions};
use penstock_metadata::topics::{NewTopic, Request, Terms, TopicAdmin};
use penstock_types::{Offset, SeededRandomness, TestClock};

use super::*;
use crate::share::Everything;
use crate::testing::{BATCH_BYTES, World};

const HOUR_MS: i64 = 3_600_000;

#[derive(Debug)]
struct One(TimestampMs);

impl Clocks for One {
    fn clocks(&self) -> Vec<TimestampMs> {
        vec![self.0]
    }
}

async fn topic(world: &World, name: &str, configs: &[(&str, &str)]) -> TopicPartition {
    let (clock, randomness) = (TestClock::at(5), SeededRandomness::new(9));
    let (store, keyspace) = (Arc::clone(&world.store), world.keyspace.clone());
    let randomness = Arc::new(SeededRandomness::new(randomness_of(name, &randomness)));
    let admin = TopicAdmin::new(store, keyspace, world.cluster.incarnation, Arc::new(clock), randomness);
    let configs =
        configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    let wanted = NewTopic {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        configs,
        ..NewTopic::default()
    };
    let broker = BrokerConfig::default();
    let plan = admin.plan_topic(&wanted, Terms { broker: &broker, brokers: &[1] }).expect("a good topic");
    let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
    let made = admin.create_topics(vec![plan], request).await.remove(0).expect("a free name");
    TopicPartition { topic: made.id, partition: PartitionIndex::new(0) }
}

/// Names give other ids.
fn randomness_of(name: &str, randomness: &SeededRandomness) -> u64 {
    use penstock_types::Randomness;
    name.bytes().fold(randomness.next_u64(), |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte))
}

async fn job(world: &World, now_ms: TimestampMs) -> Arc<Retention> {
    let (store, keyspace) = (Arc::clone(&world.store), world.keyspace.clone());
    let topics = TopicCatalog::open(store, keyspace, 1, BrokerConfig::default()).await.expect("a catalog");
    let parts = RetentionParts {
        store: Arc::clone(&world.store),
        keyspace: world.keyspace.clone(),
        incarnation: world.cluster.incarnation,
        topics: Arc::new(topics),
        clocks: Arc::new(One(now_ms)),
        share: Arc::new(Everything),
        collected: Arc::default(),
    };
    let settings =
        RetentionSettings { interval: Duration::from_secs(300), clock_step: Duration::from_secs(60) };
    Retention::new(parts, settings)
}

/// Where the log starts, and how many index values there are.
async fn log(world: &World, partition: TopicPartition) -> (i64, usize) {
    let mut transaction = world.store.begin(Priority::Default);
    let key = log_start::key(&world.keyspace, partition);
    let start = transaction.get(&key, Isolation::Snapshot).await.expect("a store");
    let range = index::from_offset(&world.keyspace, partition, Offset::ZERO);
    let page =
        transaction.range(range, RangeOptions::page(1_000, Isolation::Snapshot)).await.expect("a store");
    (log_start::decode(start.as_deref()).expect("an offset").get(), page.rows.len())
}

#[tokio::test(start_paused = true)]
async fn each_topic_keeps_what_its_options_say() {
    let world = World::without_topics().await;
    let aged = topic(&world, "aged", &[("retention.ms", "3600000")]).await;
    let sized = topic(&world, "sized", &[("retention.ms", "-1"), ("retention.bytes", "250")]).await;
    let kept = topic(&world, "kept", &[("retention.ms", "-1")]).await;
    let compacted = topic(&world, "compacted", &[("cleanup.policy", "compact"), ("retention.ms", "1")]).await;
    let all = [aged, sized, kept, compacted];
    for timestamp in [HOUR_MS, 2 * HOUR_MS, 3 * HOUR_MS, 4 * HOUR_MS] {
        let batches: Vec<_> = all.iter().map(|partition| (*partition, 2)).collect();
        world.put_at(&batches, timestamp).await;
        for partition in all {
            world.seal_one(partition).await;
        }
    }
    let job = job(&world, 3 * HOUR_MS + 1).await;
    job.round().await.expect("a round");
    assert_eq!(log(&world, aged).await, (4, 2), "an hour and a millisecond old");
    assert_eq!(log(&world, sized).await, (2, 3), "three batches are above 250 bytes, two are not");
    assert_eq!(log(&world, kept).await, (0, 4));
    assert_eq!(log(&world, compacted).await, (0, 4));
    let stats = job.stats();
    assert_eq!(stats.batches.load(Ordering::Relaxed), 3);
    assert_eq!(stats.bytes.load(Ordering::Relaxed), 3 * u64::from(BATCH_BYTES));
    assert_eq!(stats.trimmed.load(Ordering::Relaxed), 3);
    assert_eq!(stats.failures.load(Ordering::Relaxed), 0);
    job.round().await.expect("a round");
    assert_eq!(stats.batches.load(Ordering::Relaxed), 3, "nothing more has expired");
}

#[tokio::test(start_paused = true)]
async fn what_delete_records_deleted_is_trimmed_whatever_the_policy() {
    let world = World::without_topics().await;
    let kept = topic(&world, "kept", &[("cleanup.policy", "compact")]).await;
    let object = world.put_at(&[(kept, 5), (kept, 5)], 1).await;
    world.seal_one(kept).await;
    let wanted = [(kept, NewStart::End)];
    move_log_starts(&world.store, &world.keyspace, world.cluster.incarnation, POLICY, &wanted).await;
    let job = job(&world, HOUR_MS).await;
    job.round().await.expect("a round");
    assert_eq!(log(&world, kept).await, (10, 0));
    assert_eq!(job.parts.collected.buried.load(Ordering::Relaxed), 1, "{object}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_expires_nothing_by_age() {
    let world = World::without_topics().await;
    let aged = topic(&world, "aged", &[("retention.ms", "3600000"), ("retention.bytes", "150")]).await;
    world.put_at(&[(aged, 1), (aged, 1), (aged, 1)], HOUR_MS).await;
    world.seal_one(aged).await;
    job(&world, HOUR_MS).await.round().await.expect("a round");
    assert_eq!(log(&world, aged).await.0, 1, "too many bytes");
    let ahead = job(&world, 9 * HOUR_MS).await;
    ahead.round().await.expect("a round");
    assert_eq!(log(&world, aged).await.0, 1);
    assert_eq!(ahead.stats().waits_for_clock.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(8 * 3_600)).await;
    ahead.round().await.expect("a round");
    assert_eq!(ahead.stats().waits_for_clock.load(Ordering::Relaxed), 0);
    assert_eq!(log(&world, aged).await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_goes_in_one_round() {
    let world = World::without_topics().await;
    let aged = topic(&world, "aged", &[("retention.ms", "1000")]).await;
    for _ in 0..150 {
        world.put_at(&[(aged, 1)], 1).await;
        world.seal_one(aged).await;
    }
    let job = job(&world, HOUR_MS).await;
    job.round().await.expect("a round");
    assert_eq!(log(&world, aged).await, (150, 0));
    assert_eq!(job.parts.collected.buried.load(Ordering::Relaxed), 150);
    assert_eq!(job.stats().batches.load(Ordering::Relaxed), 150);
}
