//! Random schedules of transactions on every store against one simple model.
//!
//! The model replays what committed in the order of the stamps. Every read must be what the replay shows at the
//! transaction's read version; no committed transaction may have read what another wrote (with a conflict range)
//! between its read version and its stamp; no transaction may be refused without such a write; where every write
//! disturbs its readers, serializable reads must also be what the replay shows right before the transaction's own
//! stamp; and at the end the contents are the same.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_types::{Randomness, SeededRandomness};

#[cfg(feature = "foundationdb")]
#[path = "support/fdbserver.rs"]
mod fdbserver;
#[path = "model/replay.rs"]
mod replay;
#[path = "model/schedule.rs"]
mod schedule;

/// Runs `cases` schedules on the store, each under a prefix of its own.
fn check(cases: u32, store: &SharedStore, runtime: &tokio::runtime::Runtime) {
    let randomness = SeededRandomness::new(11);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&schedule::schedule(), |schedule| {
        let prefix = [b"model/", &randomness.next_u64().to_be_bytes()[..]].concat();
        let history = runtime.block_on(schedule::run(store, &prefix, &schedule));
        replay::check(&history, schedule.all_disturb).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

#[test]
fn the_memory_store_behaves_as_the_model() {
    let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(5)));
    check(400, &store, &paused());
}

#[test]
fn the_memory_store_behaves_as_the_model_when_commits_overtake_each_other() {
    let store = MemoryStore::new(Arc::new(SeededRandomness::new(5)));
    store.set_faults(MemoryFaults {
        latency: Some(Duration::ZERO..Duration::from_millis(3)),
        ..MemoryFaults::default()
    });
    let store: SharedStore = store;
    check(400, &store, &paused());
}

#[test]
fn the_embedded_store_behaves_as_the_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let store: SharedStore = open(directory.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    check(150, &store, &runtime);
}

#[cfg(feature = "foundationdb")]
#[test]
fn foundationdb_behaves_as_the_model() {
    match fdbserver::FdbServer::start("memory") {
        Ok(server) => check(150, &server.store(), &fdbserver::runtime()),
        Err(reason) => println!("skipped: foundationdb, random schedules: {reason}"),
    }
}

fn open(path: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(path, EmbeddedOptions::default()).expect("the store opens")
}
