//! How a broker ends, and what keeps it from starting.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_tests::load::{Load, Plan, create_topic};
use penstock_tests::minio::Minio;
use penstock_tests::proxy::{Fault, Proxy};
use penstock_tests::wire::{Raw, Received, frame};
use penstock_tests::{BrokerSpec, http_get, nap};
use tokio::time::Instant;

const PARTITIONS: i32 = 3;

fn plan(producers: u64) -> Plan {
    Plan {
        topic: "load".to_owned(),
        partitions: PARTITIONS,
        producers,
        records_per_second: 2_000,
        value_bytes: 100,
        settings: vec![("reconnect.backoff.max.ms", "500")],
    }
}

/// Rolling restarts under load: each SIGTERM ends the process with exit code 0, well within the bound.
#[test]
fn sigterm_under_load_loses_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), &["--set", "shutdown.deadline.ms=10s"])?;
    let mut broker = spec.start()?;
    create_topic(&spec, "load", PARTITIONS, &[])?;
    let load = Load::start(&spec, plan(2));
    for _ in 0..4 {
        load.wait_for(1_000, Duration::from_secs(60))?;
        let begun = Instant::now();
        broker.signal("TERM")?;
        let code = broker.ended(Duration::from_secs(10))?;
        ensure!(code == Some(0), "exit code {code:?}: {:?}", broker.complaints());
        println!("stopped in {:?}", begun.elapsed());
        ensure!(broker.complaints().is_empty(), "{:?}", broker.complaints());
        broker = spec.start()?;
    }
    let outcome = load.finish()?;
    ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}

/// What a stopping agent has buffered doesn't wait for the budget of uploads, which would pay for it long after the end.
#[test]
fn a_stop_does_not_wait_for_the_budget_of_uploads() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let frugal = ["flush.put.budget.per.second=0.01", "flush.put.burst=1", "shutdown.deadline.ms=20s"];
    let mut spec = BrokerSpec::new(directory.path(), &frugal.map(|setting| ["--set", setting]).concat())?;
    let mut broker = spec.start()?;
    create_topic(&spec, "load", PARTITIONS, &[])?;
    let load = Load::start(&spec, plan(1));
    let (begun, mut waits) = (Instant::now(), 0);
    while waits < 10 {
        ensure!(begun.elapsed() < Duration::from_secs(20), "nothing waits for the budget");
        nap(Duration::from_millis(50));
        let is_spent = spec.metric("penstock_flushes_total")? == 1.0;
        waits = if is_spent && spec.metric("penstock_produce_memory_bytes")? > 0.0 { waits + 1 } else { 0 };
    }
    broker.signal("TERM")?;
    let code = broker.ended(Duration::from_secs(60))?;
    ensure!(code == Some(0), "exit code {code:?}: {:?}", broker.complaints());
    spec.arguments.clear();
    let broker = spec.start()?;
    let outcome = load.finish()?;
    ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}

/// A Fetch (version 4) from the start of partition 0 that waits a minute for a record.
fn patient_fetch(topic: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&(-1_i32).to_be_bytes()); // a consumer, not a replica
    body.extend_from_slice(&60_000_i32.to_be_bytes()); // max wait
    body.extend_from_slice(&1_i32.to_be_bytes()); // min bytes
    body.extend_from_slice(&(1_i32 << 20).to_be_bytes()); // max bytes
    body.push(0); // read_uncommitted
    body.extend_from_slice(&1_i32.to_be_bytes()); // one topic
    body.extend_from_slice(&(topic.len() as i16).to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes()); // one partition
    body.extend_from_slice(&0_i32.to_be_bytes());
    body.extend_from_slice(&0_i64.to_be_bytes()); // from offset 0 on
    body.extend_from_slice(&(1_i32 << 20).to_be_bytes()); // max bytes
    frame(1, 4, 7, false, &body)
}

/// A consumer that waits for records doesn't hold up the end: it is answered, and the exit code is 0.
#[test]
fn a_long_poll_does_not_hold_up_the_end() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), &["--set", "shutdown.deadline.ms=30s"])?;
    let mut broker = spec.start()?;
    create_topic(&spec, "quiet", 1, &[])?;
    let mut consumer = Raw::connect(&spec, Duration::from_secs(40))?;
    consumer.send(&patient_fetch("quiet"))?;
    let begun = Instant::now();
    while spec.metric("penstock_fetch_waits_total")? < 1.0 {
        ensure!(begun.elapsed() < Duration::from_secs(10), "the fetch doesn't wait");
        nap(Duration::from_millis(10));
    }
    let begun = Instant::now();
    broker.signal("TERM")?;
    let code = broker.ended(Duration::from_secs(40))?;
    ensure!(code == Some(0), "exit code {code:?}: {:?}", broker.complaints());
    ensure!(begun.elapsed() < Duration::from_secs(15), "stopped in {:?}", begun.elapsed());
    let Received::Frame(answer) = consumer.receive()? else { anyhow::bail!("the fetch wasn't answered") };
    ensure!(answer.starts_with(&7_i32.to_be_bytes()), "{answer:?}");
    ensure!(consumer.receive()? == Received::Closed, "a connection outlives its broker");
    Ok(())
}

/// Waits until the agent drains, which it does for as long as its store hangs.
fn wait_draining(spec: &BrokerSpec) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if http_get(spec.http_port, "/health/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 503")) {
            return Ok(());
        }
        nap(Duration::from_millis(10));
    }
    anyhow::bail!("the agent doesn't drain")
}

/// With a store that hangs, uploads are in flight for good: a stop waits for them, up to its bound or the next SIGINT.
#[test]
fn a_stop_is_bounded_and_two_interrupts_end_it_at_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(minio) = Minio::start(&directory.path().join("minio"))? else { return Ok(()) };
    let proxy = Proxy::start(minio.port, 1)?;
    let mut spec = BrokerSpec::new(&directory.path().join("broker"), &["--set", "shutdown.deadline.ms=5s"])?;
    spec.environment = minio.environment(proxy.port);
    let mut broker = spec.start()?;
    create_topic(&spec, "load", PARTITIONS, &[])?;
    let load = Load::start(&spec, plan(1));
    load.wait_for(100, Duration::from_secs(30))?;

    proxy.inject(&[Fault::Hang], 100);
    wait_hanging(&proxy)?;
    let begun = Instant::now();
    broker.signal("INT")?;
    wait_draining(&spec)?;
    broker.signal("INT")?;
    let code = broker.ended(Duration::from_secs(2)).context("at once")?;
    ensure!(code == Some(130), "exit code {code:?}");
    println!("interrupted twice: ended in {:?}", begun.elapsed());

    proxy.inject(&[], 0);
    broker = spec.start()?;
    load.wait_for(100, Duration::from_secs(60))?;
    proxy.inject(&[Fault::Hang], 100);
    wait_hanging(&proxy)?;
    let begun = Instant::now();
    broker.signal("TERM")?;
    let code = broker.ended(Duration::from_secs(8)).context("within the deadline")?;
    println!("terminated: ended in {:?} with {code:?}", begun.elapsed());
    ensure!(code == Some(1), "what was in flight could not be finished: exit code {code:?}");

    proxy.inject(&[], 0);
    broker = spec.start()?;
    let outcome = load.finish()?;
    ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
    ensure!(broker.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
    Ok(())
}

fn wait_hanging(proxy: &Proxy) -> Result<()> {
    let (begun, before) = (Instant::now(), proxy.injected());
    while proxy.injected() == before {
        ensure!(begun.elapsed() < Duration::from_secs(10), "no request hangs");
        nap(Duration::from_millis(5));
    }
    Ok(())
}

/// Starts a broker that can't start; gives the one line that says why.
fn refusal(spec: &BrokerSpec, within: Duration) -> Result<String> {
    let mut broker = spec.spawn()?;
    let code = broker.ended(within)?;
    let lines = broker.first_lines();
    ensure!(code == Some(1), "exit code {code:?}: {lines:?}");
    ensure!(lines.len() == 1 && lines[0].starts_with("error: "), "one line says why: {lines:?}");
    Ok(lines[0].clone())
}

#[test]
fn what_keeps_a_broker_from_starting_is_one_line() -> Result<()> {
    const SOON: Duration = Duration::from_secs(20);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file");
    std::fs::write(&file, b"")?;
    let not_writable = refusal(&BrokerSpec::new(&file.join("data"), &[])?, SOON)?;
    ensure!(not_writable.contains("file"), "{not_writable}");
    let a_file = refusal(&BrokerSpec::new(&file, &[])?, SOON)?;
    ensure!(a_file.contains("file"), "{a_file}");
    let kernel = refusal(&BrokerSpec::new("/proc/penstock".as_ref(), &[])?, SOON)?;
    ensure!(kernel.contains("/proc/penstock"), "{kernel}");

    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let mut spec = BrokerSpec::new(&directory.path().join("data"), &[])?;
    spec.http_port = port;
    let message = refusal(&spec, SOON)?;
    ensure!(message.contains(&port.to_string()), "{message}");

    let mut nobody = BrokerSpec::new(&directory.path().join("other"), &["--object-store", "s3://b/p"])?;
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ALLOW_HTTP", "true"),
    ] {
        nobody.environment.push((name.to_owned(), value.to_owned()));
    }
    let message = refusal(&nobody, Duration::from_secs(60))?;
    println!("{not_writable}\n{a_file}\n{kernel}\n{message}");
    Ok(())
}
