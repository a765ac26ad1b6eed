//! `penstock verify` passes on a broker that does as it says, and names what is wrong with one that doesn't.

mod liar;

use std::net::TcpListener;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use liar::{Liar, Lie};
use penstock_tests::{BrokerSpec, binary};

/// Runs it for a few seconds; what it printed.
fn verify(bootstrap: &str, more: &[&str]) -> Result<(Output, serde_json::Value)> {
    let output = Command::new(binary()?)
        .args(["verify", "--bootstrap", bootstrap, "--output", "json"])
        .args(["--duration", "4s", "--settle", "5s", "--rate", "1000"])
        .args(more)
        .output()?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output, report))
}

#[test]
fn a_broker_that_does_as_it_says_passes() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let spec = BrokerSpec::new(directory.path(), &[])?;
    let _broker = spec.start()?;
    let (output, report) = verify(&spec.bootstrap(), &["--topic", "mine", "--keep"])?;
    ensure!(output.status.success() && report["verdict"] == "ok", "{report}");
    let records = &report["records"];
    ensure!(records["sent"] == records["acknowledged"] && records["failed"] == 0, "{report}");
    let (sent, read) = (records["sent"].as_u64(), records["read"].as_u64());
    ensure!(
        sent.is_some_and(|sent| sent > 3_000 && read == Some(3 * sent)),
        "two followed, one read all: {report}"
    );

    let again = Command::new(binary()?)
        .args(["verify", "--bootstrap", &spec.bootstrap(), "--topic", "mine", "--duration", "1s"])
        .output()?;
    let complaint = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(again.status.code() == Some(1) && complaint.contains("already exists"), "{complaint}");
    Ok(())
}

/// What is found of a broker behind a proxy that lies.
fn found_of(lie: Lie, more: &[&str]) -> Result<serde_json::Value> {
    let directory = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let advertised = listener.local_addr()?.to_string();
    let spec = BrokerSpec::new(directory.path(), &["--advertise", &advertised])?;
    let _broker = spec.start()?;
    let liar = Liar::start(listener, spec.kafka_port, lie)?;
    let (output, report) = verify(&advertised, more)?;
    ensure!(liar.lies() > 0, "{lie:?}: it never lied");
    ensure!(output.status.code() == Some(1) && report["verdict"] == "violations", "{lie:?}: {report}");
    Ok(report["violations"].clone())
}

#[test]
fn a_batch_that_is_acknowledged_and_not_kept_is_lost() -> Result<()> {
    let found = found_of(Lie::Lose, &[])?;
    ensure!(found["lost"]["count"].as_u64() > Some(0), "{found}");
    Ok(())
}

#[test]
fn a_batch_that_is_kept_twice_is_a_duplicate() -> Result<()> {
    let found = found_of(Lie::Duplicate, &[])?;
    ensure!(found["duplicated"]["count"].as_u64() > Some(0), "{found}");
    ensure!(found.get("lost").is_none() && found.get("hole").is_none(), "{found}");
    Ok(())
}

#[test]
fn batches_that_change_places_are_reordered() -> Result<()> {
    let found = found_of(Lie::Reorder, &["--partitions", "1"])?;
    ensure!(found["reordered"]["count"].as_u64() > Some(0), "{found}");
    ensure!(found.get("lost").is_none() && found.get("duplicated").is_none(), "{found}");
    Ok(())
}

#[test]
fn a_changed_byte_is_damage() -> Result<()> {
    let found = found_of(Lie::Damage, &[])?;
    ensure!(found["damaged"]["count"].as_u64() > Some(0), "{found}");
    Ok(())
}

#[test]
fn a_wrong_offset_is_misplaced() -> Result<()> {
    let found = found_of(Lie::WrongOffset, &[])?;
    ensure!(found["misplaced"]["count"].as_u64() > Some(0), "{found}");
    ensure!(found.get("lost").is_none(), "{found}");
    Ok(())
}
