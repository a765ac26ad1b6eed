//! An object store that goes away, refuses, hangs, and loses its answers: the agent stays up with bounded memory,
//! producers with default settings see no permanent error, nothing acknowledged is lost, doubled or reordered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::{Load, Plan, create_topic};
use penstock_tests::minio::Minio;
use penstock_tests::proxy::{Fault, Proxy};
use penstock_tests::{BrokerProcess, BrokerSpec, nap};
use tokio::time::Instant;

const MIB: f64 = 1_048_576.0;
/// Unacknowledged data that the broker may hold, by its configuration.
const PRODUCE_MEMORY_MIB: f64 = 16.0;
/// What an outage may add to the process: that data, its requests on their way in, and one upload's worth of copies.
const GROWS_AT_MOST_MIB: f64 = PRODUCE_MEMORY_MIB + 100.0;
/// How soon records are acknowledged again once the store is back. Pauses between attempts are two seconds at most.
const FLOWS_AGAIN_WITHIN: Duration = Duration::from_secs(8);
const PARTITIONS: i32 = 6;

/// A broker over a bucket at `port`.
fn broker(directory: &std::path::Path, minio: &Minio, port: u16, set: &[&str]) -> Result<BrokerSpec> {
    let mut arguments = vec!["--set", "produce.memory.bytes=16MiB", "--set", "cache.bytes=32MiB"];
    arguments.extend(set.iter().flat_map(|option| ["--set", *option]));
    let mut spec = BrokerSpec::new(directory, &arguments)?;
    spec.environment = minio.environment(port);
    Ok(spec)
}

/// Producers with librdkafka's own settings.
fn plan(topic: &str, records_per_second: u64) -> Plan {
    Plan {
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        producers: 6,
        records_per_second,
        value_bytes: 1024,
        settings: Vec::new(),
    }
}

/// Producers with batches of 400 KiB: one of each is held by the broker during an outage, 5 MiB altogether.
fn bulk(topic: &str) -> Plan {
    Plan { partitions: 1, producers: 12, settings: vec![("linger.ms", "400")], ..plan(topic, 1_000) }
}

fn resident_mib(spec: &BrokerSpec) -> Result<f64> {
    Ok(spec.metric("process_resident_memory_bytes")? / MIB)
}

/// SIGTERM, a start with an empty cache, and everything is read from the bucket.
fn verify_after_restart(spec: &BrokerSpec, broker: BrokerProcess, loads: &mut [&mut Load]) -> Result<()> {
    let sent = loads.iter_mut().map(|load| load.stop()).collect::<Result<Vec<_>>>()?;
    ensure!(broker.complaints().is_empty(), "{:?}", broker.complaints());
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    let broker = spec.start()?;
    for (load, sent) in loads.iter().zip(sent) {
        let outcome = load.verify(sent)?;
        ensure!(outcome.acknowledged == sent && outcome.found == sent, "{outcome:?}");
    }
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}

fn outage(seconds: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut minio) = Minio::start(&directory.path().join("minio"))? else { return Ok(()) };
    let spec = broker(&directory.path().join("broker"), &minio, minio.port, &[])?;
    let mut process = spec.start()?;
    create_topic(&spec, "load", PARTITIONS, &[])?;
    create_topic(&spec, "bulk", 1, &[])?;
    let mut load = Load::start(&spec, plan("load", 300));
    let mut bulk = Load::start(&spec, bulk("bulk"));
    load.wait_for(2_000, Duration::from_secs(60))?;
    bulk.wait_for(5_000, Duration::from_secs(60))?;
    let before = resident_mib(&spec)?;

    minio.kill()?;
    let begun = Instant::now();
    let (mut most, mut most_held) = (0_f64, 0_f64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        ensure!(process.is_running(), "the agent stays up");
        most = most.max(resident_mib(&spec)?);
        most_held = most_held.max(spec.metric("penstock_produce_memory_bytes")? / MIB);
        nap(Duration::from_millis(100));
    }
    minio.run()?;
    let took = load.wait_for(2_000, FLOWS_AGAIN_WITHIN).context("everything flows again")?;
    println!(
        "{seconds} s without a store: RSS {before:.0} to {most:.0} MiB, {most_held:.1} MiB held, flows after {took:?}"
    );
    ensure!(most < before + GROWS_AT_MOST_MIB, "from {before} to {most} MiB");
    ensure!(most_held <= PRODUCE_MEMORY_MIB + 1.0, "{most_held} MiB of unacknowledged data");
    ensure!(most_held > 3.0, "the outage met load: {most_held} MiB");
    bulk.wait_for(20_000, Duration::from_secs(30)).context("large batches flow, too")?;
    verify_after_restart(&spec, process, &mut [&mut load, &mut bulk])
}

#[test]
fn a_store_that_is_gone_for_ten_seconds() -> Result<()> {
    outage(10)
}

#[test]
#[ignore = "takes two minutes; for running by hand"]
fn a_store_that_is_gone_for_forty_seconds() -> Result<()> {
    // Past the deadline of uploads (20 s): producers are told to try again, and do.
    outage(40)
}

/// Each kind of fault for itself, then all of them together, over one broker.
#[test]
fn a_store_that_misbehaves() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(minio) = Minio::start(&directory.path().join("minio"))? else { return Ok(()) };
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let proxy = Proxy::start(minio.port, seed)?;
    let set = ["upload.attempt.timeout.ms=1000", "seal.rows=200", "seal.interval.ms=300"];
    let spec = broker(&directory.path().join("broker"), &minio, proxy.port, &set)?;
    let mut process = spec.start()?;
    let mut phases: Vec<(String, Vec<Fault>, u64)> =
        Fault::ALL.map(|fault| (format!("{fault:?}"), vec![fault], 20)).to_vec();
    phases.push(("mix".to_owned(), Fault::ALL.to_vec(), 5));
    for (topic, faults, percent) in phases {
        create_topic(&spec, &topic, PARTITIONS, &[])?;
        let load = Load::start(&spec, plan(&topic, 150));
        load.wait_for(50, Duration::from_secs(60))?;
        let injected = proxy.injected();
        proxy.inject(&faults, percent);
        let begun = Instant::now();
        // Long enough for faults to meet uploads, and for uploads to get through in spite of them.
        load.wait_for(500, Duration::from_secs(60)).with_context(|| format!("load under {topic}"))?;
        while begun.elapsed() < Duration::from_secs(2) || proxy.injected() < injected + 5 {
            ensure!(begun.elapsed() < Duration::from_secs(60), "too few faults were injected");
            nap(Duration::from_millis(20));
        }
        let met = proxy.injected() - injected;
        // The reader is to meet them, too, where it has to go to the bucket.
        let outcome = load.finish().with_context(|| format!("under {topic}"))?;
        proxy.inject(&[], 0);
        println!("{topic}: {met} faults in {:?}, {outcome:?}", begun.elapsed());
        ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
        ensure!(process.is_running() && process.complaints().is_empty(), "{:?}", process.complaints());
    }
    let errors = penstock_tests::http_get(spec.http_port, "/metrics")?;
    ensure!(errors.contains("penstock_object_store_errors_total"), "the agent noticed");
    ensure!(process.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}
