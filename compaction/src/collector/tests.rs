use penstock_metadata::keys::topic::{deleted_key, encode_deleted, row_key};
use penstock_metadata::kv::WriteConflict;
use penstock_metadata::log_starts::NewStart;
use penstock_metadata::trimming::trim_partition;
use penstock_types::Incarnation;

use super::*;
use crate::testing::{World, keys, partition};

const DELAY: Duration = Duration::from_secs(600);

fn job(world: &World) -> Arc<Collector> {
    let settings =
        CollectorSettings { delay: DELAY, merged_delay: DELAY * 3, interval: Duration::from_secs(60) };
    Collector::new(world.parts(), settings)
}

async fn wait() {
    tokio::time::advance(DELAY + Duration::from_secs(1)).await;
}

/// Nobody buries here: the walk finds it.
async fn delete_records(world: &World, index: i32) {
    world.seal(index).await;
    world.move_start(index, NewStart::End).await;
    let trimmed = trim_partition(&world.store, &world.keyspace, world.cluster.incarnation, partition(index));
    assert!(!trimmed.await.expect("a trim").more);
}

#[tokio::test(start_paused = true)]
async fn what_nothing_refers_to_is_deleted_after_the_delay() {
    let world = World::new().await;
    let gone = world.put(&[(0, 3), (0, 3)]).await;
    let kept = world.put(&[(0, 3), (1, 1)]).await;
    delete_records(&world, 0).await;
    let job = job(&world);
    job.walk().await.expect("a walk");
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[gone, kept]), "a reader may still be at it");
    assert_eq!(job.stats().buried.load(Ordering::Relaxed), 1);
    wait().await;
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[kept]), "the other one has a batch that is alive");
    assert_eq!(job.stats().objects.load(Ordering::Relaxed), 1);
    assert_eq!(job.stats().bytes.load(Ordering::Relaxed), 1_000);
    delete_records(&world, 1).await;
    job.walk().await.expect("a walk");
    wait().await;
    job.round().await.expect("a round");
    assert!(world.objects().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_leaves_nothing_behind() {
    let world = World::new().await;
    for _ in 0..30 {
        world.put(&[(0, 3), (1, 3)]).await;
    }
    world.seal(0).await;
    let topic = partition(0).topic;
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&row_key(&world.keyspace, topic), WriteConflict::Yes);
    let row = encode_deleted(world.cluster.incarnation, "t", 2, 0);
    let key = deleted_key(&world.keyspace, topic);
    transaction.set_stamped_value(&key, &row.value, row.stamp_at, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    let job = job(&world);
    job.round().await.expect("a round");
    assert_eq!(job.stats().topics.load(Ordering::Relaxed), 0, "an agent may still serve it");
    wait().await;
    job.round().await.expect("a round");
    assert_eq!(job.stats().topics.load(Ordering::Relaxed), 1);
    assert_eq!(world.objects().await.len(), 30);
    wait().await;
    job.round().await.expect("a round");
    assert!(world.objects().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_from_a_bucket_that_is_not_ours() {
    let world = World::new().await;
    let gone = world.put(&[(0, 3)]).await;
    delete_records(&world, 0).await;
    let job = job(&world);
    job.walk().await.expect("a walk");
    wait().await;
    let cluster = &world.cluster.cluster_id;
    world.bucket.raise_claim(cluster, Incarnation::new(2)).await.expect("raised");
    assert!(matches!(job.round().await, Err(CollectError::NotOurs)));
    assert_eq!(world.objects().await, keys(&[gone]));
}
