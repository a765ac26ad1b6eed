//! The conformance suite over every store. One that can't be reached in this run is reported as skipped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::conformance::{CASES, Setup, run, run_case};
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_types::SeededRandomness;

#[cfg(feature = "foundationdb")]
#[path = "support/fdbserver.rs"]
mod fdbserver;

/// A store, and how to run the suite over it; the error says why this run can't.
type Entry = (&'static str, fn() -> Result<(), String>);

/// Every store there is.
const STORES: &[Entry] = &[("memory", memory), ("embedded", embedded), ("foundationdb", foundationdb)];

#[test]
fn every_store_conforms() {
    for (name, run) in STORES {
        if let Err(reason) = run() {
            println!("skipped: {name}: {reason}");
        }
    }
}

#[cfg(feature = "foundationdb")]
fn foundationdb() -> Result<(), String> {
    let server = fdbserver::FdbServer::start("ssd")?;
    fdbserver::runtime().block_on(run(Setup {
        store: server.store(),
        randomness: Arc::new(SeededRandomness::new(3)),
        let_transactions_age: Some(|| penstock_types::pause(Duration::from_secs(7)).boxed()),
    }));
    Ok(())
}

#[cfg(not(feature = "foundationdb"))]
fn foundationdb() -> Result<(), String> {
    Err("this build has no client of it (cargo feature foundationdb)".to_owned())
}

fn memory() -> Result<(), String> {
    for seed in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let randomness = Arc::new(SeededRandomness::new(seed));
        runtime.block_on(run(Setup {
            store: MemoryStore::new(randomness.clone()),
            randomness,
            let_transactions_age: Some(|| tokio::time::advance(Duration::from_secs(6)).boxed()),
        }));
    }
    Ok(())
}

fn embedded() -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a directory");
    // In real time: its thread can't be paused.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let store = open(directory.path());
        let randomness = Arc::new(SeededRandomness::new(1));
        run(Setup { store, randomness, let_transactions_age: None }).await;
    });
    // What needs age under a clock that is moved by hand, which no timer of the case waits for.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let setup = Setup {
            store: open(directory.path()),
            randomness: Arc::new(SeededRandomness::new(2)),
            let_transactions_age: Some(|| tokio::time::advance(Duration::from_secs(6)).boxed()),
        };
        let case = CASES.iter().find(|case| case.name == "versions::old_transactions_are_refused");
        run_case(&setup, case.expect("the case")).await;
    });
    Ok(())
}

fn open(directory: &Path) -> SharedStore {
    EmbeddedStore::open(directory, EmbeddedOptions::default()).expect("the store opens")
}
