//! A measurement by hand, of FoundationDB's `ssd` engine in a single process: many writers on the same partitions, the
//! seal, many partitions, wake-ups. Each test prints Markdown tables.
//!
//! `cargo test -p penstock-metadata --features foundationdb --test scale -- --ignored --nocapture --test-threads 1`
//!
//! Server, clients and their one network thread share the machine's processors; the tables say who used how much of
//! them. Loads are compared in the same run, round by round.
#![cfg(feature = "foundationdb")]

use std::time::Duration;

#[path = "scale/commits.rs"]
mod commits;
#[path = "scale/counted.rs"]
mod counted;
#[path = "support/fdbserver.rs"]
mod fdbserver;
#[path = "scale/measuring.rs"]
mod measuring;
#[path = "scale/prices.rs"]
mod prices;
#[path = "scale/sealing.rs"]
mod sealing;
#[path = "scale/topics.rs"]
mod topics;
#[path = "scale/wakeups.rs"]
mod wakeups;

use commits::{Field, HEAD, Kind, Load, compare, standard_kinds};
use fdbserver::{FdbServer, answers, runtime};
use measuring::{Cluster, partitions};

#[test]
#[ignore = "a measurement"]
fn commits_to_shared_partitions() {
    println!("{HEAD}");
    for count in [20, 1_000] {
        let server = match FdbServer::start("ssd") {
            Ok(server) => server,
            Err(reason) => return println!("skipped: foundationdb, scale of commits: {reason}"),
        };
        let store = server.store();
        runtime().block_on(async {
            answers(&*store).await;
            let cluster = Cluster::new(&store, "scale");
            let topic = cluster.make(cluster.plans(1, count as i32)).await[0];
            let mut field = Field::new(cluster, partitions(topic, count), server.process_id()).await;
            let kinds = standard_kinds(&mut field).await;
            for writers in [1, 10, 30, 100] {
                let load = Load { writers, lasts: Duration::from_secs(3), every: None };
                compare(&mut field, &kinds, load, if count == 20 { 2 } else { 1 }).await;
            }
        });
    }
}

/// The load of agents with their default budget: four objects a second each.
#[test]
#[ignore = "a measurement"]
fn four_commits_a_second_each() {
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, scale of commits: {reason}"),
    };
    let store = server.store();
    println!("{HEAD}");
    runtime().block_on(async {
        answers(&*store).await;
        let cluster = Cluster::new(&store, "paced");
        let topic = cluster.make(cluster.plans(1, 20)).await[0];
        let mut field = Field::new(cluster, partitions(topic, 20), server.process_id()).await;
        let kinds = [Kind::Commit { idempotent: false, offsets: true }, Kind::NextOffset];
        for writers in [3, 30, 100] {
            let load =
                Load { writers, lasts: Duration::from_secs(4), every: Some(Duration::from_millis(250)) };
            compare(&mut field, &kinds, load, 1).await;
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn the_price_of_each_operation() {
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, prices: {reason}"),
    };
    let store = server.store();
    runtime().block_on(async {
        answers(&*store).await;
        println!(
            "| 1,000 in a transaction, 4 at a time | a second | server µs each | client µs each \
             |\n|---|---|---|---|"
        );
        prices::measure(&store, server.process_id()).await;
    });
}

#[test]
#[ignore = "a measurement"]
fn metadata_of_a_gib() {
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, metadata of a GiB: {reason}"),
    };
    let store = server.store();
    let large = sealing::Shape { name: "", batch: 512 << 10, records: 500, partitions: 16, together: 1 };
    let small = sealing::Shape { name: "", batch: 16 << 10, records: 150, partitions: 16, together: 32 };
    let shapes = [
        sealing::Shape { name: "1 KiB records in 512 KiB batches, 16 partitions", ..large },
        sealing::Shape { name: "100 B records in 16 KiB batches, 16 partitions", ..small },
        sealing::Shape { name: "the same, 512 partitions", partitions: 512, together: 1, ..small },
    ];
    runtime().block_on(async {
        answers(&*store).await;
        println!(
            "| records | objects of 8 MiB | batches | log rows | bytes before | of them log rows | bytes after | of them \
             packed index | of them producers and objects | packed rows per 100 batches | sealed rows/s | batches/s \
             | ms a seal |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for (number, shape) in shapes.into_iter().enumerate() {
            sealing::bytes_of_a_gib(&store, number, shape).await;
        }
        println!("\n| rows in a seal | packed rows | per 100 batches | ms | rows/s |\n|---|---|---|---|---|");
        sealing::packing(&store).await;
    });
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_partitions() {
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, 100,000 partitions: {reason}"),
    };
    let store = server.store();
    runtime().block_on(async {
        answers(&*store).await;
        println!(
            "| topics x partitions | made in ms | rows | bytes | catalog read in ms | nothing new, ms | listed, ms \
             | MiB |\n|---|---|---|---|---|---|---|---|"
        );
        let few = Cluster::new(&store, "few");
        let ids = topics::make(&few, 100, 1_000).await;
        topics::make(&Cluster::new(&store, "many"), 100_000, 1).await;
        println!(
            "\n| a fetch of 1,000 partitions after | transactions | keys read | ranges read | ms \
             |\n|---|---|---|---|---|"
        );
        topics::views(&few, &ids, 1_000).await;
    });
}

#[test]
#[ignore = "a measurement"]
fn wake_ups_across_agents() {
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, wake-ups: {reason}"),
    };
    runtime().block_on(async {
        answers(&*server.store()).await;
        println!(
            "| agents that wait | partitions written to | commit, p50 / p99 ms | woken | shown | watches armed a \
             commit | reads a commit | rows a commit | transactions a commit | wakes a poll | server CPU \
             |\n|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for (agents, touched, commits) in
            [(1, 1, 200), (10, 1, 200), (100, 1, 100), (1, 20, 200), (10, 20, 100), (100, 20, 50)]
        {
            wakeups::measure(&server, agents, touched, commits).await;
        }
    });
}
