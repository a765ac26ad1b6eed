//! A walk over a part of a partition's sealed log.

use penstock_types::{Offset, TopicPartition};

use crate::fold::AbortedTransaction;
use crate::keys::index::{self, PackedIndex};
use crate::keys::{Keyspace, aborted};
use crate::kv::{Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, single_key};
use crate::merging::WindowValue;

/// Index values of one page.
const PAGE: usize = 40;
/// Bytes of the values of one page.
const PAGE_BYTES: usize = 1_000_000;
/// Aborted transactions of one page.
const ABORTED: usize = 1_000;

/// The index values that have batches from one offset up to another, page by page. Each page is of a version of its own.
#[derive(Debug)]
pub struct Walk {
    partition: TopicPartition,
    from: Offset,
    to: Offset,
    left: Option<KeyRange>,
    ended: bool,
}

impl Walk {
    /// From `from` up to `to`, exclusive.
    pub fn new(partition: TopicPartition, from: Offset, to: Offset) -> Self {
        Self { partition, from, to, left: None, ended: from >= to }
    }

    /// The next page; `None` at the end. After an error the same is looked for again.
    pub async fn next(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
    ) -> Result<Option<Vec<WindowValue>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let range =
            self.left.clone().unwrap_or_else(|| index::from_offset(keyspace, self.partition, self.from));
        let options = RangeOptions {
            limit: PAGE,
            target_bytes: PAGE_BYTES,
            reverse: false,
            isolation: Isolation::Snapshot,
            written_at: None,
        };
        let page = store.begin(Priority::Batch).range(range.clone(), options).await?;
        let mut found = Vec::with_capacity(page.rows.len());
        let mut is_over = false;
        for row in &page.rows {
            let value = PackedIndex::decode(&row.value)?;
            if value.entries.first().is_none_or(|first| first.base_offset >= self.to) {
                is_over = true;
                break;
            }
            let (_, last) = index::parse_key(keyspace, &row.key)?;
            found.push(WindowValue { last, bytes: row.value.len(), value });
        }
        self.ended = is_over || !page.more;
        if let Some(last) = page.rows.last() {
            self.left = Some(single_key(&last.key).end..range.end);
        }
        Ok(Some(found))
    }
}

/// The aborted transactions of the sealed log that touch the offsets from `from` up to `to`, by the offset of their marker.
pub async fn aborted(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    from: Offset,
    to: Offset,
) -> Result<Vec<AbortedTransaction>, StoreError> {
    let mut found = Vec::new();
    let mut range = aborted::from_offset(keyspace, partition, from);
    loop {
        let options = RangeOptions::page(ABORTED, Isolation::Snapshot);
        let page = store.begin(Priority::Batch).range(range.clone(), options).await?;
        for row in &page.rows {
            found.push(aborted::decode(keyspace, row)?);
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            _ => break,
        }
    }
    found.retain(|aborted| aborted.first_offset < to);
    Ok(found)
}
