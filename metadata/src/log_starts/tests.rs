use super::*;
use crate::keys::feed::{self, Slot};
use crate::keys::topic;
use crate::kv::Priority;
use crate::testing::{World, partition};

async fn feed_of(world: &World) -> feed::FeedStamp {
    let key = feed::key(&world.keyspace, Slot::of(partition(0)));
    let mut transaction = world.store.begin(Priority::Default);
    let value = transaction.get(&key, Isolation::Snapshot).await.expect("a store");
    feed::decode(value.as_deref()).expect("a stamp")
}

#[tokio::test(start_paused = true)]
async fn a_log_start_moves_up_and_is_seen() {
    let world = World::new().await;
    world.commit(&[(0, 5), (0, 5), (1, 3)]).await;
    let before = feed_of(&world).await;
    assert_eq!(world.move_start(0, NewStart::At(Offset::at(4))).await, Ok(Offset::at(4)));
    assert!(feed_of(&world).await > before, "views and long polls learn of it");
    assert_eq!(world.log(0, 4).await.1, Offset::at(4));
    // Lower ones leave it where it is, and disturb nobody.
    let before = feed_of(&world).await;
    assert_eq!(world.move_start(0, NewStart::At(Offset::at(2))).await, Ok(Offset::at(4)));
    assert_eq!(feed_of(&world).await, before);
    assert_eq!(world.move_start(0, NewStart::End).await, Ok(Offset::at(10)));
    let behind = world.move_start(0, NewStart::At(Offset::at(11))).await;
    assert_eq!(behind, Err(MoveError::BehindEnd { end: Offset::at(10) }));
    assert_eq!(world.log(1, 0).await.1, Offset::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_for_a_topic_that_is_gone() {
    let world = World::new().await;
    world.commit(&[(0, 5)]).await;
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&topic::row_key(&world.keyspace, partition(0).topic), WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    assert_eq!(world.move_start(0, NewStart::End).await, Err(MoveError::NoTopic(partition(0))));
    assert!(world.rows(crate::keys::Family::LogStart).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_older_life_moves_nothing() {
    use crate::keys::cluster::{Cutoff, cutoff_key, encode_cutoff};
    let world = World::new().await;
    world.commit(&[(0, 5)]).await;
    let cutoff = Cutoff { incarnation: Incarnation::new(2), version: penstock_types::StoreVersion::ZERO };
    world.set(&cutoff_key(&world.keyspace), &encode_cutoff(cutoff)).await;
    let refused = world.move_start(0, NewStart::End).await;
    assert!(refused.expect_err("an older life").to_string().contains("incarnation 2"));
}
