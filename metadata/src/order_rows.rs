//! The order rows of commits: written by each, cleared every so often by whoever commits.
//!
//! Invariant: a row is only cleared by a transaction that reads at a later version, so its own commit has long been
//! visible; who still reads at that commit's version finds it there all the same.

use std::sync::Arc;

use parking_lot::Mutex;
use penstock_types::{Incarnation, StoreVersion};

use crate::append::Append;
use crate::keys::{Keyspace, order};
use crate::kv::{Transaction, WriteConflict};

/// After so many commits an agent clears what is there, whoever wrote it.
const COMMITS: u32 = 64;

/// What an agent knows of order rows that are still there. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct OrderRows {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Below it nothing is left, in that incarnation; at first nothing is known.
    cleared: Option<(Incarnation, StoreVersion)>,
    /// Commits since.
    commits: u32,
}

impl OrderRows {
    /// Writes what a commit appends; now and then clears rows, of this agent and of others, dead ones too. `now` is the
    /// version that the transaction reads at. Answers up to where it clears, if it does.
    pub(crate) fn write(
        &self,
        keyspace: &Keyspace,
        transaction: &mut dyn Transaction,
        append: &Append,
        now: StoreVersion,
    ) -> Option<StoreVersion> {
        let incarnation = append.incarnation();
        if !append.counts().is_empty() {
            let prefix = order::prefix(keyspace, incarnation);
            for (number, value) in order::encode(append.counts()).iter().enumerate() {
                transaction.set_stamped_key(&prefix, &order::suffix(number), value, WriteConflict::No);
            }
        }
        let mut known = self.known.lock();
        known.commits += 1;
        if known.cleared.is_some() && known.commits < COMMITS {
            return None;
        }
        known.commits = 0;
        // From where it left off: the rows below are gone, and a store may have to step over what they left behind.
        let rows = match known.cleared {
            Some((of, from)) if of == incarnation => order::between(keyspace, incarnation, from, now),
            _ => order::below(keyspace, incarnation, now),
        };
        if rows.start >= rows.end {
            return None;
        }
        transaction.clear_range(rows, WriteConflict::No);
        Some(now)
    }

    /// The commit that clears up to `version` succeeded.
    pub(crate) fn cleared(&self, incarnation: Incarnation, version: StoreVersion) {
        let mut known = self.known.lock();
        let cleared = Some((incarnation, version));
        known.cleared = known.cleared.max(cleared);
    }
}
