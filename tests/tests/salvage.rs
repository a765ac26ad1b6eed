//! `penstock salvage`: the metadata of a broker are destroyed, and its bucket is enough.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::create_topic;
use penstock_tests::{BrokerSpec, nap, penstock};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);
const WITHIN: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;

fn command(directory: &Path, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let ran = penstock()?.args(arguments).args(["--output", "json", "--data-dir"]).arg(directory).output()?;
    let report = serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null);
    println!("{arguments:?}: {:?} {report} {}", ran.status.code(), String::from_utf8_lossy(&ran.stderr));
    Ok((ran.status.code(), report))
}

fn send(spec: &BrokerSpec, from: u32, to: u32) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", spec.bootstrap()).set("linger.ms", "5");
    let producer: BaseProducer = config.set("enable.idempotence", "true").create()?;
    for number in from..to {
        let payload = format!("record {number}");
        let record: BaseRecord<'_, str, str> =
            BaseRecord::to("orders").partition(number as i32 % PARTITIONS).payload(payload.as_str());
        producer.send(record).map_err(|(error, _)| error)?;
        if number % 100 == 99 {
            producer.flush(PATIENCE)?;
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

/// All records of a partition: offset and payload.
fn read(spec: &BrokerSpec, partition: i32) -> Result<Vec<(i64, String)>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", spec.bootstrap()).set("group.id", "readers");
    let consumer: BaseConsumer = config.set("auto.offset.reset", "error").create()?;
    let (low, high) = consumer.fetch_watermarks("orders", partition, PATIENCE)?;
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset("orders", partition, Offset::Offset(low))?;
    consumer.assign(&assigned)?;
    let (mut records, begun) = (Vec::new(), Instant::now());
    while records.last().is_none_or(|(last, _)| last + 1 < high) {
        if let Some(message) = consumer.poll(Duration::from_millis(200)) {
            let message = message?;
            let payload = message.payload().context("a payload")?;
            records.push((message.offset(), String::from_utf8_lossy(payload).into_owned()));
        }
        ensure!(begun.elapsed() < WITHIN, "no record behind {:?} of {high}", records.last());
    }
    Ok(records)
}

#[test]
fn a_cluster_without_metadata_is_put_together_from_its_bucket() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let settings =
        ["--set", "seal.age.ms=1s", "--set", "seal.interval.ms=100ms", "--set", "checkpoint.interval.ms=1s"];
    let spec = BrokerSpec::new(directory.path(), &settings)?;
    let broker = spec.start()?;
    create_topic(&spec, "orders", PARTITIONS, &[("retention.ms", "-1")])?;
    send(&spec, 0, 1_000)?;
    // Sealed, and in a checkpoint.
    let begun = Instant::now();
    let written = || spec.metric("penstock_checkpoints_total");
    while written()? < 1.0 {
        ensure!(begun.elapsed() < WITHIN, "no checkpoint");
        nap(Duration::from_millis(100));
    }
    nap(Duration::from_secs(5));
    send(&spec, 1_000, 1_200)?;
    let before: Vec<_> = (0..PARTITIONS).map(|partition| read(&spec, partition)).collect::<Result<_>>()?;
    ensure!(broker.terminate()? == Some(0));

    std::fs::remove_dir_all(directory.path().join("metadata"))?;
    let (code, looked) = command(directory.path(), &["salvage"])?;
    ensure!(code == Some(0) && looked["salvaged"] == false && looked["incarnation"] == 2, "{looked}");
    ensure!(!directory.path().join("metadata").exists(), "it was only looked at");
    ensure!(command(directory.path(), &["salvage", "--to", "3"])?.0 == Some(1), "another incarnation");
    std::fs::remove_dir_all(directory.path().join("metadata"))?;
    let (code, salvaged) = command(directory.path(), &["salvage", "--to", "2"])?;
    ensure!(code == Some(0) && salvaged["salvaged"] == true, "{salvaged}");
    ensure!(salvaged["topics"][0]["name"] == "orders", "{salvaged}");
    ensure!(command(directory.path(), &["salvage", "--to", "3"])?.0 == Some(1), "it is there already");
    let (code, checked) = command(directory.path(), &["fsck", "--deep"])?;
    ensure!(code == Some(0), "{checked}");

    let broker = spec.start()?;
    for (partition, before) in (0..PARTITIONS).zip(&before) {
        let exact = &salvaged["topics"][0]["partitions"][partition as usize]["exact_to"];
        ensure!(exact.as_i64() >= Some(500), "{salvaged}");
        // One agent wrote one object after the other: what comes behind is in its order, too.
        ensure!(read(&spec, partition)? == *before);
    }
    send(&spec, 1_200, 1_300)?;
    let after = read(&spec, 0)?;
    ensure!(after.len() == before[0].len() + 50 && after[..before[0].len()] == before[0], "it goes on");
    ensure!(broker.terminate()? == Some(0));
    ensure!(command(directory.path(), &["fsck", "--deep"])?.0 == Some(0));
    Ok(())
}
