//! The part of a partition's index that may refer to a unit's objects.

use penstock_types::{BatchPosition, Offset, TopicPartition};

use crate::keys::index::{self, PackedIndex};
use crate::keys::merge_queue::CommitPlace;
use crate::keys::trim::{self, Trim};
use crate::keys::{Keyspace, log, log_start, seal};
use crate::kv::{
    Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, Transaction, single_key,
};

/// Index values of one page: about as many bytes as a swap may write.
const PAGE: usize = 40;
/// Bytes of the values of one page.
const PAGE_BYTES: usize = 1_000_000;
/// Index values at the log's end that are looked at before the beginning is searched for.
const LAST_VALUES: usize = 4;

/// Whether everything that a partition has up to `last` is sealed: only then the index has all of it.
pub async fn is_sealed(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    last: CommitPlace,
) -> Result<bool, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let sealed = transaction.get(&seal::key(keyspace, partition), Isolation::Snapshot).await?;
    let sealed = seal::decode(sealed.as_deref())?.position;
    let last = last.last_batch();
    if sealed >= last {
        return Ok(true);
    }
    let mut rows = log::rows_after(keyspace, partition, &sealed);
    rows.end = single_key(&log::row_key(keyspace, partition, &last)).end;
    let page = transaction.range(rows, RangeOptions::page(1, Isolation::Snapshot)).await?;
    Ok(page.rows.is_empty())
}

/// A value of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowValue {
    /// The last offset, which its key names.
    pub last: Offset,
    /// Its bytes.
    pub bytes: usize,
    /// What it says.
    pub value: PackedIndex,
}

/// Some values of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPage {
    /// Where the log starts: what ends at or below it goes by itself.
    pub log_start: Offset,
    /// The values, ascending.
    pub values: Vec<WindowValue>,
}

/// The values of a partition's index that have entries of the commits from one place to another, page by page.
#[derive(Debug)]
pub struct Window {
    partition: TopicPartition,
    first: BatchPosition,
    last: BatchPosition,
    left: Option<KeyRange>,
    ended: bool,
}

impl Window {
    /// From `first` to `last`, inclusive.
    pub fn of(partition: TopicPartition, first: CommitPlace, last: CommitPlace) -> Self {
        let (first, last) = (first.first_batch(), last.last_batch());
        Self { partition, first, last, left: None, ended: false }
    }

    /// The next page; `None` at the end. After an error the same is looked for again.
    pub async fn next(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
    ) -> Result<Option<WindowPage>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let mut transaction = store.begin(Priority::Batch);
        let start = transaction.get(&log_start::key(keyspace, self.partition), Isolation::Snapshot).await?;
        let range = match &self.left {
            Some(left) => left.clone(),
            None => match self.begin(&mut *transaction, keyspace).await? {
                Some(range) => range,
                None => {
                    self.ended = true;
                    return Ok(None);
                }
            },
        };
        let options = RangeOptions {
            limit: PAGE,
            target_bytes: PAGE_BYTES,
            reverse: false,
            isolation: Isolation::Snapshot,
            written_at: None,
        };
        let page = transaction.range(range.clone(), options).await?;
        let mut found = WindowPage { log_start: log_start::decode(start.as_deref())?, values: Vec::new() };
        let mut is_over = false;
        for row in &page.rows {
            let value = PackedIndex::decode(&row.value)?;
            if value.entries.first().is_none_or(|first| first.at > self.last) {
                is_over = true;
                break;
            }
            let (_, last) = index::parse_key(keyspace, &row.key)?;
            found.values.push(WindowValue { last, bytes: row.value.len(), value });
        }
        self.ended = is_over || !page.more;
        if let Some(last) = page.rows.last() {
            self.left = Some(single_key(&last.key).end..range.end);
        }
        Ok(Some(found))
    }

    /// The index from the first value on that ends at or behind the window's beginning.
    async fn begin(
        &self,
        transaction: &mut dyn Transaction,
        keyspace: &Keyspace,
    ) -> Result<Option<KeyRange>, StoreError> {
        let keys = [seal::key(keyspace, self.partition), trim::key(keyspace, self.partition)];
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        let sealed = seal::decode(values[0].as_deref())?.next_offset;
        let trimmed = Trim::decode(values[1].as_deref())?.below;
        let from = |offset| index::from_offset(keyspace, self.partition, offset);
        // What is merged was mostly written lately.
        let options = RangeOptions::page(LAST_VALUES, Isolation::Snapshot).reversed();
        let page = transaction.range(from(trimmed), options).await?;
        let (mut low, mut high) = (trimmed, sealed);
        let mut is_found = false;
        for row in &page.rows {
            let value = PackedIndex::decode(&row.value)?;
            if ends_before(&value, self.first) {
                let (_, last) = index::parse_key(keyspace, &row.key)?;
                low = last.plus(1);
                is_found = true;
                break;
            }
            high = value.entries.first().map_or(high, |first| first.base_offset);
        }
        if page.rows.is_empty() {
            return Ok(None);
        }
        if !is_found && !page.more {
            low = high;
        }
        // Everything below `low` ends before the window, what begins at `high` doesn't.
        while low < high {
            let middle = Offset::at(low.get() + (high.get() - low.get()) / 2);
            let page = transaction.range(from(middle), RangeOptions::page(1, Isolation::Snapshot)).await?;
            let Some(row) = page.rows.first() else {
                high = middle;
                continue;
            };
            let value = PackedIndex::decode(&row.value)?;
            if ends_before(&value, self.first) {
                let (_, last) = index::parse_key(keyspace, &row.key)?;
                low = last.plus(1);
            } else {
                high = middle;
            }
        }
        Ok(Some(from(low)))
    }
}

/// Whether the last batch of `value` comes before `place`.
fn ends_before(value: &PackedIndex, place: BatchPosition) -> bool {
    let last = value.entries.last();
    let last = last.map(|entry| entry.batches().last().map_or(entry.at, |batch| batch.at));
    last.is_some_and(|last| last < place)
}
