//! The seal as a transition: folds a partition's rows up to a read version, packs them into the index, clears exactly
//! those rows and moves the seal, in one transaction.
//!
//! It reads the topic's row and the seal serializably (a deleted topic can't be written to; two seals of a partition
//! can't both succeed), and the rows at snapshot isolation: appends land above its read version by definition.

use std::time::Duration;

use penstock_types::{StoreVersion, TopicPartition};

use crate::codec::Corrupt;
use crate::fold::{AbortedTransaction, FoldState, LogEntry};
use crate::keys::feed::Slot;
use crate::keys::index::{self, PackedIndex, VALUE_BYTES};
use crate::keys::log::{self, LogRow};
use crate::keys::{Keyspace, aborted, checkpoint, seal, topic};
use crate::kv::{Isolation, Page, Priority, RangeOptions, SharedStore, StoreError, WriteConflict, limits};

/// Rows of one seal: their keys, values and clears stay far below the store's limit of a transaction.
const MOST_ROWS: usize = 4_000;
/// Bytes of rows of one seal.
const MOST_BYTES: usize = limits::TRANSACTION_BYTES / 5;

/// When a partition is worth a seal: whoever calls knows what it wrote itself, and not what others wrote or sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealDue {
    /// When it has so many rows.
    pub rows: u64,
    /// Or when its oldest row is so old, by the store's versions.
    pub age: Duration,
}

impl SealDue {
    /// Whenever there is a row.
    pub const NOW: Self = Self { rows: 1, age: Duration::ZERO };
}

/// Rows that are not worth a seal yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// How many.
    pub rows: u64,
    /// How old the oldest is.
    pub age: Duration,
}

/// What a seal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Rows folded and cleared.
    pub rows: usize,
    /// Index values written.
    pub values: usize,
    /// Whether rows are left that are worth a seal.
    pub more: bool,
    /// What was left since it isn't.
    pub left: Option<Unsealed>,
}

/// Packs entries into index values. Pure. `max_timestamp` is the largest of the partition before them.
pub fn pack(entries: Vec<LogEntry>, max_timestamp: i64) -> Vec<PackedIndex> {
    let mut values: Vec<PackedIndex> = Vec::new();
    let mut so_far = max_timestamp;
    let mut bytes = 0;
    for entry in entries {
        let size = entry.row.encode().len() + 24;
        so_far = entry.batches().map(|batch| batch.facts.max_timestamp).fold(so_far, i64::max);
        match values.last_mut() {
            Some(value) if bytes + size <= VALUE_BYTES => {
                value.entries.push(entry);
                value.max_timestamp_so_far = so_far;
                bytes += size;
            }
            _ => {
                values.push(PackedIndex {
                    max_timestamp_so_far: so_far,
                    entries: vec![entry],
                    section_end: None,
                });
                bytes = size;
            }
        }
    }
    values
}

/// Seals a partition once, if it is due. Call again while it says that there is more.
pub async fn seal_partition(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    due: SealDue,
) -> Result<Sealed, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let version = transaction.read_version().await?;
    let keys = [topic::row_key(keyspace, partition.topic), seal::key(keyspace, partition)];
    let unguarded = penstock_types::planted!("seal-unguarded");
    let isolation = if unguarded { Isolation::Snapshot } else { Isolation::Serializable };
    let values = transaction.get_many(&keys, isolation).await?;
    if values[0].is_none() {
        return Ok(Sealed::default());
    }
    let mut state = seal::decode(values[1].as_deref())?;
    let rows = log::rows_after(keyspace, partition, &state.position);
    let options = RangeOptions {
        limit: MOST_ROWS,
        target_bytes: MOST_BYTES,
        reverse: false,
        isolation: Isolation::Snapshot,
        written_at: None,
    };
    let page = transaction.range(rows.clone(), options).await?;
    if !page.more
        && let Some(unsealed) = unsealed(keyspace, &page, version)?
        && unsealed.rows < due.rows
        && unsealed.age < due.age
    {
        return Ok(Sealed { left: Some(unsealed), ..Sealed::default() });
    }
    let max_timestamp = state.max_timestamp.timestamp;
    let folded = fold_page(keyspace, &page, &mut state)?;
    let Some(last_key) = folded.last_key else { return Ok(Sealed::default()) };
    let sealed_rows = folded.entries.len();
    let packed = pack(folded.entries, max_timestamp);
    for value in &packed {
        let Some(last) = value.last_offset() else { continue };
        transaction.set(&index::key(keyspace, partition, last), &value.encode(), WriteConflict::Yes);
    }
    for gone in &folded.aborted {
        let key = aborted::key(keyspace, partition, gone.last_offset);
        transaction.set(&key, &aborted::encode(gone), WriteConflict::Yes);
    }
    let mut end = last_key;
    end.push(0);
    if penstock_types::planted!("seal-clears-too-much") {
        end.clone_from(&rows.end);
    }
    transaction.clear_range(rows.start..end, WriteConflict::No);
    transaction.set(&keys[1], &seal::encode(&state), WriteConflict::Yes);
    // The slot's checkpoint in the bucket is no longer all.
    let seals = checkpoint::seals_key(keyspace, Slot::of(partition));
    transaction.atomic_add(&seals, 1, WriteConflict::No);
    transaction.commit().await?;
    Ok(Sealed { rows: sealed_rows, values: packed.len(), more: page.more, left: None })
}

/// The rows of a page; `None` where there are none.
fn unsealed(keyspace: &Keyspace, page: &Page, now: StoreVersion) -> Result<Option<Unsealed>, Corrupt> {
    let mut oldest = None;
    let mut rows = 0;
    for row in &page.rows {
        let (_, at) = log::parse_key(keyspace, &row.key)?;
        oldest.get_or_insert(at.stamp.version());
        rows += 1;
    }
    let age = |oldest: StoreVersion| match now.get().checked_sub(oldest.get()) {
        Some(versions) => limits::time_of(versions),
        // Of an earlier incarnation, when versions were higher: older than can be told.
        None => Duration::MAX,
    };
    Ok(oldest.map(|oldest| Unsealed { rows, age: age(oldest) }))
}

#[derive(Default)]
struct FoldedPage {
    entries: Vec<LogEntry>,
    aborted: Vec<AbortedTransaction>,
    last_key: Option<Vec<u8>>,
}

fn fold_page(keyspace: &Keyspace, page: &Page, state: &mut FoldState) -> Result<FoldedPage, Corrupt> {
    let mut folded = FoldedPage::default();
    for row in &page.rows {
        let (_, at) = log::parse_key(keyspace, &row.key)?;
        if at <= state.position {
            return Err(Corrupt { family: "log row", reason: "rows out of order" });
        }
        let (entry, aborted) = state.fold(at, LogRow::decode(&row.value)?);
        folded.entries.push(entry);
        folded.aborted.extend(aborted);
        folded.last_key = Some(row.key.to_vec());
    }
    Ok(folded)
}
