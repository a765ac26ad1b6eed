//! A store with topics whose logs live: written to, sealed, cut, collected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness,
    Sequence, TestClock, TopicId, TopicPartition,
};

use crate::append::{BatchToCommit, ObjectToCommit};
use crate::burial::{Buried, Dead, bury};
use crate::cluster;
use crate::commit::{Committer, ObjectOutcome};
use crate::fold::{BatchEntry, BatchSource};
use crate::ground::AllExist;
use crate::keys::dead;
use crate::keys::log::{BatchFacts, BatchProducer};
use crate::keys::object::{self, ObjectRow};
use crate::keys::{Family, Keyspace, topic};
use crate::kv::memory::MemoryStore;
use crate::kv::{Isolation, Priority, RangeOptions, Row, SharedStore, WriteConflict, prefixed};
use crate::log_starts::{MoveError, NewStart, move_log_starts};
use crate::lookup::{LogReader, PlanLimits};
use crate::sealing::{SealDue, seal_partition};
use crate::transact::Policy;
use crate::trimming::{Trimmed, trim_partition};
use crate::view::TailView;
use crate::views::Views;

pub(crate) const INCARNATION: Incarnation = Incarnation::FIRST;
/// Bytes of every batch.
pub(crate) const BATCH_BYTES: u32 = 100;

/// A store, and its agents' work.
pub(crate) struct World {
    pub(crate) store: SharedStore,
    pub(crate) keyspace: Keyspace,
    numbers: SeededRandomness,
}

/// A partition of the one topic.
pub(crate) fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(index) }
}

impl World {
    pub(crate) async fn new() -> Self {
        let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(1)));
        let world = Self { store, keyspace: Keyspace::new(b"c/"), numbers: SeededRandomness::new(2) };
        let (randomness, clock) = (SeededRandomness::new(1), TestClock::at(5));
        cluster::open_or_create(&world.store, &world.keyspace, &randomness, &clock).await.expect("a cluster");
        world.set(&topic::row_key(&world.keyspace, partition(0).topic), b"there").await;
        world
    }

    pub(crate) async fn set(&self, key: &[u8], value: &[u8]) {
        let mut transaction = self.store.begin(Priority::Default);
        transaction.set(key, value, WriteConflict::Yes);
        transaction.commit().await.expect("a commit");
    }

    /// Commits an object with a batch for each of `batches`: (partition, records).
    pub(crate) async fn commit(&self, batches: &[(i32, u32)]) -> ObjectId {
        self.commit_at(batches, 1).await
    }

    /// The same, of batches with that largest timestamp.
    pub(crate) async fn commit_at(&self, batches: &[(i32, u32)], timestamp: i64) -> ObjectId {
        self.commit_all(batches, timestamp, None).await
    }

    /// The same, of an idempotent producer that begins at sequence 0.
    pub(crate) async fn commit_from(&self, batches: &[(i32, u32)], producer: i64) -> ObjectId {
        self.commit_all(batches, 1, Some(producer)).await
    }

    async fn commit_all(&self, batches: &[(i32, u32)], timestamp: i64, producer: Option<i64>) -> ObjectId {
        let mut sequence = 0;
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        let id = ObjectId::new(INCARNATION, version, self.numbers.next_u64());
        let batches: Vec<BatchToCommit> = batches
            .iter()
            .enumerate()
            .map(|(index, (of, records))| BatchToCommit {
                partition: partition(*of),
                position: index as u64 * u64::from(BATCH_BYTES),
                facts: BatchFacts {
                    length: BATCH_BYTES,
                    records: *records,
                    flags: 0,
                    base_timestamp: timestamp,
                    max_timestamp: timestamp,
                    producer: producer.map(|id| {
                        let base_sequence = Sequence::new(sequence);
                        sequence += *records as i32;
                        BatchProducer { id: ProducerId::new(id), epoch: ProducerEpoch::new(0), base_sequence }
                    }),
                },
                refused: None,
            })
            .collect();
        let size = batches.len() as u64 * u64::from(BATCH_BYTES);
        let committer = Committer {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            incarnation: INCARNATION,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        let outcome = committer.attempt(&[ObjectToCommit { id, size, batches }]).await.expect("a commit");
        assert!(matches!(outcome[0], ObjectOutcome::Committed { .. }));
        id
    }

    pub(crate) async fn seal(&self, index: i32) {
        while seal_partition(&self.store, &self.keyspace, partition(index), SealDue::NOW)
            .await
            .expect("a seal")
            .more
        {}
    }

    pub(crate) async fn move_start(&self, index: i32, to: NewStart) -> Result<Offset, MoveError> {
        let policy = Policy::interactive(Duration::from_secs(5));
        let wanted = [(partition(index), to)];
        move_log_starts(&self.store, &self.keyspace, INCARNATION, policy, &wanted).await.remove(0)
    }

    pub(crate) async fn trim(&self, index: i32) -> Trimmed {
        let mut all = Trimmed::default();
        loop {
            let some = trim_partition(&self.store, &self.keyspace, INCARNATION, partition(index))
                .await
                .expect("a trim");
            all.dead.extend(some.dead);
            all.batches += some.batches;
            all.bytes += some.bytes;
            if !some.more {
                return all;
            }
        }
    }

    pub(crate) async fn bury(&self, dead: &Dead) -> Buried {
        let objects: Vec<ObjectId> = dead.objects().collect();
        bury(&self.store, &self.keyspace, INCARNATION, &objects).await.expect("a burial")
    }

    /// All rows of a family.
    pub(crate) async fn rows(&self, family: Family) -> Vec<Row> {
        let options = RangeOptions::page(10_000, Isolation::Snapshot);
        let range = prefixed(&self.keyspace.family(family));
        let page = self.store.begin(Priority::Default).range(range, options).await.expect("a page");
        assert!(!page.more);
        page.rows
    }

    /// The dead counts.
    pub(crate) async fn dead(&self) -> BTreeMap<ObjectId, u64> {
        let rows = self.rows(Family::Dead).await;
        let read = |row: &Row| {
            let id = dead::parse_key(&self.keyspace, &row.key).expect("a key");
            (id, dead::decode(Some(&row.value)).expect("a count").batches)
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn object(&self, id: ObjectId) -> Option<ObjectRow> {
        let key = object::key(&self.keyspace, id);
        let mut transaction = self.store.begin(Priority::Default);
        let value = transaction.get(&key, Isolation::Snapshot).await.expect("a store");
        value.map(|value| ObjectRow::decode(&value).expect("a row"))
    }

    /// What a fetch finds from `offset` on: the base offsets of batches and their objects, and the log's start.
    pub(crate) async fn log(&self, index: i32, offset: i64) -> (Vec<(i64, ObjectId, u64)>, Offset) {
        let views = Views::new(Arc::clone(&self.store), self.keyspace.clone(), 10);
        let view = views.validated(&[partition(index)]).await.expect("feed").remove(0).expect("view");
        let end = view.read(TailView::high_watermark);
        let limits = PlanLimits { end, max_bytes: u64::MAX, at_least_one: true };
        let reader = LogReader::new(Arc::clone(&self.store), self.keyspace.clone());
        let plan = reader.plan(&view, Offset::at(offset), limits).await.expect("a plan");
        let told = |batch: &BatchEntry| {
            let BatchSource::Object { object, position } = batch.source else { panic!("a marker") };
            (batch.base_offset.get(), object, position)
        };
        (plan.iter().map(told).collect(), view.read(|view| view.log_start))
    }
}
