//! What measurements share: processor time from /proc, quantiles, and a cluster with topics.

use std::sync::Arc;
use std::time::Duration;

use penstock_config::broker::BrokerConfig;
use penstock_metadata::commit::Committer;
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::{Isolation, Priority, SharedStore, Store};
use penstock_metadata::topics::{NewTopic, PlannedTopic, Request, Terms, TopicAdmin, TopicCatalog};
use penstock_types::{
    Incarnation, PartitionIndex, SeededRandomness, TestClock, TopicId, TopicPartition, pause,
};
use tokio::time::Instant;

/// The quantile of durations in order.
pub fn quantile(sorted: &[Duration], of_thousand: usize) -> Duration {
    match sorted.len() {
        0 => Duration::ZERO,
        count => sorted[(count * of_thousand / 1_000).min(count - 1)],
    }
}

/// Processor seconds of a process and of each of its threads, by /proc.
#[derive(Debug, Clone)]
pub struct Processor {
    process: f64,
    threads: Vec<(String, f64)>,
}

impl Processor {
    /// Of the process `id`; `None` is this one.
    pub fn of(id: Option<u32>) -> Self {
        let path = id.map_or_else(|| "/proc/self".to_owned(), |id| format!("/proc/{id}"));
        let mut threads = Vec::new();
        for task in std::fs::read_dir(format!("{path}/task")).expect("Linux").flatten() {
            // A thread may have ended meanwhile.
            if let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) {
                threads.push((task.file_name().to_string_lossy().into_owned(), seconds(&stat)));
            }
        }
        let process = seconds(&std::fs::read_to_string(format!("{path}/stat")).expect("Linux"));
        Self { process, threads }
    }

    /// How many processors the process used since `before`, and its busiest thread, over `elapsed`.
    pub fn since(&self, before: &Self, elapsed: Duration) -> (f64, f64) {
        let used = |now: f64, then: f64| (now - then).max(0.0) / elapsed.as_secs_f64();
        let busiest = self.threads.iter().map(|(id, now)| {
            let then = before.threads.iter().find(|(other, _)| other == id).map_or(0.0, |(_, then)| *then);
            used(*now, then)
        });
        (used(self.process, before.process), busiest.fold(0.0, f64::max))
    }
}

/// User and system time of a line of /proc, in seconds.
fn seconds(stat: &str) -> f64 {
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits until the server has done what was left to do: reading what was just committed is quick again, as it isn't while
/// the storage server is behind the log. At most half a minute.
pub async fn settled(store: &dyn Store) {
    let mut quick = 0;
    let until = Instant::now() + Duration::from_secs(30);
    while quick < 5 && Instant::now() < until {
        let begun = Instant::now();
        let mut transaction = store.begin(Priority::Default);
        transaction.set(b"settled", b"", penstock_metadata::kv::WriteConflict::Yes);
        let committed = transaction.commit().await.is_ok();
        let read = store.begin(Priority::Default).get(b"settled", Isolation::Snapshot).await;
        quick = if committed && read.is_ok() && begun.elapsed() < Duration::from_millis(50) {
            quick + 1
        } else {
            0
        };
        pause(Duration::from_millis(100)).await;
    }
}

/// A cluster's metadata, of which every agent of a measurement is a part.
#[derive(Debug)]
pub struct Cluster {
    /// Where it is kept.
    pub store: SharedStore,
    /// Its keys.
    pub keyspace: Keyspace,
    /// Who makes topics.
    pub admin: TopicAdmin,
}

impl Cluster {
    /// A cluster of its own under the name.
    pub fn new(store: &SharedStore, name: &str) -> Self {
        let keyspace = Keyspace::new(format!("{name}/").as_bytes());
        let admin = TopicAdmin::new(
            Arc::clone(store),
            keyspace.clone(),
            Incarnation::FIRST,
            Arc::new(TestClock::at(1_000)),
            Arc::new(SeededRandomness::new(name.bytes().map(u64::from).sum())),
        );
        Self { store: Arc::clone(store), keyspace, admin }
    }

    /// Plans for topics with so many partitions each.
    pub fn plans(&self, topics: usize, partitions: i32) -> Vec<PlannedTopic> {
        let broker = BrokerConfig::default();
        let plan = |number: usize| {
            let name = format!("topic-{number:06}");
            let new = NewTopic { name, partitions, replication_factor: 1, ..NewTopic::default() };
            self.admin.plan_topic(&new, Terms { broker: &broker, brokers: &[1] }).expect("a good topic")
        };
        (0..topics).map(plan).collect()
    }

    /// Makes topics; their ids.
    pub async fn make(&self, plans: Vec<PlannedTopic>) -> Vec<TopicId> {
        let made = self.admin.create_topics(plans, Request::new(false, 60_000)).await;
        made.into_iter().map(|made| made.expect("a free name").id).collect()
    }

    /// A new catalog of its topics, read from the store.
    pub async fn catalog(&self) -> Arc<TopicCatalog> {
        let store = Arc::clone(&self.store);
        let catalog = TopicCatalog::open(store, self.keyspace.clone(), 1, BrokerConfig::default()).await;
        Arc::new(catalog.expect("a catalog"))
    }

    /// Who commits objects through `store`.
    pub fn committer(&self, store: SharedStore, catalog: &Arc<TopicCatalog>) -> Committer<CatalogGround> {
        Committer {
            store,
            keyspace: self.keyspace.clone(),
            incarnation: Incarnation::FIRST,
            topics: CatalogGround::new(Arc::clone(catalog), self.keyspace.clone()),
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        }
    }
}

/// The partitions of a topic.
pub fn partitions(topic: TopicId, count: u32) -> Vec<TopicPartition> {
    (0..count as i32).map(|index| TopicPartition { topic, partition: PartitionIndex::new(index) }).collect()
}
