//! A measurement by hand: `cargo test -p penstock-metadata --test commit_speed -- --ignored --nocapture`, with
//! `--features foundationdb` also of FoundationDB.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::{Priority, SharedStore, StoreError, WriteConflict};
use tokio::time::Instant;

#[cfg(feature = "foundationdb")]
#[path = "support/fdbserver.rs"]
mod fdbserver;

const ROWS: u32 = 20;
const LASTS: Duration = Duration::from_secs(5);

/// What the rows of a commit are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Half stamped keys, half counters, as a commit of data objects writes them.
    Log,
    /// Plain sets of the same size.
    #[cfg(feature = "foundationdb")]
    Plain,
}

/// How long each commit took, and how many failed.
async fn commit_for(store: SharedStore, committer: u32, rows: Rows) -> (Vec<Duration>, usize) {
    let began = Instant::now();
    let (mut took, mut failed) = (Vec::new(), 0);
    while began.elapsed() < LASTS {
        let mut transaction = store.begin(Priority::Default);
        for row in 0..ROWS {
            let prefix = [b"log/", &committer.to_be_bytes()[..], &row.to_be_bytes()].concat();
            match rows {
                Rows::Log if row % 2 == 0 => {
                    transaction.set_stamped_key(&prefix, b"", &[7; 60], WriteConflict::No);
                }
                Rows::Log => transaction.atomic_add(&prefix, 1, WriteConflict::No),
                #[cfg(feature = "foundationdb")]
                Rows::Plain => {
                    let (key, size) = ([&prefix[..], &[0; 10]].concat(), if row % 2 == 0 { 60 } else { 8 });
                    transaction.set(&key, &[7; 60][..size], WriteConflict::Yes);
                }
            }
        }
        let before = Instant::now();
        match transaction.commit().await {
            Ok(_) => took.push(before.elapsed()),
            Err(StoreError::Conflict) => panic!("nobody conflicts"),
            Err(_) => failed += 1,
        }
    }
    (took, failed)
}

/// Runs so many committers and prints what they managed.
async fn measure(store: SharedStore, committers: u32, rows: Rows) {
    let tasks =
        (0..committers).map(|committer| tokio::spawn(commit_for(Arc::clone(&store), committer, rows)));
    let (mut took, mut failures) = (Vec::new(), 0);
    for task in join_all(tasks).await {
        let (of_one, failed) = task.expect("a committer");
        took.extend(of_one);
        failures += failed;
    }
    assert!(!took.is_empty(), "nothing was committed");
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{}: {committers} committers, {ROWS} rows each ({rows:?}): {:.0} commits/s, p50 {:?}, p99 {:?}, {failures} failed",
        store.name(),
        took.len() as f64 / LASTS.as_secs_f64(),
        at(50),
        at(99),
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

#[test]
#[ignore = "a measurement"]
fn commits_per_second() {
    for committers in [1, 64] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let store =
            EmbeddedStore::open(directory.path(), EmbeddedOptions::default()).expect("the store opens");
        runtime().block_on(measure(Arc::clone(&store) as SharedStore, committers, Rows::Log));
        println!("{:?}", store.stats());
    }
}

#[cfg(feature = "foundationdb")]
#[test]
#[ignore = "a measurement"]
fn commits_per_second_on_foundationdb() {
    let server = match fdbserver::FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, commit speed: {reason}"),
    };
    let store = server.store();
    runtime().block_on(async {
        fdbserver::answers(&*store).await;
        for committers in [1, 10, 30, 100] {
            for rows in [Rows::Plain, Rows::Log] {
                measure(Arc::clone(&store), committers, rows).await;
            }
        }
    });
}
