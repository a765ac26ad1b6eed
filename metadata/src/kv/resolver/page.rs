//! One page of a range read out of an iterator of rows.

use crate::kv::{KeyRange, Page, RangeOptions, Row, StoreError, single_key};

/// Takes rows, which come in the order asked for, until `options` say that it is enough.
pub(crate) fn collect_page(
    rows: impl Iterator<Item = Result<Row, StoreError>>,
    options: RangeOptions,
) -> Result<Page, StoreError> {
    let mut page = Page { rows: Vec::new(), more: false };
    let mut bytes = 0usize;
    for row in rows {
        let row = row?;
        let full = !page.rows.is_empty() && bytes >= options.target_bytes;
        if full || page.rows.len() >= options.limit {
            page.more = true;
            break;
        }
        bytes += row.key.len() + row.value.len();
        page.rows.push(row);
    }
    Ok(page)
}

/// What a page has read of its range: everything up to its last row, or all of it if nothing is left.
pub(crate) fn range_read(range: KeyRange, page: &Page, options: RangeOptions) -> Option<KeyRange> {
    if !page.more {
        return Some(range);
    }
    let last = page.rows.last()?;
    if options.reverse {
        Some(last.key.to_vec()..range.end)
    } else {
        Some(range.start..single_key(&last.key).end)
    }
}
