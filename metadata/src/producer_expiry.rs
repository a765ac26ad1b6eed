//! Producer expiry: the states of producers that wrote nothing to a partition for `producer.id.expiration.ms` are
//! removed, so that they don't grow for ever.
//!
//! A removal reads the state serializably: an append that changes it meanwhile makes it fail, and an append that read
//! it before conflicts with it. What a returning producer gets: its id is then older than the expiry, so it may begin
//! at any sequence (see `append.rs`), as in Apache Kafka; a retry of what it sent before can't be told from new
//! records, as there.
//!
//! Time is the store's own, from the version of the state's last change: no wall clock decides. A store whose versions
//! may jump (a recovery of FoundationDB: 100 seconds' worth) is allowed for by [`JUMP`].

use std::time::Duration;

use penstock_types::{Incarnation, StoreVersion};

use crate::keys::producer::StoredProducerState;
use crate::keys::{Family, Keyspace};
use crate::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, WriteConflict, limits, prefixed, single_key,
};

/// How far a store's versions may jump, twice: a state is kept that much longer than asked for.
pub const JUMP: Duration = Duration::from_secs(200);
/// States looked at in one transaction.
const PAGE: usize = 1_000;

/// When a producer's state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The current incarnation.
    pub incarnation: Incarnation,
    /// After so long without a batch.
    pub after: Duration,
    /// States of earlier incarnations, whose versions can't be compared, count as changed at this version.
    pub since: StoreVersion,
}

impl Expiry {
    /// Whether a state has expired at `now`.
    pub fn is_over(&self, stored: &StoredProducerState, now: StoreVersion) -> bool {
        let changed = if stored.incarnation < self.incarnation { self.since } else { stored.changed };
        changed.get().saturating_add(limits::versions_of(self.after)) < now.get()
    }
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// States looked at.
    pub seen: u64,
    /// States removed.
    pub removed: u64,
}

/// A walk over all states.
#[derive(Debug, Default)]
pub struct Walk {
    after: Option<Vec<u8>>,
}

impl Walk {
    /// Removes what has expired on the next page; `None` at the end. After an error the walk may go on: the page is
    /// looked at again.
    pub async fn step(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
        expiry: Expiry,
    ) -> Result<Option<Step>, StoreError> {
        let mut transaction = store.begin(Priority::Batch);
        let now = transaction.read_version().await?;
        let mut range = prefixed(&keyspace.family(Family::Producer));
        if let Some(after) = &self.after {
            range.start = single_key(after).end;
        }
        let page = transaction.range(range, RangeOptions::page(PAGE, Isolation::Snapshot)).await?;
        let Some(last) = page.rows.last() else { return Ok(None) };
        let mut step = Step { seen: page.rows.len() as u64, removed: 0 };
        for row in &page.rows {
            if expiry.is_over(&StoredProducerState::decode(&row.value)?, now) {
                // As if it had been read serializably: an append since makes this commit fail.
                transaction.add_read_conflict(single_key(&row.key));
                transaction.clear(&row.key, WriteConflict::Yes);
                step.removed += 1;
            }
        }
        let last = last.key.to_vec();
        if step.removed > 0 {
            transaction.commit().await?;
        }
        self.after = Some(last);
        Ok(Some(step))
    }
}

#[cfg(test)]
mod tests;
