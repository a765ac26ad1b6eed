use penstock_metadata::keys::cluster::cutoff_key;
use penstock_metadata::kv::{Isolation, Priority};
use penstock_types::{Incarnation, StoreVersion};

use super::*;
use crate::testing::{World, keys};

const LAG: Duration = Duration::from_secs(3_600);

fn job(world: &World) -> Arc<Sweeper> {
    let settings = SweeperSettings { lag: LAG, interval: LAG };
    Sweeper::new(world.parts(), settings)
}

#[tokio::test(start_paused = true)]
async fn what_was_never_committed_goes_once_it_is_old() {
    let world = World::new().await;
    let (stray, live) = (world.put(&[]).await, world.put(&[(0, 1)]).await);
    let job = job(&world);
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[stray, live]), "its commit may be on its way");
    tokio::time::advance(LAG + Duration::from_secs(1)).await;
    let young = world.put(&[]).await;
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[live, young]));
    // A late upload brings it back.
    world.put_again(stray).await;
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[live, young]));
    assert_eq!(job.stats().deleted.load(Ordering::Relaxed), 2);
    assert_eq!(job.stats().rounds.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn objects_of_another_life_are_left_to_an_operator() {
    let world = World::new().await;
    tokio::time::advance(LAG * 2).await;
    let earlier = ObjectId::new(Incarnation::new(0), StoreVersion::new(7), 1);
    let later = ObjectId::new(Incarnation::new(9), StoreVersion::new(7), 1);
    world.put_again(earlier).await;
    world.put_again(later).await;
    let job = job(&world);
    job.round().await.expect("a round");
    assert_eq!(world.objects().await, keys(&[earlier, later]));
    assert_eq!(job.stats().foreign.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_not_ours_is_not_swept_and_the_cutoff_stays() {
    let world = World::new().await;
    world.put(&[]).await;
    tokio::time::advance(LAG * 2).await;
    world.bucket.raise_claim(&world.cluster.cluster_id, Incarnation::new(2)).await.expect("raised");
    assert!(matches!(job(&world).round().await, Err(CollectError::NotOurs)));
    assert_eq!(world.objects().await.len(), 1);
    let mut transaction = world.store.begin(Priority::Default);
    let cutoff = transaction.get(&cutoff_key(&world.keyspace), Isolation::Snapshot).await.expect("a store");
    assert!(cutoff.is_none());
}
