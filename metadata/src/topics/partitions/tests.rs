use super::*;
use crate::topics::testing::{CHANGE, CHECK, World, admin};

fn wanted(id: TopicId, count: i32, assignments: Option<&[&[i32]]>) -> NewPartitions {
    let assignments = assignments.map(|all| all.iter().map(|brokers| brokers.to_vec()).collect());
    NewPartitions { id, count, assignments }
}

#[tokio::test(start_paused = true)]
async fn topics_only_grow() {
    let world = World::new(1);
    let ids = world.make(&["a", "b", "c", "d", "e", "f", "g"]).await;
    let unknown = TopicId::from_bytes([9; 16]);
    let wanted = [
        wanted(ids[0], 4, None),
        wanted(ids[1], 2, None),
        wanted(ids[2], 1, None),
        wanted(ids[3], -1, None),
        wanted(ids[4], 4, Some(&[&[1]])),
        wanted(ids[5], 3, Some(&[&[9]])),
        wanted(ids[6], 3, Some(&[&[1]])),
        wanted(unknown, 3, None),
    ];
    let checked = world.admin.create_partitions(&wanted, &[1], CHECK).await;
    let catalog = world.catalog().await;
    assert_eq!(catalog.by_id(ids[0]).expect("made").partitions, 2);
    let results = world.admin.create_partitions(&wanted, &[1], CHANGE).await;
    assert_eq!(checked, results);
    let told: Vec<String> = results
        .into_iter()
        .map(|result| result.map_or_else(|error| error.to_string(), |()| String::new()))
        .collect();
    assert_eq!(
        told,
        [
            "",
            "Topic already has 2 partition(s).",
            "The topic c currently has 2 partition(s); 1 would not be an increase.",
            "The topic d currently has 2 partition(s); -1 would not be an increase.",
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
            "The manual partition assignment includes broker 9, but no such broker is registered.",
            "",
            &format!("topic {unknown} does not exist"),
        ]
    );
    catalog.refresh().await.expect("a store");
    let topic = catalog.by_id(ids[0]).expect("made");
    assert_eq!(topic.partitions, 4);
    assert!(topic.changed > topic.created);
    assert_eq!(catalog.counts(), (7, 4 + 5 * 2 + 3));
}

#[test]
fn growing_succeeds_whatever_the_store_does() {
    for seed in 0..12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new(seed);
            let other = admin(&world.store, &world.keyspace, seed + 1_000);
            let id = world.make(&["a"]).await[0];
            world.trouble();
            for count in 3..20 {
                let (ours, theirs) = ([wanted(id, count, None)], [wanted(id, count, None)]);
                let (ours, theirs) = futures::join!(
                    world.admin.create_partitions(&ours, &[1], CHANGE),
                    other.create_partitions(&theirs, &[1], CHANGE)
                );
                let have = Err(CreatePartitionsError::AlreadyHas { count: count as u32 });
                assert!(ours[0].is_ok() || theirs[0].is_ok(), "seed {seed}: {ours:?} {theirs:?}");
                for result in [&ours[0], &theirs[0]] {
                    assert!(result.is_ok() || *result == have, "seed {seed}: {result:?}");
                }
                let catalog = world.catalog().await;
                assert_eq!(catalog.by_id(id).expect("made").partitions, count as u32, "seed {seed}");
            }
        });
    }
}
