//! The order rows of an agent's last commits: written by each, cleared by the next.
//!
//! Invariant: a row is only cleared when its own commit has returned; who still reads at that commit's version finds it
//! there all the same. Rows of commits that did not succeed for certain, and of agents that died, are swept.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::{Incarnation, StoreVersion, Versionstamp};

use crate::append::Append;
use crate::keys::{Keyspace, order};
use crate::kv::{Transaction, WriteConflict, limits};

/// How many rows one commit clears.
const MOST_CLEARED: usize = 64;
/// How often an agent sweeps, by the store's versions; its first commit does too.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Which order rows an agent has to clear. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct OrderRows {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Keys that nobody needs any more.
    written: Vec<Vec<u8>>,
    /// The version below which everybody's rows were cleared.
    swept: Option<StoreVersion>,
}

impl OrderRows {
    /// Writes what a commit appends, and clears what earlier ones wrote; answers how many rows it wrote.
    pub(crate) fn write(
        &self,
        keyspace: &Keyspace,
        transaction: &mut dyn Transaction,
        append: &Append,
        now: StoreVersion,
    ) -> usize {
        let mut known = self.known.lock();
        let keep = known.written.len().saturating_sub(MOST_CLEARED);
        for key in known.written.drain(keep..) {
            transaction.clear(&key, WriteConflict::No);
        }
        let interval = SWEEP.as_secs() * limits::VERSIONS_PER_SECOND;
        if known.swept.is_none_or(|swept| now.get().saturating_sub(swept.get()) >= interval) {
            known.swept = Some(now);
            transaction.clear_range(order::below(keyspace, append.incarnation(), now), WriteConflict::No);
        }
        if append.counts().is_empty() {
            return 0;
        }
        let values = order::encode(append.counts());
        let prefix = order::prefix(keyspace, append.incarnation());
        for (number, value) in values.iter().enumerate() {
            transaction.set_stamped_key(&prefix, &order::suffix(number), value, WriteConflict::No);
        }
        values.len()
    }

    /// A commit succeeded that wrote so many rows.
    pub(crate) fn wrote(
        &self,
        keyspace: &Keyspace,
        incarnation: Incarnation,
        stamp: Versionstamp,
        rows: usize,
    ) {
        let keys = (0..rows).map(|number| order::key(keyspace, incarnation, stamp, number));
        self.known.lock().written.extend(keys);
    }
}
