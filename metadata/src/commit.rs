//! The commit: one store transaction that records batches, producer states and objects together, and the reading of
//! the offsets that they got.
//!
//! Invariants: nothing is decided from an attempt's memory. Every attempt reads the objects' rows serializably (or adds
//! that read's conflict, where they can't be there yet: [`crate::standing`]) and writes them, so of two attempts at the same object either kills the other, however late the first one lands; an
//! attempt that finds an object's row takes its answers from there. Rows and counters are written blindly: commits
//! of different agents to the same partitions don't conflict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use penstock_types::{
    Incarnation, LeaderEpoch, Offset, ProducerId, StoreVersion, TopicPartition, Versionstamp,
};
use tokio::time::Instant;

use crate::append::{Append, ObjectToCommit, PartitionGround, ProducerGround, RowToWrite};
use crate::burial;
use crate::keys::Keyspace;
use crate::keys::allocation;
use crate::keys::cluster::{cutoff_key, decode_cutoff};
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::feed::{self, Slot};
use crate::keys::log::{self, BatchProducer};
use crate::keys::merge_queue;
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::keys::order;
use crate::keys::producer::{self, StoredProducerState};
use crate::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, limits,
    single_key,
};
use crate::order_rows::OrderRows;
use crate::standing::Standing;

/// What a commit must know of topics, within its own transaction.
#[async_trait]
pub trait TopicGround: Send + Sync + std::fmt::Debug + 'static {
    /// For each of `partitions`, whether it exists and what its rows carry. After it the transaction conflicts with
    /// the deletion of any of their topics.
    async fn ground(
        &self,
        transaction: &mut dyn Transaction,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommitGround>, StoreError>;

    /// The same for a transaction that reads at `version`, from what is known of that version; `None` if that has to be
    /// read. Where it answers, the transaction conflicts with the deletion of any of their topics.
    fn known_at(
        &self,
        transaction: &mut dyn Transaction,
        version: StoreVersion,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Option<BTreeMap<TopicPartition, CommitGround>>;
}

/// What a commit must know of a partition that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitGround {
    /// The epoch that its rows carry.
    pub leader_epoch: LeaderEpoch,
    /// The incarnation in which its topic was created.
    pub incarnation: Incarnation,
    /// The version at which its topic was created.
    pub created: StoreVersion,
}

/// What came of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectOutcome {
    /// Its commit happened; the row says what came of each batch.
    Committed {
        /// The row.
        row: ObjectRow,
        /// Base offsets of appended rows by the position of their first batch, where they were read at the commit's
        /// own version. What isn't here is found through the fold or the index.
        offsets: BTreeMap<(TopicPartition, u32), Offset>,
    },
    /// Its id is below the sweeper's cutoff, and no commit of it happened: it has to be put again under a new id.
    BelowCutoff,
}

/// Commits objects.
#[derive(Debug, Clone)]
pub struct Committer<G> {
    /// The store.
    pub store: SharedStore,
    /// The cluster's keys.
    pub keyspace: Keyspace,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// Topics.
    pub topics: G,
    /// How long a producer that doesn't write is remembered (`producer.id.expiration.ms`).
    pub producer_expiry: Duration,
    /// Which order rows are there.
    pub order_rows: OrderRows,
    /// What it has read lately.
    pub standing: Standing,
}

/// An attempt's result: the objects in the order given, and the stamp if it wrote.
pub(crate) struct Attempt {
    outcomes: Vec<ObjectOutcome>,
    stamp: Option<Versionstamp>,
    /// Rows written, with the index of their object.
    rows: Vec<(usize, RowToWrite)>,
}

/// What a transaction writes.
pub(crate) struct ToWrite {
    append: Append,
    /// Log rows, with the index of their object.
    rows: Vec<(usize, RowToWrite)>,
    /// The objects' rows, whose stamps are not known yet.
    objects: Vec<(usize, ObjectRow)>,
}

impl ToWrite {
    /// Whether a batch is not appended.
    pub(crate) fn refuses(&self) -> bool {
        self.objects.iter().any(|(_, row)| !row.verdicts.is_empty())
    }
}

impl<G: TopicGround> Committer<G> {
    /// Commits `objects` in one transaction, in that order, in one attempt, and reads the offsets. After an error
    /// call it again with the same objects (or each alone): whatever became of the attempt is found out then.
    pub async fn attempt(&self, objects: &[ObjectToCommit]) -> Result<Vec<ObjectOutcome>, StoreError> {
        let attempt = self.append(objects).await?;
        Ok(self.with_offsets(attempt).await)
    }

    /// Reads the offsets. After the commit, not finding an offset is never an error of the append.
    pub(crate) async fn with_offsets(&self, mut attempt: Attempt) -> Vec<ObjectOutcome> {
        let Some(stamp) = attempt.stamp.filter(|_| !attempt.rows.is_empty()) else { return attempt.outcomes };
        match self.own_offsets(stamp, &attempt.rows).await {
            Ok(found) => {
                for (index, partition, n, offset) in found {
                    if let ObjectOutcome::Committed { offsets, .. } = &mut attempt.outcomes[index] {
                        offsets.insert((partition, n), offset);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "offsets were not read at the commit's version; the fold will tell them");
            }
        }
        attempt.outcomes
    }

    async fn append(&self, objects: &[ObjectToCommit]) -> Result<Attempt, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let outcomes = self.settled(transaction.as_mut(), objects).await?;
        let open: Vec<usize> = (0..objects.len()).filter(|index| outcomes[*index].is_none()).collect();
        if open.is_empty() {
            let outcomes = outcomes.into_iter().flatten().collect();
            return Ok(Attempt { outcomes, stamp: None, rows: Vec::new() });
        }
        let append =
            self.read_ground(transaction.as_mut(), open.iter().map(|index| &objects[*index])).await?;
        let written = self.write_objects(transaction.as_mut(), append, objects, open);
        let version = transaction.read_version().await?;
        self.commit(transaction, version, written, outcomes).await
    }

    /// Appends the `open` ones of the objects, and writes their rows.
    pub(crate) fn write_objects(
        &self,
        transaction: &mut dyn Transaction,
        mut append: Append,
        objects: &[ObjectToCommit],
        open: Vec<usize>,
    ) -> ToWrite {
        let (mut rows, mut written) = (Vec::new(), Vec::with_capacity(open.len()));
        for index in open {
            let object = &objects[index];
            let first_n = append.next_n();
            let appended = append.object(object);
            // All of it was there before, or refused: nothing will ever refer to it.
            let is_garbage = appended.verdicts.len() == object.batches.len()
                && !penstock_types::planted!("refused-object-forgotten");
            if is_garbage {
                burial::enqueue(transaction, &self.keyspace, self.incarnation, object.id, object.size, false);
            } else {
                let queue = merge_queue::prefix(&self.keyspace, self.incarnation);
                let value = merge_queue::encode_committed(object.size);
                transaction.set_stamped_key(&queue, object.id.as_bytes(), &value, WriteConflict::No);
            }
            let row = ObjectRow {
                state: if is_garbage { ObjectState::Tombstone } else { ObjectState::Committed },
                stamp: Versionstamp::ZERO,
                incarnation: self.incarnation,
                first_n,
                size: object.size,
                batches: object.batches.len() as u32,
                verdicts: appended.verdicts,
                level: 0,
            };
            let key = object::key(&self.keyspace, object.id);
            transaction.set_stamped_value(&key, &row.encode(), object::STAMP_AT, WriteConflict::Yes);
            written.push((index, row));
            rows.extend(appended.rows.into_iter().map(|row| (index, row)));
        }
        ToWrite { append, rows, objects: written }
    }

    /// Writes the rest, and commits. `version` is the one read at.
    pub(crate) async fn commit(
        &self,
        mut transaction: Box<dyn Transaction>,
        version: StoreVersion,
        written: ToWrite,
        mut outcomes: Vec<Option<ObjectOutcome>>,
    ) -> Result<Attempt, StoreError> {
        let ToWrite { append, rows, objects } = written;
        self.write(transaction.as_mut(), &append, &rows);
        let clears = self.order_rows.write(&self.keyspace, transaction.as_mut(), &append, version);
        let committed = transaction.commit().await?;
        let stamp = committed.stamp.ok_or(StoreError::Failed {
            reason: "a commit with mutations answered without a stamp".to_owned(),
        })?;
        clears.into_iter().for_each(|version| self.order_rows.cleared(self.incarnation, version));
        for (index, row) in objects {
            let row = ObjectRow { stamp, ..row };
            outcomes[index] = Some(ObjectOutcome::Committed { row, offsets: BTreeMap::new() });
        }
        Ok(Attempt { outcomes: outcomes.into_iter().flatten().collect(), stamp: Some(stamp), rows })
    }

    /// What is already known of the objects: committed before, or below the cutoff.
    async fn settled(
        &self,
        transaction: &mut dyn Transaction,
        objects: &[ObjectToCommit],
    ) -> Result<Vec<Option<ObjectOutcome>>, StoreError> {
        let mut keys: Vec<_> = objects.iter().map(|object| object::key(&self.keyspace, object.id)).collect();
        keys.push(cutoff_key(&self.keyspace));
        let begun = Instant::now();
        let late_attempt_lands = penstock_types::planted!("late-attempt-lands");
        let isolation = if late_attempt_lands { Isolation::Snapshot } else { Isolation::Serializable };
        let mut values = transaction.get_many(&keys, isolation).await?;
        let cutoff = decode_cutoff(values.pop().flatten().as_deref())?;
        self.standing.learn(transaction.read_version().await?, cutoff, begun);
        let mut outcomes = Vec::with_capacity(objects.len());
        for (object, value) in objects.iter().zip(values) {
            outcomes.push(match value {
                Some(value) if !penstock_types::planted!("object-row-not-read") => {
                    let row = ObjectRow::decode(&value)?;
                    if row.state == ObjectState::Intent || row.batches != object.batches.len() as u32 {
                        return Err(StoreError::Failed {
                            reason: format!("object {} is known, but is not this one", object.id),
                        });
                    }
                    Some(ObjectOutcome::Committed { row, offsets: BTreeMap::new() })
                }
                None if cutoff.refuses(&object.id) => Some(ObjectOutcome::BelowCutoff),
                Some(_) | None => None,
            });
        }
        Ok(outcomes)
    }

    /// Reads what the append stands on: topics, and the states of the producers.
    async fn read_ground(
        &self,
        transaction: &mut dyn Transaction,
        objects: impl Iterator<Item = &ObjectToCommit>,
    ) -> Result<Append, StoreError> {
        let mut partitions = BTreeSet::new();
        let mut producers: BTreeMap<(TopicPartition, ProducerId), BatchProducer> = BTreeMap::new();
        for batch in objects.flat_map(|object| &object.batches) {
            partitions.insert(batch.partition);
            if let Some(producer) = batch.facts.producer {
                producers.entry((batch.partition, producer.id)).or_insert(producer);
            }
        }
        let ground = self.topics.ground(transaction, &partitions).await?;
        let keys: Vec<_> =
            producers.keys().map(|(partition, id)| producer::key(&self.keyspace, *partition, *id)).collect();
        let unguarded = penstock_types::planted!("producer-state-unguarded");
        let isolation = if unguarded { Isolation::Snapshot } else { Isolation::Serializable };
        let values = transaction.get_many(&keys, isolation).await?;
        let mut states = BTreeMap::new();
        for (((partition, id), first), value) in producers.into_iter().zip(values) {
            let state = match value {
                Some(value) => Some(StoredProducerState::decode(&value)?.state),
                None => None,
            };
            let may_be_forgotten = match (&state, ground.get(&partition)) {
                (None, Some(ground)) if first.base_sequence.get() != 0 => {
                    self.may_be_forgotten(transaction, id, ground).await?
                }
                _ => false,
            };
            states.insert((partition, id), ProducerGround { state, may_be_forgotten });
        }
        let partitions = partitions
            .into_iter()
            .map(|partition| {
                let found = ground.get(&partition);
                let leader_epoch = found.map_or(LeaderEpoch::FIRST, |ground| ground.leader_epoch);
                (partition, PartitionGround { exists: found.is_some(), leader_epoch })
            })
            .collect();
        Ok(Append::new(self.incarnation, partitions, states))
    }

    /// Whether a producer without state may have had one: its id is older than producer expiry or than the topic, by
    /// the store's own time.
    async fn may_be_forgotten(
        &self,
        transaction: &mut dyn Transaction,
        id: ProducerId,
        ground: &CommitGround,
    ) -> Result<bool, StoreError> {
        let now = transaction.read_version().await?;
        let options = RangeOptions::page(1, Isolation::Snapshot).reversed();
        let page = transaction.range(allocation::blocks_up_to(&self.keyspace, id), options).await?;
        // No block: allocated so long ago that its block was dropped, or not by this cluster at all.
        let Some(row) = page.rows.first() else { return Ok(true) };
        let first = allocation::parse_block_key(&self.keyspace, &row.key)?;
        let block = allocation::decode_block(&row.value)?;
        if id.get() - first.get() >= i64::from(block.ids) {
            return Ok(true);
        }
        let before_topic = (block.incarnation, block.allocated) <= (ground.incarnation, ground.created);
        let expiry = self.producer_expiry.as_secs().saturating_mul(limits::VERSIONS_PER_SECOND);
        let expired =
            block.incarnation < self.incarnation || block.allocated.get().saturating_add(expiry) < now.get();
        Ok(before_topic || expired)
    }

    /// Writes what the append says: rows, counters, feeds, producers' states, and what it comes to.
    fn write(&self, transaction: &mut dyn Transaction, append: &Append, rows: &[(usize, RowToWrite)]) {
        for (_, row) in rows {
            let first = penstock_types::planted!("rows-of-the-first-life");
            let incarnation = if first { Incarnation::FIRST } else { self.incarnation };
            let prefix = log::row_prefix(&self.keyspace, row.partition, incarnation);
            transaction.set_stamped_key(&prefix, &row.n.to_be_bytes(), &row.row.encode(), WriteConflict::No);
        }
        let mut stripes: BTreeMap<Stripe, Counters> = BTreeMap::new();
        for (partition, count) in append.counts() {
            stripes.entry(Stripe::of(*partition)).or_default().append(*partition, *count);
        }
        for (stripe, added) in &stripes {
            let key = counters::key(&self.keyspace, *stripe);
            transaction.atomic_add_bytes(&key, &added.encode(), WriteConflict::No);
        }
        let slots: BTreeSet<Slot> = append.counts().keys().map(|partition| Slot::of(*partition)).collect();
        let stamped = if penstock_types::planted!("feed-half-stamped") { 1 } else { slots.len() };
        for slot in slots.into_iter().take(stamped) {
            let value = feed::template(self.incarnation);
            let key = feed::key(&self.keyspace, slot);
            transaction.set_stamped_value(&key, &value, feed::STAMP_AT, WriteConflict::No);
        }
        for ((partition, id), state) in append.producer_states() {
            let key = producer::key(&self.keyspace, *partition, *id);
            let value = state.encode(self.incarnation);
            transaction.set_stamped_value(&key, &value, producer::STAMP_AT, WriteConflict::Yes);
        }
    }

    /// The base offsets of the rows of a commit, read at the commit's own version: the counters there, less what commits
    /// behind this one appended at the same version, less the rows from the own one on.
    async fn own_offsets(
        &self,
        stamp: Versionstamp,
        rows: &[(usize, RowToWrite)],
    ) -> Result<Vec<(usize, TopicPartition, u32, Offset)>, StoreError> {
        let stripes: BTreeSet<Stripe> = rows.iter().map(|(_, row)| Stripe::of(row.partition)).collect();
        let keys: Vec<_> = stripes.iter().map(|stripe| counters::key(&self.keyspace, *stripe)).collect();
        // Two transactions, so that neither read waits for the other.
        let mut transaction = self.store.begin(Priority::Default);
        transaction.set_read_version(stamp.version());
        let (values, behind) = futures::future::try_join(
            transaction.get_many(&keys, Isolation::Snapshot),
            self.appended_behind(stamp),
        )
        .await?;
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut counted = BTreeMap::new();
        for (stripe, value) in stripes.into_iter().zip(values) {
            counted.insert(stripe, Counters::decode(value.as_deref())?);
        }
        for (_, row) in rows {
            let counters = counted.get(&Stripe::of(row.partition));
            ends.entry(row.partition).or_insert_with(|| counters.map_or(0, |found| found.of(row.partition)));
        }
        for (partition, count) in behind {
            if penstock_types::planted!("own-offset-of-the-version") {
                continue;
            }
            ends.entry(partition).and_modify(|end| *end -= count);
        }
        let mut found = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().rev() {
            let Some(end) = ends.get_mut(&row.partition) else { continue };
            if !penstock_types::planted!("own-offset-is-the-end") {
                *end -= row.row.records();
            }
            let offset = Offset::new(*end).ok_or_else(|| StoreError::Failed {
                reason: format!("partition {}: its counter is below the sum of its rows", row.partition),
            })?;
            found.push((*index, row.partition, row.n, offset));
        }
        Ok(found)
    }

    /// What commits behind `stamp` appended at the same version.
    async fn appended_behind(&self, stamp: Versionstamp) -> Result<Vec<(TopicPartition, i64)>, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        transaction.set_read_version(stamp.version());
        let mut range = order::behind(&self.keyspace, self.incarnation, stamp);
        let options = RangeOptions::page(1_000, Isolation::Snapshot).all_written_at(stamp.version());
        let mut appended = Vec::new();
        loop {
            let page = transaction.range(range.clone(), options).await?;
            for row in &page.rows {
                appended.extend(order::decode(&row.value)?);
            }
            match page.rows.last() {
                Some(last) if page.more => range.start = single_key(&last.key).end,
                _ => return Ok(appended),
            }
        }
    }
}
