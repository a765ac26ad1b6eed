//! A broker that is killed (SIGKILL) again and again in the middle of acknowledged load: nothing acknowledged is
//! missing, nothing is there twice, each producer's records are in order, offsets are dense, groups carry on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::{BrokerSpec, nap};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

const PARTITIONS: i32 = 4;

/// What was acknowledged: (partition, offset) → number.
#[derive(Default)]
struct Acknowledged {
    told: std::sync::Mutex<BTreeMap<(i32, i64), u64>>,
    failed: AtomicU64,
}

struct Told(Arc<Acknowledged>);

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let at = (message.partition(), message.offset());
                let before = self.0.told.lock().expect("not poisoned").insert(at, *number);
                assert!(before.is_none(), "two records were told the offset {at:?}");
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

fn create_topic(spec: &BrokerSpec) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", spec.bootstrap()).create()?;
    let topic = NewTopic::new("load", PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new()))?;
    made.into_iter()
        .try_for_each(|made| made.map(|_| ()).map_err(|(name, code)| anyhow::anyhow!("{name}: {code}")))
}

/// Sends numbers until told to stop; each goes to the partition of its remainder.
fn send(spec: &BrokerSpec, acknowledged: &Arc<Acknowledged>, stop: &AtomicBool) -> Result<u64> {
    let producer: ThreadedProducer<Told> = ClientConfig::new()
        .set("bootstrap.servers", spec.bootstrap())
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("message.timeout.ms", "120000")
        .set("retry.backoff.ms", "20")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .create_with_context(Told(Arc::clone(acknowledged)))?;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let payload = format!("{number}");
        let record = BaseRecord::<(), _, _>::with_opaque_to("load", Box::new(number))
            .partition((number % PARTITIONS as u64) as i32)
            .payload(&payload);
        match producer.send(record) {
            Ok(()) => number += 1,
            Err(_) => nap(Duration::from_millis(5)),
        }
        if number % 50 == 0 {
            nap(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(120)).context("the rest is delivered")?;
    Ok(number)
}

/// All records of a partition, by offset.
fn read(spec: &BrokerSpec, partition: i32) -> Result<BTreeMap<i64, u64>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", spec.bootstrap())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset("load", partition, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let mut found = BTreeMap::new();
    loop {
        match consumer.poll(Duration::from_secs(30)).context("the log can be read to its end")? {
            Ok(message) => {
                let number = std::str::from_utf8(message.payload().context("a value")?)?.parse()?;
                ensure!(found.insert(message.offset(), number).is_none(), "one offset, two records");
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return Ok(found),
            Err(error) => eprintln!("reading: {error}"),
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_twenty_kills() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec =
        BrokerSpec::new(directory.path(), &["--set", "seal.rows=50", "--set", "seal.interval.ms=200"])?;
    let mut broker = spec.start()?;
    create_topic(&spec)?;
    let acknowledged = Arc::new(Acknowledged::default());
    let stop = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (spec, acknowledged, stop) = (spec.clone(), Arc::clone(&acknowledged), Arc::clone(&stop));
        move || send(&spec, &acknowledged, &stop)
    });
    for round in 0..20 {
        // Until something new was acknowledged, so that each kill meets load; then a little longer, differently.
        let before = acknowledged.told.lock().expect("not poisoned").len();
        while acknowledged.told.lock().expect("not poisoned").len() < before + 200 {
            ensure!(!sender.is_finished(), "the producer gave up");
            nap(Duration::from_millis(5));
        }
        nap(Duration::from_millis(round * 7 % 90));
        broker.kill()?;
        broker = spec.start()?;
    }
    stop.store(true, Ordering::SeqCst);
    let sent = sender.join().expect("the producer's thread")?;
    let told = acknowledged.told.lock().expect("not poisoned");
    let mut numbers = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let found = read(&spec, partition)?;
        ensure!(
            found.keys().copied().eq(0..found.len() as i64),
            "offsets of partition {partition} are not dense"
        );
        ensure!(found.values().is_sorted(), "partition {partition} is out of order");
        for (offset, number) in &found {
            ensure!(numbers.insert(*number), "{number} is there twice");
            let of_told = told.get(&(partition, *offset));
            ensure!(of_told.is_none_or(|of_told| of_told == number), "{number} was told another offset");
        }
    }
    for number in told.values() {
        ensure!(numbers.contains(number), "{number} was acknowledged and is missing");
    }
    println!(
        "{sent} sent, {} acknowledged, {} failed, {} found",
        told.len(),
        acknowledged.failed.load(Ordering::SeqCst),
        numbers.len()
    );
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}
