use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use penstock_types::{Randomness, SeededRandomness};

use super::*;
use crate::topics::testing::{CHANGE, CountingStore, World, admin, catalog, wanted};
use crate::topics::{Alteration, NewPartitions, Operation, Terms, TopicAdmin};

async fn make_many(world: &World, names: impl Iterator<Item = String>) {
    let broker = BrokerConfig::default();
    let terms = Terms { broker: &broker, brokers: &[1] };
    let plans = names.map(|name| world.admin.plan_topic(&wanted(&name), terms).expect("a good topic"));
    for made in world.admin.create_topics(plans.collect(), CHANGE).await {
        made.expect("a free name");
    }
}

#[tokio::test(start_paused = true)]
async fn one_change_among_ten_thousand_topics_costs_a_few_rows() {
    let world = World::new(1);
    make_many(&world, (0..10_000).map(|number| format!("topic-{number}"))).await;
    let (store, counts) = CountingStore::over(world.store.clone());
    let catalog = catalog(&store, &world.keyspace).await;
    assert_eq!(catalog.counts(), (10_000, 20_000));
    let untouched = catalog.by_name("topic-1").expect("made");

    let before = counts.rows();
    catalog.refresh().await.expect("a store");
    assert_eq!(counts.rows() - before, 1, "nothing changed: the version alone is read");

    let id = catalog.by_name("topic-5000").expect("made").id;
    let grow = [NewPartitions { id, count: 3, assignments: None }];
    world.admin.create_partitions(&grow, &[1], CHANGE).await.remove(0).expect("an increase");
    let before = counts.rows();
    catalog.refresh().await.expect("a store");
    assert!(counts.rows() - before <= 5, "{} rows for one change", counts.rows() - before);
    assert_eq!(catalog.by_id(id).expect("made").partitions, 3);
    assert!(Arc::ptr_eq(&untouched, &catalog.by_name("topic-1").expect("made")));
    assert_eq!(catalog.page("topic-9999", 5).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_change_log_is_bounded_and_an_old_catalog_reads_everything() {
    let world = World::new(2);
    let old = world.catalog().await;
    make_many(&world, (0..9_000).map(|number| format!("topic-{number}"))).await;
    for round in 0..20 {
        make_many(&world, (0..30).map(|number| format!("more-{round}-{number}"))).await;
        let mut transaction = world.store.begin(crate::kv::Priority::Default);
        let all = RangeOptions {
            limit: 100_000,
            target_bytes: 100_000_000,
            ..RangeOptions::page(0, Isolation::Snapshot)
        };
        let rows =
            transaction.range(crate::keys::topic::changes(&world.keyspace), all).await.expect("a store");
        assert!(rows.rows.len() as u64 <= changes::KEPT, "{} change rows", rows.rows.len());
    }
    old.refresh().await.expect("a store");
    assert_eq!(old.counts(), (9_600, 19_200));
    assert_eq!(old.version(), world.catalog().await.version());
}

#[tokio::test(start_paused = true)]
async fn waiting_refreshes_share_a_read_that_began_after_they_asked() {
    let world = World::new(3);
    let (store, counts) = CountingStore::over(world.store.clone());
    let catalog = catalog(&store, &world.keyspace).await;
    world.make(&["a"]).await;
    world.memory.set_faults(crate::kv::memory::MemoryFaults {
        latency: Some(std::time::Duration::from_millis(1)..std::time::Duration::from_millis(2)),
        ..crate::kv::memory::MemoryFaults::default()
    });
    let begun = counts.transactions.load(Ordering::SeqCst);
    let callers = join_all((0..100).map(|_| catalog.refresh()));
    for outcome in callers.await {
        outcome.expect("a store");
    }
    assert_eq!(
        counts.transactions.load(Ordering::SeqCst) - begun,
        2,
        "the first's read, and one for all others"
    );
    assert!(catalog.by_name("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_sees_what_was_committed_before_it_was_asked_for() {
    let world = Arc::new(World::new(4));
    let catalog = Arc::new(world.catalog().await);
    world.memory.set_faults(crate::kv::memory::MemoryFaults {
        latency: Some(std::time::Duration::from_millis(1)..std::time::Duration::from_millis(9)),
        ..crate::kv::memory::MemoryFaults::default()
    });
    let readers = (0..20).map(|_| {
        let catalog = Arc::clone(&catalog);
        tokio::spawn(async move {
            for _ in 0..50 {
                catalog.refresh().await.expect("a store");
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for number in 0..30 {
        let name = format!("topic-{number}");
        world.make(&[&name]).await;
        catalog.refresh().await.expect("a store");
        assert!(catalog.by_name(&name).is_some(), "{name} was made before the refresh");
    }
    for reader in join_all(readers).await {
        reader.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_dropped_leaves_the_next_one_working() {
    let world = World::new(5);
    let catalog = world.catalog().await;
    world.make(&["a"]).await;
    world.memory.set_faults(crate::kv::memory::MemoryFaults {
        latency: Some(std::time::Duration::from_millis(5)..std::time::Duration::from_millis(6)),
        ..crate::kv::memory::MemoryFaults::default()
    });
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(1), catalog.refresh()).await;
    assert!(dropped.is_err());
    assert!(catalog.by_name("a").is_none());
    catalog.refresh().await.expect("a store");
    assert!(catalog.by_name("a").is_some());
}

/// One random change; errors are part of it.
async fn change(admin: &TopicAdmin, catalog: &TopicCatalog, randomness: &SeededRandomness) {
    let broker = BrokerConfig::default();
    let all = catalog.all();
    let any = all.get(randomness.below(all.len() as u64) as usize).map(|topic| topic.id);
    match (randomness.below(6), any) {
        (0..2, _) => {
            let name = format!("t{}", randomness.below(12));
            let terms = Terms { broker: &broker, brokers: &[1] };
            let planned = admin.plan_topic(&wanted(&name), terms).expect("a good topic");
            let _ = admin.create_topics(vec![planned], CHANGE).await;
        }
        (2, Some(id)) => {
            let _ = admin.delete_topics(&[id], CHANGE).await;
        }
        (3, Some(id)) => {
            let count = randomness.below(30) as i32;
            let _ = admin
                .create_partitions(&[NewPartitions { id, count, assignments: None }], &[1], CHANGE)
                .await;
        }
        (4, Some(id)) => {
            let value = randomness.below(1_000).to_string();
            let alteration = Alteration::Increment(vec![("retention.ms".to_owned(), Operation::Set(value))]);
            let _ = admin.alter_topics(&[(id, alteration)], &broker, CHANGE).await;
        }
        _ => {
            let value = (1 + randomness.below(1_000)).to_string();
            let alteration =
                Alteration::Increment(vec![("message.max.bytes".to_owned(), Operation::Set(value))]);
            let scope =
                if randomness.below(2) == 0 { BrokerScope::ClusterDefault } else { BrokerScope::Broker(1) };
            let _ = admin.alter_broker(scope, &alteration, &broker, CHANGE).await;
        }
    }
}

fn assert_same(ours: &TopicCatalog, fresh: &TopicCatalog, seed: u64) {
    assert_eq!(ours.version(), fresh.version(), "seed {seed}");
    assert_eq!(ours.all(), fresh.all(), "seed {seed}");
    assert_eq!(ours.counts(), fresh.counts(), "seed {seed}");
    assert_eq!(ours.broker(), fresh.broker(), "seed {seed}");
    let by_name: BTreeMap<TopicId, Arc<Topic>> =
        ours.all().into_iter().map(|topic| (topic.id, topic)).collect();
    for (id, topic) in by_name {
        let by_id = ours.by_id(id).expect("by id as by name");
        assert!(Arc::ptr_eq(&topic, &by_id), "seed {seed}: one topic under both");
    }
}

#[test]
fn two_catalogs_follow_each_others_changes_whatever_the_store_does() {
    for seed in 0..16 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new(seed);
            let catalogs = [world.catalog().await, world.catalog().await];
            let admins = [world.admin.clone(), admin(&world.store, &world.keyspace, seed + 1_000)];
            for round in 0..15 {
                world.trouble();
                join_all([0, 1].map(|who| {
                    let randomness = SeededRandomness::new(seed * 1_000 + round * 2 + who);
                    let (admin, catalog) = (&admins[who as usize], &catalogs[who as usize]);
                    async move {
                        for _ in 0..4 {
                            change(admin, catalog, &randomness).await;
                            catalog.refresh().await.expect("a store that recovers");
                        }
                    }
                }))
                .await;
                world.calm();
                let fresh = world.catalog().await;
                for catalog in &catalogs {
                    catalog.refresh().await.expect("a calm store");
                    assert_same(catalog, &fresh, seed);
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_is_of_one_version() {
    let world = World::new(6);
    let ids = world.make(&["a", "b"]).await;
    let catalog = world.catalog().await;
    let unknown = TopicId::from_bytes([8; 16]);
    let found = catalog.lookup(&[ids[1], unknown, ids[0]]);
    let names: Vec<Option<String>> =
        found.topics.iter().map(|topic| topic.as_ref().map(|topic| topic.name.to_string())).collect();
    assert_eq!(names, [Some("b".to_owned()), None, Some("a".to_owned())]);
    assert_eq!(found.version, catalog.version());
    let topic = found.topics[0].clone().expect("made");
    assert!(topic.has_partition(PartitionIndex::new(1)));
    assert!(!topic.has_partition(PartitionIndex::new(2)) && !topic.has_partition(PartitionIndex::new(-1)));
}
