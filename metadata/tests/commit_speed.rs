//! A measurement by hand: `cargo test -p penstock-metadata --test commit_speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::{Priority, Store, WriteConflict};
use tokio::time::Instant;

const ROWS: u32 = 20;
const LASTS: Duration = Duration::from_secs(5);

async fn commit_for(store: Arc<EmbeddedStore>, committer: u32) -> Vec<Duration> {
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < LASTS {
        let mut transaction = store.begin(Priority::Default);
        for row in 0..ROWS {
            let prefix = [b"log/", &committer.to_be_bytes()[..], &row.to_be_bytes()].concat();
            if row % 2 == 0 {
                transaction.set_stamped_key(&prefix, b"", &[7; 60], WriteConflict::No);
            } else {
                transaction.atomic_add(&prefix, 1, WriteConflict::No);
            }
        }
        let before = Instant::now();
        transaction.commit().await.expect("nobody conflicts");
        took.push(before.elapsed());
    }
    took
}

#[test]
#[ignore = "a measurement"]
fn commits_per_second() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    for committers in [1, 64] {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let store =
            EmbeddedStore::open(directory.path(), EmbeddedOptions::default()).expect("the store opens");
        let mut took = runtime.block_on(async {
            let tasks =
                (0..committers).map(|committer| tokio::spawn(commit_for(Arc::clone(&store), committer)));
            let mut took = Vec::new();
            for task in join_all(tasks).await {
                took.extend(task.expect("a committer"));
            }
            took
        });
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        println!(
            "{committers} committers, {ROWS} rows each: {:.0} commits/s, p50 {:?}, p99 {:?}, {:?}",
            took.len() as f64 / LASTS.as_secs_f64(),
            at(50),
            at(99),
            store.stats(),
        );
    }
}
