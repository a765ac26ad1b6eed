use std::collections::BTreeSet;
use std::time::Duration;

use penstock_config::topic::TopicConfig;

use super::*;
use crate::topics::Operation;
use crate::topics::testing::{CHANGE, CHECK, World, admin, layer};

fn set(name: &str, value: &str) -> Alteration {
    Alteration::Increment(vec![(name.to_owned(), Operation::Set(value.to_owned()))])
}

fn append(name: &str, items: &str) -> Alteration {
    Alteration::Increment(vec![(name.to_owned(), Operation::Append(items.to_owned()))])
}

fn delete(name: &str) -> Alteration {
    Alteration::Increment(vec![(name.to_owned(), Operation::Delete)])
}

async fn alter(world: &World, id: TopicId, alteration: Alteration) -> Result<(), AlterTopicError> {
    world.admin.alter_topics(&[(id, alteration)], &BrokerConfig::default(), CHANGE).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_topics_options_change() {
    let world = World::new(1);
    let id = world.make(&["a"]).await[0];
    let catalog = world.catalog().await;
    let plain = catalog.version();
    let none =
        world.admin.alter_topics(&[(id, set("retention.ms", "5"))], &BrokerConfig::default(), CHECK).await;
    assert_eq!(none, [Ok(())]);
    catalog.refresh().await.expect("a store");
    assert_eq!(catalog.version(), plain);

    alter(&world, id, set("retention.ms", " 5 ")).await.expect("a good value");
    alter(&world, id, append("cleanup.policy", "compact")).await.expect("a list");
    catalog.refresh().await.expect("a store");
    let topic = catalog.by_id(id).expect("made");
    assert_eq!(*topic.overrides, layer(&[("cleanup.policy", "delete,compact"), ("retention.ms", " 5 ")]));
    assert_eq!(topic.config.retention, Some(Duration::from_millis(5)));
    assert!(topic.config.cleanup_policy.compact && topic.config.cleanup_policy.delete);
    assert_eq!(topic.created, plain);

    let changed = catalog.version();
    alter(&world, id, set("retention.ms", " 5 ")).await.expect("no change");
    catalog.refresh().await.expect("a store");
    assert_eq!(catalog.version(), changed);

    alter(&world, id, Alteration::Replace(layer(&[("flush.ms", "9")]))).await.expect("good values");
    catalog.refresh().await.expect("a store");
    assert_eq!(*catalog.by_id(id).expect("made").overrides, layer(&[("flush.ms", "9")]));
    assert_eq!(*catalog.by_id(id).expect("made").config, TopicConfig::default());
}

#[tokio::test(start_paused = true)]
async fn wrong_options_change_nothing() {
    let world = World::new(2);
    let id = world.make(&["a"]).await[0];
    let unknown = TopicId::from_bytes([3; 16]);
    let before = world.catalog().await.version();
    for (alteration, message) in [
        (set("nope", "1"), "Unknown topic config name: nope"),
        (append("nope", "1"), "Can't APPEND to key nope because its type is not LIST."),
        (
            set("retention.ms", "abc"),
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (
            append("cleanup.policy", "compact,foo"),
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            set("remote.storage.enable", "true"),
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
          storage.",
        ),
        (
            Alteration::Replace(layer(&[("min.compaction.lag.ms", "50"), ("max.compaction.lag.ms", "5")])),
            "conflict topic config setting min.compaction.lag.ms (50) > max.compaction.lag.ms (5)",
        ),
    ] {
        let refused = alter(&world, id, alteration.clone()).await.expect_err(message);
        assert_eq!(refused.to_string(), message);
        // What no topic could have is refused as such, whether the topic is there or not.
        assert_eq!(check_alteration(&alteration, &BrokerConfig::default()), Err(refused.clone()));
        assert_eq!(alter(&world, unknown, alteration).await, Err(refused));
    }
    for possible in [set("retention.ms", "1"), append("cleanup.policy", "compact"), delete("nope")] {
        assert_eq!(check_alteration(&possible, &BrokerConfig::default()), Ok(()));
        let refused = alter(&world, unknown, possible).await;
        assert_eq!(refused, Err(AlterTopicError::NotFound { id: unknown }));
    }
    assert_eq!(world.catalog().await.version(), before);
}

#[tokio::test(start_paused = true)]
async fn dynamic_configuration_is_what_topics_inherit() {
    let world = World::new(3);
    let ids = world.make(&["plain", "own"]).await;
    alter(&world, ids[1], set("max.message.bytes", "7")).await.expect("a good value");
    let catalog = world.catalog().await;
    let broker = catalog.broker();
    let change = async |scope, alteration: Alteration| {
        world.admin.alter_broker(scope, &alteration, &broker, CHANGE).await
    };
    change(BrokerScope::ClusterDefault, set("message.max.bytes", "3000000")).await.expect("a good value");
    change(BrokerScope::Broker(1), set("log.retention.ms", "-5")).await.expect("a good value");
    change(BrokerScope::Broker(2), set("message.max.bytes", "1")).await.expect("a good value");
    catalog.refresh().await.expect("a store");
    let config = |id| catalog.by_id(id).expect("made").config.clone();
    assert_eq!(config(ids[0]).max_message_bytes, 3_000_000);
    assert_eq!(config(ids[0]).retention, None);
    assert_eq!(config(ids[1]).max_message_bytes, 7);
    assert_eq!(catalog.by_name("plain").expect("made").config.max_message_bytes, 3_000_000);
    assert_eq!(catalog.dynamic().len(), 3);

    // A catalog opened anew reads the same.
    let fresh = world.catalog().await;
    assert_eq!(fresh.broker(), catalog.broker());
    assert_eq!(fresh.all(), catalog.all());

    let delete = Alteration::Increment(vec![("message.max.bytes".to_owned(), Operation::Delete)]);
    change(BrokerScope::ClusterDefault, delete).await.expect("anything can be deleted");
    change(BrokerScope::Broker(1), Alteration::Replace(Layer::new())).await.expect("nothing is fine");
    catalog.refresh().await.expect("a store");
    assert_eq!(*catalog.by_id(ids[0]).expect("made").config, TopicConfig::default());
    assert_eq!(catalog.dynamic().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn brokers_refuse_what_they_cannot_honour() {
    let world = World::new(4);
    let broker = BrokerConfig::default();
    for (alteration, message) in [
        (set("num.partitions", "3"), "Cannot update these configs dynamically: Set(num.partitions)"),
        (set("my.own", "3"), "Unknown broker config name: my.own"),
        (
            set("message.max.bytes", "abc"),
            "Invalid value abc for configuration message.max.bytes: Not a number of type INT",
        ),
        (
            append("message.max.bytes", "1"),
            "Can't APPEND to key message.max.bytes because its type is not LIST.",
        ),
    ] {
        let refused =
            world.admin.alter_broker(BrokerScope::ClusterDefault, &alteration, &broker, CHANGE).await;
        assert_eq!(refused.expect_err(message).to_string(), message);
    }
    let delete = Alteration::Increment(vec![("num.partitions".to_owned(), Operation::Delete)]);
    let done = world.admin.alter_broker(BrokerScope::Broker(1), &delete, &broker, CHANGE).await;
    assert_eq!(done, Ok(()));
}

#[test]
fn no_increment_is_lost_whatever_the_store_does() {
    const NAME: &str = "leader.replication.throttled.replicas";
    for seed in 0..12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new(seed);
            let other = admin(&world.store, &world.keyspace, seed + 1_000);
            let id = world.make(&["a"]).await[0];
            let broker = BrokerConfig::default();
            world.trouble();
            let work = async |admin: &TopicAdmin, from: u32| {
                for number in from..from + 10 {
                    let item = [(id, append(NAME, &format!("{number}:1")))];
                    assert_eq!(admin.alter_topics(&item, &broker, CHANGE).await, [Ok(())], "seed {seed}");
                }
            };
            futures::join!(work(&world.admin, 0), work(&other, 100));
            world.calm();
            let topic = world.catalog().await.by_id(id).expect("made");
            let items: BTreeSet<&str> = topic.overrides[NAME].split(',').collect();
            assert_eq!(items.len(), 20, "seed {seed}: {items:?}");
        });
    }
}
