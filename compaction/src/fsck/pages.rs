//! Ranges of any size, a page at a time, each in a transaction of its own.

use penstock_metadata::kv::{
    Isolation, KeyRange, Page, Priority, RangeOptions, Row, SharedStore, StoreError, single_key,
};

use crate::again;

/// Rows of a page.
const ROWS: usize = 1_000;

/// How ranges are read: nobody is disturbed.
pub(super) fn options(rows: usize) -> RangeOptions {
    RangeOptions::page(rows, Isolation::Snapshot)
}

/// The pages of a range.
#[derive(Debug)]
pub(super) struct Pages {
    left: Option<KeyRange>,
}

impl Pages {
    pub(super) fn of(range: KeyRange) -> Self {
        Self { left: Some(range) }
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self, store: &SharedStore) -> Result<Option<Vec<Row>>, StoreError> {
        let Some(range) = self.left.take() else { return Ok(None) };
        let page = again!(page(store, range.clone()))?;
        if let Some(last) = page.rows.last().filter(|_| page.more) {
            self.left = Some(single_key(&last.key).end..range.end);
        }
        Ok(Some(page.rows))
    }
}

async fn page(store: &SharedStore, range: KeyRange) -> Result<Page, StoreError> {
    store.begin(Priority::Batch).range(range, options(ROWS)).await
}
