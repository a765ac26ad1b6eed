use super::*;
use crate::keys::Family;
use crate::keys::trim;
use crate::log_starts::NewStart;
use crate::testing::{BATCH_BYTES, INCARNATION, World, partition};

async fn trim_row(world: &World) -> Trim {
    let mut transaction = world.store.begin(Priority::Default);
    let value = transaction.get(&trim::key(&world.keyspace, partition(0)), Isolation::Snapshot).await;
    Trim::decode(value.expect("a store").as_deref()).expect("a row")
}

#[tokio::test(start_paused = true)]
async fn what_lies_below_the_log_start_leaves_the_index_batch_by_batch() {
    let world = World::new().await;
    // Batches of one object that are a row, and a row of another one.
    let first = world.commit(&[(0, 5), (0, 5), (0, 5), (1, 2)]).await;
    let second = world.commit(&[(0, 5)]).await;
    world.seal(0).await;
    world.move_start(0, NewStart::At(Offset::at(7))).await.expect("moved");
    let trimmed = world.trim(0).await;
    assert_eq!((trimmed.batches, trimmed.bytes), (1, u64::from(BATCH_BYTES)));
    assert_eq!(world.dead().await.into_iter().collect::<Vec<_>>(), [(first, 1)]);
    // The batch that holds the log start stays whole, at its place.
    let expected = vec![(5, first, 100), (10, first, 200), (15, second, 0)];
    assert_eq!(world.log(0, 7).await, (expected, Offset::at(7)));
    assert_eq!(trim_row(&world).await, Trim { below: Offset::at(7), bytes: 100 });
    assert_eq!(world.trim(0).await, Trimmed::default(), "once is enough");
    // To the end.
    world.move_start(0, NewStart::End).await.expect("moved");
    assert_eq!(world.trim(0).await.batches, 3);
    assert!(world.rows(Family::Index).await.is_empty());
    let dead: Vec<_> = world.dead().await.into_iter().collect();
    assert_eq!(dead, [(first, 3), (second, 1)]);
    assert_eq!(world.log(0, 20).await, (Vec::new(), Offset::at(20)));
    // What comes behind is found.
    let third = world.commit(&[(0, 1)]).await;
    assert_eq!(world.log(0, 20).await.0, [(20, third, 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sealed_stays_until_it_is() {
    let world = World::new().await;
    world.commit(&[(0, 5)]).await;
    world.move_start(0, NewStart::End).await.expect("moved");
    assert_eq!(world.trim(0).await.batches, 0);
    world.seal(0).await;
    assert_eq!(world.trim(0).await.batches, 1);
}

/// Many values, in several transactions, beside seals and against conflicts.
#[tokio::test(start_paused = true)]
async fn two_that_trim_count_every_batch_once() {
    let world = World::new().await;
    let mut objects = Vec::new();
    for _ in 0..300 {
        objects.push(world.commit(&[(0, 1), (0, 1)]).await);
        if objects.len() % 3 == 0 {
            world.seal(0).await;
        }
    }
    world.move_start(0, NewStart::At(Offset::at(501))).await.expect("moved");
    let trim = || async {
        loop {
            match trim_partition(&world.store, &world.keyspace, INCARNATION, partition(0)).await {
                Ok(trimmed) if !trimmed.more => return,
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(trim(), trim(), trim());
    let dead = world.dead().await;
    for (index, object) in objects.iter().enumerate() {
        let expected = match index {
            0..250 => 2,
            250 => 1,
            _ => 0,
        };
        assert_eq!(dead.get(object).copied().unwrap_or(0), expected, "object {index}");
    }
    assert_eq!(trim_row(&world).await.bytes, 501 * i64::from(BATCH_BYTES));
}
