//! Wake-ups across agents: how long after a commit of one agent the others know of it, and what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::feed_watch::{FeedWatch, Subscription};
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_types::{SeededRandomness, TopicPartition, pause};
use tokio::time::Instant;

use super::counted::{Counted, Counts};
use super::fdbserver::FdbServer;
use super::measuring::{Cluster, Processor, partitions, quantile};
use super::topics::commit;

const PARTITIONS: u32 = 20;

/// An agent, as far as long polls go: it watches the slots of all partitions, on a connection of its own.
struct Agent {
    watch: Arc<FeedWatch>,
    views: Arc<Views>,
    slots: BTreeMap<Slot, Subscription>,
}

impl Agent {
    fn new(
        server: &FdbServer,
        cluster: &Cluster,
        counts: &Arc<Counts>,
        partitions: &[TopicPartition],
    ) -> Self {
        let store = Counted::over(&server.store(), counts);
        let watch = FeedWatch::new(Arc::clone(&store), cluster.keyspace.clone());
        let slots = partitions.iter().map(|partition| {
            let slot = Slot::of(*partition);
            (slot, watch.subscribe(slot))
        });
        let slots = slots.collect();
        Self { watch, views: Views::new(store, cluster.keyspace.clone(), 100_000), slots }
    }

    /// A long poll: waits until the partition's end is at `end`, and looks only when it is woken.
    async fn poll(&mut self, partition: TopicPartition, end: i64) -> Seen {
        let slot = self.slots.get_mut(&Slot::of(partition)).expect("it is watched");
        let mut wakes = 0;
        loop {
            slot.changed().await.expect("it is watched");
            wakes += 1;
            let woken = Instant::now();
            let view = self.views.validated(&[partition]).await.expect("the feed").remove(0).expect("a view");
            if view.read(TailView::high_watermark).get() >= end {
                return Seen { woken, seen: Instant::now(), wakes };
            }
        }
    }
}

/// When an agent knew.
struct Seen {
    woken: Instant,
    seen: Instant,
    wakes: u64,
}

/// Commits `commits` times to `touched` of the partitions while so many agents wait, and prints a line.
pub async fn measure(server: &FdbServer, agents: usize, touched: usize, commits: usize) {
    let cluster = Cluster::new(&server.store(), &format!("wake-{agents}-{touched}"));
    let topic = cluster.make(cluster.plans(1, PARTITIONS as i32)).await[0];
    let partitions = partitions(topic, PARTITIONS);
    let counts = Arc::new(Counts::default());
    let mut agents: Vec<Agent> =
        (0..agents).map(|_| Agent::new(server, &cluster, &counts, &partitions)).collect();
    let catalog = cluster.catalog().await;
    let committer = cluster.committer(Arc::clone(&cluster.store), &catalog);
    let randomness = SeededRandomness::new(11);
    let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let [mut woken, mut seen] = [Vec::new(), Vec::new()];
    let mut wakes: Vec<u64> = Vec::new();
    let mut acknowledged = Vec::new();
    let mut measured: Option<([u64; 5], Processor, Instant)> = None;
    // The first rounds arm the watches and fill the views.
    for round in 0..commits + 5 {
        if round == 5 {
            woken.clear();
            seen.clear();
            wakes.clear();
            acknowledged.clear();
            let server = Processor::of(Some(server.process_id()));
            measured = Some((counts_of(&counts), server, Instant::now()));
        }
        let first = round % partitions.len();
        let written: Vec<_> = partitions.iter().cycle().skip(first).take(touched).copied().collect();
        for partition in &written {
            *ends.entry(*partition).or_default() += 1;
        }
        let end = ends[&written[0]];
        let polls = agents.iter_mut().map(|agent| agent.poll(written[0], end));
        let begun = Instant::now();
        let committed = async {
            commit(&committer, &randomness, &written).await;
            begun.elapsed()
        };
        let (told, took) = tokio::join!(join_all(polls), committed);
        acknowledged.push(took);
        for told in told {
            woken.push(told.woken - begun);
            seen.push(told.seen - begun);
            wakes.push(told.wakes);
        }
        pause(Duration::from_millis(20)).await;
    }
    let (before, server_before, begun) = measured.expect("more than five rounds");
    let after = counts_of(&counts);
    let (used, _) = Processor::of(Some(server.process_id())).since(&server_before, begun.elapsed());
    let each = |index: usize| (after[index] - before[index]) as f64 / commits as f64;
    for took in [&mut woken, &mut seen, &mut acknowledged] {
        took.sort_unstable();
    }
    let at = |took: &[Duration], of_thousand| quantile(took, of_thousand).as_secs_f64() * 1e3;
    println!(
        "| {} | {touched} | {:.1} / {:.1} | {:.1} / {:.1} | {:.1} / {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} \
         | {used:.2} |",
        agents.len(),
        at(&acknowledged, 500),
        at(&acknowledged, 990),
        at(&woken, 500),
        at(&woken, 990),
        at(&seen, 500),
        at(&seen, 990),
        each(0),
        each(1) + each(2),
        each(3),
        each(4),
        wakes.iter().sum::<u64>() as f64 / wakes.len() as f64,
    );
    for agent in agents {
        drop(agent.slots);
        agent.watch.shutdown().await;
    }
}

/// Watches armed, keys read, ranges read, rows of ranges, transactions.
fn counts_of(counts: &Counts) -> [u64; 5] {
    [&counts.watches, &counts.gets, &counts.ranges, &counts.rows, &counts.transactions]
        .map(|count| count.load(Ordering::Relaxed))
}
