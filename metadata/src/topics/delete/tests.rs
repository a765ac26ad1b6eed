use super::*;
use crate::topics::testing::{CHANGE, World, admin};

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_gone_but_listed() {
    let world = World::new(1);
    let ids = world.make(&["a", "b"]).await;
    let catalog = world.catalog().await;
    let unknown = TopicId::from_bytes([9; 16]);
    let results = world.admin.delete_topics(&[ids[0], unknown, ids[0]], CHANGE).await;
    assert_eq!(results, [Ok(()), Err(DeleteTopicError::NotFound { id: unknown }), Ok(())]);
    catalog.refresh().await.expect("a store");
    assert!(catalog.by_name("a").is_none() && catalog.by_id(ids[0]).is_none());
    assert_eq!(catalog.counts(), (1, 2));

    let mut transaction = world.store.begin(crate::kv::Priority::Default);
    let listed = deleted_topics(&mut *transaction, &world.keyspace, None, 10).await.expect("a store");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].name.as_str(), listed[0].partitions), (ids[0], "a", 2));
    assert_eq!(listed[0].deleted, catalog.version());
    let next = deleted_topics(&mut *transaction, &world.keyspace, Some(ids[0]), 10).await.expect("a store");
    assert!(next.is_empty());
    let again = world.admin.delete_topics(&ids[..1], CHANGE).await;
    assert_eq!(again, [Err(DeleteTopicError::NotFound { id: ids[0] })]);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_free_after_deletion() {
    let world = World::new(2);
    let catalog = world.catalog().await;
    let first = world.make(&["a.b"]).await[0];
    assert_eq!(world.admin.delete_topics(&[first], CHANGE).await, [Ok(())]);
    let second = world.make(&["a_b"]).await[0];
    assert_ne!(first, second);
    // Both changes at one refresh, whichever order the ids have.
    catalog.refresh().await.expect("a store");
    assert_eq!(catalog.by_name("a_b").expect("made").id, second);
    assert!(catalog.by_id(first).is_none());
}

#[test]
fn of_racing_deleters_at_least_one_succeeds_whatever_the_store_does() {
    for seed in 0..12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new(seed);
            let other = admin(&world.store, &world.keyspace, seed + 1_000);
            let ids = world.make(&["a", "b", "c", "d", "e"]).await;
            world.trouble();
            for id in &ids {
                let ids = [*id];
                let (ours, theirs) = futures::join!(
                    world.admin.delete_topics(&ids, CHANGE),
                    other.delete_topics(&ids, CHANGE)
                );
                assert!(ours[0].is_ok() || theirs[0].is_ok(), "seed {seed}: {ours:?} {theirs:?}");
                let catalog = world.catalog().await;
                assert!(catalog.by_id(*id).is_none(), "seed {seed}");
            }
            world.calm();
            assert_eq!(world.catalog().await.counts(), (0, 0), "seed {seed}");
        });
    }
}
