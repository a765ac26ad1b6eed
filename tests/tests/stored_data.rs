//! What is stored goes when nobody needs it any more: records that have expired or were deleted, topics, objects, and
//! uploads that were never committed. What is needed stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::create_topic;
use penstock_tests::{BrokerSpec, nap};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

const WITHIN: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything happens within seconds.
const IN_A_HURRY: &[&str] = &[
    "--set",
    "seal.age.ms=1s",
    "--set",
    "seal.interval.ms=100ms",
    "--set",
    "log.retention.check.interval.ms=500",
    "--set",
    "collect.delay.ms=1s",
    "--set",
    "collect.merged.delay.ms=1s",
    "--set",
    "collect.interval.ms=1s",
    "--set",
    "sweep.interval.ms=2s",
    "--set",
    "sweep.lag.ms=4s",
];

/// The files of objects under a broker's data directory.
fn objects(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.to_string_lossy().contains("/objects/objects/") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        ensure!(begun.elapsed() < WITHIN, "{what}: not within {WITHIN:?}");
        nap(Duration::from_millis(100));
    }
    Ok(())
}

struct Clients {
    producer: BaseProducer,
    consumer: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Clients {
    fn of(spec: &BrokerSpec) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", spec.bootstrap());
        Ok(Self {
            producer: config.clone().set("linger.ms", "5").create()?,
            admin: config.create()?,
            consumer: config.set("group.id", "readers").set("auto.offset.reset", "error").create()?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// Sends so many numbered records to each of the topics, in turn, so that they share objects.
    fn send(&self, topics: &[&str], count: u32) -> Result<()> {
        for number in 0..count {
            for topic in topics {
                let payload = number.to_string();
                let record: BaseRecord<'_, str, str> =
                    BaseRecord::to(topic).partition(0).payload(payload.as_str()).key("k");
                self.producer.send(record).map_err(|(error, _)| error)?;
            }
            if number % 50 == 49 {
                self.producer.flush(PATIENCE)?;
            }
        }
        self.producer.flush(PATIENCE)?;
        Ok(())
    }

    fn watermarks(&self, topic: &str) -> Result<(i64, i64)> {
        Ok(self.consumer.fetch_watermarks(topic, 0, PATIENCE)?)
    }

    /// The offsets from `from` to `to`, as they are read.
    fn read(&self, topic: &str, from: i64, to: i64) -> Result<Vec<i64>> {
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, 0, Offset::Offset(from))?;
        self.consumer.assign(&assigned)?;
        let (mut offsets, begun) = (Vec::new(), Instant::now());
        while offsets.last().is_none_or(|last| last + 1 < to) {
            // It also comes back for events that concern nobody here.
            if let Some(message) = self.consumer.poll(Duration::from_millis(200)) {
                offsets.push(message?.offset());
            } else {
                ensure!(begun.elapsed() < WITHIN, "{topic}: no record behind {:?}", offsets.last());
            }
        }
        Ok(offsets)
    }

    fn delete_records(&self, topic: &str, before: Offset) -> Result<i64> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(topic, 0, before)?;
        let deleted = self.runtime.block_on(self.admin.delete_records(&wanted, &AdminOptions::new()))?;
        let element = deleted.elements().first().map(|element| (element.offset(), element.error()));
        let (offset, error) = element.context("an answer")?;
        error?;
        offset.to_raw().context("a low watermark")
    }

    fn delete_topics(&self, topics: &[&str]) -> Result<()> {
        let deleted = self.runtime.block_on(self.admin.delete_topics(topics, &AdminOptions::new()))?;
        deleted
            .into_iter()
            .try_for_each(|one| one.map(|_| ()).map_err(|(name, code)| anyhow::anyhow!("{name}: {code}")))
    }
}

#[test]
fn what_nobody_needs_leaves_the_log_and_the_bucket() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), IN_A_HURRY)?;
    let broker = spec.start()?;
    create_topic(&spec, "short", 1, &[("retention.ms", "3000")])?;
    create_topic(&spec, "small", 1, &[("retention.ms", "-1"), ("retention.bytes", "2000")])?;
    create_topic(&spec, "kept", 1, &[("retention.ms", "-1")])?;
    let clients = Clients::of(&spec)?;
    clients.send(&["short", "small", "kept"], 500)?;
    ensure!(!objects(directory.path())?.is_empty(), "there is data");

    wait_until("all of a topic has expired by age", || Ok(clients.watermarks("short")? == (500, 500)))?;
    wait_until("a topic is as small as it may be", || Ok(clients.watermarks("small")?.0 > 0))?;
    let (low, high) = clients.watermarks("small")?;
    ensure!(high == 500 && low < 500, "{low} {high}: what is within the size stays");
    ensure!(clients.read("small", low, high)? == (low..high).collect::<Vec<_>>());
    ensure!(clients.read("kept", 0, 500)? == (0..500).collect::<Vec<_>>());

    ensure!(clients.delete_records("kept", Offset::Offset(250))? == 250);
    ensure!(clients.watermarks("kept")? == (250, 500), "at once");
    ensure!(clients.read("kept", 100, 500).is_err(), "out of range");
    ensure!(clients.read("kept", 250, 500)? == (250..500).collect::<Vec<_>>());
    ensure!(clients.delete_records("kept", Offset::Offset(100))? == 250, "it doesn't go back");
    ensure!(clients.delete_records("kept", Offset::Offset(501)).is_err(), "beyond the end");
    let before = objects(directory.path())?.len();
    wait_until("objects without live records are gone", || Ok(objects(directory.path())?.len() < before))?;
    ensure!(clients.read("kept", 250, 500)? == (250..500).collect::<Vec<_>>());

    clients.delete_topics(&["short", "small", "kept"])?;
    wait_until("the bucket is empty", || Ok(objects(directory.path())?.is_empty()))?;
    ensure!(spec.metric("penstock_burial_contradictions_total")? == 0.0);
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}

#[test]
fn an_upload_that_was_never_committed_is_swept() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), IN_A_HURRY)?;
    let broker = spec.start()?;
    create_topic(&spec, "kept", 1, &[])?;
    let clients = Clients::of(&spec)?;
    clients.send(&["kept"], 100)?;
    let live = objects(directory.path())?;
    let beside = live.first().and_then(|path| path.parent()?.parent()).context("where objects lie")?;
    // Incarnation 1, version 1, a random number whose last byte is the shard.
    let stray = beside.join("2a").join("000000010000000000000001000000000000002a");
    std::fs::create_dir_all(stray.parent().context("a shard")?)?;
    std::fs::write(&stray, b"an upload whose commit never came")?;
    wait_until("the stray object is gone", || Ok(!stray.exists()))?;
    // Longer than the lag: what is committed is old, too, and stays.
    nap(Duration::from_secs(6));
    ensure!(live.iter().all(|path| path.exists()), "what is committed stays");
    ensure!(clients.read("kept", 0, 100)?.len() == 100);
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}

fn jobs(spec: &BrokerSpec, arguments: &[&str]) -> Result<serde_json::Value> {
    let ran = Command::new(penstock_tests::binary()?)
        .arg("jobs")
        .args(arguments)
        .args(["--agent-http", &format!("127.0.0.1:{}", spec.http_port), "--output", "json"])
        .output()?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Ok(serde_json::from_slice(&ran.stdout)?)
}

fn job(report: &serde_json::Value, name: &str) -> Result<serde_json::Value> {
    let jobs = report[0]["jobs"].as_array().context("jobs")?;
    let found = jobs.iter().find(|job| job["name"] == name).cloned();
    found.with_context(|| format!("no {name} in {report}"))
}

#[test]
fn an_operator_runs_and_pauses_jobs() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec =
        BrokerSpec::new(directory.path(), &["--set", "seal.age.ms=1h", "--set", "collect.delay.ms=1s"])?;
    let broker = spec.start()?;
    create_topic(&spec, "short", 1, &[("retention.ms", "1")])?;
    let clients = Clients::of(&spec)?;
    clients.send(&["short"], 100)?;
    let paused = jobs(&spec, &["pause", "all", "--for", "1h"])?;
    ensure!(job(&paused, "retention")?["state"] == "paused", "{paused}");
    // Nothing is due for minutes, but it is as somebody says.
    jobs(&spec, &["run", "seal"])?;
    let ran = jobs(&spec, &["run", "retention"])?;
    ensure!(clients.watermarks("short")? == (100, 100));
    let retention = job(&ran, "retention")?;
    ensure!(retention["turns"] == 1 && retention["failures"] == 0 && retention["of"] == 1, "{retention}");
    nap(Duration::from_secs(2));
    jobs(&spec, &["run", "collect"])?;
    ensure!(objects(directory.path())?.is_empty(), "their objects, too");
    let resumed = jobs(&spec, &["resume", "all"])?;
    ensure!(job(&resumed, "retention")?["state"] == "waiting", "{resumed}");
    let unknown = jobs(&spec, &["run", "laundry"]).map_err(|error| error.to_string());
    ensure!(unknown.as_ref().is_err_and(|why| why.contains("there are: checkpoint, collect")), "{unknown:?}");
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}

#[test]
fn what_is_merged_is_read_as_before_and_leaves_few_objects() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), IN_A_HURRY)?;
    let broker = spec.start()?;
    let topics = ["one", "two", "three"];
    for topic in topics {
        create_topic(&spec, topic, 1, &[])?;
    }
    let clients = Clients::of(&spec)?;
    clients.send(&topics, 500)?;
    let flushed = objects(directory.path())?.len();
    ensure!(flushed >= 5, "{flushed} objects are hardly worth the while");
    // What is younger than twice `seal.age.ms` has not settled.
    nap(Duration::from_secs(3));
    let ran = jobs(&spec, &["run", "merge"])?;
    let merge = job(&ran, "merge")?;
    ensure!(merge["failures"] == 0 && merge["done"] == merge["of"] && merge["of"] != 0, "{merge}");
    wait_until("the old objects are gone", || Ok(objects(directory.path())?.len() == 1))?;
    for topic in topics {
        ensure!(clients.read(topic, 0, 500)? == (0..500).collect::<Vec<_>>());
        ensure!(clients.watermarks(topic)? == (0, 500));
    }
    clients.send(&topics, 50)?;
    ensure!(clients.read("two", 480, 550)? == (480..550).collect::<Vec<_>>(), "old and new");
    for metric in ["penstock_merge_unreadable_batches_total", "penstock_burial_contradictions_total"] {
        ensure!(spec.metric(metric)? == 0.0, "{metric}");
    }
    // A consumer that is closed when its broker is gone waits for it, a minute or so.
    drop(clients);
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}
