//! A cluster's stores with a topic, and agents' work on them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::cluster;
use penstock_metadata::commit::Committer;
use penstock_metadata::ground::AllExist;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::keys::log::BatchFacts;
use penstock_metadata::keys::{Keyspace, topic};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{Priority, SharedStore, WriteConflict};
use penstock_metadata::log_starts::{NewStart, move_log_starts};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_metadata::transact::Policy;
use penstock_storage::bucket::{Bucket, BucketOptions, Listed};
use penstock_storage::object::object_key;
use penstock_types::{
    ObjectId, Offset, PartitionIndex, Randomness, SeededRandomness, TestClock, TopicId, TopicPartition,
};
use tokio::time::Instant;

use crate::collector::CollectorParts;
use crate::share::Everything;

pub(crate) const BATCH_BYTES: u32 = 100;

pub(crate) fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(index) }
}

pub(crate) struct World {
    pub(crate) store: SharedStore,
    pub(crate) keyspace: Keyspace,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) cluster: ClusterIdentity,
    randomness: SeededRandomness,
}

impl World {
    /// With one topic, of which nothing but its existence is known.
    pub(crate) async fn new() -> Self {
        let world = Self::without_topics().await;
        let mut transaction = world.store.begin(Priority::Default);
        let key = topic::row_key(&world.keyspace, partition(0).topic);
        transaction.set(&key, b"there", WriteConflict::Yes);
        transaction.commit().await.expect("a commit");
        world
    }

    pub(crate) async fn without_topics() -> Self {
        let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(1)));
        let options = BucketOptions::default();
        let bucket = Bucket::open("memory:///", &options, Arc::new(SeededRandomness::new(2)));
        let (keyspace, randomness) = (Keyspace::new(b"c/"), SeededRandomness::new(3));
        let cluster = cluster::open_or_create(&store, &keyspace, &randomness, &TestClock::at(5)).await;
        let (bucket, cluster) = (bucket.expect("a bucket"), cluster.expect("a cluster"));
        bucket.claim(&cluster.cluster_id, cluster.incarnation).await.expect("claimed");
        Self { store, keyspace, bucket, cluster, randomness }
    }

    pub(crate) fn parts(&self) -> CollectorParts {
        CollectorParts {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            cluster: self.cluster.clone(),
            bucket: Arc::clone(&self.bucket),
            share: Arc::new(Everything),
        }
    }

    /// Puts an object, and commits it if it has batches: (partition, records).
    pub(crate) async fn put(&self, batches: &[(i32, u32)]) -> ObjectId {
        let batches: Vec<_> = batches.iter().map(|(index, records)| (partition(*index), *records)).collect();
        self.put_at(&batches, 1).await
    }

    /// The same, of any partitions, with batches of that timestamp.
    pub(crate) async fn put_at(&self, batches: &[(TopicPartition, u32)], timestamp: i64) -> ObjectId {
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        let id = ObjectId::new(self.cluster.incarnation, version, self.randomness.next_u64());
        self.put_again(id).await;
        if batches.is_empty() {
            return id;
        }
        let facts = |records| BatchFacts {
            length: BATCH_BYTES,
            records,
            flags: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer: None,
        };
        let batches: Vec<BatchToCommit> = batches
            .iter()
            .enumerate()
            .map(|(index, (of, records))| BatchToCommit {
                partition: *of,
                position: index as u64 * u64::from(BATCH_BYTES),
                facts: facts(*records),
                refused: None,
            })
            .collect();
        let committer = Committer {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            incarnation: self.cluster.incarnation,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        committer.attempt(&[ObjectToCommit { id, size: 1_000, batches }]).await.expect("a commit");
        id
    }

    pub(crate) async fn put_again(&self, id: ObjectId) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let body = vec![Bytes::from_static(b"batches")];
        self.bucket.put(&object_key(id), body, deadline).await.expect("an upload");
    }

    pub(crate) async fn seal(&self, index: i32) {
        self.seal_one(partition(index)).await;
    }

    pub(crate) async fn seal_one(&self, partition: TopicPartition) {
        let seal = || seal_partition(&self.store, &self.keyspace, partition, SealDue::NOW);
        while seal().await.expect("a seal").more {}
    }

    pub(crate) async fn move_start(&self, index: i32, to: NewStart) -> Offset {
        let policy = Policy::interactive(Duration::from_secs(5));
        let wanted = [(partition(index), to)];
        let moved =
            move_log_starts(&self.store, &self.keyspace, self.cluster.incarnation, policy, &wanted).await;
        moved[0].clone().expect("moved")
    }

    /// The keys of all objects in the bucket.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let listed: Vec<Listed> = self.bucket.list("objects").try_collect().await.expect("a listing");
        let mut keys: Vec<String> = listed.into_iter().map(|listed| listed.key).collect();
        keys.sort();
        keys
    }
}

/// The keys of these objects, as a listing gives them.
pub(crate) fn keys(objects: &[ObjectId]) -> Vec<String> {
    let mut keys: Vec<String> = objects.iter().map(|id| object_key(*id)).collect();
    keys.sort();
    keys
}
