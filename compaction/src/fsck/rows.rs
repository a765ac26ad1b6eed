//! Every row of the metadata can be decoded.

use penstock_metadata::inspect::{InspectError, Inspected, Inspector, Sink, Stopped, hex};
use penstock_metadata::kv::StoreError;

use super::Check;
use super::report::{Finding, Kind};

/// Bytes of a corrupt row that are told.
const TOLD: usize = 40;

struct Corrupt<'c, 'a> {
    check: &'c mut Check<'a>,
}

impl Sink for Corrupt<'_, '_> {
    fn put(&mut self, found: Inspected) -> Result<(), Stopped> {
        if let Inspected::Corrupt { kind, reason, key, .. } = found {
            let key = hex(&key[..key.len().min(TOLD)]);
            let detail = format!("{kind}: {reason}; its key begins with {key}");
            self.check.found(Finding::new(Kind::CorruptRow, detail));
        }
        Ok(())
    }

    fn read(&mut self, rows: usize) {
        self.check.report.checked.rows += rows as u64;
        self.check.step(rows as u64);
    }
}

pub(super) async fn check(check: &mut Check<'_>) -> Result<(), StoreError> {
    check.phase("rows", 0);
    let inspector = Inspector::new(check.store().clone(), check.keyspace().clone(), 1);
    match inspector.cluster(&mut Corrupt { check }).await {
        Ok(()) | Err(InspectError::Stopped) => Ok(()),
        Err(InspectError::Store(error)) => Err(error),
        // It was read before.
        Err(error @ InspectError::NotFound { .. }) => Err(StoreError::Failed { reason: error.to_string() }),
    }
}
