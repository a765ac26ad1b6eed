//! A measurement by hand: a hundred writers through three network threads of FoundationDB's client, to be told against the
//! same line of `scale.rs`, where there is one. In a process of its own: the network is started once.
//!
//! `cargo test -p penstock-metadata --features foundationdb --test scale_threads -- --ignored --nocapture`
#![cfg(feature = "foundationdb")]

use std::time::Duration;

use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::foundationdb::{FoundationDbOptions, FoundationDbStore, NetworkOptions};

#[path = "scale/commits.rs"]
mod commits;
#[path = "scale/counted.rs"]
mod counted;
#[path = "support/fdbserver.rs"]
mod fdbserver;
#[path = "scale/measuring.rs"]
mod measuring;

use commits::{Field, Load, compare, standard_kinds};
use fdbserver::{FdbServer, answers, client_library, runtime};
use measuring::{Cluster, partitions};

#[test]
#[ignore = "a measurement"]
fn a_hundred_writers_through_three_threads() {
    let Some(library) = client_library() else {
        return println!("skipped: foundationdb, client threads: libfdb_c.so is on no path that is known");
    };
    let server = match FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, client threads: {reason}"),
    };
    let network =
        NetworkOptions { client_threads: 3, client_library: Some(library), ..NetworkOptions::default() };
    let options = FoundationDbOptions { network, ..server.options() };
    let store: SharedStore = FoundationDbStore::open(&options).expect("the store opens");
    println!("{}", commits::HEAD);
    runtime().block_on(async {
        answers(&*store).await;
        for count in [20, 1_000] {
            let cluster = Cluster::new(&store, &format!("threads-{count}"));
            let topic = cluster.make(cluster.plans(1, count)).await[0];
            let partitions = partitions(topic, count as u32);
            let mut field = Field::new(cluster, partitions, server.process_id()).await;
            let kinds = standard_kinds(&mut field).await;
            let load = Load { writers: 100, lasts: Duration::from_secs(3), every: None };
            compare(&mut field, &kinds, load, 2).await;
        }
    });
}
