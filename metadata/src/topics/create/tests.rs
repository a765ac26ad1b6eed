use proptest::prelude::*;

use super::*;
use crate::topics::testing::{CHANGE, CHECK, World, admin, layer, wanted};

fn refusal(new: &NewTopic) -> String {
    let broker = BrokerConfig::default();
    let terms = Terms { broker: &broker, brokers: &[1, 2] };
    plan(new, terms, &penstock_types::SeededRandomness::new(1)).expect_err("refused").to_string()
}

fn numbered(partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { partitions, replication_factor, ..wanted("a") }
}

fn by_hand(assignments: &[(i32, &[i32])]) -> NewTopic {
    let assignments = assignments.iter().map(|(partition, brokers)| (*partition, brokers.to_vec())).collect();
    NewTopic { assignments, ..numbered(-1, -1) }
}

fn configured(configs: &[(&str, Option<&str>)]) -> NewTopic {
    let configs =
        configs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
    NewTopic { configs, ..wanted("a") }
}

#[test]
fn plans_are_refused_in_kafkas_words() {
    let manual =
        |new: NewTopic, partitions, replication_factor| NewTopic { partitions, replication_factor, ..new };
    for (new, message) in [
        (numbered(0, 1), "Number of partitions was set to an invalid non-positive value."),
        (numbered(-2, 1), "Number of partitions was set to an invalid non-positive value."),
        (numbered(0, 0), "Replication factor must be larger than 0, or -1 to use the default value."),
        (numbered(1, -2), "Replication factor must be larger than 0, or -1 to use the default value."),
        (
            wanted("a b"),
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII \
                         alphanumerics, '.', '_' and '-'",
        ),
        (wanted("__cluster_metadata"), "Creation of internal topic __cluster_metadata is prohibited."),
        (
            manual(by_hand(&[(0, &[1])]), 2, -1),
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            manual(by_hand(&[(0, &[1])]), -1, 1),
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ),
        (by_hand(&[(1, &[1])]), "partitions should be a consecutive 0-based integer sequence"),
        (by_hand(&[(0, &[1]), (2, &[1])]), "partitions should be a consecutive 0-based integer sequence"),
        (
            by_hand(&[(0, &[7])]),
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (by_hand(&[(0, &[1, 1])]), "The manual partition assignment includes the broker 1 more than once."),
        (by_hand(&[(0, &[])]), "The manual partition assignment includes an empty replica list."),
        (by_hand(&[(0, &[1]), (0, &[1])]), "Found multiple manual partition assignments for partition 0"),
        (
            by_hand(&[(0, &[1, 2]), (1, &[1])]),
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
          previous partitions, which have 2 replica(s).",
        ),
        (configured(&[("nope", Some("5"))]), "Unknown topic config name: nope"),
        (
            configured(&[("retention.ms", None), ("segment.ms", None)]),
            "Null value not supported for topic configs: retention.ms,segment.ms",
        ),
        (
            configured(&[("retention.ms", Some("abc"))]),
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
    ] {
        assert_eq!(refusal(&new), message);
    }
    let large = "0:1,".repeat(20_000) + "0:1";
    let new = configured(&[("leader.replication.throttled.replicas", Some(large.as_str()))]);
    assert_eq!(refusal(&new), "The configs take 80040 bytes, the limit is 65536");
}

#[test]
fn missing_numbers_are_the_brokers() {
    let broker = BrokerConfig::new(layer(&[("num.partitions", "4"), ("default.replication.factor", "3")]));
    let broker = broker.expect("good options");
    let terms = Terms { broker: &broker, brokers: &[1] };
    let randomness = penstock_types::SeededRandomness::new(1);
    let planned = plan(&numbered(-1, -1), terms, &randomness).expect("a good topic");
    assert_eq!((planned.partitions, planned.replication_factor), (4, 3));
    // More replicas than agents: data is as durable as the bucket whatever the number says.
    let planned = plan(&numbered(7, 5), terms, &randomness).expect("a good topic");
    assert_eq!((planned.partitions, planned.replication_factor), (7, 5));
    let planned = plan(&by_hand(&[(1, &[1]), (0, &[1])]), terms, &randomness).expect("a good topic");
    assert_eq!((planned.partitions, planned.replication_factor), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_made_once() {
    let world = World::new(1);
    let id = world.make(&["a.b"]).await[0];
    let catalog = world.catalog().await;
    let topic = catalog.by_name("a.b").expect("it was made");
    assert_eq!((topic.id, topic.partitions, topic.created_ms), (id, 2, 1_000));
    assert_eq!(topic.created, topic.changed);
    assert_eq!(catalog.version(), topic.created);

    let broker = BrokerConfig::default();
    let terms = Terms { broker: &broker, brokers: &[1] };
    let plans = ["a.b", "a_b", "c", "d", "d", "e.f", "e_f"]
        .map(|name| world.admin.plan_topic(&wanted(name), terms).expect("a good topic"));
    let results = world.admin.create_topics(plans.to_vec(), CHANGE).await;
    let told: Vec<String> = results
        .into_iter()
        .map(|result| result.map_or_else(|error| error.to_string(), |made| made.name))
        .collect();
    assert_eq!(
        told,
        [
            "Topic 'a.b' already exists.",
            "Topic 'a_b' collides with existing topic: a.b",
            "c",
            "d",
            "Topic 'd' already exists.",
            "e.f",
            "Topic 'e_f' collides with existing topic: e.f",
        ]
    );
    catalog.refresh().await.expect("a store");
    let names: Vec<String> = catalog.all().iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["a.b", "c", "d", "e.f"]);
}

#[tokio::test(start_paused = true)]
async fn checking_makes_nothing() {
    let world = World::new(2);
    let catalog = world.catalog().await;
    let broker = BrokerConfig::default();
    let terms = Terms { broker: &broker, brokers: &[1] };
    let planned = world.admin.plan_topic(&wanted("a"), terms).expect("a good topic");
    let results = world.admin.create_topics(vec![planned.clone(), planned.clone()], CHECK).await;
    assert_eq!(results[0], Ok(planned));
    assert_eq!(results[1], Err(CreateTopicError::Exists { name: "a".to_owned() }));
    catalog.refresh().await.expect("a store");
    assert!(catalog.all().is_empty());
    assert_eq!(catalog.version(), MetadataVersion::ZERO);
}

#[test]
fn of_racing_creators_one_succeeds_whatever_the_store_does() {
    for seed in 0..12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new(seed);
            let other = admin(&world.store, &world.keyspace, seed + 1_000);
            world.trouble();
            for round in 0..10 {
                let name = format!("topic{round}");
                let broker = BrokerConfig::default();
                let terms = Terms { broker: &broker, brokers: &[1] };
                let make = async |admin: &TopicAdmin| {
                    let planned = admin.plan_topic(&wanted(&name), terms).expect("a good topic");
                    let id = planned.id;
                    (id, admin.create_topics(vec![planned], CHANGE).await.remove(0))
                };
                let (ours, theirs) = futures::join!(make(&world.admin), make(&other));
                let won: Vec<TopicId> =
                    [&ours, &theirs].iter().filter(|(_, made)| made.is_ok()).map(|(id, _)| *id).collect();
                assert_eq!(won.len(), 1, "seed {seed}: {ours:?} {theirs:?}");
                let exists = Err(CreateTopicError::Exists { name: name.clone() });
                assert!(ours.1 == exists || theirs.1 == exists, "seed {seed}: {ours:?} {theirs:?}");
                let catalog = world.catalog().await;
                assert_eq!(catalog.by_name(&name).expect("made").id, won[0], "seed {seed}");
            }
            world.calm();
            let catalog = world.catalog().await;
            assert_eq!(catalog.counts(), (10, 20), "seed {seed}");
        });
    }
}

proptest! {
    #[test]
    fn any_wish_is_answered(
        name: String,
        partitions: i32,
        replication_factor: i16,
        assignments in prop::collection::vec((-1..4, prop::collection::vec(0..4, 0..3)), 0..4),
        configs in prop::collection::vec(("[a-z.]{0,20}", prop::option::of(".{0,8}")), 0..3),
    ) {
        let new = NewTopic { name, partitions, replication_factor, assignments, configs };
        let broker = BrokerConfig::default();
        let terms = Terms { broker: &broker, brokers: &[1, 2] };
        if let Ok(planned) = plan(&new, terms, &penstock_types::SeededRandomness::new(1)) {
            prop_assert!(planned.partitions > 0 && planned.replication_factor > 0);
            prop_assert!(validate_name(&planned.name).is_ok());
        }
    }
}
