//! What the two in-process stores share: versions, conflict detection, mutations resolved into rows, transactions
//! and watches. A store adds where rows live and when a commit becomes visible.
//!
//! Invariants: a version handed out for reading is below every version committed later; commits of one group share
//! a version and differ in their stamp's order; a commit sees, for conflicts and for the numbers it adds to, every
//! earlier commit of its own group.
//!
//! Deliberately absent: I/O, threads, chance.

use std::ops::Bound;

use bytes::Bytes;
use penstock_types::{StoreVersion, Versionstamp};
use tokio::time::Instant;

use super::{Committed, KeyRange, StoreError, limits};

mod history;
mod page;
mod transaction;
mod watches;
mod writes;

pub(super) use history::ConflictHistory;
pub(super) use page::collect_page;
#[cfg(feature = "foundationdb")]
pub(super) use page::range_read;
pub(super) use transaction::{Engine, EngineTransaction};
pub(super) use watches::{PendingWatch, Wake, Watches};
pub(super) use writes::{Latest, Mutation, Writes};

/// How many versions a read version stays usable.
pub(super) const WINDOW: u64 = limits::VERSIONS_PER_SECOND * limits::TRANSACTION_AGE.as_secs();

/// Versions as a function of monotonic time.
#[derive(Debug)]
pub(super) struct VersionClock {
    base: u64,
    since: Instant,
}

impl VersionClock {
    /// A clock that shows `base` now.
    pub(super) fn starting_at(base: u64) -> Self {
        Self { base, since: Instant::now() }
    }

    /// The version of this moment.
    pub(super) fn now(&self) -> u64 {
        let elapsed = Instant::now().saturating_duration_since(self.since);
        let versions = elapsed.as_micros() * u128::from(limits::VERSIONS_PER_SECOND) / 1_000_000;
        self.base.saturating_add(u64::try_from(versions).unwrap_or(u64::MAX))
    }

    /// Moves the clock ahead by `versions`.
    pub(super) fn jump(&mut self, versions: u64) {
        self.base = self.base.saturating_add(versions);
    }
}

/// A transaction as it is committed.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// The version its reads saw; there is one if there are read conflict ranges.
    pub(super) read_version: Option<u64>,
    pub(super) read_conflicts: Vec<KeyRange>,
    pub(super) write_conflicts: Vec<KeyRange>,
    pub(super) mutations: Vec<Mutation>,
    /// As [`super::Transaction::size`].
    pub(super) bytes: usize,
}

/// Decides which commits conflict and turns the others into rows.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    history: ConflictHistory,
    oldest: u64,
}

impl Resolver {
    /// Moves the window to a group of commits at `version`, and forgets what left it.
    pub(super) fn begin_group(&mut self, version: u64) {
        self.oldest = self.oldest.max(version.saturating_sub(WINDOW));
        self.history.forget(self.oldest);
    }

    /// Resolves the group's next commit into `writes`, which hold the group's rows so far on top of `latest`.
    ///
    /// # Errors
    /// The outer error is the reader's: the whole group is then worthless. The inner one is this commit's.
    pub(super) fn resolve(
        &mut self,
        version: u64,
        order: u16,
        commit: Commit,
        writes: &mut Writes,
        latest: &impl Latest,
    ) -> Result<Result<Committed, StoreError>, StoreError> {
        if let Err(refusal) = self.check(&commit) {
            return Ok(Err(refusal));
        }
        let stamp = Versionstamp::new(StoreVersion::new(version), order);
        let mutates = !commit.mutations.is_empty();
        for mutation in commit.mutations {
            if let Some(key) = writes::apply(mutation, stamp, writes, latest)? {
                self.history.record(super::single_key(&key), version);
            }
        }
        for range in commit.write_conflicts {
            self.history.record(range, version);
        }
        Ok(Ok(Committed { version: StoreVersion::new(version), stamp: mutates.then_some(stamp) }))
    }

    fn check(&self, commit: &Commit) -> Result<(), StoreError> {
        if commit.read_conflicts.is_empty() {
            return Ok(());
        }
        let read_version = commit.read_version.expect("read conflicts come with a read version");
        if read_version < self.oldest {
            return Err(StoreError::TooOld);
        }
        if commit.read_conflicts.iter().any(|range| self.history.changed_since(range, read_version)) {
            return Err(StoreError::Conflict);
        }
        Ok(())
    }
}

/// A range that is not inverted, as a map's bounds.
pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(range.start.as_slice()), Bound::Excluded(range.end.as_slice()))
}

/// `prefix + stamp + suffix`.
fn stamped_key(prefix: &[u8], stamp: Versionstamp, suffix: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(prefix.len() + Versionstamp::LENGTH + suffix.len());
    key.extend_from_slice(prefix);
    key.extend_from_slice(stamp.as_bytes());
    key.extend_from_slice(suffix);
    key.into()
}

#[cfg(test)]
mod tests;
