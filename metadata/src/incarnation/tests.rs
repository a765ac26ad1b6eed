use std::sync::Arc;

use bytes::Bytes;
use penstock_types::{
    ObjectId, Offset, PartitionIndex, SeededRandomness, TestClock, TopicId, TopicPartition,
};

use super::*;
use crate::agents::{Agents, Wanted};
use crate::append::{BatchToCommit, ObjectToCommit};
use crate::cluster;
use crate::commit::{Committer, ObjectOutcome};
use crate::fold::BatchEntry;
use crate::ground::AllExist;
use crate::keys::agent::{Agent, Phase, Roles};
use crate::keys::log::BatchFacts;
use crate::keys::topic::{self, Change};
use crate::kv::Priority;
use crate::kv::memory::{MemoryFaults, MemoryStore};
use crate::lookup::{LogReader, PlanLimits};
use crate::producer_ids::ProducerIds;
use crate::sealing::{SealDue, seal_partition};
use crate::topics::changes;
use crate::view::TailView;
use crate::views::Views;

const SECOND: Incarnation = Incarnation::new(2);
const LEASE: Duration = Duration::from_secs(6);

fn keyspace() -> Keyspace {
    Keyspace::new(b"c/")
}

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(0) }
}

fn memory(seed: u64) -> (Arc<MemoryStore>, SharedStore) {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
    let store: SharedStore = memory.clone();
    (memory, store)
}

async fn open(store: &SharedStore) -> Result<ClusterIdentity, OpenError> {
    cluster::open_or_create(store, &keyspace(), &SeededRandomness::new(1), &TestClock::at(5)).await
}

async fn raise_to(store: &SharedStore, to: Incarnation) -> Result<ClusterIdentity, RaiseError> {
    raise(store, &keyspace(), Incarnation::FIRST, to, &DeadAgents::default()).await
}

/// Every row of a store.
async fn dump(store: &SharedStore) -> Vec<(Bytes, Bytes)> {
    let options =
        RangeOptions { target_bytes: usize::MAX, ..RangeOptions::page(100_000, Isolation::Snapshot) };
    let page = store.begin(Priority::Default).range(keyspace().all(), options).await.expect("a page");
    assert!(!page.more);
    page.rows.into_iter().map(|row| (row.key, row.value)).collect()
}

/// Another store with the same rows, at versions that begin anew: a restored backup.
async fn restored(rows: &[(Bytes, Bytes)], seed: u64) -> (Arc<MemoryStore>, SharedStore) {
    let (memory, store) = memory(seed);
    let mut transaction = store.begin(Priority::Default);
    for (key, value) in rows {
        transaction.set(key, value, WriteConflict::Yes);
    }
    transaction.commit().await.expect("a commit");
    (memory, store)
}

/// Commits an object of one batch of `records`; its offset.
async fn commit(
    store: &SharedStore,
    incarnation: Incarnation,
    number: u64,
    records: u32,
) -> Result<Offset, ObjectOutcome> {
    let committer = Committer {
        store: Arc::clone(store),
        keyspace: keyspace(),
        incarnation,
        topics: AllExist,
        producer_expiry: Duration::from_secs(3_600),
        order_rows: Default::default(),
        standing: Default::default(),
    };
    let version = store.begin(Priority::Default).read_version().await.expect("a version");
    let facts =
        BatchFacts { length: 100, records, flags: 0, base_timestamp: 1, max_timestamp: 1, producer: None };
    let batch = BatchToCommit { partition: partition(), position: 0, facts, refused: None };
    let id = ObjectId::new(incarnation, version, number);
    let object = ObjectToCommit { id, size: 100, batches: vec![batch] };
    match committer.attempt(&[object]).await.expect("a commit").remove(0) {
        ObjectOutcome::Committed { row, offsets } => Ok(offsets[&(partition(), row.first_n)]),
        below @ ObjectOutcome::BelowCutoff => Err(below),
    }
}

async fn log_of(store: &SharedStore) -> Vec<BatchEntry> {
    let views = Views::new(Arc::clone(store), keyspace(), 10);
    let view = views.validated(&[partition()]).await.expect("feed").remove(0).expect("view");
    let limits =
        PlanLimits { end: view.read(TailView::high_watermark), max_bytes: u64::MAX, at_least_one: true };
    LogReader::new(Arc::clone(store), keyspace()).plan(&view, Offset::ZERO, limits).await.expect("plan")
}

/// The numbers of the objects, in the log's order, after a look at its offsets: dense, from 0.
async fn objects_of(store: &SharedStore) -> Vec<u64> {
    let mut next = Offset::ZERO;
    let mut numbers = Vec::new();
    for entry in log_of(store).await {
        assert_eq!(entry.base_offset, next);
        next = entry.end_offset();
        let crate::fold::BatchSource::Object { object, .. } = entry.source else { panic!("a marker") };
        let tail = object.as_bytes()[12..].try_into().expect("8 bytes");
        numbers.push(u64::from_be_bytes(tail));
    }
    numbers
}

async fn make_topic(store: &SharedStore) {
    let mut transaction = store.begin(Priority::Default);
    // The seal only asks whether the row is there.
    transaction.set(&topic::row_key(&keyspace(), partition().topic), b"there", WriteConflict::Yes);
    transaction.commit().await.expect("topic");
}

/// Rows of two lives of the metadata fold in the order in which they were written, although the versions of the second
/// are lower.
#[tokio::test(start_paused = true)]
async fn offsets_go_on_in_a_store_whose_versions_went_back() {
    let (before, first) = memory(1);
    before.jump_versions(1 << 40);
    open(&first).await.expect("an identity");
    make_topic(&first).await;
    let slot = Slot::of(partition());
    let mut transaction = first.begin(Priority::Default);
    let value = checkpoint::CheckpointState::default().encode();
    transaction.set(&checkpoint::state_key(&keyspace(), slot), &value, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    for number in 0..5 {
        assert_eq!(commit(&first, Incarnation::FIRST, number, 2).await, Ok(Offset::at(2 * number as i64)));
    }
    let backup = dump(&first).await;
    for sealed in [false, true] {
        let (_, second) = restored(&backup, 2).await;
        // No topic was changed by its stamp: the feeds tell.
        let refused = open(&second).await.expect_err("versions went back");
        let OpenError::WentBack { now, stored, incarnation } = refused else { panic!("{refused}") };
        assert!(now < stored && incarnation == 1);

        raise_to(&second, SECOND).await.expect("raised");
        assert_eq!(open(&second).await.expect("it opens").incarnation, SECOND);
        let left = dump(&second).await;
        let is_left =
            |family: Family| left.iter().any(|(key, _)| keyspace().family_byte(key) == Some(family as u8));
        assert!(!is_left(Family::Feed) && !is_left(Family::Checkpoint) && is_left(Family::Log));
        assert_eq!(objects_of(&second).await, [0, 1, 2, 3, 4]);
        if sealed {
            let due = SealDue { rows: 1_000, age: Duration::from_secs(3_600) };
            let sealed = seal_partition(&second, &keyspace(), partition(), due).await.expect("a seal");
            assert_eq!(sealed.rows, 5, "rows of an earlier life are old");
        }
        for number in 5..8 {
            assert_eq!(
                commit(&second, SECOND, number, 3).await,
                Ok(Offset::at(10 + 3 * (number as i64 - 5)))
            );
            if sealed {
                while seal_partition(&second, &keyspace(), partition(), SealDue::NOW)
                    .await
                    .expect("a seal")
                    .more
                {}
            }
        }
        assert_eq!(objects_of(&second).await, [0, 1, 2, 3, 4, 5, 6, 7]);
        open(&second).await.expect("it opens again");

        // An agent of the older life that wakes up.
        assert_eq!(commit(&second, Incarnation::FIRST, 9, 1).await, Err(ObjectOutcome::BelowCutoff));
        let mut transaction = second.begin(Priority::Default);
        let change = [Change::Configuration];
        let refused = changes::record(&mut *transaction, &keyspace(), Incarnation::FIRST, &change).await;
        assert!(refused.expect_err("an older life").to_string().contains("restart it"));
    }
}

/// A producer that was given its id after the backup was taken goes on with it, knowing nothing of the restore.
#[tokio::test(start_paused = true)]
async fn no_producer_id_is_given_out_again() {
    let ids = |store: &SharedStore, incarnation| {
        let expiry = Duration::from_secs(3_600);
        ProducerIds::new(Arc::clone(store), keyspace(), incarnation, expiry)
    };
    let (_, first) = memory(5);
    open(&first).await.expect("an identity");
    let before = ids(&first, Incarnation::FIRST).next().await.expect("an id");
    let backup = dump(&first).await;
    let since = ids(&first, Incarnation::FIRST).next().await.expect("an id");
    assert!(since > before);
    let (_, second) = restored(&backup, 6).await;
    raise_to(&second, SECOND).await.expect("raised");
    let after = ids(&second, SECOND).next().await.expect("an id");
    assert!(after > since, "{since} was given out since the backup");
}

/// The same restore twice, from a backup taken before the first raise: the third life is above both.
#[tokio::test(start_paused = true)]
async fn lives_may_be_skipped() {
    let (_, store) = memory(3);
    open(&store).await.expect("an identity");
    commit(&store, Incarnation::FIRST, 0, 1).await.expect("committed");
    raise_to(&store, Incarnation::new(7)).await.expect("raised");
    assert_eq!(commit(&store, Incarnation::new(7), 1, 1).await, Ok(Offset::at(1)));
    let refused = raise_to(&store, Incarnation::new(8)).await;
    assert_eq!(refused, Err(RaiseError::Changed { found: 7, expected: 1 }));
    let (_, empty) = memory(4);
    assert_eq!(raise_to(&empty, SECOND).await, Err(RaiseError::NoCluster));
}

#[tokio::test(start_paused = true)]
async fn raising_happens_once_whatever_the_store_does() {
    for seed in 0..20 {
        let (memory, store) = memory(seed);
        open(&store).await.expect("an identity");
        commit(&store, Incarnation::FIRST, 0, 1).await.expect("committed");
        memory.set_faults(MemoryFaults {
            conflict: 0.2,
            unknown_applied: 0.2,
            unknown_not_applied: 0.2,
            unknown_applied_later: 0.2,
            ..MemoryFaults::default()
        });
        raise_to(&store, SECOND).await.expect("raised");
        memory.set_faults(MemoryFaults::default());
        memory.land_parked_commits();
        let once = dump(&store).await;
        assert_eq!(raise_to(&store, SECOND).await.map(|raised| raised.incarnation), Ok(SECOND));
        assert_eq!(dump(&store).await, once, "seed {seed}: a second run changes nothing");
        assert_eq!(commit(&store, SECOND, 1, 1).await, Ok(Offset::at(1)), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_not_ours_is_left_alone() {
    let (_, store) = memory(5);
    let identity = open(&store).await.expect("an identity");
    for (oldest_writer, fine) in [(SCHEMA_VERSION + 1, false), (SCHEMA_VERSION, true)] {
        let later = ClusterIdentity { schema_version: SCHEMA_VERSION + 1, oldest_writer, ..identity.clone() };
        let mut value = crate::keys::cluster::encode_identity(&later);
        if fine {
            value.extend_from_slice(b"more");
        }
        let mut transaction = store.begin(Priority::Default);
        transaction.set(&identity_key(&keyspace()), &value, WriteConflict::Yes);
        transaction.commit().await.expect("a commit");
        let before = dump(&store).await;
        let raised = raise_to(&store, SECOND).await;
        if fine {
            assert_eq!(raised.map(|raised| raised.schema_version), Ok(SCHEMA_VERSION + 1));
            let kept = dump(&store).await.into_iter().any(|(_, value)| value.ends_with(b"more"));
            assert!(kept, "what the later schema added is kept");
        } else {
            assert!(matches!(raised, Err(RaiseError::Schema(_))), "{raised:?}");
            assert_eq!(dump(&store).await, before);
        }
    }
}

fn agents(store: &SharedStore) -> Agents {
    Agents::new(Arc::clone(store), keyspace(), Incarnation::FIRST, Duration::from_secs(10))
}

async fn register(agents: &Agents, session: u64) -> NodeId {
    let listener =
        agent::AdvertisedListener { name: "PLAINTEXT".to_owned(), host: "broker".to_owned(), port: 9_092 };
    let wanted = Wanted {
        node: None,
        agent: Agent {
            name: String::new(),
            zone: String::new(),
            program: "0".to_owned(),
            roles: Roles { clients: true, jobs: true },
            schema: 1,
            http: ("h".to_owned(), 1),
            listeners: vec![listener],
            started_ms: 0,
        },
        lease: LEASE,
    };
    agents.register(session, &wanted, 0, &|_, _| false).await.expect("registered")
}

#[tokio::test(start_paused = true)]
async fn a_running_agent_is_found_and_a_dead_one_waited_for() {
    let (_, store) = memory(6);
    open(&store).await.expect("an identity");
    let began = Instant::now();
    wait_for_dead_agents(&store, &keyspace()).await.expect("there are none");
    assert_eq!(began.elapsed(), Duration::ZERO);

    let agents = agents(&store);
    let node = register(&agents, 1).await;
    let renewing = async {
        for _ in 0..4 {
            pause(LEASE / 3).await;
            drop(agents.renew(node, 1, Phase::Serving, 0).await.expect("renewed"));
        }
    };
    let keys = keyspace();
    let (found, ()) = futures::join!(wait_for_dead_agents(&store, &keys), renewing);
    let runs = RaiseError::AgentRuns { node: node.get(), address: "broker:9092".to_owned() };
    assert_eq!(found, Err(runs.clone()));

    // Killed: nobody renews any more.
    let began = Instant::now();
    let dead = wait_for_dead_agents(&store, &keyspace()).await.expect("it is dead");
    assert!((LEASE..LEASE * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    // Not so dead.
    drop(agents.renew(node, 1, Phase::Serving, 0).await.expect("renewed"));
    let raised = raise(&store, &keyspace(), Incarnation::FIRST, SECOND, &dead).await;
    assert_eq!(raised, Err(runs));

    let dead = wait_for_dead_agents(&store, &keyspace()).await.expect("it is dead");
    // One more starts meanwhile.
    let other = register(&agents, 2).await;
    let raised = raise(&store, &keyspace(), Incarnation::FIRST, SECOND, &dead).await;
    assert!(matches!(raised, Err(RaiseError::AgentRuns { node, .. }) if node == other.get()), "{raised:?}");
    assert_eq!(open(&store).await.expect("an identity").incarnation, Incarnation::FIRST);

    let dead = agents_of_an_exclusive_store(&store, &keyspace()).await.expect("a look");
    raise(&store, &keyspace(), Incarnation::FIRST, SECOND, &dead).await.expect("raised");
    assert!(agents.look().await.expect("a look").rows.is_empty());
    let lost = agents.renew(node, 1, Phase::Serving, 0).await.err();
    assert_eq!(lost, Some(crate::agents::RenewError::Lost), "an agent that wakes up has no lease");
}
