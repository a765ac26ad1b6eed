use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use penstock_config::broker::BrokerConfig;
use penstock_types::{
    Incarnation, Offset, PartitionIndex, ProducerEpoch, ProducerId, SeededRandomness, Sequence, TestClock,
    TopicId, TopicPartition, Versionstamp,
};
use proptest::prelude::*;

use super::*;
use crate::append::{BatchToCommit, ObjectToCommit};
use crate::cluster::open_or_create;
use crate::commit::Committer;
use crate::ground::AllExist;
use crate::keys::agent::{Agent, AgentRow, NameRow, Phase, Roles};
use crate::keys::checkpoint::CheckpointState;
use crate::keys::cluster::{Cutoff, cutoff_key, encode_cutoff};
use crate::keys::counters::Stripe;
use crate::keys::feed::Slot;
use crate::keys::group::{
    CHUNK_BYTES, CoordinatorEpoch, GroupHeader, GroupRow, StoredMember, group_key, member_key,
};
use crate::keys::group_offset::{CommittedOffset, offset_key};
use crate::keys::log::{BatchFacts, BatchProducer};
use crate::keys::{
    aborted, agent, broker_config, checkpoint, counters, feed, index, log_start, order, seal, topic,
};
use crate::kv::memory::MemoryStore;
use crate::kv::{Priority, WriteConflict};
use crate::producer_ids::ProducerIds;
use crate::sealing::{SealDue, seal_partition};
use crate::topics::{NewTopic, Request, Terms, TopicAdmin};

#[derive(Debug, Default)]
struct Gathered {
    found: Vec<Inspected>,
    rows: usize,
}

impl Sink for Gathered {
    fn put(&mut self, found: Inspected) -> Result<(), Stopped> {
        self.found.push(found);
        Ok(())
    }
    fn read(&mut self, rows: usize) {
        self.rows += rows;
    }
}

impl Gathered {
    fn of(&self, kind: &str) -> Vec<&Facts> {
        let of_kind = |found: &'_ Inspected| matches!(found, Inspected::Row { kind: is, .. } if *is == kind);
        self.found
            .iter()
            .filter(|found| of_kind(found))
            .map(|found| match found {
                Inspected::Row { facts, .. } => facts,
                Inspected::Corrupt { .. } => unreachable!("it is a row"),
            })
            .collect()
    }

    fn corrupt(&self) -> Vec<String> {
        let told = self.found.iter().filter_map(|found| match found {
            Inspected::Corrupt { kind, reason, .. } => Some(format!("{kind}: {reason}")),
            Inspected::Row { .. } => None,
        });
        told.collect()
    }
}

fn number(facts: &Facts, name: &str) -> i64 {
    match facts.get(name) {
        Some(Fact::Signed(value)) => *value,
        Some(Fact::Unsigned(value)) => *value as i64,
        other => panic!("{name} is {other:?} in {facts:?}"),
    }
}

fn text<'a>(facts: &'a Facts, name: &str) -> &'a str {
    match facts.get(name) {
        Some(Fact::Text(value)) => value,
        other => panic!("{name} is {other:?} in {facts:?}"),
    }
}

fn list<'a>(facts: &'a Facts, name: &str) -> &'a [Facts] {
    match facts.get(name) {
        Some(Fact::List(values)) => values,
        other => panic!("{name} is {other:?} in {facts:?}"),
    }
}

/// A cluster with a row of every family but aborted transactions, which nothing writes yet.
struct World {
    store: SharedStore,
    keyspace: Keyspace,
    topic: TopicId,
}

impl World {
    async fn new() -> Self {
        let randomness = Arc::new(SeededRandomness::new(1));
        let store: SharedStore = MemoryStore::new(randomness.clone());
        let keyspace = Keyspace::new(b"c/");
        let clock = Arc::new(TestClock::at(1_000));
        open_or_create(&store, &keyspace, &*randomness, &*clock).await.expect("an identity");
        let admin = TopicAdmin::new(
            Arc::clone(&store),
            keyspace.clone(),
            Incarnation::FIRST,
            clock,
            Arc::clone(&randomness) as _,
        );
        let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
        let mut plans = Vec::new();
        for name in ["orders", "gone"] {
            let mut wanted = NewTopic {
                name: name.to_owned(),
                partitions: 2,
                replication_factor: 1,
                ..NewTopic::default()
            };
            wanted.configs.push(("retention.ms".to_owned(), Some("77".to_owned())));
            let broker = BrokerConfig::default();
            let planned = admin.plan_topic(&wanted, Terms { broker: &broker, brokers: &[1] });
            plans.push(planned.expect("a good topic"));
        }
        let made = admin.create_topics(plans, request).await;
        let ids: Vec<TopicId> = made.into_iter().map(|made| made.expect("a free name").id).collect();
        for deleted in admin.delete_topics(&[ids[1]], request).await {
            deleted.expect("deleted");
        }
        let ids_of = ProducerIds::new(
            Arc::clone(&store),
            keyspace.clone(),
            Incarnation::FIRST,
            Duration::from_secs(60),
        );
        ids_of.next().await.expect("a producer id");
        let world = Self { store, keyspace, topic: ids[0] };
        world.others().await;
        world
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: PartitionIndex::new(0) }
    }

    async fn set(&self, rows: &[(Vec<u8>, Vec<u8>)]) {
        let mut transaction = self.store.begin(Priority::Default);
        for (key, value) in rows {
            transaction.set(key, value, WriteConflict::Yes);
        }
        transaction.commit().await.expect("a commit");
    }

    /// Rows that the tests write as they would be written.
    async fn others(&self) {
        let keyspace = &self.keyspace;
        let slot = Slot::of(self.partition());
        let member = StoredMember {
            instance_id: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 2,
            protocols: vec![("range".to_owned(), Bytes::from(vec![7; CHUNK_BYTES]))],
            assignment: Bytes::from_static(b"\x00"),
        };
        let blob = member.encode();
        let (one, two) = blob.split_at(CHUNK_BYTES);
        let group = GroupRow {
            coordinator_epoch: CoordinatorEpoch { version: penstock_types::StoreVersion::new(3), nonce: 4 },
            revision: 5,
            header: GroupHeader::new(6),
        };
        let offset = CommittedOffset {
            offset: 41,
            leader_epoch: -1,
            topic_id: self.topic,
            committed_at_ms: 2,
            expires_at_ms: None,
            metadata: "m".to_owned(),
        };
        let seen = (Incarnation::FIRST, penstock_types::StoreVersion::new(9));
        let broker =
            broker_config::encode_row(Incarnation::FIRST, &[("a".to_owned(), "b".to_owned())].into());
        self.set(&[
            (cutoff_key(keyspace), encode_cutoff(Cutoff::ZERO)),
            (broker_config::row_key(keyspace, broker_config::BrokerScope::Broker(3)), broker.value),
            (log_start::key(keyspace, self.partition()), 1u64.to_le_bytes().to_vec()),
            (checkpoint::seals_key(keyspace, slot), 7i64.to_le_bytes().to_vec()),
            (checkpoint::state_key(keyspace, slot), CheckpointState::default().encode()),
            (group_key(keyspace, "readers"), group.encode()),
            (member_key(keyspace, "readers", "m1", 0), one.to_vec()),
            (member_key(keyspace, "readers", "m1", 1), two.to_vec()),
            (offset_key(keyspace, "readers", "orders", PartitionIndex::new(1)), offset.encode()),
            (
                agent::name_key(keyspace, "a1"),
                NameRow { node: penstock_types::NodeId::new(1), seen_at: seen }.encode(),
            ),
            (agent::agent_key(keyspace, penstock_types::NodeId::new(1)), agent_row(seen).encode()),
        ])
        .await;
        let mut transaction = self.store.begin(Priority::Default);
        agent::bump_membership(&mut *transaction, keyspace);
        transaction.commit().await.expect("a commit");
    }

    /// Commits objects of one batch of two records each.
    async fn commit(&self, objects: std::ops::Range<u64>) {
        let committer = Committer {
            store: Arc::clone(&self.store),
            keyspace: self.keyspace.clone(),
            incarnation: Incarnation::FIRST,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3_600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        for number in objects {
            let producer = BatchProducer {
                id: ProducerId::new(5),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new(2 * number as i32),
            };
            let facts = BatchFacts {
                length: 100,
                records: 2,
                flags: 0,
                base_timestamp: 1,
                max_timestamp: 2,
                producer: Some(producer),
            };
            let batch = BatchToCommit { partition: self.partition(), position: 0, facts, refused: None };
            let object = ObjectToCommit { id: object_id(number), size: 100, batches: vec![batch] };
            committer.attempt(&[object]).await.expect("a commit");
        }
    }

    async fn seal(&self) {
        while seal_partition(&self.store, &self.keyspace, self.partition(), SealDue::NOW)
            .await
            .expect("a seal")
            .more
        {}
    }

    fn inspector(&self, limit: usize) -> Inspector {
        Inspector::new(Arc::clone(&self.store), self.keyspace.clone(), limit)
    }

    async fn topic(&self, limit: usize) -> Gathered {
        let mut sink = Gathered::default();
        self.inspector(limit).topic("orders", None, &mut sink).await.expect("the topic");
        sink
    }

    async fn dump(&self) -> Vec<Row> {
        let options =
            RangeOptions { target_bytes: usize::MAX, ..RangeOptions::page(9_999, Isolation::Snapshot) };
        let range = Vec::new()..vec![0xFF];
        self.store.begin(Priority::Default).range(range, options).await.expect("a page").rows
    }
}

fn agent_row(seen: (Incarnation, penstock_types::StoreVersion)) -> AgentRow {
    AgentRow {
        session: 1,
        renewals: 2,
        renewed_at: seen,
        lease_ms: 6_000,
        phase: Phase::Serving,
        clock_ms: 3,
        agent: Agent {
            name: "a1".to_owned(),
            zone: "z".to_owned(),
            program: "0.1.0".to_owned(),
            roles: Roles { clients: true, jobs: false },
            schema: 1,
            http: ("h".to_owned(), 9_644),
            listeners: vec![agent::AdvertisedListener {
                name: "PLAINTEXT".to_owned(),
                host: "h".to_owned(),
                port: 9_092,
            }],
            started_ms: 4,
        },
    }
}

fn object_id(number: u64) -> ObjectId {
    ObjectId::new(Incarnation::FIRST, penstock_types::StoreVersion::new(1), number)
}

#[tokio::test(start_paused = true)]
async fn every_family_is_read_and_nothing_is_written() {
    let world = World::new().await;
    world.commit(0..3).await;
    world.seal().await;
    world.commit(3..5).await;
    let before = world.dump().await;
    let (mut rows, mut cluster) = (Gathered::default(), Gathered::default());
    world.inspector(1).rows(None, &mut rows).await.expect("all rows");
    world.inspector(1).cluster(&mut cluster).await.expect("the cluster");
    for sink in [&mut rows, &mut cluster] {
        world.inspector(1).agents(sink).await.expect("agents");
        world.inspector(1).producers(None, sink).await.expect("producers");
        world.inspector(1).group("readers", sink).await.expect("the group");
        world.inspector(1).object(object_id(1), sink).await.expect("the object");
        assert_eq!(sink.corrupt(), Vec::<String>::new());
    }
    let kinds: BTreeSet<&str> = rows
        .found
        .iter()
        .map(|found| match found {
            Inspected::Row { kind, .. } | Inspected::Corrupt { kind, .. } => *kind,
        })
        .collect();
    let expected = [
        "agent",
        "agent's name",
        "broker configuration",
        "checkpoint",
        "cluster identity",
        "committed offset",
        "counters",
        "cutoff",
        "deleted topic",
        "feed",
        "group",
        "group member",
        "log row",
        "log start offset",
        "membership",
        "merge queue",
        "metadata version",
        "next producer id",
        "object",
        "order row",
        "packed index",
        "producer ids",
        "producer state",
        "seal",
        "seals of a slot",
        "topic",
        "topic change",
        "topic changes written",
        "topic name",
    ];
    assert_eq!(kinds, expected.into());
    assert_eq!(world.dump().await, before, "the store is as it was");

    // Counts are of all rows.
    let counted: i64 = cluster.of("family").iter().map(|facts| number(facts, "rows")).sum();
    assert_eq!(counted, before.len() as i64);
    let bytes: i64 = cluster
        .of("family")
        .iter()
        .map(|facts| number(facts, "key bytes") + number(facts, "value bytes"))
        .sum();
    assert_eq!(bytes, before.iter().map(|row| (row.key.len() + row.value.len()) as i64).sum::<i64>());
    assert_eq!(cluster.of("store")[0].get("went back"), Some(&Fact::Flag(false)));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_told_with_its_offsets() {
    let world = World::new().await;
    world.commit(0..3).await;
    world.seal().await;
    world.commit(3..8).await;
    let told = world.topic(3).await;
    assert_eq!(told.corrupt(), Vec::<String>::new());
    let topic = told.of("topic")[0];
    assert_eq!((text(topic, "name"), number(topic, "partitions")), ("orders", 2));
    let Some(Fact::Map(configs)) = topic.get("configs") else { panic!("{topic:?}") };
    assert_eq!(text(configs, "retention.ms"), "77");
    let partitions = told.of("partition");
    assert_eq!(partitions.len(), 2);
    let first = partitions[0];
    let numbers = ["log start offset", "sealed offset", "counter", "slot"].map(|name| number(first, name));
    assert_eq!(numbers, [1, 6, 16, i64::from(Slot::of(world.partition()).get())]);
    let offsets: Vec<i64> = told.of("log row").iter().map(|facts| number(facts, "offset")).collect();
    assert_eq!(offsets, [6, 8, 10], "the tail begins at the seal, and three rows were asked for");
    assert_eq!(number(told.of("more")[0], "told"), 3);
    let packed = told.of("packed index")[0];
    assert_eq!((number(packed, "base offset"), number(packed, "last offset")), (0, 5));
    assert_eq!(list(packed, "entries").len(), 3);
    let producer = told.of("producer state")[0];
    assert_eq!(number(producer, "producer id"), 5);
    assert_eq!(number(list(producer, "batches").last().expect("a batch"), "last sequence"), 15);
    assert!(world.topic(5).await.of("more").is_empty(), "five rows are all");

    let mut sink = Gathered::default();
    let only = Some(PartitionIndex::new(1));
    world.inspector(3).topic("orders", only, &mut sink).await.expect("the topic");
    assert_eq!(number(sink.of("partition")[0], "partition"), 1);
    for (name, partition) in [("gone", None), ("nothing", None), ("orders", Some(PartitionIndex::new(2)))] {
        let missing = world.inspector(3).topic(name, partition, &mut sink).await;
        assert!(matches!(missing, Err(InspectError::NotFound { .. })), "{name}: {missing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_told_with_members_of_many_chunks() {
    let world = World::new().await;
    let mut told = Gathered::default();
    world.inspector(1).group("readers", &mut told).await.expect("the group");
    assert_eq!(told.corrupt(), Vec::<String>::new());
    assert_eq!(text(told.of("group")[0], "state"), "Empty");
    let member = told.of("group member")[0];
    assert_eq!((text(member, "member"), number(member, "chunks")), ("m1", 2));
    assert_eq!(number(&list(member, "protocols")[0], "bytes"), CHUNK_BYTES as i64);
    let offset = told.of("committed offset")[0];
    assert_eq!(
        (text(offset, "topic"), number(offset, "partition"), number(offset, "offset")),
        ("orders", 1, 41)
    );
    let missing = world.inspector(1).group("reader", &mut told).await;
    assert!(matches!(missing, Err(InspectError::NotFound { .. })), "{missing:?}");

    // A chunk is lost.
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&member_key(&world.keyspace, "readers", "m1", 0), WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    let mut told = Gathered::default();
    world.inspector(1).group("readers", &mut told).await.expect("the rest");
    assert_eq!(told.corrupt().len(), 1);
    assert_eq!(told.of("committed offset").len(), 1, "the reading goes on");
}

#[tokio::test(start_paused = true)]
async fn what_is_corrupt_is_told_and_the_rest_too() {
    let world = World::new().await;
    world.commit(0..4).await;
    let rows = world.dump().await;
    let log_rows: Vec<Vec<u8>> = rows
        .iter()
        .filter(|row| world.keyspace.family_byte(&row.key) == Some(Family::Log as u8))
        .map(|row| row.key.to_vec())
        .collect();
    world.set(&[(log_rows[1].clone(), b"\xEErubbish".to_vec())]).await;
    let told = world.topic(20).await;
    assert_eq!(told.corrupt(), ["log row: unknown format"]);
    assert_eq!(told.of("log row").len(), 3);
    assert_eq!(told.of("log row")[2].get("offset"), None, "behind it offsets aren't known");
    let Some(Inspected::Corrupt { key, value, .. }) = told.found.iter().find(|found| found.is_corrupt())
    else {
        panic!("it is told")
    };
    assert_eq!((&**key, &**value), (&*log_rows[1], &b"\xEErubbish"[..]));

    // A row is lost, and the counter remembers.
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&log_rows[1], WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    assert_eq!(world.topic(20).await.corrupt(), ["counters: the fold ends at 6, the counter says 8"]);

    let unknown = [&b"c/"[..], &[0x60]].concat();
    world.set(&[(seal::key(&world.keyspace, world.partition()), b"\x01".to_vec()), (unknown, vec![])]).await;
    let mut told = Gathered::default();
    world.inspector(1).cluster(&mut told).await.expect("the cluster");
    assert_eq!(told.corrupt(), ["seal: ends early", "row: of a family that this program doesn't know"]);
    assert_eq!(text(told.of("family").last().expect("a family"), "name"), "unknown");
    assert!(!world.topic(20).await.corrupt().is_empty());
}

/// More rows than a page.
#[tokio::test(start_paused = true)]
async fn long_ranges_are_read_to_their_end() {
    let world = World::new().await;
    let value = object::ObjectRow {
        state: object::ObjectState::Tombstone,
        stamp: penstock_types::Versionstamp::ZERO,
        incarnation: Incarnation::FIRST,
        first_n: 0,
        size: 1,
        batches: 1,
        verdicts: Vec::new(),
        level: 0,
    };
    let rows: Vec<_> =
        (0..5_000).map(|n| (object::key(&world.keyspace, object_id(n)), value.encode())).collect();
    world.set(&rows).await;
    let mut told = Gathered::default();
    world.inspector(1).rows(Some(Family::Object), &mut told).await.expect("all");
    assert_eq!((told.of("object").len(), told.rows), (5_000, 5_000));
}

#[test]
fn offsets_and_logs_of_other_names_stay_out() {
    // The key of one thing never lies in the range of another: groups and topics with a common beginning.
    let keyspace = Keyspace::new(b"");
    let key = offset_key(&keyspace, "readers", "orders", PartitionIndex::new(0));
    assert!(!crate::keys::group_offset::group_offsets(&keyspace, "reader").contains(&key));
    assert!(keyspace.all().contains(&key));
    assert!(!Keyspace::new(b"b").all().contains(&topic::name_key(&Keyspace::new(b"c"), "t")));
    let partition = TopicPartition { topic: TopicId::NIL, partition: PartitionIndex::new(1) };
    assert!(Keyspace::new(b"b").all().contains(&index::key(&Keyspace::new(b"b"), partition, Offset::ZERO)));
}

proptest! {
    #[test]
    fn garbage_never_panics(family in 0u8..0x60, key: Vec<u8>, value: Vec<u8>) {
        let keyspace = Keyspace::new(b"c");
        let row = Row { key: [b"c", &[family][..], &key].concat().into(), value: value.into() };
        let _ = describe(&keyspace, &row);
    }

    /// Keys that are right, with values that are not.
    #[test]
    fn garbage_under_good_keys_never_panics(value: Vec<u8>) {
        let keyspace = Keyspace::new(b"");
        let partition = TopicPartition { topic: TopicId::NIL, partition: PartitionIndex::new(0) };
        for key in [
            seal::key(&keyspace, partition),
            index::key(&keyspace, partition, Offset::ZERO),
            counters::key(&keyspace, Stripe::of(partition)),
            order::key(&keyspace, Incarnation::FIRST, Versionstamp::ZERO, 0),
            log_start::key(&keyspace, partition),
            aborted::key(&keyspace, partition, Offset::ZERO),
            feed::key(&keyspace, Slot::of(partition)),
            group_key(&keyspace, "g"),
            member_key(&keyspace, "g", "m", 0),
            offset_key(&keyspace, "g", "t", PartitionIndex::new(0)),
            agent::membership_key(&keyspace),
            agent::name_key(&keyspace, "n"),
        ] {
            let _ = describe(&keyspace, &Row { key: key.into(), value: value.clone().into() });
        }
    }
}
