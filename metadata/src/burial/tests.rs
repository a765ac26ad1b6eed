use super::*;
use crate::keys::Family;
use crate::log_starts::NewStart;
use crate::testing::{INCARNATION, World};

#[tokio::test(start_paused = true)]
async fn an_object_is_buried_once_all_its_batches_are_dead() {
    let world = World::new().await;
    let object = world.commit(&[(0, 5), (0, 5), (1, 2)]).await;
    for index in [0, 1] {
        world.seal(index).await;
        world.move_start(index, NewStart::End).await.expect("moved");
    }
    let trimmed = world.trim(0).await;
    assert_eq!(world.bury(&trimmed.dead).await, Buried::default(), "one batch is alive");
    assert_eq!(world.object(object).await.expect("a row").state, ObjectState::Committed);
    let trimmed = world.trim(1).await;
    assert_eq!(world.bury(&trimmed.dead).await, Buried { objects: 1, bytes: 300, contradictions: 0 });
    let row = world.object(object).await.expect("a row");
    assert_eq!((row.state, row.size, row.batches), (ObjectState::Tombstone, 300, 3));
    assert!(world.dead().await.is_empty());
    let queue = world.rows(Family::Garbage).await;
    assert_eq!(queue.len(), 1);
    let queued = garbage::decode(&world.keyspace, &queue[0]).expect("a row");
    assert_eq!((queued.object, queued.size, queued.incarnation), (object, 300, INCARNATION));
    assert_eq!(world.bury(&trimmed.dead).await, Buried::default(), "once");
}

#[tokio::test(start_paused = true)]
async fn a_walk_finds_what_somebody_died_before_burying() {
    let world = World::new().await;
    for _ in 0..450 {
        world.commit(&[(0, 1)]).await;
    }
    world.seal(0).await;
    world.move_start(0, NewStart::At(penstock_types::Offset::at(449))).await.expect("moved");
    world.trim(0).await;
    let (mut walk, mut buried) = (BurialWalk::default(), 0);
    while let Some(some) = walk.step(&world.store, &world.keyspace, INCARNATION).await.expect("a walk") {
        buried += some.objects;
    }
    assert_eq!(buried, 449);
}

#[tokio::test(start_paused = true)]
async fn a_contradiction_is_left_as_it_is() {
    let world = World::new().await;
    let object = world.commit(&[(0, 5)]).await;
    world.set(&dead::key(&world.keyspace, object), &2_i64.to_le_bytes()).await;
    let mut walk = BurialWalk::default();
    let step = walk.step(&world.store, &world.keyspace, INCARNATION).await.expect("a walk");
    assert_eq!(step, Some(Buried { contradictions: 1, ..Buried::default() }));
    assert_eq!(world.object(object).await.expect("a row").state, ObjectState::Committed);
}

#[tokio::test(start_paused = true)]
async fn an_object_of_which_nothing_was_appended_is_garbage_at_once() {
    let world = World::new().await;
    let (first, again) =
        (world.commit_from(&[(0, 5), (0, 5)], 7).await, world.commit_from(&[(0, 5), (0, 5)], 7).await);
    assert_eq!(world.object(first).await.expect("a row").state, ObjectState::Committed);
    let row = world.object(again).await.expect("a row");
    assert_eq!((row.state, row.appended()), (ObjectState::Tombstone, 0));
    assert!(matches!(row.fate(1), crate::keys::object::Fate::Duplicate(_)), "whoever sent it is told so");
    let queue = world.rows(Family::Garbage).await;
    let queued: Vec<_> =
        queue.iter().map(|row| garbage::decode(&world.keyspace, row).expect("a row").object).collect();
    assert_eq!(queued, [again]);
}
