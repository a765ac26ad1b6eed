//! Ranges of any size, a page at a time.

use super::facts::{Facts, Inspected};
use super::{InspectError, Inspector, Sink, describe};
use crate::keys::Family;
use crate::kv::{KeyRange, Row, single_key};

/// Rows of a page.
const PAGE_ROWS: usize = 2_000;

/// Rows and bytes of a family.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    rows: u64,
    key_bytes: u64,
    value_bytes: u64,
    corrupt: u64,
}

/// The pages of a range.
#[derive(Debug)]
pub(super) struct Walk {
    rest: Option<KeyRange>,
}

impl Walk {
    pub(super) fn over(range: KeyRange) -> Self {
        Self { rest: Some(range) }
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self, inspector: &Inspector) -> Result<Option<Vec<Row>>, InspectError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = inspector.page(range.clone(), PAGE_ROWS).await?;
        if let Some(last) = page.rows.last()
            && page.more
        {
            self.rest = Some(single_key(&last.key).end..range.end);
        }
        Ok(Some(page.rows))
    }
}

impl Inspector {
    /// Tells every row of a range.
    pub(super) async fn describe_all(
        &self,
        range: KeyRange,
        sink: &mut dyn Sink,
    ) -> Result<(), InspectError> {
        let mut walk = Walk::over(range);
        while let Some(rows) = walk.next(self).await? {
            sink.read(rows.len());
            for row in &rows {
                sink.put(describe(&self.keyspace, row))?;
            }
        }
        Ok(())
    }

    /// Counts all rows by family, and tells those that are corrupt.
    pub(super) async fn count(&self, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let mut counts = [Count::default(); 256];
        let mut walk = Walk::over(self.keyspace.all());
        while let Some(rows) = walk.next(self).await? {
            sink.read(rows.len());
            for row in &rows {
                let Some(byte) = self.keyspace.family_byte(&row.key) else { continue };
                let count = &mut counts[usize::from(byte)];
                count.rows += 1;
                count.key_bytes += row.key.len() as u64;
                count.value_bytes += row.value.len() as u64;
                let found = describe(&self.keyspace, row);
                // The cluster's own rows were told already.
                if found.is_corrupt() {
                    count.corrupt += 1;
                    if byte != Family::Cluster as u8 {
                        sink.put(found)?;
                    }
                }
            }
        }
        for (byte, count) in (0u8..=255).zip(counts).filter(|(_, count)| count.rows > 0) {
            let facts = Facts::default()
                .text("family", format!("0x{byte:02x}"))
                .text("name", Family::from_byte(byte).map_or("unknown", Family::name))
                .unsigned("rows", count.rows)
                .unsigned("key bytes", count.key_bytes)
                .unsigned("value bytes", count.value_bytes)
                .unsigned("corrupt", count.corrupt);
            sink.put(Inspected::row("family", facts))?;
        }
        Ok(())
    }
}
