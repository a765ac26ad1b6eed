//! Appending as a pure transition: the batches of one object against the producers' states give rows, counters,
//! new states and verdicts. No I/O; [`crate::commit`] feeds it and writes what it says.

use std::collections::BTreeMap;

use penstock_types::{
    BatchPosition, Incarnation, LeaderEpoch, ObjectId, ProducerEpoch, ProducerId, Sequence, TopicPartition,
};

use crate::keys::log::{BatchFacts, BatchProducer, LogRow, ROW_BATCHES};
use crate::keys::object::{Refusal, VERDICT_BYTES, Verdict, verdict_bytes};
use crate::keys::producer::{ProducerState, REMEMBERED, RememberedAt, RememberedBatch};

/// A batch in an object that is about to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchToCommit {
    /// Where it goes.
    pub partition: TopicPartition,
    /// From which byte of the object.
    pub position: u64,
    /// What the log will know of it.
    pub facts: BatchFacts,
    /// Set if the agent has already failed it, because an earlier batch of its producer failed.
    pub refused: Option<Refusal>,
}

/// An object that is about to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectToCommit {
    /// Its id.
    pub id: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// Its batches in the order of the object: sorted by partition, and within one in the order of arrival.
    pub batches: Vec<BatchToCommit>,
}

/// What the append must know of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionGround {
    /// Whether it exists.
    pub exists: bool,
    /// The epoch that its rows carry.
    pub leader_epoch: LeaderEpoch,
}

/// What the append must know of a producer in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerGround {
    /// Its state, if it has one.
    pub state: Option<ProducerState>,
    /// Whether an id without state may have been forgotten (it is older than producer expiry, or than the topic), so
    /// that it may begin at any sequence.
    pub may_be_forgotten: bool,
}

/// A row to be written: everything of its key but incarnation and stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowToWrite {
    /// The partition.
    pub partition: TopicPartition,
    /// The number of its first batch in the store transaction.
    pub n: u32,
    /// The row.
    pub row: LogRow,
}

/// What an append of one object says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appended {
    /// Rows, in order.
    pub rows: Vec<RowToWrite>,
    /// Batches that were not appended, ascending by their index in the object.
    pub verdicts: Vec<(u32, Verdict)>,
}

/// The append of one store transaction: several objects, one after the other, over the same ground.
#[derive(Debug)]
pub struct Append {
    incarnation: Incarnation,
    partitions: BTreeMap<TopicPartition, PartitionGround>,
    producers: BTreeMap<(TopicPartition, ProducerId), ProducerGround>,
    touched: BTreeMap<(TopicPartition, ProducerId), ProducerState>,
    counts: BTreeMap<TopicPartition, i64>,
    next_n: u32,
}

impl Append {
    /// An append over what was read of partitions and producers.
    pub fn new(
        incarnation: Incarnation,
        partitions: BTreeMap<TopicPartition, PartitionGround>,
        producers: BTreeMap<(TopicPartition, ProducerId), ProducerGround>,
    ) -> Self {
        Self {
            incarnation,
            partitions,
            producers,
            touched: BTreeMap::new(),
            counts: BTreeMap::new(),
            next_n: 0,
        }
    }

    /// The number of the next object's first batch.
    pub fn next_n(&self) -> u32 {
        self.next_n
    }

    /// The new states of the producers that appended.
    pub fn producer_states(&self) -> impl Iterator<Item = (&(TopicPartition, ProducerId), &ProducerState)> {
        self.touched.iter()
    }

    /// Records appended, by partition.
    pub fn counts(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.counts
    }

    /// The incarnation of everything appended.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Appends an object's batches. One refused batch doesn't fail the others.
    pub fn object(&mut self, object: &ObjectToCommit) -> Appended {
        let mut appended = Appended::default();
        let mut verdict_budget = VERDICT_BYTES;
        let mut adjacent: Option<u64> = None;
        for (index, batch) in object.batches.iter().enumerate() {
            let n = if penstock_types::planted!("numbers-reused") { index as u32 } else { self.next_n };
            self.next_n += 1;
            match self.judge(batch, n, verdict_budget) {
                None => {
                    let contiguous = adjacent == Some(batch.position);
                    self.append(&mut appended.rows, object.id, batch, n, contiguous);
                    adjacent = Some(batch.position + u64::from(batch.facts.length));
                }
                Some(verdict) => {
                    verdict_budget = verdict_budget.saturating_sub(verdict_bytes(&verdict));
                    appended.verdicts.push((index as u32, verdict));
                    adjacent = None;
                }
            }
        }
        appended
    }

    /// Why the batch isn't appended, if it isn't.
    fn judge(&mut self, batch: &BatchToCommit, n: u32, verdict_budget: usize) -> Option<Verdict> {
        let refuse = |refusal| Some(Verdict::Refused(refusal));
        if let Some(refusal) = batch.refused {
            return refuse(refusal);
        }
        // A row of verdicts that is nearly full refuses the rest; refusing is always safe, for nothing of it moved.
        if verdict_budget < 64 {
            return refuse(Refusal::TryAgain);
        }
        let ground = self.partitions.get(&batch.partition);
        if !ground.is_some_and(|ground| ground.exists) {
            return refuse(Refusal::UnknownTopic);
        }
        let Some(producer) = &batch.facts.producer else { return None };
        let key = (batch.partition, producer.id);
        let known = self.producers.get(&key);
        let state = self.touched.get(&key).or_else(|| known.and_then(|ground| ground.state.as_ref()));
        let may_be_forgotten = known.is_some_and(|ground| ground.may_be_forgotten);
        match check_sequence(state, producer, batch.facts.records, may_be_forgotten) {
            SequenceCheck::Follows => {
                let next = remember(state, producer, batch.facts.records, n);
                self.touched.insert(key, next);
                None
            }
            SequenceCheck::Duplicate(RememberedAt::Here { n }) => Some(Verdict::DuplicateHere { n }),
            SequenceCheck::Duplicate(RememberedAt::Earlier(at)) => Some(Verdict::Duplicate(at)),
            SequenceCheck::Refused(refusal) => refuse(refusal),
        }
    }

    fn append(
        &mut self,
        rows: &mut Vec<RowToWrite>,
        object: ObjectId,
        batch: &BatchToCommit,
        n: u32,
        contiguous: bool,
    ) {
        *self.counts.entry(batch.partition).or_insert(0) += i64::from(batch.facts.records);
        if let Some(RowToWrite { partition, row: LogRow::Data { batches, .. }, .. }) = rows.last_mut()
            && contiguous
            && *partition == batch.partition
            && batches.len() < ROW_BATCHES
        {
            batches.push(batch.facts);
            return;
        }
        let leader_epoch =
            self.partitions.get(&batch.partition).map_or(LeaderEpoch::FIRST, |ground| ground.leader_epoch);
        let row = LogRow::Data { leader_epoch, object, position: batch.position, batches: vec![batch.facts] };
        rows.push(RowToWrite { partition: batch.partition, n, row });
    }
}

/// What a producer's state says to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next one.
    Follows,
    /// It is in the log already.
    Duplicate(RememberedAt),
    /// It can't be appended.
    Refused(Refusal),
}

/// Whether a batch follows what its producer wrote before (KIP-98), as Apache Kafka's `ProducerAppendInfo` decides,
/// except that a producer without state begins at 0 unless its id may have been forgotten.
pub fn check_sequence(
    state: Option<&ProducerState>,
    producer: &BatchProducer,
    records: u32,
    may_be_forgotten: bool,
) -> SequenceCheck {
    let Some(state) = state else {
        let begins = producer.base_sequence.get() == 0 || may_be_forgotten;
        return if begins { SequenceCheck::Follows } else { out_of_order() };
    };
    if producer.epoch == state.epoch {
        let last = producer.base_sequence.plus((records - 1) as i32);
        let same = |batch: &&RememberedBatch| {
            batch.base_sequence == producer.base_sequence && batch.last_sequence() == last
        };
        let window = if penstock_types::planted!("sequence-window-of-one") { 1 } else { state.batches.len() };
        if let Some(found) = state.batches.iter().rev().take(window).find(same) {
            return SequenceCheck::Duplicate(found.at);
        }
    }
    if producer.epoch < state.epoch && penstock_types::planted!("old-epoch-appends") {
        return SequenceCheck::Follows;
    }
    if producer.epoch < state.epoch {
        return SequenceCheck::Refused(Refusal::InvalidProducerEpoch);
    }
    let expected = match state.batches.last() {
        Some(last) if producer.epoch == state.epoch => last.last_sequence().plus(1),
        // A new epoch begins at 0.
        _ => Sequence::new(0),
    };
    if producer.base_sequence == expected || penstock_types::planted!("sequence-not-checked") {
        SequenceCheck::Follows
    } else {
        out_of_order()
    }
}

fn out_of_order() -> SequenceCheck {
    SequenceCheck::Refused(Refusal::OutOfOrderSequence)
}

/// The state after a batch that follows.
fn remember(state: Option<&ProducerState>, producer: &BatchProducer, records: u32, n: u32) -> ProducerState {
    let mut batches = match state {
        Some(state) if state.epoch == producer.epoch => state.batches.clone(),
        _ => Vec::with_capacity(1),
    };
    if batches.len() == REMEMBERED {
        batches.remove(0);
    }
    let at = RememberedAt::Here { n };
    batches.push(RememberedBatch { base_sequence: producer.base_sequence, records, at });
    let epoch: ProducerEpoch = producer.epoch;
    ProducerState { epoch, batches }
}

/// Where a batch of this transaction stands once its stamp is known.
pub fn resolve(at: RememberedAt, here: BatchPosition) -> BatchPosition {
    match at {
        RememberedAt::Here { n } => BatchPosition { n, ..here },
        RememberedAt::Earlier(position) => position,
    }
}
