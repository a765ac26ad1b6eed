//! Several network threads of FoundationDB's client. In a process of its own: the network is started once.
#![cfg(feature = "foundationdb")]

use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::kv::foundationdb::{
    FoundationDbOptions, FoundationDbStore, NetworkOptions, OpenError,
};
use penstock_metadata::kv::{Isolation, Priority, Store, WriteConflict};

#[path = "support/fdbserver.rs"]
mod fdbserver;

use fdbserver::{FdbServer, answers, client_library, runtime};

#[test]
fn transactions_take_turns_between_threads() {
    let Some(library) = client_library() else {
        return println!("skipped: foundationdb, client threads: libfdb_c.so is on no path that is known");
    };
    let server = match FdbServer::start("memory") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, client threads: {reason}"),
    };
    let network =
        NetworkOptions { client_threads: 3, client_library: Some(library), ..NetworkOptions::default() };
    let options = FoundationDbOptions { network, timeout: Duration::from_secs(10), ..server.options() };
    let store = FoundationDbStore::open(&options).expect("the store opens");
    runtime().block_on(async {
        answers(&*store).await;
        let add = async |_: i64| {
            let mut transaction = store.begin(Priority::Default);
            transaction.atomic_add(b"n", 1, WriteConflict::No);
            transaction.commit().await.expect("a commit");
            // What has returned on one connection is seen on the others.
            let seen = store.begin(Priority::Default).get(b"n", Isolation::Snapshot).await.expect("a read");
            i64::from_le_bytes(seen.expect("a number").as_ref().try_into().expect("8 bytes"))
        };
        for round in 1..=20 {
            let seen = join_all((0..9).map(add)).await;
            assert!(seen.iter().all(|seen| *seen > (round - 1) * 9), "{seen:?} in round {round}");
            assert_eq!(seen.iter().max(), Some(&(round * 9)));
        }
        let mut transaction = store.begin(Priority::Default);
        let watch = transaction.watch(b"n");
        transaction.commit().await.expect("a commit that writes nothing");
        add(0).await;
        tokio::time::timeout(Duration::from_secs(30), watch).await.expect("it wakes").expect("no error");
    });
    // The network can't be started anew with other options.
    let other = FoundationDbStore::open(&server.options());
    assert!(matches!(other, Err(OpenError::NetworkDiffers)));
}
