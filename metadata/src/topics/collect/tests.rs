use super::*;
use crate::keys::checkpoint;
use crate::keys::feed::Slot;
use crate::keys::topic::encode_deleted;
use crate::log_starts::NewStart;
use crate::testing::{INCARNATION, World, partition};
use penstock_types::Offset;

async fn delete(world: &World) {
    let mut transaction = world.store.begin(Priority::Default);
    let topic = partition(0).topic;
    transaction.clear(&row_key(&world.keyspace, topic), WriteConflict::Yes);
    let row = encode_deleted(INCARNATION, "t", 3, 0);
    let key = deleted_key(&world.keyspace, topic);
    transaction.set_stamped_value(&key, &row.value, row.stamp_at, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
}

async fn seals_of(world: &World) -> i64 {
    let key = checkpoint::seals_key(&world.keyspace, Slot::of(partition(0)));
    let mut transaction = world.store.begin(Priority::Default);
    let seals = transaction.get(&key, Isolation::Snapshot).await.expect("a store");
    checkpoint::decode_seals(seals.as_deref()).expect("a count")
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_deleted_topic_goes_and_its_objects_are_garbage() {
    let world = World::new().await;
    let (mut objects, topic) = (Vec::new(), partition(0).topic);
    for number in 0..40 {
        objects.push(world.commit(&[(0, 2), (1, 1), (1, 1), (2, 4)]).await);
        if number == 20 {
            world.seal(0).await;
            world.seal(1).await;
        }
    }
    world.move_start(0, NewStart::At(Offset::at(11))).await.expect("moved");
    let trimmed = world.trim(0).await;
    assert_eq!(trimmed.batches, 5);
    let refused = collect_topic(&world.store, &world.keyspace, INCARNATION, topic).await;
    assert_eq!(refused, Ok(Collected { done: true, ..Collected::default() }), "it isn't deleted");
    delete(&world).await;
    let seals = seals_of(&world).await;
    let mut steps = 0;
    loop {
        let step =
            collect_topic(&world.store, &world.keyspace, INCARNATION, topic).await.expect("a collection");
        world.bury(&step.dead).await;
        if step.done {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 5, "{steps}");
    for family in FAMILIES {
        assert!(world.rows(family).await.is_empty(), "{}", family.name());
    }
    assert!(world.rows(Family::Dead).await.is_empty());
    assert_eq!(world.rows(Family::Garbage).await.len(), objects.len());
    assert!(seals_of(&world).await > seals, "the checkpoint says what is no more");
    let deleted = world.rows(Family::Topic).await;
    assert!(deleted.is_empty(), "the durable row went last");
}

#[tokio::test(start_paused = true)]
async fn two_that_collect_count_nothing_twice() {
    let world = World::new().await;
    let mut objects = Vec::new();
    for _ in 0..50 {
        objects.push(world.commit(&[(0, 1), (1, 1)]).await);
    }
    world.seal(0).await;
    delete(&world).await;
    let collect = || async {
        loop {
            match collect_topic(&world.store, &world.keyspace, INCARNATION, partition(0).topic).await {
                Ok(collected) if collected.done => return,
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::join!(collect(), collect());
    let dead = world.dead().await;
    assert!(objects.iter().all(|object| dead[object] == 2), "{dead:?}");
}
