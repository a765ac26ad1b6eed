use super::*;
use crate::log_starts::NewStart;
use crate::testing::{INCARNATION, World};

const DELAY: Duration = Duration::from_secs(600);

async fn one_buried(world: &World) -> ObjectId {
    let object = world.commit(&[(0, 5)]).await;
    world.seal(0).await;
    world.move_start(0, NewStart::End).await.expect("moved");
    let trimmed = world.trim(0).await;
    assert_eq!(world.bury(&trimmed.dead).await.objects, 1);
    object
}

async fn queue(world: &World) -> Queue {
    due(&world.store, &world.keyspace, INCARNATION, false, DELAY, None).await.expect("a queue")
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_waits_in_a_queue_of_its_own() {
    let world = World::new().await;
    let (merged, half, gone) =
        (world.commit(&[(0, 5)]).await, world.commit(&[(1, 5), (2, 5)]).await, world.commit(&[(3, 5)]).await);
    let mut transaction = world.store.begin(Priority::Default);
    let mut copied = crate::burial::Dead::default();
    copied.count(merged, 1);
    copied.count(half, 1);
    copied.write_copied(&mut *transaction, &world.keyspace);
    let mut expired = crate::burial::Dead::default();
    expired.count(half, 1);
    expired.count(gone, 1);
    expired.write(&mut *transaction, &world.keyspace);
    transaction.commit().await.expect("a commit");
    copied.extend(expired);
    assert_eq!(world.bury(&copied).await.objects, 3);
    assert!(world.dead().await.is_empty());
    tokio::time::advance(DELAY + Duration::from_secs(1)).await;
    let world = &world;
    let all = |was_merged, delay| async move {
        let found = due(&world.store, &world.keyspace, INCARNATION, was_merged, delay, None).await;
        let found = found.expect("a queue").due;
        assert!(found.iter().all(|garbage| garbage.was_merged == was_merged));
        found
    };
    let objects = |garbage: &[Garbage]| garbage.iter().map(|garbage| garbage.object).collect::<Vec<_>>();
    assert_eq!(objects(&all(false, DELAY).await), [gone]);
    assert_eq!(all(true, DELAY * 2).await, []);
    let due = all(true, DELAY).await;
    assert_eq!(objects(&due), [merged, half], "what was copied of an object is elsewhere");
    collected(&world.store, &world.keyspace, INCARNATION, &due).await.expect("collected");
    assert_eq!(all(true, DELAY).await, []);
    assert_eq!(world.object(half).await.expect("a row").state, ObjectState::Collected);
}

#[tokio::test(start_paused = true)]
async fn what_is_buried_waits_for_the_delay() {
    let world = World::new().await;
    let object = one_buried(&world).await;
    let waiting = queue(&world).await;
    assert!(waiting.due.is_empty() && waiting.waits.expect("one waits") < DELAY);
    tokio::time::advance(DELAY + Duration::from_secs(1)).await;
    let waiting = queue(&world).await;
    assert_eq!(waiting.due.iter().map(|garbage| garbage.object).collect::<Vec<_>>(), [object]);
    collected(&world.store, &world.keyspace, INCARNATION, &waiting.due).await.expect("collected");
    assert_eq!(queue(&world).await, Queue::default());
    assert_eq!(world.object(object).await.expect("a row").state, ObjectState::Collected);
    // Somebody who did the same is late.
    collected(&world.store, &world.keyspace, INCARNATION, &waiting.due).await.expect("collected");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_below_the_cutoff_and_what_has_no_row_there_is_nobodys() {
    let world = World::new().await;
    let (gone, live) = (one_buried(&world).await, world.commit(&[(0, 1)]).await);
    let version = |id: ObjectId| id.version().get();
    let stray = ObjectId::new(INCARNATION, StoreVersion::new(version(live) - 1), 77);
    let lag = Duration::from_secs(3_600);
    let cutoff = raise_cutoff(&world.store, &world.keyspace, INCARNATION, lag).await.expect("a cutoff");
    assert!(!cutoff.refuses(&stray));
    let listed = [gone, live, stray];
    let found = unreferenced(&world.store, &world.keyspace, cutoff, &listed).await.expect("a look");
    assert!(found.is_empty(), "nothing is old enough");
    tokio::time::advance(lag + Duration::from_secs(1)).await;
    let cutoff = raise_cutoff(&world.store, &world.keyspace, INCARNATION, lag).await.expect("a cutoff");
    let found = unreferenced(&world.store, &world.keyspace, cutoff, &listed).await.expect("a look");
    assert_eq!(found, [stray], "what is buried waits for the collector");
    let due = queue(&world).await.due;
    collected(&world.store, &world.keyspace, INCARNATION, &due).await.expect("collected");
    assert!(world.object(gone).await.is_none(), "nobody can commit it any more");
    let found = unreferenced(&world.store, &world.keyspace, cutoff, &listed).await.expect("a look");
    assert_eq!(found, [gone, stray], "it was brought back");
    // It never goes back.
    let later = raise_cutoff(&world.store, &world.keyspace, INCARNATION, lag * 2).await.expect("a cutoff");
    assert_eq!(later, cutoff);
}

#[tokio::test(start_paused = true)]
async fn rows_below_the_cutoff_that_nobody_needs_go() {
    let world = World::new().await;
    let live = world.commit(&[(1, 1)]).await;
    let gone = one_buried(&world).await;
    tokio::time::advance(DELAY + Duration::from_secs(1)).await;
    let due = queue(&world).await.due;
    collected(&world.store, &world.keyspace, INCARNATION, &due).await.expect("collected");
    let row = world.object(live).await.expect("a row");
    let intent = ObjectId::new(INCARNATION, gone.version(), 5);
    let key = object::key(&world.keyspace, intent);
    world.set(&key, &ObjectRow { state: ObjectState::Intent, ..row.clone() }.encode()).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let later = world.commit(&[(1, 1)]).await;
    let key = object::key(&world.keyspace, ObjectId::new(INCARNATION, later.version(), 6));
    world.set(&key, &ObjectRow { state: ObjectState::Intent, ..row }.encode()).await;
    let lag = Duration::from_secs(5);
    let cutoff = raise_cutoff(&world.store, &world.keyspace, INCARNATION, lag).await.expect("a cutoff");
    let mut walk = RowWalk::below(&world.keyspace, cutoff);
    let mut cleared = 0;
    while let Some(some) = walk.step(&world.store, &world.keyspace, INCARNATION).await.expect("a walk") {
        cleared += some;
    }
    assert_eq!(cleared, 2, "the collected object's and the old intent");
    assert!(world.object(live).await.is_some() && world.object(later).await.is_some());
    assert_eq!(world.rows(crate::keys::Family::Object).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_its_row_calls_alive_is_not_due_whatever_the_queue_says() {
    let world = World::new().await;
    let (gone, live) = (one_buried(&world).await, world.commit(&[(1, 1)]).await);
    let mut transaction = world.store.begin(Priority::Default);
    crate::burial::enqueue(&mut *transaction, &world.keyspace, INCARNATION, live, 1, false);
    transaction.commit().await.expect("a commit");
    tokio::time::advance(DELAY + Duration::from_secs(1)).await;
    let found = queue(&world).await;
    let objects = |garbage: &[Garbage]| garbage.iter().map(|garbage| garbage.object).collect::<Vec<_>>();
    assert_eq!((objects(&found.due), objects(&found.wrong)), (vec![gone], vec![live]));
    let all: Vec<Garbage> = found.due.iter().chain(&found.wrong).copied().collect();
    collected(&world.store, &world.keyspace, INCARNATION, &all).await.expect("collected");
    assert_eq!(world.object(live).await.expect("a row").state, ObjectState::Committed);
    assert_eq!(objects(&queue(&world).await.wrong), [live], "somebody has to look at it");
}
