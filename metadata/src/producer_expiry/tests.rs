use std::sync::Arc;

use penstock_types::{
    ObjectId, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness, Sequence, TopicId,
    TopicPartition, pause,
};

use super::*;
use crate::append::{BatchToCommit, ObjectToCommit};
use crate::commit::{Committer, ObjectOutcome};
use crate::ground::AllExist;
use crate::keys::log::{BatchFacts, BatchProducer};
use crate::keys::object::{Fate, Refusal};
use crate::keys::producer;
use crate::kv::memory::{MemoryFaults, MemoryStore};
use crate::producer_ids::ProducerIds;

const HOUR: Duration = Duration::from_secs(3_600);

struct World {
    memory: Arc<MemoryStore>,
    store: SharedStore,
    keyspace: Keyspace,
    committer: Committer<AllExist>,
    ids: ProducerIds,
    randomness: SeededRandomness,
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(index) }
}

impl World {
    fn new(seed: u64) -> Self {
        let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
        let store: SharedStore = memory.clone();
        let keyspace = Keyspace::new(b"expiry");
        let committer = Committer {
            store: Arc::clone(&store),
            keyspace: keyspace.clone(),
            incarnation: Incarnation::FIRST,
            topics: AllExist,
            producer_expiry: HOUR,
            order_rows: Default::default(),
            standing: Default::default(),
        };
        let ids = ProducerIds::new(Arc::clone(&store), keyspace.clone(), Incarnation::FIRST, HOUR);
        Self { memory, store, keyspace, committer, ids, randomness: SeededRandomness::new(seed) }
    }

    /// Appends one record; what became of it.
    async fn append(&self, producer: ProducerId, sequence: i32) -> Fate {
        let producer = BatchProducer {
            id: producer,
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        };
        let facts = BatchFacts {
            length: 70,
            records: 1,
            flags: 0,
            base_timestamp: 1,
            max_timestamp: 1,
            producer: Some(producer),
        };
        let batch = BatchToCommit { partition: partition(0), position: 0, facts, refused: None };
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), self.randomness.next_u64());
        let object = ObjectToCommit { id, size: 70, batches: vec![batch] };
        loop {
            match self.committer.attempt(std::slice::from_ref(&object)).await {
                Ok(outcomes) => match &outcomes[0] {
                    ObjectOutcome::Committed { row, .. } => return row.fate(0),
                    ObjectOutcome::BelowCutoff => panic!("nothing moves the cutoff"),
                },
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    pause(Duration::from_millis(2)).await;
                }
            }
        }
    }

    async fn expire(&self, after: Duration, since: u64) -> Step {
        let expiry = Expiry { incarnation: Incarnation::FIRST, after, since: StoreVersion::new(since) };
        let (mut walk, mut all) = (Walk::default(), Step::default());
        loop {
            match walk.step(&self.store, &self.keyspace, expiry).await {
                Ok(Some(step)) => {
                    all.seen += step.seen;
                    all.removed += step.removed;
                }
                Ok(None) => return all,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    pause(Duration::from_millis(1)).await;
                }
            }
        }
    }

    async fn has_state(&self, producer: ProducerId) -> bool {
        let key = producer::key(&self.keyspace, partition(0), producer);
        let mut transaction = self.store.begin(Priority::Default);
        transaction.get(&key, Isolation::Snapshot).await.expect("no faults now").is_some()
    }
}

fn is_appended(fate: &Fate) -> bool {
    matches!(fate, Fate::Appended(_))
}

#[tokio::test(start_paused = true)]
async fn idle_producers_are_forgotten_and_may_return_at_any_sequence() {
    let world = World::new(1);
    let (idle, busy) = (world.ids.next().await.expect("id"), world.ids.next().await.expect("id"));
    for sequence in 0..3 {
        assert!(is_appended(&world.append(idle, sequence).await));
    }
    assert!(is_appended(&world.append(busy, 0).await));
    pause(Duration::from_secs(3_000)).await;
    assert!(is_appended(&world.append(busy, 1).await));
    assert_eq!(world.expire(HOUR, 0).await, Step { seen: 2, removed: 0 });
    pause(Duration::from_secs(900)).await;
    assert_eq!(world.expire(HOUR, 0).await, Step { seen: 2, removed: 1 });
    assert!(!world.has_state(idle).await && world.has_state(busy).await);

    // The one that is remembered is held to its sequence, the one that is forgotten is not.
    assert!(matches!(world.append(busy, 1).await, Fate::Duplicate(_)));
    assert!(matches!(world.append(busy, 9).await, Fate::Refused(Refusal::OutOfOrderSequence)));
    assert!(is_appended(&world.append(idle, 7).await));
    assert!(matches!(world.append(idle, 7).await, Fate::Duplicate(_)));
    // A producer that was never here and is younger than the expiry begins at 0.
    let young = world.ids.next().await.expect("id");
    assert!(matches!(world.append(young, 7).await, Fate::Refused(Refusal::OutOfOrderSequence)));
    assert!(is_appended(&world.append(young, 0).await));
}

#[tokio::test(start_paused = true)]
async fn states_of_an_earlier_incarnation_count_from_the_jobs_beginning() {
    let world = World::new(2);
    let id = world.ids.next().await.expect("id");
    world.append(id, 0).await;
    pause(2 * HOUR).await;
    let version = world.store.begin(Priority::Default).read_version().await.expect("version");
    let later = |since| Expiry { incarnation: Incarnation::new(2), after: HOUR, since };
    let step = Walk::default().step(&world.store, &world.keyspace, later(version)).await.expect("a step");
    assert_eq!(step, Some(Step { seen: 1, removed: 0 }), "its version says nothing here");
    pause(2 * HOUR).await;
    let step = Walk::default().step(&world.store, &world.keyspace, later(version)).await.expect("a step");
    assert_eq!(step, Some(Step { seen: 1, removed: 1 }));
}

#[tokio::test(start_paused = true)]
async fn many_states_go_page_by_page() {
    let world = World::new(3);
    let ids = 2 * PAGE as i64 + 10;
    for chunk in (0..ids).collect::<Vec<_>>().chunks(500) {
        let mut transaction = world.store.begin(Priority::Default);
        for id in chunk {
            let state = producer::ProducerState { epoch: ProducerEpoch::new(0), batches: Vec::new() };
            let key = producer::key(&world.keyspace, partition((id % 3) as i32), ProducerId::new(*id));
            let value = state.encode(Incarnation::FIRST);
            transaction.set_stamped_value(&key, &value, producer::STAMP_AT, WriteConflict::Yes);
        }
        transaction.commit().await.expect("states");
    }
    pause(2 * HOUR).await;
    let all = ids as u64;
    assert_eq!(world.expire(HOUR, 0).await, Step { seen: all, removed: all });
    assert_eq!(world.expire(HOUR, 0).await, Step::default());
}

/// Appends and removals at the same time, under faults: a state that an append wrote just now is there, and no batch
/// that its producer repeats is appended twice.
#[tokio::test(start_paused = true)]
async fn an_append_and_a_removal_never_both_win() {
    for seed in 0..30 {
        let world = World::new(seed);
        let id = world.ids.next().await.expect("id");
        // Old enough to be forgotten from the first removal on.
        pause(2 * HOUR).await;
        world.memory.set_faults(MemoryFaults {
            conflict: 0.05,
            unknown_applied: 0.1,
            unknown_not_applied: 0.1,
            unknown_applied_later: 0.1,
            applied_later_after: Duration::ZERO..Duration::from_millis(40),
            latency: Some(Duration::ZERO..Duration::from_millis(3)),
            ..MemoryFaults::default()
        });
        for sequence in 0..20 {
            let after = Duration::from_secs(1);
            let (fate, _) = tokio::join!(world.append(id, sequence), world.expire(after, 0));
            assert!(is_appended(&fate), "seed {seed}: {fate:?}");
            let repeated = world.append(id, sequence).await;
            assert!(matches!(repeated, Fate::Duplicate(_)), "seed {seed}: {repeated:?}");
            pause(Duration::from_secs(world.randomness.below(3))).await;
        }
        world.memory.set_faults(MemoryFaults::default());
        world.memory.land_parked_commits();
        assert!(world.has_state(id).await, "seed {seed}");
    }
}
