//! The log under faults: several agents commit to the same partitions over a store that conflicts, loses outcomes and
//! applies commits late, while a sealer folds and readers look. Then the log is held against what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::{Committer, ObjectOutcome};
use penstock_metadata::fold::{BatchEntry, LogEntry};
use penstock_metadata::ground::AllExist;
use penstock_metadata::keys::log::{BatchFacts, BatchProducer};
use penstock_metadata::keys::object::{Fate, Refusal};
use penstock_metadata::keys::{Keyspace, topic};
use penstock_metadata::kv::memory::{MemoryFaults, MemoryStore};
use penstock_metadata::kv::{Outcome, Priority, SharedStore, WriteConflict};
use penstock_metadata::lookup::{LogReader, PlanLimits};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_metadata::view::TailView;
use penstock_metadata::views::Views;
use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Randomness, SeededRandomness,
    Sequence, StoreVersion, TopicId, TopicPartition, pause,
};

#[cfg(feature = "foundationdb")]
#[path = "support/fdbserver.rs"]
mod fdbserver;

const PARTITIONS: u64 = 3;

fn log() -> Keyspace {
    Keyspace::new(b"log")
}

fn partition(index: u64) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([7; 16]), partition: PartitionIndex::new(index as i32) }
}

/// What a test knows of a batch by its bytes' place: no two batches share object and position.
type Place = (ObjectId, u64);

#[derive(Debug, Default)]
struct Acknowledged {
    /// Batches that were appended, with the offset that was told, if one was.
    appended: BTreeMap<Place, (TopicPartition, Option<Offset>, BatchFacts)>,
    /// Batches that were refused or duplicates: they must not be in the log.
    absent: BTreeSet<Place>,
}

/// An idempotent producer that sends one batch at a time, sometimes twice.
struct Producer {
    id: i64,
    next: BTreeMap<TopicPartition, i32>,
}

struct Agent {
    committer: Committer<AllExist>,
    randomness: Arc<SeededRandomness>,
    producer: Producer,
    known: Acknowledged,
    duplicates: u64,
}

impl Agent {
    fn new(store: &SharedStore, keyspace: &Keyspace, seed: u64) -> Self {
        let committer = Committer {
            store: Arc::clone(store),
            keyspace: keyspace.clone(),
            incarnation: Incarnation::FIRST,
            topics: AllExist,
            producer_expiry: Duration::from_secs(3600),
            order_rows: Default::default(),
            standing: Default::default(),
        };
        let producer = Producer { id: seed as i64, next: BTreeMap::new() };
        let randomness = Arc::new(SeededRandomness::new(seed));
        Self { committer, randomness, producer, known: Acknowledged::default(), duplicates: 0 }
    }

    fn facts(&self, records: u32, producer: Option<BatchProducer>) -> BatchFacts {
        let timestamp = self.randomness.below(1_000) as i64;
        let length = 61 + records * 10;
        BatchFacts {
            length,
            records,
            flags: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer,
        }
    }

    /// An object with a few batches, of this agent's producer and of nobody.
    fn object(&mut self) -> ObjectToCommit {
        let mut batches = Vec::new();
        // Objects without idempotent batches are committed without reading first.
        let some_idempotent = self.randomness.below(2) == 0;
        for index in 0..PARTITIONS {
            for _ in 0..self.randomness.below(4) {
                let records = 1 + self.randomness.below(5) as u32;
                let producer = (some_idempotent && self.randomness.below(2) == 0).then(|| {
                    let next = self.producer.next.entry(partition(index)).or_insert(0);
                    let base_sequence = Sequence::new(*next);
                    *next += records as i32;
                    BatchProducer {
                        id: ProducerId::new(self.producer.id),
                        epoch: ProducerEpoch::new(0),
                        base_sequence,
                    }
                });
                batches.push((partition(index), self.facts(records, producer)));
                // A retry that arrived twice.
                if producer.is_some() && self.randomness.below(5) == 0 {
                    batches.push(batches[batches.len() - 1]);
                }
            }
        }
        let mut position = 0;
        let batches = batches
            .into_iter()
            .map(|(partition, facts)| {
                let batch = BatchToCommit { partition, position, facts, refused: None };
                position += u64::from(facts.length);
                batch
            })
            .collect();
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), self.randomness.next_u64());
        ObjectToCommit { id, size: position, batches }
    }

    /// Commits as the write path does: until it is settled.
    async fn commit(&mut self, objects: &[ObjectToCommit]) {
        let mut attempts = 0;
        let outcomes = loop {
            attempts += 1;
            assert!(attempts < 10_000, "a commit is never settled");
            let attempt = match attempts {
                1 => self.committer.first_attempt(objects).await,
                _ => self.committer.attempt(objects).await,
            };
            match attempt {
                Ok(outcomes) => break outcomes,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    let unknown = error.outcome() == Outcome::MayHaveHappened;
                    pause(Duration::from_millis(if unknown { 5 } else { 1 })).await;
                }
            }
        };
        for (object, outcome) in objects.iter().zip(outcomes) {
            let ObjectOutcome::Committed { row, offsets } = outcome else {
                panic!("nothing moves the cutoff")
            };
            let mut running = None;
            for (index, batch) in object.batches.iter().enumerate() {
                let place = (object.id, batch.position);
                match row.fate(index as u32) {
                    Fate::Appended(at) => {
                        let offset = offsets.get(&(batch.partition, at.n)).copied().or_else(|| {
                            running.filter(|(of, _)| *of == batch.partition).map(|(_, offset)| offset)
                        });
                        running = offset.map(|offset: Offset| {
                            (batch.partition, offset.plus(i64::from(batch.facts.records)))
                        });
                        self.known.appended.insert(place, (batch.partition, offset, batch.facts));
                    }
                    Fate::Duplicate(_) => {
                        self.duplicates += 1;
                        self.known.absent.insert(place);
                    }
                    Fate::Refused(refusal) => panic!("{refusal:?}: the producer sends in order"),
                }
            }
        }
    }
}

async fn read_all(store: &SharedStore, keyspace: &Keyspace, of: TopicPartition) -> Vec<BatchEntry> {
    let views = Views::new(Arc::clone(store), keyspace.clone(), 10);
    let view = views.validated(&[of]).await.expect("feed").remove(0).expect("view");
    let end = view.read(TailView::high_watermark);
    let limits = PlanLimits { end, max_bytes: u64::MAX, at_least_one: true };
    LogReader::new(Arc::clone(store), keyspace.clone()).plan(&view, Offset::ZERO, limits).await.expect("plan")
}

async fn make_topic(store: &SharedStore, keyspace: &Keyspace) {
    let mut transaction = store.begin(Priority::Default);
    // The seal only asks whether the row is there.
    transaction.set(&topic::row_key(keyspace, partition(0).topic), b"there", WriteConflict::Yes);
    transaction.commit().await.expect("topic");
}

fn faults() -> MemoryFaults {
    MemoryFaults {
        conflict: 0.05,
        unknown_applied: 0.08,
        unknown_not_applied: 0.05,
        unknown_applied_later: 0.08,
        applied_later_after: Duration::ZERO..Duration::from_millis(50),
        too_old: 0.02,
        future_version: 0.02,
        unavailable: 0.02,
        latency: Some(Duration::ZERO..Duration::from_millis(3)),
        ..MemoryFaults::default()
    }
}

/// Runs one history on the memory store and its faults; gives the number of batches in the log and of duplicates that
/// were told.
async fn history(seed: u64) -> (usize, u64) {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(seed)));
    let store: SharedStore = memory.clone();
    let keyspace = log();
    make_topic(&store, &keyspace).await;
    memory.set_faults(faults());
    let (known, duplicates) = write(&store, &keyspace, seed).await;
    memory.set_faults(MemoryFaults::default());
    memory.land_parked_commits();
    (check_all(&store, &keyspace, &known, seed).await, duplicates)
}

/// Three agents, a sealer and a reader at the same time; gives what was acknowledged, and how many duplicates.
async fn write(store: &SharedStore, keyspace: &Keyspace, seed: u64) -> (Acknowledged, u64) {
    let agents = (1..=3).map(|agent| {
        let (store, keyspace) = (Arc::clone(store), keyspace.clone());
        tokio::spawn(async move {
            let mut agent = Agent::new(&store, &keyspace, seed * 10 + agent);
            for _ in 0..12 {
                let group: Vec<_> = (0..=agent.randomness.below(2)).map(|_| agent.object()).collect();
                agent.commit(&group).await;
            }
            (agent.known, agent.duplicates)
        })
    });
    let agents: Vec<_> = agents.collect();
    let sealer = tokio::spawn({
        let (store, keyspace) = (Arc::clone(store), keyspace.clone());
        async move {
            for round in 0..40 {
                pause(Duration::from_millis(7)).await;
                let _ = seal_partition(&store, &keyspace, partition(round % PARTITIONS), SealDue::NOW).await;
            }
        }
    });
    let reader = tokio::spawn(watch_ends(Arc::clone(store), keyspace.clone()));
    let mut known = Acknowledged::default();
    let mut duplicates = 0;
    for agent in agents {
        let (of_agent, told) = agent.await.expect("agent");
        known.appended.extend(of_agent.appended);
        known.absent.extend(of_agent.absent);
        duplicates += told;
    }
    sealer.await.expect("sealer");
    reader.await.expect("reader");
    (known, duplicates)
}

/// Holds the log against what was acknowledged; gives the number of batches.
async fn check_all(store: &SharedStore, keyspace: &Keyspace, known: &Acknowledged, seed: u64) -> usize {
    let mut found = 0;
    for index in 0..PARTITIONS {
        let batches = read_all(store, keyspace, partition(index)).await;
        found += batches.len();
        check(partition(index), &batches, known);
    }
    assert_eq!(found, known.appended.len(), "seed {seed}: batches in the log and batches acknowledged");
    found
}

/// A reader beside the writers: what it has seen never changes, and ends never go back.
async fn watch_ends(store: SharedStore, keyspace: Keyspace) {
    let views = Views::new(Arc::clone(&store), keyspace, 10);
    let mut seen: BTreeMap<TopicPartition, BTreeMap<Offset, BatchEntry>> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let all: Vec<_> = (0..PARTITIONS).map(partition).collect();
    for _ in 0..60 {
        pause(Duration::from_millis(4)).await;
        let Ok(validated) = views.validated(&all).await else { continue };
        for view in validated.into_iter().flatten() {
            let seen = seen.entry(view.partition).or_default();
            let end = view.read(|tail| {
                for batch in tail.entries.iter().flat_map(LogEntry::batches) {
                    let before = seen.insert(batch.base_offset, batch);
                    assert!(before.is_none_or(|before| before == batch), "an offset changed its record");
                }
                tail.high_watermark()
            });
            let last = ends.insert(view.partition, end);
            assert!(last.is_none_or(|last| last <= end), "the end went back");
        }
    }
}

fn check(of: TopicPartition, batches: &[BatchEntry], known: &Acknowledged) {
    let mut end = Offset::ZERO;
    let mut sequences: BTreeMap<ProducerId, Sequence> = BTreeMap::new();
    for batch in batches {
        assert_eq!(batch.base_offset, end, "offsets are dense");
        end = batch.end_offset();
        let penstock_metadata::fold::BatchSource::Object { object, position } = batch.source else {
            panic!("there are no transactions here")
        };
        let place = (object, position);
        assert!(!known.absent.contains(&place), "a duplicate is in the log");
        let (partition, offset, facts) =
            known.appended.get(&place).expect("nothing unacknowledged is in the log");
        assert_eq!((*partition, *facts), (of, batch.facts));
        assert!(
            offset.is_none_or(|offset| offset == batch.base_offset),
            "the producer was told another offset"
        );
        if let Some(producer) = batch.facts.producer {
            let next = sequences.entry(producer.id).or_insert(Sequence::new(0));
            assert_eq!(
                producer.base_sequence, *next,
                "a producer's batches are in order, none missing, none twice"
            );
            *next = next.plus(batch.facts.records as i32);
        }
    }
}

#[test]
fn acknowledged_batches_are_in_the_log_once_and_in_order() {
    let (mut batches, mut duplicates) = (0, 0);
    for seed in 0..40 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        let (found, told) = runtime.block_on(history(seed));
        batches += found;
        duplicates += told;
    }
    println!("{batches} batches, {duplicates} duplicates");
    assert!(batches > 1_000 && duplicates > 50, "the histories are not empty");
}

/// The same on a real FoundationDB, whose server is killed and started again, or stands still, all the while.
#[cfg(feature = "foundationdb")]
#[test]
fn acknowledged_batches_are_in_the_log_of_a_foundationdb_that_fails() {
    let mut server = match fdbserver::FdbServer::start("ssd") {
        Ok(server) => server,
        Err(reason) => return println!("skipped: foundationdb, histories of the log: {reason}"),
    };
    fdbserver::runtime().block_on(async {
        let store: SharedStore = server.store_with_timeout(Duration::from_secs(1));
        let (mut batches, mut duplicates) = (0, 0);
        for seed in 0..12 {
            fdbserver::answers(&*store).await;
            let keyspace = Keyspace::new(format!("log {seed}/").as_bytes());
            make_topic(&store, &keyspace).await;
            let writing = tokio::spawn({
                let (store, keyspace) = (Arc::clone(&store), keyspace.clone());
                async move { write(&store, &keyspace, seed).await }
            });
            // In the first histories nothing fails.
            for round in 0..(seed / 4) {
                pause(Duration::from_millis(60 + 7 * seed)).await;
                if (seed + round).is_multiple_of(2) {
                    server.kill();
                    server.restart();
                } else {
                    server.suspend();
                    pause(Duration::from_millis(1_500)).await;
                    server.resume();
                }
            }
            let (known, told) = writing.await.expect("a history");
            fdbserver::answers(&*store).await;
            batches += check_all(&store, &keyspace, &known, seed).await;
            duplicates += told;
        }
        println!("{batches} batches, {duplicates} duplicates");
        assert!(batches > 300 && duplicates > 15, "the histories are not empty");
    });
}

/// A duplicate is found wherever its first copy stands: in the tail, in the index, or appended by the same commit.
#[tokio::test(start_paused = true)]
async fn duplicates_are_found_above_and_below_the_seal() {
    let memory = MemoryStore::new(Arc::new(SeededRandomness::new(1)));
    let store: SharedStore = memory.clone();
    make_topic(&store, &log()).await;
    let keyspace = log();
    let mut agent = Agent::new(&store, &log(), 5);
    let of = partition(0);
    let mut objects = Vec::new();
    for sequence in 0..4 {
        let producer = BatchProducer {
            id: ProducerId::new(5),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        };
        let facts = agent.facts(1, Some(producer));
        let batch = BatchToCommit { partition: of, position: 0, facts, refused: None };
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), agent.randomness.next_u64());
        objects.push(ObjectToCommit { id, size: 100, batches: vec![batch] });
        agent.commit(std::slice::from_ref(objects.last().expect("one"))).await;
        if sequence == 1 {
            seal_partition(&store, &keyspace, of, SealDue::NOW).await.expect("seal");
        }
    }
    let views = Views::new(Arc::clone(&store), keyspace.clone(), 10);
    let reader = LogReader::new(Arc::clone(&store), keyspace);
    for (offset, object) in objects.iter().enumerate() {
        let again = ObjectToCommit {
            id: ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), agent.randomness.next_u64()),
            ..object.clone()
        };
        let outcomes = agent.committer.attempt(std::slice::from_ref(&again)).await.expect("commit");
        let ObjectOutcome::Committed { row, .. } = &outcomes[0] else { panic!("committed") };
        let Fate::Duplicate(at) = row.fate(0) else { panic!("{:?}", row.fate(0)) };
        let view = views.validated(&[of]).await.expect("feed").remove(0).expect("view");
        let found = reader.offset_of(&view, at).await.expect("lookup");
        assert_eq!(found, Some(Offset::at(offset as i64)));
    }
}

/// A gap in a producer's sequence is refused, and refusing moves nothing.
#[tokio::test(start_paused = true)]
async fn a_gap_is_refused_and_leaves_no_trace() {
    let store: SharedStore = MemoryStore::new(Arc::new(SeededRandomness::new(2)));
    let agent = Agent::new(&store, &log(), 5);
    let batch = |sequence, position| {
        let producer = BatchProducer {
            id: ProducerId::new(5),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(sequence),
        };
        BatchToCommit {
            partition: partition(0),
            position,
            facts: agent.facts(1, Some(producer)),
            refused: None,
        }
    };
    let object = |random, batches| ObjectToCommit {
        id: ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), random),
        size: 200,
        batches,
    };
    let fates = async |object: ObjectToCommit| {
        let outcomes = agent.committer.attempt(std::slice::from_ref(&object)).await.expect("commit");
        let ObjectOutcome::Committed { row, .. } = &outcomes[0] else { panic!("committed") };
        (0..object.batches.len() as u32).map(|index| row.fate(index)).collect::<Vec<_>>()
    };
    // Known to the cluster, so that a start in the middle isn't taken for one that was forgotten.
    let ids = penstock_metadata::producer_ids::ProducerIds::new(
        Arc::clone(&store),
        log(),
        Incarnation::FIRST,
        Duration::from_secs(3600),
    );
    ids.next().await.expect("a block of ids");
    let refused = Fate::Refused(Refusal::OutOfOrderSequence);
    assert_eq!(fates(object(1, vec![batch(3, 0)])).await, [refused]);
    let mixed = fates(object(2, vec![batch(0, 0), batch(2, 71), batch(1, 142)])).await;
    assert!(matches!(
        mixed[..],
        [Fate::Appended(_), Fate::Refused(Refusal::OutOfOrderSequence), Fate::Appended(_)]
    ));
    let entries = read_all(&store, &log(), partition(0)).await;
    assert_eq!(entries.iter().map(|entry| entry.base_offset.get()).collect::<Vec<_>>(), [0, 1]);
}
