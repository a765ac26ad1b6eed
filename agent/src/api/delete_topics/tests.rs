use std::sync::Arc;

use penstock_config::broker::BrokerConfig;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::topics::{NewTopic, Terms, TopicAdmin};
use penstock_types::{Incarnation, SeededRandomness, TestClock};

use super::*;

async fn topics() -> (TopicCatalog, Vec<TopicId>) {
    let randomness = Arc::new(SeededRandomness::new(1));
    let store: SharedStore = MemoryStore::new(randomness.clone());
    let keyspace = Keyspace::new(b"k");
    let clock = Arc::new(TestClock::at(0));
    let admin = TopicAdmin::new(store.clone(), keyspace.clone(), Incarnation::FIRST, clock, randomness);
    let broker = BrokerConfig::default();
    let terms = Terms { broker: &broker, brokers: &[1] };
    let plans = ["a", "b", "c"].map(|name| {
        let new =
            NewTopic { name: name.to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
        admin.plan_topic(&new, terms).expect("a good topic")
    });
    let made = admin.create_topics(plans.to_vec(), Request::new(false, 1_000)).await;
    let ids = made.into_iter().map(|made| made.expect("a free name").id).collect();
    (TopicCatalog::open(store, keyspace, 1, broker.clone()).await.expect("a catalog"), ids)
}

fn named(name: &str) -> Asked {
    Asked { name: Some(TopicName(text(name))), id: TopicId::NIL }
}

fn by_id(id: TopicId) -> Asked {
    Asked { name: None, id }
}

#[tokio::test]
async fn topics_are_resolved_in_kafkas_words() {
    let (catalog, ids) = topics().await;
    let unknown = TopicId::from_bytes([9; 16]);
    let both = Asked { name: Some(TopicName(text("b"))), id: ids[1] };
    let asked = [
        named("a"),
        named("nope"),
        by_id(unknown),
        by_id(TopicId::NIL),
        both,
        named("twice"),
        named("twice"),
        by_id(ids[1]),
        by_id(ids[1]),
        by_id(ids[2]),
        named("c"),
    ];
    let resolved = resolve(&catalog, &asked);
    let told: Vec<Result<TopicId, String>> = resolved
        .iter()
        .map(|(_, id)| id.clone().map_err(|refusal| refusal.message.unwrap_or_default()))
        .collect();
    let refused = |message: &str| Err(message.to_owned());
    assert_eq!(
        told,
        [
            Ok(ids[0]),
            refused("This server does not host this topic-partition."),
            refused("This server does not host this topic ID."),
            refused("Neither topic name nor id were specified."),
            refused("You may not specify both topic name and topic id."),
            refused("Duplicate topic name."),
            refused("Duplicate topic id."),
            Ok(ids[2]),
            refused("The provided topic name maps to an ID that was already supplied."),
        ]
    );
    assert_eq!(resolved[7].0.name.as_deref().map(|name| &**name), Some("c"), "an id's answer has the name");
}
