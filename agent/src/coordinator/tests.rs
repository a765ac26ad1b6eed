//! The coordinator over the memory store: what survives it, what fences it, what it keeps in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use penstock_config::GroupOptions;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::topic::row_key;
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_metadata::kv::{Priority, Store, StoreError, WriteConflict};
use penstock_types::{PartitionIndex, Randomness, SeededRandomness, TestClock, TopicId, pause};
use uuid::Uuid;

use super::classic::{JoinAnswer, JoinCall, LeaveCall, State, SyncCall};
use super::*;

const MINUTE_MS: i64 = 60_000;

#[derive(Debug)]
struct Topics;

#[async_trait]
impl TopicLookup for Topics {
    fn topic(&self, name: &str) -> Option<TopicFacts> {
        (name == "t" || name == "u").then(|| TopicFacts { id: topic_id(name), partitions: 4 })
    }
    async fn refresh(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn topic_id(name: &str) -> TopicId {
    TopicId::from_bytes([name.as_bytes()[0]; 16])
}

#[derive(Clone)]
struct World {
    memory: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    randomness: Arc<SeededRandomness>,
    options: GroupOptions,
    ownership: Arc<Mine>,
}

/// Whether groups are this agent's.
#[derive(Debug)]
struct Mine(AtomicBool, AtomicU64);

impl Ownership for Mine {
    fn is_mine(&self, _group: &str) -> bool {
        self.0.load(Ordering::SeqCst)
    }
    fn term(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }
}

impl World {
    async fn new() -> Self {
        let randomness = Arc::new(SeededRandomness::new(11));
        let memory = MemoryStore::new(Arc::clone(&randomness) as Arc<dyn Randomness>);
        let mut txn = memory.begin(Priority::Default);
        for name in ["t", "u"] {
            txn.set(&row_key(&Keyspace::new(b"c"), topic_id(name)), b"row", WriteConflict::Yes);
        }
        txn.commit().await.expect("topics");
        let options = GroupOptions { initial_rebalance_delay: Duration::ZERO, ..GroupOptions::default() };
        let ownership = Arc::new(Mine(AtomicBool::new(true), AtomicU64::new(0)));
        Self { memory, clock: Arc::new(TestClock::at(1_000_000)), randomness, options, ownership }
    }

    fn coordinator(&self) -> Arc<GroupCoordinator> {
        GroupCoordinator::new(GroupCoordinatorParts {
            store: Arc::clone(&self.memory) as Arc<dyn Store>,
            keyspace: Keyspace::new(b"c"),
            clock: Arc::clone(&self.clock) as Arc<dyn penstock_types::Clock>,
            randomness: Arc::clone(&self.randomness) as Arc<dyn Randomness>,
            options: self.options.clone(),
            topics: Arc::new(Topics),
            ownership: Arc::clone(&self.ownership) as _,
        })
    }
}

fn subscription(topic: u8) -> Bytes {
    Bytes::from(vec![0, 0, 0, 0, 0, 1, 0, 1, topic])
}

fn join_call(member_id: &str) -> JoinCall {
    JoinCall {
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(b't'))],
        requires_known_member_id: false,
        supports_skipping_assignment: true,
        fresh_id: Uuid::from_u128(5),
    }
}

fn sync_call(member_id: &str, generation: i32) -> SyncCall {
    SyncCall {
        generation,
        member_id: member_id.to_owned(),
        instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(member_id.to_owned(), Bytes::from_static(b"mine"))],
    }
}

fn commit_call(member_id: &str, generation: i32, topic: &str, partition: i32, offset: i64) -> CommitCall {
    let entry = CommitEntry {
        topic: topic.to_owned(),
        topic_id: topic_id(topic),
        partition: PartitionIndex::new(partition),
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    };
    CommitCall {
        generation,
        member_id: member_id.to_owned(),
        instance_id: None,
        knows_missing_groups: true,
        retention_ms: None,
        entries: vec![entry],
    }
}

/// One member of group `g`, stable; its id and generation.
async fn stable(coordinator: &GroupCoordinator) -> (String, i32) {
    let JoinAnswer { error, member_id, generation, .. } = coordinator.join("g", join_call("")).await;
    assert_eq!(error, None);
    let synced = coordinator.sync("g", sync_call(&member_id, generation)).await;
    assert_eq!((synced.error, &*synced.assignment), (None, &b"mine"[..]));
    (member_id, generation)
}

async fn offset(coordinator: &GroupCoordinator, topic: &str, partition: i32) -> Option<i64> {
    let stored = coordinator.fetch_offsets("g", None).await.expect("offsets");
    stored.get(topic)?.get(&PartitionIndex::new(partition)).map(|stored| stored.offset)
}

#[tokio::test(start_paused = true)]
async fn a_restart_costs_members_no_rebalance() {
    let world = World::new().await;
    let first = world.coordinator();
    let (id, generation) = stable(&first).await;
    first.commit_offsets("g", commit_call(&id, generation, "t", 0, 42)).await.expect("commit");
    let before = first.describe("g").await.expect("described");
    first.shutdown().await;
    assert_eq!(
        first.heartbeat("g", generation, id.clone(), None).await,
        Err(Refusal::CoordinatorNotAvailable)
    );
    let second = world.coordinator();
    assert_eq!(second.describe("g").await.expect("described"), before);
    assert_eq!(second.heartbeat("g", generation, id.clone(), None).await, Ok(()));
    assert_eq!(second.describe("g").await.expect("described"), before);
    let synced = second.sync("g", sync_call(&id, generation)).await;
    assert_eq!((synced.error, &*synced.assignment), (None, &b"mine"[..]));
    assert_eq!(second.commit_offsets("g", commit_call(&id, generation, "t", 0, 43)).await, Ok(vec![Ok(())]));
    assert_eq!(offset(&second, "t", 0).await, Some(43));
    // It has a full session from the restart on, and no more.
    pause(Duration::from_secs(11)).await;
    assert_eq!(second.heartbeat("g", generation, id, None).await, Err(Refusal::UnknownMemberId));
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn members_that_died_with_the_coordinator_are_missed_by_the_next_one() {
    let world = World::new().await;
    let first = world.coordinator();
    stable(&first).await;
    first.shutdown().await;
    let second = world.coordinator();
    let state = async || second.list().await.expect("listed").pop().expect("a group").state;
    assert_eq!(state().await, State::Stable);
    // Nobody asks for the group; its member's session ends all the same.
    pause(Duration::from_secs(11)).await;
    assert_eq!(state().await, State::Empty);
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_coordinators_the_later_one_wins() {
    let world = World::new().await;
    let first = world.coordinator();
    let (id, generation) = stable(&first).await;
    // A new member waits at the first one, which no longer has the group.
    let waiting = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.join("g", JoinCall { fresh_id: Uuid::from_u128(6), ..join_call("") }).await }
    });
    tokio::task::yield_now().await;
    let second = world.coordinator();
    assert_eq!(second.heartbeat("g", generation, id.clone(), None).await, Ok(()));
    let zombie = first.commit_offsets("g", commit_call(&id, generation, "t", 0, 1)).await;
    assert_eq!(zombie, Err(Refusal::NotCoordinator));
    assert_eq!(waiting.await.expect("a join").error, Some(Refusal::NotCoordinator));
    assert_eq!(second.commit_offsets("g", commit_call(&id, generation, "t", 0, 2)).await, Ok(vec![Ok(())]));
    assert_eq!(offset(&first, "t", 0).await, Some(2), "anybody reads what is stored");
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn commits_keep_their_order_whatever_the_store_does() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let (id, generation) = stable(&coordinator).await;
    world.memory.set_faults(MemoryFaults {
        conflict: 0.2,
        unknown_applied: 0.2,
        unknown_not_applied: 0.2,
        unknown_applied_later: 0.2,
        latency: Some(Duration::ZERO..Duration::from_millis(5)),
        ..MemoryFaults::default()
    });
    for round in 0..20 {
        let calls = (0..20).map(|number| {
            let call = commit_call(&id, generation, "t", 1, round * 20 + number);
            coordinator.commit_offsets("g", call)
        });
        let answers = futures::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| *answer == Ok(vec![Ok(())])), "{answers:?}");
        assert_eq!(offset(&coordinator, "t", 1).await, Some(round * 20 + 19));
    }
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_generation_that_is_over_is_refused_by_the_store() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let (id, generation) = stable(&coordinator).await;
    // The leader joins again: the next generation begins at once, and is stored.
    let again = coordinator.join("g", join_call(&id)).await;
    assert_eq!((again.error, again.generation), (None, generation + 1));
    let late = coordinator.commit_offsets("g", commit_call(&id, generation, "t", 0, 1)).await;
    assert_eq!(late, Err(Refusal::IllegalGeneration));
    let early = coordinator.commit_offsets("g", commit_call(&id, generation + 1, "t", 0, 1)).await;
    assert_eq!(early, Err(Refusal::RebalanceInProgress));
    let simple = coordinator.commit_offsets("g", commit_call("", -1, "t", 0, 1)).await;
    assert_eq!(simple, Err(Refusal::UnknownMemberId));
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_never_used_has_no_offsets_and_is_not_made_by_looking() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let partition = PartitionIndex::new(0);
    assert_eq!(coordinator.fetch_offsets("g", None).await, Ok(BTreeMap::new()));
    assert_eq!(coordinator.fetch_offsets("g", Some(&[("t", partition)])).await, Ok(BTreeMap::new()));
    assert_eq!(coordinator.describe("g").await, Err(Refusal::GroupIdNotFound));
    assert_eq!(coordinator.heartbeat("g", 1, "m".to_owned(), None).await, Err(Refusal::UnknownMemberId));
    assert_eq!(coordinator.sync("g", sync_call("m", 1)).await.error, Some(Refusal::UnknownMemberId));
    let leave = LeaveCall { member_id: "m".to_owned(), instance_id: None };
    assert_eq!(coordinator.leave("g", vec![leave]).await, Ok(vec![Err(Refusal::UnknownMemberId)]));
    assert_eq!(coordinator.delete("g").await, Err(Refusal::GroupIdNotFound));
    let none = BTreeMap::from([("t".to_owned(), BTreeSet::from([partition]))]);
    assert_eq!(coordinator.delete_offsets("g", none).await, Err(Refusal::GroupIdNotFound));
    let call = |knows_missing_groups| CommitCall { knows_missing_groups, ..commit_call("m", 3, "t", 0, 1) };
    assert_eq!(coordinator.commit_offsets("g", call(true)).await, Err(Refusal::GroupIdNotFound));
    assert_eq!(coordinator.commit_offsets("g", call(false)).await, Err(Refusal::IllegalGeneration));
    assert_eq!(coordinator.list().await, Ok(Vec::new()));
    assert_eq!(coordinator.join("", join_call("")).await.error, Some(Refusal::InvalidGroupId));
    assert_eq!(
        coordinator.join(&"g".repeat(2_000), join_call("")).await.error,
        Some(Refusal::InvalidGroupId)
    );
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_and_groups_are_deleted_on_demand() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let (id, generation) = stable(&coordinator).await;
    for topic in ["t", "u"] {
        coordinator.commit_offsets("g", commit_call(&id, generation, topic, 0, 9)).await.expect("commit");
    }
    let both = |names: &[&str]| {
        let partitions = BTreeSet::from([PartitionIndex::new(0), PartitionIndex::new(1)]);
        names.iter().map(|name| ((*name).to_owned(), partitions.clone())).collect::<BTreeMap<_, _>>()
    };
    let deletion = coordinator.delete_offsets("g", both(&["t", "u"])).await.expect("deletion");
    assert_eq!(deletion.subscribed, BTreeSet::from(["t".to_owned()]));
    assert_eq!((offset(&coordinator, "t", 0).await, offset(&coordinator, "u", 0).await), (Some(9), None));
    assert_eq!(coordinator.delete("g").await, Err(Refusal::NonEmptyGroup));
    let leave = LeaveCall { member_id: id, instance_id: None };
    assert_eq!(coordinator.leave("g", vec![leave]).await, Ok(vec![Ok(())]));
    let listed = coordinator.list().await.expect("listed");
    let empty =
        ListedGroup { group: "g".to_owned(), protocol_type: "consumer".to_owned(), state: State::Empty };
    assert_eq!(listed, [empty]);
    assert_eq!(coordinator.delete("g").await, Ok(()));
    assert_eq!(coordinator.delete("g").await, Err(Refusal::GroupIdNotFound));
    assert_eq!(offset(&coordinator, "t", 0).await, None);
    let (_, generation) = stable(&coordinator).await;
    assert_eq!(generation, 1, "a new group");
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn unused_offsets_expire_and_empty_groups_with_them() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let retention_ms = 7 * 24 * 60 * MINUTE_MS;
    coordinator.commit_offsets("simple", commit_call("", -1, "t", 0, 1)).await.expect("commit");
    let dated = CommitCall { retention_ms: Some(MINUTE_MS), ..commit_call("", -1, "t", 0, 1) };
    coordinator.commit_offsets("dated", dated).await.expect("commit");
    let (id, generation) = stable(&coordinator).await;
    for topic in ["t", "u"] {
        coordinator.commit_offsets("g", commit_call(&id, generation, topic, 0, 9)).await.expect("commit");
    }
    let names = async || {
        let listed = coordinator.list().await.expect("listed");
        listed.into_iter().map(|listed| listed.group).collect::<Vec<_>>()
    };
    let start = coordinator.now_ms();
    coordinator.expire_once(start + MINUTE_MS - 1).await.expect("search");
    assert_eq!(names().await, ["dated", "g", "simple"]);
    coordinator.expire_once(start + MINUTE_MS).await.expect("search");
    assert_eq!(names().await, ["g", "simple"]);
    coordinator.expire_once(start + retention_ms).await.expect("search");
    assert_eq!(names().await, ["g"]);
    assert_eq!((offset(&coordinator, "t", 0).await, offset(&coordinator, "u", 0).await), (Some(9), None));
    // The last member leaves: the clock of its group starts.
    world.clock.advance_ms(retention_ms);
    let leave = LeaveCall { member_id: id, instance_id: None };
    coordinator.leave("g", vec![leave]).await.expect("leave").pop().expect("one").expect("left");
    coordinator.expire_once(start + 2 * retention_ms - 1).await.expect("search");
    assert_eq!(offset(&coordinator, "t", 0).await, Some(9));
    coordinator.shutdown().await;
    // Nobody has it loaded now.
    let next = world.coordinator();
    next.expire_once(start + 2 * retention_ms).await.expect("search");
    assert_eq!(next.list().await, Ok(Vec::new()));
    next.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_job_looks_by_itself() {
    let mut world = World::new().await;
    world.options.offsets_retention_check_interval = Duration::from_secs(60);
    let coordinator = world.coordinator();
    coordinator.commit_offsets("simple", commit_call("", -1, "t", 0, 1)).await.expect("commit");
    world.clock.advance_ms(8 * 24 * 60 * MINUTE_MS);
    while !coordinator.list().await.expect("listed").is_empty() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_members_stay_and_nothing_is_promised() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    let (id, generation) = stable(&coordinator).await;
    world.memory.set_faults(MemoryFaults { unavailable: 1.0, ..MemoryFaults::default() });
    assert_eq!(coordinator.heartbeat("g", generation, id.clone(), None).await, Ok(()));
    let commit = coordinator.commit_offsets("g", commit_call(&id, generation, "t", 0, 1)).await;
    assert_eq!(commit, Err(Refusal::CoordinatorNotAvailable));
    assert_eq!(coordinator.fetch_offsets("g", None).await, Err(Refusal::CoordinatorNotAvailable));
    assert_eq!(coordinator.join("h", join_call("")).await.error, Some(Refusal::CoordinatorNotAvailable));
    // A rebalance can't be stored, so nobody is told of it.
    let again = coordinator.join("g", join_call(&id)).await;
    assert_eq!(again.error, Some(Refusal::CoordinatorNotAvailable));
    world.memory.set_faults(MemoryFaults::default());
    assert_eq!(
        coordinator.heartbeat("g", generation, id.clone(), None).await,
        Ok(()),
        "the generation stands"
    );
    assert_eq!(offset(&coordinator, "t", 0).await, None);
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_everybody() {
    let mut world = World::new().await;
    world.options.initial_rebalance_delay = Duration::from_secs(3);
    let coordinator = world.coordinator();
    let waiting = tokio::spawn({
        let coordinator = Arc::clone(&coordinator);
        async move { coordinator.join("g", join_call("")).await }
    });
    while !coordinator.is_loaded("g") {
        tokio::task::yield_now().await;
    }
    coordinator.shutdown().await;
    assert_eq!(waiting.await.expect("a join").error, Some(Refusal::NotCoordinator));
    assert_eq!(coordinator.join("g", join_call("")).await.error, Some(Refusal::CoordinatorNotAvailable));
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_leaves_memory_and_comes_back() {
    let world = World::new().await;
    let coordinator = world.coordinator();
    coordinator.commit_offsets("g", commit_call("", -1, "t", 0, 1)).await.expect("commit");
    assert!(coordinator.is_loaded("g"));
    tokio::time::advance(Duration::from_secs(31)).await;
    while coordinator.is_loaded("g") {
        tokio::task::yield_now().await;
    }
    assert_eq!(coordinator.commit_offsets("g", commit_call("", -1, "t", 0, 2)).await, Ok(vec![Ok(())]));
    assert_eq!(offset(&coordinator, "t", 0).await, Some(2));
    coordinator.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_moves_goes_on_at_its_new_coordinator() {
    let world = World::new().await;
    let first = world.coordinator();
    let (id, generation) = stable(&first).await;
    let other =
        World { ownership: Arc::new(Mine(AtomicBool::new(false), AtomicU64::new(0))), ..world.clone() };
    let second = other.coordinator();
    let beats = async |at: &GroupCoordinator| at.heartbeat("g", generation, id.clone(), None).await;
    assert_eq!(beats(&second).await, Err(Refusal::NotCoordinator));
    assert_eq!(second.list().await, Ok(Vec::new()), "an agent lists its own groups");
    // A call waits at the first one when the group moves.
    let waiting = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.join("g", JoinCall { fresh_id: Uuid::from_u128(6), ..join_call("") }).await }
    });
    pause(Duration::from_millis(10)).await;
    world.ownership.0.store(false, Ordering::SeqCst);
    other.ownership.0.store(true, Ordering::SeqCst);
    first.let_go();
    assert_eq!(waiting.await.expect("answered").error, Some(Refusal::NotCoordinator));
    assert_eq!(beats(&first).await, Err(Refusal::NotCoordinator));
    assert_eq!(
        first.commit_offsets("g", commit_call(&id, generation, "t", 0, 1)).await,
        Err(Refusal::NotCoordinator)
    );
    assert_eq!(beats(&second).await, Ok(()), "without a rebalance");
    assert_eq!(second.commit_offsets("g", commit_call(&id, generation, "t", 0, 2)).await, Ok(vec![Ok(())]));
    assert_eq!(offset(&first, "t", 0).await, Some(2), "offsets are read from the store, anywhere");
    // And back: what the first one had in memory is void.
    other.ownership.0.store(false, Ordering::SeqCst);
    world.ownership.0.store(true, Ordering::SeqCst);
    assert_eq!(beats(&first).await, Ok(()));
    assert_eq!(first.commit_offsets("g", commit_call(&id, generation, "t", 0, 3)).await, Ok(vec![Ok(())]));
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nobodys_session_ends() {
    let world = World::new().await;
    let first = world.coordinator();
    let (id, generation) = stable(&first).await;
    // Its members can't be heard for longer than their session is.
    world.ownership.0.store(false, Ordering::SeqCst);
    pause(Duration::from_secs(60)).await;
    world.ownership.0.store(true, Ordering::SeqCst);
    assert_eq!(first.heartbeat("g", generation, id.clone(), None).await, Ok(()));
    pause(Duration::from_secs(11)).await;
    assert_eq!(first.heartbeat("g", generation, id, None).await, Err(Refusal::UnknownMemberId));
    first.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ended_and_came_back_unnoticed_voids_what_is_in_memory() {
    let world = World::new().await;
    let first = world.coordinator();
    let (id, generation) = stable(&first).await;
    let beats = async |at: &GroupCoordinator| at.heartbeat("g", generation, id.clone(), None).await;
    assert_eq!(beats(&first).await, Ok(()));
    // Paused past its lease: another agent took the group, its only member left, and the group came back.
    let second =
        World { ownership: Arc::new(Mine(AtomicBool::new(true), AtomicU64::new(0))), ..world.clone() };
    let second = second.coordinator();
    let leaving = vec![LeaveCall { member_id: id.clone(), instance_id: None }];
    second.leave("g", leaving).await.expect("left");
    second.shutdown().await;
    assert_eq!(beats(&first).await, Ok(()), "in the same term it goes by what it has in memory");
    world.ownership.1.store(1, Ordering::SeqCst);
    assert_eq!(beats(&first).await, Err(Refusal::NotCoordinator), "the stale task ends");
    assert_eq!(beats(&first).await, Err(Refusal::UnknownMemberId), "and the next one knows");
    first.shutdown().await;
}
