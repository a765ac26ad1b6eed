//! What a GiB of records costs in metadata, before its partitions are sealed and afterwards, and how fast the seal is.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::{Committer, ObjectOutcome};
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::log::{BatchFacts, BatchProducer};
use penstock_metadata::keys::{Family, Keyspace};
use penstock_metadata::kv::{Isolation, Priority, RangeOptions, SharedStore, Store, prefixed, single_key};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_types::{
    Incarnation, ObjectId, ProducerEpoch, ProducerId, Randomness, SeededRandomness, Sequence, StoreVersion,
    TopicPartition,
};
use tokio::time::Instant;

use super::measuring::{Cluster, partitions};

/// What is measured: a GiB.
const TOTAL: u64 = 1 << 30;

/// Batches, and how objects hold them.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What it is called.
    pub name: &'static str,
    /// Bytes of a batch.
    pub batch: u32,
    /// Records of a batch.
    pub records: u32,
    /// Partitions of an object, and of the topic.
    pub partitions: u32,
    /// Batches that an object holds for each of them.
    pub together: u32,
}

/// Rows and bytes (keys and values) of a family.
pub type Sizes = BTreeMap<u8, (u64, u64)>;

/// What each family of a cluster takes, by its byte.
pub async fn sizes(store: &dyn Store, keyspace: &Keyspace) -> Sizes {
    let mut prefix = keyspace.family(Family::Cluster);
    prefix.pop();
    let mut range = prefixed(&prefix);
    let mut sizes = Sizes::new();
    loop {
        let mut transaction = store.begin(Priority::Default);
        let options = RangeOptions::page(10_000, Isolation::Snapshot);
        let page = transaction.range(range.clone(), options).await.expect("a page");
        for row in &page.rows {
            let (rows, bytes) = sizes.entry(row.key[prefix.len()]).or_default();
            *rows += 1;
            *bytes += (row.key.len() + row.value.len()) as u64;
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            _ => return sizes,
        }
    }
}

/// Who writes a shape: one idempotent producer a partition.
pub struct Producers {
    committer: Committer<CatalogGround>,
    partitions: Vec<TopicPartition>,
    randomness: SeededRandomness,
    next: i32,
}

impl Producers {
    /// Of a new topic of `cluster`.
    pub async fn new(cluster: &Cluster, count: u32) -> Self {
        let topic = cluster.make(cluster.plans(1, count as i32)).await[0];
        let catalog = cluster.catalog().await;
        Self {
            committer: cluster.committer(SharedStore::clone(&cluster.store), &catalog),
            partitions: partitions(topic, count),
            randomness: SeededRandomness::new(7),
            next: 0,
        }
    }

    /// Objects with `together` batches of each partition, to be committed in that order.
    fn objects(&mut self, count: u64, shape: Shape) -> Vec<ObjectToCommit> {
        (0..count)
            .map(|_| {
                let mut batches = Vec::new();
                for (index, partition) in self.partitions.iter().enumerate() {
                    for number in 0..shape.together {
                        let base_sequence = self.next.wrapping_add((number * shape.records) as i32);
                        let producer = BatchProducer {
                            id: ProducerId::new(1_000 + index as i64),
                            epoch: ProducerEpoch::new(0),
                            base_sequence: Sequence::new(base_sequence),
                        };
                        let facts = BatchFacts {
                            length: shape.batch,
                            records: shape.records,
                            flags: 0,
                            base_timestamp: 1_700_000_000_000,
                            max_timestamp: 1_700_000_000_250,
                            producer: Some(producer),
                        };
                        let position = batches.len() as u64 * u64::from(shape.batch);
                        batches.push(BatchToCommit { partition: *partition, position, facts, refused: None });
                    }
                }
                self.next += (shape.together * shape.records) as i32;
                let random = self.randomness.next_u64();
                let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), random);
                ObjectToCommit { id, size: batches.len() as u64 * u64::from(shape.batch), batches }
            })
            .collect()
    }

    async fn commit(&self, objects: &[ObjectToCommit]) {
        let outcomes = self.committer.attempt(objects).await.expect("a commit");
        for outcome in outcomes {
            let ObjectOutcome::Committed { row, .. } = outcome else { panic!("no cutoff moves") };
            assert_eq!(row.verdicts, [], "nothing is refused");
        }
    }
}

/// What the seal of all partitions did.
#[derive(Debug, Default, Clone, Copy)]
struct SealedAll {
    rows: usize,
    values: usize,
    seals: usize,
    took: Duration,
}

/// Seals all partitions, one after the other, as an agent's job does.
async fn seal_all(cluster: &Cluster, partitions: &[TopicPartition]) -> SealedAll {
    let begun = Instant::now();
    let mut all = SealedAll::default();
    for partition in partitions {
        loop {
            let (store, keyspace) = (&cluster.store, &cluster.keyspace);
            let sealed = seal_partition(store, keyspace, *partition, SealDue::NOW).await.expect("a seal");
            all.rows += sealed.rows;
            all.values += sealed.values;
            all.seals += 1;
            if !sealed.more {
                break;
            }
        }
    }
    all.took = begun.elapsed();
    all
}

/// Writes a GiB of a shape, seals it, and prints a line: bytes of metadata before and after, and the seal's pace.
pub async fn bytes_of_a_gib(store: &SharedStore, number: usize, shape: Shape) {
    let cluster = Cluster::new(store, &format!("gib-{number}"));
    let mut producers = Producers::new(&cluster, shape.partitions).await;
    let object = u64::from(shape.batch) * u64::from(shape.partitions) * u64::from(shape.together);
    let count = TOTAL / object;
    let empty = sizes(&**store, &cluster.keyspace).await;
    for object in producers.objects(count, shape) {
        producers.commit(&[object]).await;
    }
    let before = sizes(&**store, &cluster.keyspace).await;
    let sealed = seal_all(&cluster, &producers.partitions).await;
    let after = sizes(&**store, &cluster.keyspace).await;
    let of = |sizes: &Sizes, family: Family| sizes.get(&(family as u8)).map_or(0, |(_, bytes)| *bytes);
    let total = |sizes: &Sizes| sizes.values().map(|(_, bytes)| bytes).sum::<u64>();
    let batches = TOTAL / u64::from(shape.batch);
    let packed = 100.0 * sealed.values as f64 / batches as f64;
    println!(
        "| {} | {count} | {batches} | {} | {} | {} | {} | {} | {} | {:.2} | {:.0} | {:.0} | {:.1} |",
        shape.name,
        sealed.rows,
        total(&before) - total(&empty),
        of(&before, Family::Log),
        total(&after) - total(&empty),
        of(&after, Family::Index),
        of(&after, Family::Producer) + of(&after, Family::Object),
        packed,
        sealed.rows as f64 / sealed.took.as_secs_f64(),
        batches as f64 / sealed.took.as_secs_f64(),
        sealed.took.as_secs_f64() * 1e3 / sealed.seals as f64,
    );
    assert_eq!(of(&after, Family::Log), 0, "a seal clears what it folded");
    assert!(packed <= 1.0, "{packed} packed rows per 100 batches");
}

/// How many index values a seal makes of so many rows of one batch each.
pub async fn packing(store: &SharedStore) {
    let shape = Shape { name: "", batch: 16 << 10, records: 10, partitions: 1, together: 1 };
    for rows in [1, 10, 100, 1_000, 2_000] {
        let cluster = Cluster::new(store, &format!("packing-{rows}"));
        let mut producers = Producers::new(&cluster, 1).await;
        for objects in producers.objects(rows, shape).chunks(100) {
            producers.commit(objects).await;
        }
        let sealed = seal_all(&cluster, &producers.partitions).await;
        assert_eq!(sealed.rows as u64, rows);
        println!(
            "| {rows} | {} | {:.2} | {:.1} | {:.0} |",
            sealed.values,
            100.0 * sealed.values as f64 / rows as f64,
            sealed.took.as_secs_f64() * 1e3,
            rows as f64 / sealed.took.as_secs_f64(),
        );
    }
}
