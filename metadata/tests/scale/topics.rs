//! Many partitions: making them, reading the catalog, and keeping views of a thousand of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::Committer;
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::log::BatchFacts;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_types::{
    Incarnation, ObjectId, Randomness, SeededRandomness, StoreVersion, TopicId, TopicPartition,
};
use tokio::time::Instant;

use super::counted::{Counted, Counts};
use super::measuring::{Cluster, partitions};
use super::sealing::sizes;

/// Milliseconds, for a table.
fn milliseconds(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

/// Memory of this process that is in RAM, in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1_024.0
}

/// Makes topics and prints what that took and what a catalog of them takes; their ids.
pub async fn make(cluster: &Cluster, topics: usize, partitions: i32) -> Vec<TopicId> {
    let begun = Instant::now();
    let ids = cluster.make(cluster.plans(topics, partitions)).await;
    let made = begun.elapsed();
    let sizes = sizes(&*cluster.store, &cluster.keyspace).await;
    let rows: u64 = sizes.values().map(|(rows, _)| rows).sum();
    let bytes: u64 = sizes.values().map(|(_, bytes)| bytes).sum();
    let before = resident_mib();
    let begun = Instant::now();
    let catalog = cluster.catalog().await;
    let opened = begun.elapsed();
    let memory = resident_mib() - before;
    let begun = Instant::now();
    catalog.refresh().await.expect("a refresh");
    let unchanged = begun.elapsed();
    let begun = Instant::now();
    let all = catalog.all();
    let listed = begun.elapsed();
    assert_eq!(all.iter().map(|topic| u64::from(topic.partitions)).sum::<u64>(), catalog.counts().1);
    println!(
        "| {topics} x {partitions} | {} | {rows} | {bytes} | {} | {} | {} | {memory:.1} |",
        milliseconds(made),
        milliseconds(opened),
        milliseconds(unchanged),
        milliseconds(listed),
    );
    ids
}

/// What a fetch of a thousand partitions reads of the store to know that its views are the newest.
pub async fn views(cluster: &Cluster, topics: &[TopicId], of_topic: u32) {
    let counts = Arc::new(Counts::default());
    let store = Counted::over(&cluster.store, &counts);
    let all: Vec<TopicPartition> = topics.iter().flat_map(|topic| partitions(*topic, of_topic)).collect();
    // Spread over the topics, and others beside them.
    let step = all.len() / 1_000;
    let served: Vec<TopicPartition> = all.iter().step_by(step).copied().collect();
    let others: Vec<TopicPartition> = all.iter().skip(1).step_by(step).copied().collect();
    let catalog = cluster.catalog().await;
    let committer = cluster.committer(SharedStore::clone(&cluster.store), &catalog);
    let views = Views::new(store, cluster.keyspace.clone(), 100_000);
    let randomness = SeededRandomness::new(3);
    look(&views, &counts, &served, "empty views").await;
    look(&views, &counts, &served, "nothing was committed").await;
    commit(&committer, &randomness, &served[..1]).await;
    look(&views, &counts, &served, "one of them was written to").await;
    commit(&committer, &randomness, &others).await;
    look(&views, &counts, &served, "1,000 others were written to").await;
    commit(&committer, &randomness, &served).await;
    look(&views, &counts, &served, "all of them were written to").await;
    assert!(views.get(served[1]).read(TailView::high_watermark).get() > 0);
}

async fn look(views: &Views, counts: &Counts, served: &[TopicPartition], after: &str) {
    let before = counts_of(counts);
    let begun = Instant::now();
    let seen = views.validated(served).await.expect("the feed");
    let took: Duration = begun.elapsed();
    assert!(seen.iter().all(Result::is_ok), "every view is served");
    let [transactions, gets, ranges] = counts_of(counts);
    println!(
        "| {after} | {} | {} | {} | {} |",
        transactions - before[0],
        gets - before[1],
        ranges - before[2],
        milliseconds(took)
    );
}

fn counts_of(counts: &Counts) -> [u64; 3] {
    [&counts.transactions, &counts.gets, &counts.ranges].map(|count| count.load(Ordering::Relaxed))
}

/// Commits an object with a batch for each of `partitions`.
pub async fn commit(
    committer: &Committer<CatalogGround>,
    randomness: &SeededRandomness,
    partitions: &[TopicPartition],
) {
    let facts = BatchFacts {
        length: 1 << 10,
        records: 1,
        flags: 0,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_000,
        producer: None,
    };
    let batches = partitions.iter().enumerate().map(|(index, partition)| BatchToCommit {
        partition: *partition,
        position: index as u64 * u64::from(facts.length),
        facts,
        refused: None,
    });
    let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), randomness.next_u64());
    let batches: Vec<_> = batches.collect();
    let object = ObjectToCommit { id, size: batches.len() as u64 * u64::from(facts.length), batches };
    committer.attempt(&[object]).await.expect("a commit");
}
