//! Acknowledged load by real producers, and the check that nothing of it is lost, doubled or out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::{BrokerSpec, nap};

/// Numbers of one producer: its own number times this, and on from there.
const NUMBERS_OF_A_PRODUCER: u64 = 1_000_000_000;
/// How often a producer's pace is kept.
const TICK: Duration = Duration::from_millis(10);
/// How long the rest of a load may take to be delivered.
const FLUSHES_WITHIN: Duration = Duration::from_secs(120);
/// How long a reader waits for the next record.
const READS_WITHIN: Duration = Duration::from_secs(30);

/// Makes a topic, with settings of its own.
pub fn create_topic(spec: &BrokerSpec, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", spec.bootstrap()).create()?;
    let topic = settings
        .iter()
        .fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| {
            topic.set(key, value)
        });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new()))?;
    made.into_iter()
        .try_for_each(|made| made.map(|_| ()).map_err(|(name, code)| anyhow::anyhow!("{name}: {code}")))
}

/// What producers do. All of them are idempotent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The topic, which is there.
    pub topic: String,
    /// Its partitions; each producer writes to all of them in turn.
    pub partitions: i32,
    /// How many producers.
    pub producers: u64,
    /// Records per second of each of them, at most.
    pub records_per_second: u64,
    /// Bytes of each value, no less than 20.
    pub value_bytes: usize,
    /// librdkafka's settings where they are not its defaults.
    pub settings: Vec<(&'static str, &'static str)>,
}

/// What became of the records.
#[derive(Debug, Default)]
struct Told {
    /// (partition, offset) → number.
    acknowledged: Mutex<BTreeMap<(i32, i64), u64>>,
    /// Offsets that two records were told.
    conflicts: Mutex<Vec<(i32, i64)>>,
    count: AtomicU64,
    failures: Mutex<Vec<String>>,
}

struct Listener(Arc<Told>);

impl ClientContext for Listener {
    /// Brokers that go away are part of the tests; what counts is what becomes of the records.
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Listener {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let at = (message.partition(), message.offset());
                if self.0.acknowledged.lock().expect("not poisoned").insert(at, *number).is_some() {
                    self.0.conflicts.lock().expect("not poisoned").push(at);
                }
                self.0.count.fetch_add(1, SeqCst);
            }
            Err((error, _)) => {
                self.0.failures.lock().expect("not poisoned").push(format!("{number}: {error}"));
            }
        }
    }
}

/// Producers that run.
#[derive(Debug)]
pub struct Load {
    spec: BrokerSpec,
    plan: Plan,
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
    producers: Vec<JoinHandle<Result<u64>>>,
}

/// What a load was in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Records that were handed to producers.
    pub sent: u64,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Records that are in the log.
    pub found: u64,
}

impl Load {
    /// Starts the producers.
    pub fn start(spec: &BrokerSpec, plan: Plan) -> Self {
        let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
        let producers = (0..plan.producers)
            .map(|index| {
                let (spec, plan) = (spec.clone(), plan.clone());
                let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
                std::thread::spawn(move || produce(&spec, &plan, index, &told, &stop))
            })
            .collect();
        Self { spec: spec.clone(), plan, told, stop, producers }
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.told.count.load(SeqCst)
    }

    /// Waits until `more` records more are acknowledged; gives how long that took.
    pub fn wait_for(&self, more: u64, within: Duration) -> Result<Duration> {
        let (begun, before) = (Instant::now(), self.acknowledged());
        while self.acknowledged() < before + more {
            self.check_producers()?;
            let count = self.acknowledged() - before;
            ensure!(begun.elapsed() < within, "{count} of {more} records acknowledged in {within:?}");
            nap(Duration::from_millis(5));
        }
        Ok(begun.elapsed())
    }

    fn check_producers(&self) -> Result<()> {
        ensure!(!self.producers.iter().any(JoinHandle::is_finished), "a producer gave up");
        Ok(())
    }

    /// Stops the producers once all they have is delivered. No record may have failed.
    pub fn stop(&mut self) -> Result<u64> {
        self.stop.store(true, SeqCst);
        let mut sent = 0;
        for producer in self.producers.drain(..) {
            sent += producer.join().map_err(|_| anyhow::anyhow!("a producer's thread panicked"))??;
        }
        let failures = self.told.failures.lock().expect("not poisoned");
        ensure!(failures.is_empty(), "{} records failed, the first {:?}", failures.len(), failures.first());
        Ok(sent)
    }

    /// As [`Load::finish`], reading from another broker than the producers were told.
    pub fn finish_at(mut self, spec: &BrokerSpec) -> Result<Outcome> {
        let sent = self.stop()?;
        self.spec = spec.clone();
        self.verify(sent)
    }

    /// Stops the producers, reads all partitions and holds them against what was acknowledged.
    pub fn finish(mut self) -> Result<Outcome> {
        let sent = self.stop()?;
        self.verify(sent)
    }

    /// Reads all partitions: offsets are dense, each producer's records are there once and in order, and what was
    /// acknowledged is there under the offset that was told.
    pub fn verify(&self, sent: u64) -> Result<Outcome> {
        let conflicts = self.told.conflicts.lock().expect("not poisoned");
        ensure!(conflicts.is_empty(), "told to two records: {conflicts:?}");
        let told = self.told.acknowledged.lock().expect("not poisoned");
        let mut numbers = BTreeSet::new();
        for (partition, found) in (0..).zip(read(&self.spec, &self.plan)?) {
            let dense = found.iter().map(|(offset, _)| *offset).eq(0..found.len() as i64);
            ensure!(dense, "offsets of partition {partition} are not dense");
            let mut last = BTreeMap::new();
            for (offset, number) in found {
                ensure!(numbers.insert(number), "{number} is there twice");
                let before = last.insert(number / NUMBERS_OF_A_PRODUCER, number);
                ensure!(before < Some(number), "partition {partition}: {number} comes behind {before:?}");
                let of_told = told.get(&(partition, offset));
                ensure!(of_told.is_none_or(|told| *told == number), "{number} was told another offset");
            }
        }
        for number in told.values() {
            ensure!(numbers.contains(number), "{number} was acknowledged and is missing");
        }
        let outcome = Outcome { sent, acknowledged: told.len() as u64, found: numbers.len() as u64 };
        println!("{}: {outcome:?}", self.plan.topic);
        Ok(outcome)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

fn produce(spec: &BrokerSpec, plan: &Plan, index: u64, told: &Arc<Told>, stop: &AtomicBool) -> Result<u64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", spec.bootstrap()).set("enable.idempotence", "true");
    for (key, value) in &plan.settings {
        config.set(*key, *value);
    }
    let producer: ThreadedProducer<Listener> = config.create_with_context(Listener(Arc::clone(told)))?;
    let filler = "x".repeat(plan.value_bytes);
    let (begun, mut sent) = (Instant::now(), 0);
    while !stop.load(SeqCst) {
        let due = (begun.elapsed().as_millis() as u64 * plan.records_per_second) / 1000;
        send_due(&producer, plan, index, &mut sent, due, &filler);
        nap(TICK);
    }
    producer.flush(FLUSHES_WITHIN).context("the rest is delivered")?;
    Ok(sent)
}

/// Hands records over until `due` are sent or the producer's queue is full.
fn send_due(
    producer: &ThreadedProducer<Listener>,
    plan: &Plan,
    index: u64,
    sent: &mut u64,
    due: u64,
    filler: &str,
) {
    while *sent < due {
        let number = index * NUMBERS_OF_A_PRODUCER + *sent;
        let mut value = format!("{number} ");
        value.push_str(&filler[..plan.value_bytes.saturating_sub(value.len())]);
        let record = BaseRecord::<(), _, _>::with_opaque_to(&plan.topic, Box::new(number))
            .partition((*sent % plan.partitions as u64) as i32)
            .payload(&value);
        if producer.send(record).is_err() {
            return;
        }
        *sent += 1;
    }
}

/// All records of each partition: offset and number.
fn read(spec: &BrokerSpec, plan: &Plan) -> Result<Vec<Vec<(i64, u64)>>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", spec.bootstrap())
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&plan.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut found = vec![Vec::new(); plan.partitions as usize];
    let mut at_the_end = BTreeSet::new();
    while at_the_end.len() < found.len() {
        match consumer.poll(READS_WITHIN).context("the log can be read to its end")? {
            Ok(message) => {
                let value = message.payload().context("a value")?;
                ensure!(value.len() == plan.value_bytes, "a value of {} bytes", value.len());
                let number = value.split(|byte| *byte == b' ').next().context("a number")?;
                let number = std::str::from_utf8(number)?.parse()?;
                found[message.partition() as usize].push((message.offset(), number));
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                at_the_end.insert(partition);
            }
            Err(error) => eprintln!("reading: {error}"),
        }
    }
    Ok(found)
}
