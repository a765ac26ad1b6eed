//! Compacted topics keep the newest record of each key, through the whole broker and with a real client.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::create_topic;
use penstock_tests::{BrokerSpec, nap};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

/// A record as it is read: offset, key, value.
type Read = (i64, String, Option<String>);

struct Clients {
    producer: BaseProducer,
    consumer: BaseConsumer,
}

impl Clients {
    fn of(spec: &BrokerSpec) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", spec.bootstrap());
        let producer = config.clone().set("linger.ms", "5").set("enable.idempotence", "true").create()?;
        let consumer = config
            .set("group.id", "readers")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .create()?;
        Ok(Self { producer, consumer })
    }

    fn send(&self, topic: &str, records: &[(String, Option<String>)]) -> Result<()> {
        for (number, (key, value)) in records.iter().enumerate() {
            let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).key(key);
            if let Some(value) = value {
                record = record.payload(value);
            }
            self.producer.send(record).map_err(|(error, _)| error)?;
            if number % 100 == 99 {
                self.producer.flush(PATIENCE)?;
            }
        }
        self.producer.flush(PATIENCE)?;
        Ok(())
    }

    /// All records from an offset on: until the client says that it is at the end.
    fn read(&self, topic: &str, from: i64) -> Result<Vec<Read>> {
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, 0, Offset::Offset(from))?;
        self.consumer.assign(&assigned)?;
        let (mut records, begun) = (Vec::new(), Instant::now());
        loop {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let key = text(message.key().context("a key")?);
                    records.push((message.offset(), key, message.payload().map(text)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
                Some(Err(error)) => return Err(error.into()),
                None => ensure!(begun.elapsed() < WITHIN, "{topic}: not at the end within {WITHIN:?}"),
            }
        }
    }
}

fn value(key: usize, number: usize) -> (String, Option<String>) {
    (format!("key-{key}"), Some(format!("value {number} of key {key}")))
}

fn tombstone(key: usize) -> (String, Option<String>) {
    (format!("key-{key}"), None)
}

/// The newest record of each key of what was sent from offset 0 on, in their order.
fn newest(sent: &[(String, Option<String>)]) -> Vec<Read> {
    let mut last = BTreeMap::new();
    for (offset, (key, _)) in sent.iter().enumerate() {
        last.insert(key, offset);
    }
    let mut offsets: Vec<usize> = last.into_values().collect();
    offsets.sort_unstable();
    offsets
        .into_iter()
        .map(|offset| (offset as i64, sent[offset].0.clone(), sent[offset].1.clone()))
        .collect()
}

fn command(arguments: &[&str]) -> Result<String> {
    let ran = penstock_tests::penstock()?.args(arguments).output()?;
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    ensure!(ran.status.success(), "{arguments:?}: {told} {}", String::from_utf8_lossy(&ran.stderr));
    Ok(told)
}

fn compact_now(spec: &BrokerSpec) -> Result<()> {
    let http = format!("127.0.0.1:{}", spec.http_port);
    command(&["jobs", "run", "compact", "--agent-http", &http, "--output", "json"]).map(|_| ())
}

#[test]
fn of_each_key_the_newest_record_stays_at_its_offset() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // Nothing happens but what is asked for.
    let lazy = ["--set", "seal.age.ms=1h", "--set", "compact.interval.ms=1h"];
    let spec = BrokerSpec::new(directory.path(), &lazy)?;
    let broker = spec.start()?;
    create_topic(
        &spec,
        "table",
        1,
        &[("cleanup.policy", "compact"), ("delete.retention.ms", "1000"), ("compression.type", "producer")],
    )?;
    let clients = Clients::of(&spec)?;
    let mut sent: Vec<_> = (0..1_000).map(|number| value(number % 20, number)).collect();
    sent.extend([tombstone(3), tombstone(4), value(4, 9_999), value(50, 1)]);
    clients.send("table", &sent)?;
    ensure!(clients.read("table", 0)?.len() == sent.len());

    compact_now(&spec)?;
    let expected = newest(&sent);
    ensure!(clients.read("table", 0)? == expected, "{:?}", clients.read("table", 0)?);
    ensure!(expected.iter().any(|(_, key, value)| key == "key-3" && value.is_none()), "it stays for a while");
    for from in [1, 500, 985, 1_001, 1_003] {
        let behind: Vec<Read> = expected.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        ensure!(clients.read("table", from)? == behind, "from {from}");
    }
    ensure!(clients.consumer.fetch_watermarks("table", 0, PATIENCE)? == (0, 1_004));

    // The tombstone's time is over, and another run comes along; the producer goes on where it was.
    nap(Duration::from_millis(1_500));
    let more = [value(5, 10_000), value(60, 1), value(60, 2)];
    clients.send("table", &more)?;
    sent.extend(more);
    compact_now(&spec)?;
    let mut expected = newest(&sent);
    expected.retain(|(_, _, value)| value.is_some());
    ensure!(clients.read("table", 0)? == expected, "{:?}", clients.read("table", 0)?);
    let dropped = spec.metric("penstock_compaction_dropped_records_total")?;
    ensure!(dropped == (sent.len() - expected.len()) as f64, "{dropped}");
    ensure!(spec.metric("penstock_compaction_dropped_tombstones_total")? == 1.0);

    // Once more, nothing changes.
    let outputs = spec.metric("penstock_compaction_outputs_total")?;
    compact_now(&spec)?;
    ensure!(spec.metric("penstock_compaction_outputs_total")? == outputs);
    for metric in ["penstock_compaction_failures_total", "penstock_burial_contradictions_total"] {
        ensure!(spec.metric(metric)? == 0.0, "{metric}");
    }
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));

    let data = directory.path().to_string_lossy().into_owned();
    command(&["fsck", "--data-dir", &data, "--deep"])?;
    let broker = spec.start()?;
    let clients = Clients::of(&spec)?;
    ensure!(clients.read("table", 0)? == expected, "after a restart");
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}

#[test]
fn a_topic_is_compacted_in_time_and_not_before() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let hurried =
        ["--set", "seal.age.ms=1s", "--set", "seal.interval.ms=100ms", "--set", "compact.interval.ms=200ms"];
    let spec = BrokerSpec::new(directory.path(), &hurried)?;
    let broker = spec.start()?;
    let topics = [("soon", "100", "0"), ("young", "100", "3600000")];
    for (topic, segment, lag) in topics {
        let options = [
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("segment.ms", segment),
            ("min.compaction.lag.ms", lag),
        ];
        create_topic(&spec, topic, 1, &options)?;
    }
    create_topic(&spec, "deleted", 1, &[("cleanup.policy", "delete")])?;
    let clients = Clients::of(&spec)?;
    let sent: Vec<_> = (0..300).map(|number| value(number % 7, number)).collect();
    for topic in ["soon", "young", "deleted"] {
        clients.send(topic, &sent)?;
    }
    let begun = Instant::now();
    while clients.read("soon", 0)? != newest(&sent) {
        ensure!(begun.elapsed() < WITHIN, "not within {WITHIN:?}");
        nap(Duration::from_millis(300));
    }
    ensure!(clients.read("young", 0)?.len() == 300, "it is too young");
    ensure!(clients.read("deleted", 0)?.len() == 300, "it isn't a compacted one");

    // The policy counts as it is, and who asks gets all that may be compacted.
    let bootstrap = spec.bootstrap();
    let set = |topic: &str, option: &str| {
        command(&["configs", "alter", "topic", topic, "--set", option, "--bootstrap", &bootstrap])
    };
    set("young", "min.compaction.lag.ms=0")?;
    set("deleted", "cleanup.policy=compact")?;
    let begun = Instant::now();
    for topic in ["young", "deleted"] {
        while clients.read(topic, 0)? != newest(&sent) {
            ensure!(begun.elapsed() < WITHIN, "{topic}: not within {WITHIN:?}");
            compact_now(&spec)?;
            nap(Duration::from_millis(300));
        }
    }
    ensure!(spec.metric("penstock_compaction_failures_total")? == 0.0);
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}
