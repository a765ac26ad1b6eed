//! Checkpoints as transitions: which slots need one, the claim on writing it, its place once it is whole, and the rows
//! that it holds.
//!
//! # Invariants
//! - A checkpoint becomes current only if it was pending until then, and its id is used once: what is in the bucket
//!   and is neither current nor pending never will be, whoever may still be writing it.
//! - A checkpoint holds rows that were committed, read back: it never claims what was not sealed.
//!
//! Deliberately absent: the bucket, and the form of a checkpoint there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use penstock_types::{ObjectId, Offset, StoreVersion, TopicPartition};

use crate::codec::Corrupt;
use crate::keys::checkpoint::{self, Checkpoint, CheckpointRow, CheckpointState};
use crate::keys::feed::Slot;
use crate::keys::{Family, Keyspace, aborted, index, log_start, read_partition, seal, topic};
use crate::kv::{
    Isolation, KeyRange, Priority, RangeOptions, Row, SharedStore, StoreError, Transaction, WriteConflict,
    prefixed, single_key,
};

/// How the checkpoints of a slot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotStanding {
    /// Seals so far.
    pub seals: i64,
    /// Its checkpoints.
    pub state: CheckpointState,
}

impl SlotStanding {
    /// Whether something was sealed that the current checkpoint doesn't hold.
    pub fn is_behind(&self) -> bool {
        self.state.current.map_or(0, |current| current.seals) != self.seals
    }
}

/// How all slots stand that ever had a seal, and at which version.
pub async fn standings(
    store: &SharedStore,
    keyspace: &Keyspace,
) -> Result<(StoreVersion, BTreeMap<Slot, SlotStanding>), StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let version = transaction.read_version().await?;
    let mut standings: BTreeMap<Slot, SlotStanding> = BTreeMap::new();
    let options = RangeOptions::page(10_000, Isolation::Snapshot);
    let mut rows = Rows::of(checkpoint::rows(keyspace));
    while let Some(page) = rows.next(&mut *transaction, options).await? {
        for row in page {
            match checkpoint::decode_row(keyspace, &row.key, &row.value)? {
                CheckpointRow::Seals(slot, seals) => standings.entry(slot).or_default().seals = seals,
                CheckpointRow::State(slot, state) => standings.entry(slot).or_default().state = state,
            }
        }
    }
    Ok((version, standings))
}

/// Claims the writing of a slot's next checkpoint, as `id`: gives the seals that it will hold at least. `None` if
/// another claim was laid at or behind `fresh`: somebody else is at it.
///
/// A claim that may have happened is settled by claiming again under the same id.
pub async fn claim(
    store: &SharedStore,
    keyspace: &Keyspace,
    slot: Slot,
    id: ObjectId,
    fresh: StoreVersion,
) -> Result<Option<i64>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let state_key = checkpoint::state_key(keyspace, slot);
    let stored = transaction.get(&state_key, Isolation::Serializable).await?;
    let state = CheckpointState::decode(stored.as_deref())?;
    let seals = transaction.get(&checkpoint::seals_key(keyspace, slot), Isolation::Snapshot).await?;
    let seals = checkpoint::decode_seals(seals.as_deref())?;
    if state.pending == Some(id) {
        return Ok(Some(seals));
    }
    let is_taken = |other: ObjectId| other.incarnation() == id.incarnation() && other.version() >= fresh;
    if state.pending.is_some_and(is_taken) {
        return Ok(None);
    }
    let next = CheckpointState { pending: Some(id), ..state };
    transaction.set(&state_key, &next.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(Some(seals))
}

/// Makes a whole checkpoint the current one: gives the one that it replaces. `Err(Lost)` if somebody else has claimed
/// the slot since.
///
/// Run again after an unknown outcome it finds what became of it.
pub async fn publish(
    store: &SharedStore,
    keyspace: &Keyspace,
    slot: Slot,
    checkpoint: Checkpoint,
) -> Result<Option<Checkpoint>, PublishError> {
    let mut transaction = store.begin(Priority::Batch);
    let state_key = checkpoint::state_key(keyspace, slot);
    let stored = transaction.get(&state_key, Isolation::Serializable).await?;
    let state = CheckpointState::decode(stored.as_deref())?;
    if state.current == Some(checkpoint) {
        return Ok(None);
    }
    if state.pending != Some(checkpoint.id) {
        return Err(PublishError::Lost);
    }
    let next = CheckpointState { current: Some(checkpoint), pending: None };
    transaction.set(&state_key, &next.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(state.current)
}

/// Why a checkpoint is not the current one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Somebody else has claimed the slot: this one is nobody's.
    #[error("another agent writes this slot's checkpoint")]
    Lost,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for PublishError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// The partitions that were ever sealed, by slot, of the slots asked for.
pub async fn sealed_partitions(
    store: &SharedStore,
    keyspace: &Keyspace,
    slots: &BTreeSet<Slot>,
) -> Result<BTreeMap<Slot, Vec<TopicPartition>>, StoreError> {
    let mut found: BTreeMap<Slot, Vec<TopicPartition>> = BTreeMap::new();
    let mut rows = Rows::of(prefixed(&keyspace.family(Family::Seal)));
    loop {
        // A transaction a page: a walk over many partitions outlives a read version.
        let mut transaction = store.begin(Priority::Batch);
        let options = RangeOptions::page(2_000, Isolation::Snapshot);
        let Some(page) = rows.next(&mut *transaction, options).await? else { return Ok(found) };
        for row in page {
            let rest = keyspace
                .strip(Family::Seal, &row.key)
                .ok_or(Corrupt { family: "seal", reason: "a key of another family" })?;
            let partition = read_partition(&mut crate::codec::Reader::new("seal", rest))?;
            let slot = Slot::of(partition);
            if slots.contains(&slot) {
                found.entry(slot).or_default().push(partition);
            }
        }
    }
}

/// The rows of one partition's sealed log, page by page: its topic (unless it was asked for already), log start, seal,
/// packed index and aborted transactions.
///
/// All rows lie below one seal, that of the first page, and an index below a seal changes only by jobs that replace
/// entries, which outdate the checkpoint. A merge may join values while their pages are read: then a value may come again as
/// part of a later one. Its offsets say so: they are below the end of what came before.
#[derive(Debug)]
pub struct SealedRows {
    partition: TopicPartition,
    with_topic: bool,
    rest: Option<Vec<Rows>>,
}

impl SealedRows {
    /// The rows of a partition.
    pub fn of(partition: TopicPartition, with_topic: bool) -> Self {
        Self { partition, with_topic, rest: None }
    }

    /// The next page, of about a megabyte: keys without the cluster's prefix. `None` at the end, and for a partition
    /// whose topic is gone.
    pub async fn next(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let mut transaction = store.begin(Priority::Batch);
        let Some(rest) = &mut self.rest else {
            return self.first(&mut *transaction, keyspace).await;
        };
        while let Some(rows) = rest.last_mut() {
            let options = RangeOptions::page(1_000, Isolation::Snapshot);
            match rows.next(&mut *transaction, options).await? {
                Some(page) => return Ok(Some(page.into_iter().map(|row| bare(keyspace, row)).collect())),
                None => rest.pop(),
            };
        }
        Ok(None)
    }

    async fn first(
        &mut self,
        transaction: &mut dyn Transaction,
        keyspace: &Keyspace,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let partition = self.partition;
        let keys = [
            topic::row_key(keyspace, partition.topic),
            log_start::key(keyspace, partition),
            seal::key(keyspace, partition),
        ];
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        self.rest = Some(Vec::new());
        let (Some(_), Some(sealed)) = (&values[0], &values[2]) else { return Ok(None) };
        let end = seal::decode(Some(sealed))?.next_offset;
        let below = |key: fn(&Keyspace, TopicPartition, Offset) -> Vec<u8>| {
            Rows::of(key(keyspace, partition, Offset::ZERO)..key(keyspace, partition, end))
        };
        self.rest = Some(vec![below(aborted::key), below(index::key)]);
        let rows = keys.iter().zip(values).skip(usize::from(!self.with_topic));
        let rows =
            rows.filter_map(|(key, value)| Some(Row { key: Bytes::copy_from_slice(key), value: value? }));
        Ok(Some(rows.map(|row| bare(keyspace, row)).collect()))
    }
}

fn bare(keyspace: &Keyspace, row: Row) -> Row {
    // A family is one byte behind the prefix.
    let prefix = keyspace.family(Family::Topic).len() - 1;
    Row { key: row.key.slice(prefix..), value: row.value }
}

/// A range, page by page.
#[derive(Debug)]
struct Rows {
    left: Option<KeyRange>,
}

impl Rows {
    fn of(range: KeyRange) -> Self {
        Self { left: Some(range) }
    }

    async fn next(
        &mut self,
        transaction: &mut dyn Transaction,
        options: RangeOptions,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let Some(range) = &self.left else { return Ok(None) };
        let page = transaction.range(range.clone(), options).await?;
        let next = page.rows.last().filter(|_| page.more).map(|last| single_key(&last.key).end);
        self.left = next.map(|start| start..range.end.clone());
        Ok((!page.rows.is_empty()).then_some(page.rows))
    }
}
