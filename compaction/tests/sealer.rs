//! Several agents that write the same partitions: whoever counts enough rows seals everybody's, and nobody packs crumbs.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use penstock_compaction::sealer::{SealSettings, Sealer};
use penstock_compaction::share::Everything;
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::log::{self, BatchFacts, LogRow};
use penstock_metadata::keys::{Keyspace, topic};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{Priority, SharedStore, WriteConflict};
use penstock_types::{
    Incarnation, LeaderEpoch, ObjectId, PartitionIndex, SeededRandomness, StoreVersion, TopicId,
    TopicPartition, pause,
};
use tokio_util::sync::CancellationToken;

const SETTINGS: SealSettings =
    SealSettings { rows: 10, age: Duration::from_secs(60), interval: Duration::from_secs(1) };

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([1; 16]), partition: PartitionIndex::new(0) }
}

struct World {
    store: SharedStore,
    keyspace: Keyspace,
}

impl World {
    async fn new() -> Self {
        let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(1)));
        let keyspace = Keyspace::new(b"c/");
        let mut transaction = store.begin(Priority::Default);
        transaction.set(&topic::row_key(&keyspace, partition().topic), b"topic", WriteConflict::Yes);
        transaction.commit().await.expect("a topic");
        Self { store, keyspace }
    }

    fn sealer(&self) -> Arc<Sealer> {
        Sealer::new(Arc::clone(&self.store), self.keyspace.clone(), SETTINGS, Arc::new(Everything))
    }

    /// Commits so many rows, as the agent of `sealer`.
    async fn write(&self, sealer: &Sealer, rows: u32) {
        let facts = BatchFacts {
            length: 100,
            records: 2,
            flags: 0,
            base_timestamp: 5,
            max_timestamp: 6,
            producer: None,
        };
        let mut transaction = self.store.begin(Priority::Default);
        for n in 0..rows {
            let row = LogRow::Data {
                leader_epoch: LeaderEpoch::FIRST,
                object: ObjectId::new(Incarnation::FIRST, StoreVersion::new(u64::from(n)), 9),
                position: 0,
                batches: vec![facts],
            };
            let prefix = log::row_prefix(&self.keyspace, partition(), Incarnation::FIRST);
            transaction.set_stamped_key(&prefix, &n.to_be_bytes(), &row.encode(), WriteConflict::No);
        }
        let mut added = Counters::default();
        added.append(partition(), i64::from(2 * rows));
        let counters = counters::key(&self.keyspace, Stripe::of(partition()));
        transaction.atomic_add_bytes(&counters, &added.encode(), WriteConflict::No);
        transaction.commit().await.expect("rows");
        sealer.wrote(partition(), u64::from(rows));
    }
}

fn seals(sealer: &Sealer) -> (u64, u64) {
    (sealer.stats().seals.load(Relaxed), sealer.stats().rows.load(Relaxed))
}

#[tokio::test(start_paused = true)]
async fn who_counts_enough_seals_everybodys_rows_and_the_others_wait_on() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let (one, two) = (world.sealer(), world.sealer());
    world.write(&one, 9).await;
    world.write(&two, 9).await;
    one.seal_due(&stop).await;
    two.seal_due(&stop).await;
    assert_eq!((seals(&one), seals(&two)), ((0, 0), (0, 0)), "nobody has counted ten");
    world.write(&one, 1).await;
    one.seal_due(&stop).await;
    assert_eq!(seals(&one), (1, 19), "two's rows too");
    world.write(&two, 3).await;
    two.seal_due(&stop).await;
    assert_eq!(seals(&two), (0, 0), "twelve were counted, three are left: no seal for crumbs");
    assert_eq!(two.unsealed(), (1, 3), "and they are counted on from there");
    pause(Duration::from_secs(61)).await;
    two.seal_due(&stop).await;
    assert_eq!(seals(&two), (1, 3), "but age seals them");
    assert_eq!(two.unsealed(), (0, 0));
}
