//! `penstock fsck`, of what a broker that was stopped has left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::create_topic;
use penstock_tests::{BrokerSpec, penstock};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// What came of a check.
struct Checked {
    code: Option<i32>,
    /// The report, if there is one.
    report: Value,
    complaints: String,
}

impl Checked {
    fn kinds(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        findings.iter().filter_map(|finding| finding["kind"].as_str()).collect()
    }
}

fn fsck(directory: &Path, arguments: &[&str]) -> Result<Checked> {
    let mut command = penstock()?;
    command.args(["fsck", "--output", "json", "--data-dir"]).arg(directory).args(arguments);
    let ran = command.output()?;
    let complaints = String::from_utf8_lossy(&ran.stderr).into_owned();
    let report = serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null);
    println!("{:?} {report} {complaints}", ran.status.code());
    Ok(Checked { code: ran.status.code(), report, complaints })
}

/// A broker's data directory in which a topic has so many records, of which some are sealed.
fn written(directory: &Path, records: u32) -> Result<()> {
    let settings = ["--set", "seal.age.ms=1s", "--set", "seal.interval.ms=100ms"];
    let spec = BrokerSpec::new(directory, &settings)?;
    let broker = spec.start()?;
    create_topic(&spec, "orders", 3, &[])?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", spec.bootstrap())
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    for number in 0..records {
        let (key, payload) = (number.to_string(), format!("record {number}"));
        let record: BaseRecord<'_, str, str> =
            BaseRecord::to("orders").key(key.as_str()).payload(payload.as_str());
        producer.send(record).map_err(|(error, _)| error)?;
        if number % 100 == 99 {
            producer.flush(PATIENCE)?;
        }
    }
    producer.flush(PATIENCE)?;
    ensure!(broker.terminate()? == Some(0));
    Ok(())
}

/// The files of objects under a broker's data directory.
fn objects(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.join("objects").join("objects")]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a name")
}

#[test]
fn what_a_stopped_broker_left_is_sound_until_something_is_lost_or_damaged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    written(directory.path(), 1_000)?;
    for arguments in [&[][..], &["--deep"], &["--deep", "--memory", "1KiB"], &["--repair"]] {
        let checked = fsck(directory.path(), arguments)?;
        ensure!(checked.code == Some(0) && checked.kinds().is_empty(), "{arguments:?}");
        let of = &checked.report["checked"];
        ensure!(of["partitions"] == 3 && of["batches"].as_u64() > Some(3), "{of}");
        ensure!(of["listed"].as_u64() == Some(objects(directory.path())?.len() as u64), "{of}");
    }

    let lost = objects(directory.path())?.first().context("an object")?.clone();
    let bytes = std::fs::read(&lost)?;
    std::fs::remove_file(&lost)?;
    let checked = fsck(directory.path(), &[])?;
    ensure!(checked.code == Some(1) && checked.kinds() == ["missing"]);
    ensure!(checked.report["findings"][0]["object"] == name(&lost)?, "it is named");
    ensure!(checked.report["findings"][0]["topic"] == "orders");

    let mut damaged = bytes.clone();
    damaged[70] ^= 1;
    std::fs::write(&lost, &damaged)?;
    ensure!(fsck(directory.path(), &[])?.code == Some(0), "its footer is sound");
    let checked = fsck(directory.path(), &["--deep"])?;
    ensure!(checked.code == Some(1) && checked.kinds().iter().all(|kind| *kind == "damaged"));
    ensure!(checked.report["findings"][0]["topic"] == "orders");

    std::fs::write(&lost, &bytes)?;
    ensure!(fsck(directory.path(), &["--deep"])?.code == Some(0));
    Ok(())
}

#[test]
fn what_nobody_refers_to_is_named_and_then_deleted() -> Result<()> {
    let directory = tempfile::tempdir()?;
    written(directory.path(), 100)?;
    // Incarnation 1, version 1, a random number whose last byte is the shard.
    let stray = directory.path().join("objects/objects/2a/000000010000000000000001000000000000002a");
    std::fs::create_dir_all(stray.parent().context("a shard")?)?;
    std::fs::write(&stray, b"an upload whose commit never came")?;
    let soon = ["--set", "sweep.lag.ms=1s", "--set", "sweep.interval.ms=1s"];
    ensure!(fsck(directory.path(), &[])?.code == Some(0), "its commit may be on its way");
    let checked = fsck(directory.path(), &soon)?;
    ensure!(checked.code == Some(1) && checked.kinds() == ["unreferenced"]);
    ensure!(stray.exists(), "nothing was asked for but a check");
    let repaired = fsck(directory.path(), &[&soon[..], &["--repair"]].concat())?;
    let named = format!("to repair: delete object {}", name(&stray)?);
    ensure!(repaired.code == Some(1) && repaired.complaints.contains(&named));
    ensure!(repaired.report["repairs"][0]["outcome"] == "done");
    ensure!(!stray.exists());
    ensure!(fsck(directory.path(), &soon)?.code == Some(0));
    Ok(())
}

#[test]
fn what_can_not_be_checked_is_no_clean_bill() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let unreachable = |checked: Checked, why: &str| {
        ensure!(checked.code == Some(2) && checked.report.is_null(), "{why}");
        ensure!(checked.complaints.contains(why), "{}", checked.complaints);
        ensure!(checked.complaints.lines().count() == 1, "one line: {}", checked.complaints);
        Ok(())
    };
    unreachable(fsck(&directory.path().join("nowhere"), &[])?, "--data-dir")?;
    written(directory.path(), 10)?;
    let other = tempfile::tempdir()?;
    let elsewhere = format!("file://{}", other.path().display());
    unreachable(fsck(directory.path(), &["--object-store", &elsewhere])?, "nobody's")?;
    let spec = BrokerSpec::new(directory.path(), &[])?;
    let broker = spec.start()?;
    unreachable(fsck(directory.path(), &[])?, "stop the agent")?;
    ensure!(broker.terminate()? == Some(0));
    ensure!(fsck(directory.path(), &[])?.code == Some(0));
    Ok(())
}
