use super::*;
use crate::log_starts::NewStart;
use crate::testing::{BATCH_BYTES, INCARNATION, World, partition};

async fn look(world: &World, retention: Retention) -> Option<i64> {
    let found =
        expired(&world.store, &world.keyspace, INCARNATION, partition(0), retention).await.expect("a look");
    found.map(|expired| expired.start.get())
}

fn older_than(before_ms: i64) -> Retention {
    Retention { before_ms: Some(before_ms), ..Retention::default() }
}

fn at_most(bytes: u64) -> Retention {
    Retention { bytes: Some(bytes), ..Retention::default() }
}

#[tokio::test(start_paused = true)]
async fn the_first_batches_go_as_long_as_each_is_too_old() {
    let world = World::new().await;
    for timestamp in [100, 300, 200, -1, 100] {
        world.commit_at(&[(0, 2)], timestamp).await;
    }
    assert_eq!(look(&world, older_than(1_000)).await, None, "nothing is sealed");
    world.seal(0).await;
    assert_eq!(look(&world, older_than(100)).await, None, "as old as allowed");
    assert_eq!(look(&world, older_than(101)).await, Some(2));
    assert_eq!(look(&world, older_than(300)).await, Some(2), "the second one holds up the third");
    assert_eq!(look(&world, older_than(301)).await, Some(6), "what has no timestamp is not old yet");
    let an_hour = Retention { age: Some(Duration::from_secs(3_600)), ..older_than(301) };
    assert_eq!(look(&world, an_hour).await, Some(6));
    tokio::time::advance(Duration::from_secs(3_700)).await;
    assert_eq!(look(&world, an_hour).await, Some(10), "by its place in the store's order");
    assert_eq!(look(&world, Retention::default()).await, None);
}

#[tokio::test(start_paused = true)]
async fn no_more_goes_than_leaves_as_many_bytes() {
    let world = World::new().await;
    let bytes = u64::from(BATCH_BYTES);
    for _ in 0..10 {
        world.commit(&[(0, 1)]).await;
    }
    world.seal(0).await;
    assert_eq!(look(&world, at_most(10 * bytes)).await, None);
    assert_eq!(look(&world, at_most(10 * bytes - 1)).await, None);
    assert_eq!(look(&world, at_most(9 * bytes)).await, Some(1));
    assert_eq!(look(&world, at_most(0)).await, Some(10));
    // What is deleted already doesn't count, be it trimmed or not.
    world.move_start(0, NewStart::At(Offset::at(4))).await.expect("moved");
    assert_eq!(look(&world, at_most(6 * bytes)).await, None);
    assert_eq!(look(&world, at_most(5 * bytes)).await, Some(5));
    world.trim(0).await;
    assert_eq!(look(&world, at_most(6 * bytes)).await, None);
    assert_eq!(look(&world, at_most(5 * bytes)).await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn long_logs_are_looked_at_piece_by_piece() {
    let world = World::new().await;
    for _ in 0..100 {
        world.commit(&[(0, 1)]).await;
        world.seal(0).await;
    }
    let found = expired(&world.store, &world.keyspace, INCARNATION, partition(0), older_than(10))
        .await
        .expect("a look");
    let found = found.expect("some have expired");
    assert!(found.more && found.batches == MOST_VALUES as u64, "{found:?}");
}
