use std::time::Duration;

use penstock_config::broker::BrokerConfig;
use penstock_metadata::fold::{BatchEntry, BatchSource};
use penstock_metadata::keys::cluster::{ClusterIdentity, decode_identity, identity_key};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{Isolation, Priority};
use penstock_metadata::log_starts::NewStart;
use penstock_metadata::lookup::{LogReader, PlanLimits};
use penstock_metadata::topics::Request;
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_storage::batch::{BatchHeader, verify_crc};
use penstock_storage::object::object_key;
use penstock_types::{Offset, SeededRandomness};

use super::report::{PartitionReport, Range};
use super::*;
use crate::fsck::{Fsck, FsckParts, Settings};
use crate::testing::{World, admin, batch, checkpoint, delete_below, merge_job, merge_settings, topic};

#[derive(Debug)]
struct Nobody;

impl Progress for Nobody {
    fn at(&self, _phase: &'static str, _done: u64, _of: u64) {}
}

/// Metadata of a bucket.
struct Life {
    store: SharedStore,
    keyspace: Keyspace,
    bucket: Arc<Bucket>,
}

impl Life {
    fn of(world: &World) -> Self {
        Self { store: world.store.clone(), keyspace: world.keyspace.clone(), bucket: world.bucket.clone() }
    }

    /// A log from its start on: each batch's offset and checksum; its bytes are what the log tells.
    async fn log(&self, partition: TopicPartition) -> Vec<(i64, u32)> {
        let views = Views::new(Arc::clone(&self.store), self.keyspace.clone(), 10);
        let view = views.validated(&[partition]).await.expect("feed").remove(0).expect("view");
        let (start, end) = view.read(|tail| (tail.log_start, TailView::high_watermark(tail)));
        let reader = LogReader::new(Arc::clone(&self.store), self.keyspace.clone());
        let limits = PlanLimits { end, max_bytes: u64::MAX, at_least_one: true };
        let mut log = Vec::new();
        for entry in reader.plan(&view, start, limits).await.expect("a plan") {
            log.push(self.batch(&entry).await);
        }
        log
    }

    async fn batch(&self, entry: &BatchEntry) -> (i64, u32) {
        let BatchSource::Object { object, position } = entry.source else { panic!("a marker") };
        let range = position..position + u64::from(entry.facts.length);
        let bytes = self.bucket.get_range(&object_key(object), range).await.expect("there");
        let header = BatchHeader::parse(&bytes).expect("a batch");
        verify_crc(&bytes, &header).expect("sound");
        assert_eq!(header.last_offset_delta as u32 + 1, entry.facts.records);
        (entry.base_offset.get(), header.crc)
    }

    async fn identity(&self) -> ClusterIdentity {
        let mut transaction = self.store.begin(Priority::Default);
        let value =
            transaction.get(&identity_key(&self.keyspace), Isolation::Snapshot).await.expect("a store");
        decode_identity(&value.expect("an identity")).expect("an identity")
    }
}

/// The metadata are lost: what comes of the bucket. Nothing is wrong with it.
async fn salvaged(world: &World) -> (Life, Report) {
    let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(99)));
    let life = Life { store, keyspace: Keyspace::new(b"new/"), bucket: world.bucket.clone() };
    let parts = SalvageParts {
        bucket: life.bucket.clone(),
        store: Some(life.store.clone()),
        keyspace: life.keyspace.clone(),
    };
    let looked = SalvageParts { store: None, ..parts.clone() };
    let looked = salvage(&looked, None, 7, &Nobody).await.expect("looked");
    let other = salvage(&parts, Some(Incarnation::new(77)), 7, &Nobody).await.expect_err("another one");
    assert!(matches!(other, SalvageError::OtherIncarnation { to: 77, .. }), "{other}");
    let to = Some(Incarnation::new(looked.incarnation));
    let report = salvage(&parts, to, 7, &Nobody).await.expect("salvaged");
    assert_eq!(report, looked);
    let identity = life.identity().await;
    assert_eq!(identity.cluster_id, world.cluster.cluster_id);
    assert_eq!(identity.incarnation.get(), report.incarnation);
    assert!(report.incarnation > report.seen_incarnation);
    life.bucket.raise_claim(&identity.cluster_id, identity.incarnation).await.expect("raised");
    let parts = FsckParts {
        store: life.store.clone(),
        keyspace: life.keyspace.clone(),
        cluster: identity,
        bucket: life.bucket.clone(),
    };
    let settings = Settings {
        deep: true,
        sweep_lag: Duration::from_secs(3_600),
        sweep_interval: Duration::from_secs(3_600),
        collect_delay: Duration::from_secs(900),
        merged_delay: Duration::from_secs(900),
        at_once: 1_000_000,
        requests: 4,
    };
    let checked = Fsck::new(parts, settings, Arc::new(Nobody)).run().await.expect("checked");
    let wrong: Vec<_> = checked
        .findings
        .iter()
        .filter(|finding| finding.kind != crate::fsck::report::Kind::EarlierIncarnation)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?} after {report:#?}");
    (life, report)
}

fn partition_of<'r>(report: &'r Report, topic: &str, index: usize) -> &'r PartitionReport {
    let topic = report.topics.iter().find(|known| known.name == topic).expect("the topic");
    topic.partitions.iter().find(|known| known.partition == index as i32).expect("the partition")
}

/// Objects of three batches each, of both partitions.
async fn write(world: &World, partitions: &[TopicPartition], rounds: std::ops::Range<i64>) -> Vec<ObjectId> {
    let mut objects = Vec::new();
    for round in rounds {
        let (first, second) = (batch(round, 3, 200), batch(round, 2, 100));
        let batches = [(partitions[0], first), (partitions[0], second.clone()), (partitions[1], second)];
        objects.push(world.flush(&batches).await);
    }
    objects
}

async fn seal(world: &World, partitions: &[TopicPartition]) {
    for partition in partitions {
        world.seal_one(*partition).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_record_below_the_checkpoints_is_at_its_old_offset() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[("retention.ms", "-1")]).await;
    let others = topic(&world, "others", 1, &[]).await;
    write(&world, &partitions, 0..20).await;
    world.flush(&[(others[0], batch(1, 4, 10))]).await;
    seal(&world, &partitions).await;
    seal(&world, &others).await;
    write(&world, &partitions, 20..25).await;
    seal(&world, &partitions[..1]).await;
    checkpoint(&world).await;
    let before = [Life::of(&world).log(partitions[0]).await, Life::of(&world).log(partitions[1]).await];
    let (life, report) = salvaged(&world).await;
    assert_eq!(life.log(partitions[0]).await, before[0]);
    assert_eq!(partition_of(&report, "orders", 0).exact_to, 125);
    assert_eq!(partition_of(&report, "orders", 0).best_effort_batches, 0);
    // What was committed behind the other's seal is known by when its neighbours were.
    assert_eq!(life.log(partitions[1]).await, before[1]);
    let second = partition_of(&report, "orders", 1);
    assert_eq!((second.exact_to, second.end, second.best_effort_batches), (40, 50, 5));
    assert_eq!(life.log(others[0]).await, Life::of(&world).log(others[0]).await);
    assert!(report.damaged.is_empty() && report.unknown.is_empty(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_written_since_comes_behind_in_the_order_of_the_objects() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    write(&world, &partitions, 0..6).await;
    seal(&world, &partitions).await;
    checkpoint(&world).await;
    write(&world, &partitions, 6..9).await;
    seal(&world, &partitions).await;
    write(&world, &partitions, 9..12).await;
    // Put, and never committed: nobody can tell.
    let before = Life::of(&world).log(partitions[0]).await;
    let (life, report) = salvaged(&world).await;
    assert_eq!(life.log(partitions[0]).await, before);
    let first = partition_of(&report, "orders", 0);
    assert_eq!((first.exact_to, first.end, first.best_effort_batches), (30, 60, 12));
    assert_eq!((report.objects, report.unused), (12, 0));
    // It goes on: a new object is behind all that.
    let again = salvaged(&world).await.0;
    assert_eq!(again.log(partitions[0]).await, before);
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_since_the_checkpoint_is_found_by_its_offsets() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let objects = write(&world, &partitions, 0..10).await;
    seal(&world, &partitions).await;
    checkpoint(&world).await;
    let later = write(&world, &partitions, 10..15).await;
    seal(&world, &partitions).await;
    let before = [Life::of(&world).log(partitions[0]).await, Life::of(&world).log(partitions[1]).await];
    merge_job(&world, merge_settings(), 77).await.round().await.expect("a round");
    // Beside what it was merged from: nothing is doubled.
    let (life, _) = salvaged(&world).await;
    assert_eq!([life.log(partitions[0]).await, life.log(partitions[1]).await], before);
    for object in objects.iter().chain(&later) {
        world.bucket.delete(&object_key(*object)).await.expect("collected");
    }
    let (life, report) = salvaged(&world).await;
    assert_eq!([life.log(partitions[0]).await, life.log(partitions[1]).await], before);
    let first = partition_of(&report, "orders", 0);
    assert_eq!((first.exact_to, first.end, first.lost.len()), (50, 75, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_stays_deleted_and_what_is_lost_is_told() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let objects = write(&world, &partitions, 0..10).await;
    seal(&world, &partitions).await;
    delete_below(&world, partitions[0], NewStart::At(Offset::at(12))).await;
    checkpoint(&world).await;
    let before = Life::of(&world).log(partitions[0]).await;
    assert_eq!(before[0].0, 10);
    let (life, report) = salvaged(&world).await;
    assert_eq!(life.log(partitions[0]).await, before);
    assert_eq!(partition_of(&report, "orders", 0).log_start, 12);
    // Deleted since the checkpoint, and collected.
    world.bucket.delete(&object_key(objects[2])).await.expect("collected");
    // And one in the middle, which nobody deleted.
    world.bucket.delete(&object_key(objects[6])).await.expect("lost");
    let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(98)));
    let keyspace = Keyspace::new(b"");
    let parts =
        SalvageParts { bucket: world.bucket.clone(), store: Some(store.clone()), keyspace: keyspace.clone() };
    let report = salvage(&parts, None, 7, &Nobody).await.expect("salvaged");
    let first = partition_of(&report, "orders", 0);
    assert_eq!(first.log_start, 15, "{first:?}");
    assert!(first.lost.contains(&Range { from: 30, to: 35 }), "{first:?}");
    let life = Life { store, keyspace, bucket: world.bucket.clone() };
    let expected: Vec<_> =
        before.into_iter().filter(|(offset, _)| *offset >= 15 && !(30..35).contains(offset)).collect();
    assert_eq!(life.log(partitions[0]).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_not_whole_gives_way_to_an_older_one() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    write(&world, &partitions, 0..4).await;
    seal(&world, &partitions).await;
    checkpoint(&world).await;
    let mut keys = Vec::new();
    let mut listing = world.bucket.list("checkpoints");
    while let Some(listed) = futures::StreamExt::next(&mut listing).await {
        keys.push(listed.expect("listed").key);
    }
    // A newer one of the same slot, of which only the head came through.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    for key in &keys {
        let newer = key.replace("/00000001", "/00000002");
        let body = world.bucket.get_with_etag(key).await.expect("there").data;
        world.bucket.put(&newer, vec![body.slice(..body.len() / 2)], deadline).await.expect("an upload");
    }
    let before = Life::of(&world).log(partitions[0]).await;
    let (life, report) = salvaged(&world).await;
    assert_eq!(life.log(partitions[0]).await, before);
    assert_eq!(report.damaged.len(), keys.len(), "{:?}", report.damaged);
    assert_eq!((report.seen_incarnation, report.incarnation), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_is_the_new_one_and_one_without_a_name_is_told() {
    let world = World::without_topics().await;
    let old = topic(&world, "orders", 1, &[]).await;
    world.flush(&[(old[0], batch(1, 4, 10))]).await;
    seal(&world, &old).await;
    checkpoint(&world).await;
    let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
    admin(&world, "x").delete_topics(&[old[0].topic], request).await[0].clone().expect("deleted");
    let mut renamed = penstock_metadata::topics::NewTopic {
        name: "orders".to_owned(),
        partitions: 1,
        ..Default::default()
    };
    renamed.replication_factor = 1;
    let broker = BrokerConfig::default();
    let terms = penstock_metadata::topics::Terms { broker: &broker, brokers: &[1] };
    let admin = admin(&world, "another");
    let plan = admin.plan_topic(&renamed, terms).expect("a good topic");
    let made = admin.create_topics(vec![plan], request).await.remove(0).expect("a free name");
    let new = TopicPartition { topic: made.id, partition: PartitionIndex::new(0) };
    world.flush(&[(new, batch(2, 5, 10))]).await;
    seal(&world, &[new]).await;
    checkpoint(&world).await;
    let unsealed = topic(&world, "unsealed", 1, &[]).await;
    world.flush(&[(unsealed[0], batch(2, 7, 10))]).await;
    let (life, report) = salvaged(&world).await;
    let names: Vec<&str> = report.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["orders"]);
    assert_eq!(report.topics[0].id, made.id.to_string());
    assert_eq!(life.log(new).await.len(), 1);
    let unknown = report.unknown.iter().find(|topic| topic.id == unsealed[0].topic.to_string());
    assert_eq!(unknown.map(|topic| (topic.objects, topic.records)), Some((1, 7)));
}

#[tokio::test(start_paused = true)]
async fn a_store_with_rows_and_a_bucket_of_nobody_are_refused() {
    let world = World::without_topics().await;
    let parts = SalvageParts {
        bucket: world.bucket.clone(),
        store: Some(world.store.clone()),
        keyspace: world.keyspace.clone(),
    };
    let refused = salvage(&parts, None, 7, &Nobody).await.expect_err("there is a cluster");
    assert!(matches!(refused, SalvageError::Store(SalvagingError::NotEmpty)), "{refused}");
    world.bucket.delete("cluster").await.expect("deleted");
    let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(98)));
    let parts = SalvageParts { store: Some(store), ..parts };
    let refused = salvage(&parts, None, 7, &Nobody).await.expect_err("nobody's");
    assert!(matches!(refused, SalvageError::Nobodys { .. }), "{refused}");
}
