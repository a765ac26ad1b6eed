//! Where log compaction of a partition stands, and the runs of it.

use penstock_types::{Incarnation, Offset, TopicPartition};

use crate::keys::compaction::{self, CompactionState};
use crate::keys::{Keyspace, log_start, seal, topic};
use crate::kv::{Isolation, Priority, SharedStore, StoreError, WriteConflict};
use crate::visible;

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where the log starts.
    pub log_start: Offset,
    /// Nothing at it or above is compacted: the end of the sealed log, or the first open transaction.
    pub end: Offset,
    /// Up to where earlier runs have compacted.
    pub cleaned: Offset,
    /// Bytes below that, as of then.
    pub clean_bytes: u64,
    /// The number of the last run.
    pub run: u64,
}

impl Standing {
    /// Where what no run has looked at begins.
    pub fn first_dirty(&self) -> Offset {
        self.cleaned.max(self.log_start)
    }
}

/// A run that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Its number.
    pub number: u64,
    /// Where the log started.
    pub log_start: Offset,
    /// Up to where earlier runs have compacted.
    pub cleaned: Offset,
    /// Nothing at it or above may be compacted.
    pub end: Offset,
}

/// Looks where a partition stands; `None` where its topic is gone.
pub async fn standing(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
) -> Result<Option<Standing>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let keys = keys(keyspace, partition);
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    decode(&values)
}

fn keys(keyspace: &Keyspace, partition: TopicPartition) -> [Vec<u8>; 4] {
    [
        topic::row_key(keyspace, partition.topic),
        compaction::key(keyspace, partition),
        seal::key(keyspace, partition),
        log_start::key(keyspace, partition),
    ]
}

fn decode(values: &[Option<bytes::Bytes>]) -> Result<Option<Standing>, StoreError> {
    if values[0].is_none() {
        return Ok(None);
    }
    let CompactionState { run, cleaned, clean_bytes } = CompactionState::decode(values[1].as_deref())?;
    let sealed = seal::decode(values[2].as_deref())?;
    let log_start = log_start::decode(values[3].as_deref())?;
    let past = penstock_types::planted!("compacts-past-stable");
    let end = if past { sealed.next_offset } else { sealed.first_unstable_offset() };
    Ok(Some(Standing { log_start, end, cleaned, clean_bytes, run }))
}

/// Begins a run; `None` where the topic is gone. Run again after an unknown outcome it begins the next one.
pub async fn begin(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    partition: TopicPartition,
) -> Result<Option<Run>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let keys = keys(keyspace, partition);
    let mut values = transaction.get_many(&keys[..2], Isolation::Serializable).await?;
    values.extend(transaction.get_many(&keys[2..], Isolation::Snapshot).await?);
    let Some(Standing { log_start, end, cleaned, clean_bytes, run }) = decode(&values)? else {
        return Ok(None);
    };
    let number = run + 1;
    let state = CompactionState { run: number, cleaned, clean_bytes };
    transaction.set(&keys[1], &state.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(Some(Run { partition, number, log_start, cleaned, end }))
}

/// Ends a run: everything below `cleaned` is compacted, and has `clean_bytes`. `false` where another run has begun since, or
/// the topic is gone.
pub async fn finish(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    run: &Run,
    cleaned: Offset,
    clean_bytes: u64,
) -> Result<bool, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let keys = keys(keyspace, run.partition);
    let values = transaction.get_many(&keys[..2], Isolation::Serializable).await?;
    let state = CompactionState::decode(values[1].as_deref())?;
    if values[0].is_none() || state.run != run.number {
        return Ok(false);
    }
    let state = CompactionState { run: run.number, cleaned, clean_bytes };
    transaction.set(&keys[1], &state.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(true)
}
