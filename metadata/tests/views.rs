//! What it costs an agent to know that its views are the newest, and what commits leave behind.

#[expect(dead_code, reason = "shared with the measurements of scale")]
#[path = "scale/counted.rs"]
mod counted;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use counted::{Counted, Counts};
use futures::future::join_all;
use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::{Committer, ObjectOutcome};
use penstock_metadata::ground::AllExist;
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::feed::{self, Slot};
use penstock_metadata::keys::log::BatchFacts;
use penstock_metadata::keys::{Family, Keyspace, log_start};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_metadata::kv::{Isolation, Priority, RangeOptions, SharedStore, WriteConflict, prefixed};
use penstock_metadata::order_rows::OrderRows;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, SeededRandomness, StoreVersion, TopicId, TopicPartition,
    pause,
};

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(number) }
}

fn keyspace() -> Keyspace {
    Keyspace::new(b"c/")
}

fn memory() -> SharedStore {
    MemoryStore::new(Arc::new(SeededRandomness::new(1)))
}

fn committer(store: &SharedStore) -> Committer<AllExist> {
    Committer {
        store: Arc::clone(store),
        keyspace: keyspace(),
        incarnation: Incarnation::FIRST,
        topics: AllExist,
        producer_expiry: Duration::from_secs(3_600),
        order_rows: OrderRows::default(),
    }
}

/// Commits an object of a batch of so many records for each of the partitions; answers the base offsets.
async fn commit(committer: &Committer<AllExist>, object: u64, batches: &[(i32, u32)]) -> Vec<i64> {
    let batch = |(number, records): &(i32, u32)| {
        let facts = BatchFacts {
            length: 100,
            records: *records,
            flags: 0,
            base_timestamp: 1,
            max_timestamp: 1,
            producer: None,
        };
        BatchToCommit { partition: partition(*number), position: 0, facts, refused: None }
    };
    let batches: Vec<_> = batches.iter().map(batch).collect();
    let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), object);
    let object = ObjectToCommit { id, size: 100, batches: batches.clone() };
    let outcomes = committer.attempt(&[object]).await.expect("a commit");
    let ObjectOutcome::Committed { offsets, .. } = &outcomes[0] else { panic!("no cutoff moves") };
    let offset = |(n, batch): (usize, &BatchToCommit)| offsets[&(batch.partition, n as u32)].get();
    batches.iter().enumerate().map(offset).collect()
}

/// The reads so far: gets, ranges, transactions.
fn reads(counts: &Counts) -> [u64; 3] {
    [&counts.gets, &counts.ranges, &counts.transactions].map(|count| count.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_view_that_a_commit_left_alone_reads_no_rows() {
    let store = memory();
    let writer = committer(&store);
    let all: Vec<_> = (0..32).map(partition).collect();
    commit(&writer, 0, &[(0, 3), (5, 4)]).await;
    let counts = Arc::new(Counts::default());
    let views = Views::new(Counted::over(&store, &counts), keyspace(), 100);
    views.validated(&all).await.expect("views");
    let filled = reads(&counts);

    assert_eq!(commit(&writer, 1, &[(5, 1)]).await, [4]);
    let seen = views.validated(&all).await.expect("views");
    let now = reads(&counts);
    let [gets, ranges, transactions] = [0, 1, 2].map(|index| now[index] - filled[index]);
    // The feed, the stripe's counters, and what the one changed view reads.
    assert_eq!((gets, ranges, transactions), (2 + 3, 1, 2));
    let end = |index: usize| seen[index].as_ref().expect("a view").read(TailView::high_watermark).get();
    assert_eq!((end(0), end(5), end(6)), (3, 5, 0));

    views.validated(&all).await.expect("views");
    assert_eq!(reads(&counts), [now[0] + 1, now[1], now[2] + 1], "nothing has changed: one read of the feed");
}

#[tokio::test(start_paused = true)]
async fn a_log_start_that_moved_is_seen() {
    let store = memory();
    let writer = committer(&store);
    commit(&writer, 0, &[(0, 10), (1, 10)]).await;
    let views = Views::new(Arc::clone(&store), keyspace(), 100);
    let log_start_of = async |number: i32| {
        let view = views.validated(&[partition(number)]).await.expect("views").remove(0).expect("a view");
        view.read(|tail| tail.log_start)
    };
    assert_eq!(log_start_of(0).await, Offset::ZERO);
    let mut transaction = store.begin(Priority::Default);
    transaction.atomic_max(&log_start::key(&keyspace(), partition(0)), 4, WriteConflict::No);
    let mut changed = Counters::default();
    changed.change();
    let key = counters::key(&keyspace(), Stripe::of(partition(0)));
    transaction.atomic_add_bytes(&key, &changed.encode(), WriteConflict::No);
    let key = feed::key(&keyspace(), Slot::of(partition(0)));
    let value = feed::template(Incarnation::FIRST);
    transaction.set_stamped_value(&key, &value, feed::STAMP_AT, WriteConflict::No);
    transaction.commit().await.expect("a commit");
    assert_eq!(log_start_of(0).await, Offset::at(4));
    assert_eq!(log_start_of(1).await, Offset::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_looks_at_the_same_time_shares_the_look() {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(1)));
    // A store that answers at once is never waited for.
    let latency = Some(Duration::from_millis(1)..Duration::from_millis(5));
    memory.set_faults(MemoryFaults { latency, ..MemoryFaults::default() });
    let store: SharedStore = memory;
    let writer = committer(&store);
    let counts = Arc::new(Counts::default());
    let views = Views::new(Counted::over(&store, &counts), keyspace(), 100);
    let all: Vec<_> = (0..50).map(partition).collect();
    views.validated(&all).await.expect("views");
    let filled = reads(&counts);
    let looks = (0..200).map(|number| {
        let views = Arc::clone(&views);
        async move {
            let view = views.validated(&[partition(number % 50)]).await.expect("views").remove(0);
            view.expect("a view").read(TailView::high_watermark).get()
        }
    });
    let batches: Vec<_> = (0..50).map(|number| (number, 2)).collect();
    commit(&writer, 0, &batches).await;
    // Some go away while they wait; the look goes on for the others.
    let gone = looks.clone().take(5).map(|look| async {
        tokio::select! {
            biased;
            () = std::future::ready(()) => {}
            _ = look => {}
        }
    });
    let (ends, _) = tokio::join!(join_all(looks), join_all(gone));
    assert!(ends.iter().all(|end| *end == 2), "each sees what was committed before it came: {ends:?}");
    let looked = reads(&counts)[2] - filled[2] - 50;
    assert!(looked <= 3, "{looked} looks for 200 callers");
}

/// The order rows that are there.
async fn order_rows(store: &SharedStore) -> usize {
    let mut transaction = store.begin(Priority::Default);
    let range = prefixed(&keyspace().family(Family::Order));
    transaction.range(range, RangeOptions::page(1_000, Isolation::Snapshot)).await.expect("rows").rows.len()
}

#[tokio::test(start_paused = true)]
async fn commits_of_one_version_know_their_offsets_and_leave_a_row_each() {
    let store = memory();
    let agents: Vec<_> = (0..10).map(|_| committer(&store)).collect();
    let mut seen = [Vec::new(), Vec::new()];
    for round in 0..20u64 {
        // They join one group of the store, in whatever order.
        let commits = agents.iter().enumerate().map(async |(index, agent)| {
            let object = 100 * round + index as u64;
            let records = 1 + (index as u32 + round as u32) % 3;
            let offsets = commit(agent, object, &[(0, records), (0, 1), (40, records)]).await;
            (offsets, i64::from(records))
        });
        for (offsets, records) in join_all(commits).await {
            seen[0].extend([(offsets[0], records), (offsets[1], 1)]);
            seen[1].push((offsets[2], records));
        }
    }
    for mut seen in seen {
        seen.sort_unstable();
        let mut next = 0;
        for (offset, records) in seen {
            assert_eq!(offset, next, "offsets are dense and nobody's twice");
            next += records;
        }
    }
    assert_eq!(order_rows(&store).await, agents.len(), "each agent's last commit left its row");

    // Those agents are gone. The first commit of another sweeps.
    drop(agents);
    pause(Duration::from_secs(1)).await;
    let next = committer(&store);
    commit(&next, 9_000, &[(0, 1)]).await;
    assert_eq!(order_rows(&store).await, 1);
    commit(&next, 9_001, &[(0, 1)]).await;
    assert_eq!(order_rows(&store).await, 1);
}
