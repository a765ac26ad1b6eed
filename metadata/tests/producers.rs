//! Producers' states against a model that remembers everything: every batch that was ever appended, under its place in the
//! producer's own unbroken count.

use std::collections::BTreeMap;

use penstock_metadata::append::{Append, BatchToCommit, ObjectToCommit, PartitionGround, ProducerGround};
use penstock_metadata::keys::log::{BatchFacts, BatchProducer};
use penstock_metadata::keys::object::{Refusal, Verdict};
use penstock_metadata::keys::producer::{STAMP_AT, StoredProducerState};
use penstock_types::{
    BatchPosition, Incarnation, LeaderEpoch, ObjectId, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
    StoreVersion, TopicId, TopicPartition, Versionstamp,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// Sequences are 31 bits wide.
const WRAP: u64 = 1 << 31;
/// As many as a client has in flight (KIP-98).
const REMEMBERED: usize = 5;

/// What a client sends next.
#[derive(Debug, Clone)]
enum Send {
    /// The batch that follows.
    Next,
    /// One that was sent before, counted from the last one.
    Again(usize),
    /// The last one, with a record more.
    AgainLonger,
    /// What follows a batch that never arrived.
    BehindAGap,
    /// A later epoch, from its beginning.
    NewEpoch,
    /// A later epoch, not from its beginning.
    NewEpochLate,
    /// An epoch that is over.
    OldEpoch,
    /// The transaction ends, and the next one begins.
    Commit,
}

fn send() -> impl Strategy<Value = Send> {
    prop_oneof![
        6 => Just(Send::Next),
        3 => (0..8usize).prop_map(Send::Again),
        1 => Just(Send::AgainLonger),
        1 => Just(Send::BehindAGap),
        1 => Just(Send::NewEpoch),
        1 => Just(Send::NewEpochLate),
        1 => Just(Send::OldEpoch),
        3 => Just(Send::Commit),
    ]
}

/// A batch that the model has seen appended.
#[derive(Debug, Clone, Copy)]
struct Appended {
    epoch: i16,
    /// The first record's place in the epoch, unbroken.
    from: u64,
    records: u32,
    transaction: u64,
    n: u32,
}

/// Everything that one producer ever appended to the partition.
#[derive(Debug, Default)]
struct Model {
    epoch: i16,
    next: u64,
    log: Vec<Appended>,
}

const PARTITION: TopicPartition =
    TopicPartition { topic: TopicId::from_bytes([3; 16]), partition: PartitionIndex::new(1) };

fn stamp(transaction: u64) -> Versionstamp {
    Versionstamp::new(StoreVersion::new(1_000 + transaction), 3)
}

/// The states as a store keeps them between transactions.
#[derive(Debug, Default)]
struct Stored(BTreeMap<ProducerId, Vec<u8>>);

impl Stored {
    fn append(&self, producers: &[i64]) -> Append {
        let exists = PartitionGround { exists: true, leader_epoch: LeaderEpoch::FIRST };
        let ground = producers.iter().map(|id| {
            let id = ProducerId::new(*id);
            let stored = self.0.get(&id).map(|value| StoredProducerState::decode(value).expect("a state"));
            // Its id is older than the topic: it may begin anywhere.
            let state = stored.map(|stored| stored.state);
            ((PARTITION, id), ProducerGround { state, may_be_forgotten: true })
        });
        Append::new(Incarnation::FIRST, [(PARTITION, exists)].into(), ground.collect())
    }

    fn commit(&mut self, append: &Append, transaction: u64) {
        for ((_, id), state) in append.producer_states() {
            let mut value = state.encode(Incarnation::FIRST);
            value[STAMP_AT..STAMP_AT + Versionstamp::LENGTH].copy_from_slice(stamp(transaction).as_bytes());
            self.0.insert(*id, value);
        }
    }
}

impl Model {
    /// The batch to send, and what must come of it: `None` if it is appended.
    fn judge(&self, send: &Send, records: u32, transaction: u64) -> (Appended, Option<Verdict>) {
        let of_epoch: Vec<&Appended> = self.log.iter().filter(|batch| batch.epoch == self.epoch).collect();
        let refused = |refusal| Some(Verdict::Refused(refusal));
        let batch = |epoch, from, records| Appended { epoch, from, records, transaction, n: 0 };
        let next = batch(self.epoch, self.next, records);
        match send {
            Send::Again(back) => match of_epoch.iter().rev().nth(*back) {
                Some(old) if *back < REMEMBERED && old.transaction == transaction => {
                    (**old, Some(Verdict::DuplicateHere { n: old.n }))
                }
                Some(old) if *back < REMEMBERED => {
                    let at = BatchPosition {
                        incarnation: Incarnation::FIRST,
                        stamp: stamp(old.transaction),
                        n: old.n,
                    };
                    (**old, Some(Verdict::Duplicate(at)))
                }
                Some(old) => (**old, refused(Refusal::OutOfOrderSequence)),
                None => (next, None),
            },
            Send::AgainLonger => match of_epoch.last() {
                Some(old) => {
                    (batch(old.epoch, old.from, old.records + 1), refused(Refusal::OutOfOrderSequence))
                }
                None => (next, None),
            },
            Send::BehindAGap if !self.log.is_empty() => {
                (batch(self.epoch, self.next + 1, records), refused(Refusal::OutOfOrderSequence))
            }
            Send::NewEpoch if !self.log.is_empty() => (batch(self.epoch + 1, 0, records), None),
            Send::NewEpochLate if !self.log.is_empty() => {
                (batch(self.epoch + 1, 4, records), refused(Refusal::OutOfOrderSequence))
            }
            Send::OldEpoch if self.epoch > 0 && !self.log.is_empty() => {
                (batch(self.epoch - 1, 0, records), refused(Refusal::InvalidProducerEpoch))
            }
            _ => (next, None),
        }
    }

    fn append(&mut self, batch: Appended) {
        self.epoch = batch.epoch;
        self.next = batch.from + u64::from(batch.records);
        self.log.push(batch);
    }
}

fn to_commit(id: i64, batch: &Appended) -> BatchToCommit {
    let producer = BatchProducer {
        id: ProducerId::new(id),
        epoch: ProducerEpoch::new(batch.epoch),
        base_sequence: Sequence::new((batch.from % WRAP) as i32),
    };
    let facts = BatchFacts {
        length: 100,
        records: batch.records,
        flags: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer: Some(producer),
    };
    BatchToCommit { partition: PARTITION, position: 0, facts, refused: None }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Two producers, whose sequences begin shortly before they wrap, over transactions of several objects.
    #[test]
    fn states_decide_as_one_that_remembers_everything(
        sent in prop::collection::vec((send(), any::<Index>(), 1..4u32), 1..120),
        begin in prop_oneof![Just(0), WRAP - 20..WRAP],
    ) {
        let ids = [7i64, 8];
        let mut models = ids.map(|_| Model { next: begin, ..Model::default() });
        let (mut stored, mut transaction) = (Stored::default(), 0);
        let mut append = stored.append(&ids);
        for (number, (send, whose, records)) in sent.iter().enumerate() {
            if let Send::Commit = send {
                stored.commit(&append, transaction);
                transaction += 1;
                append = stored.append(&ids);
                continue;
            }
            let whose = whose.index(ids.len());
            let (mut batch, expected) = models[whose].judge(send, *records, transaction);
            batch.n = append.next_n();
            batch.transaction = transaction;
            let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), number as u64);
            let object = ObjectToCommit { id, size: 100, batches: vec![to_commit(ids[whose], &batch)] };
            let appended = append.object(&object);
            let verdict = appended.verdicts.first().map(|(_, verdict)| *verdict);
            prop_assert_eq!(verdict, expected, "{:?}: {:?}", send, batch);
            prop_assert_eq!(appended.rows.len(), usize::from(expected.is_none()));
            if expected.is_none() {
                models[whose].append(batch);
            }
        }
        let all: u32 = models.iter().flat_map(|model| &model.log)
            .filter(|batch| batch.transaction == transaction).map(|batch| batch.records).sum();
        let counted: i64 = append.counts().values().sum();
        prop_assert_eq!(counted, i64::from(all), "the counter is moved by what was appended, and nothing else");
    }
}
