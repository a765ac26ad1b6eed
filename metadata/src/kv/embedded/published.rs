//! What readers may see: the versions handed out, and a snapshot for each version of the window.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::DiskView;
use crate::kv::StoreError;
use crate::kv::resolver::{WINDOW, Writes};

/// So many groups' rows are kept at hand, for those who read what they just wrote.
const GROUPS_AT_HAND: usize = 32;
/// A group with more rows isn't.
const ROWS_AT_HAND: usize = 4_096;

#[derive(Debug)]
pub(super) struct Published {
    /// The highest version handed out for reading or published.
    last_version: u64,
    /// The version of the group that the committer works on: not to be read yet, nor any above it.
    in_flight: Option<u64>,
    /// No version above it is handed out; durable.
    ceiling: u64,
    /// Published states by version, ascending: each holds until the next one. Empty once closed.
    ring: VecDeque<(u64, Arc<DiskView>)>,
    /// What the last groups wrote, by version, ascending.
    at_hand: VecDeque<(u64, Arc<Writes>)>,
}

impl Published {
    pub(super) fn new(first_version: u64, ceiling: u64, view: DiskView) -> Self {
        Self {
            last_version: first_version,
            in_flight: None,
            ceiling,
            ring: VecDeque::from([(first_version, Arc::new(view))]),
            at_hand: VecDeque::new(),
        }
    }

    pub(super) fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// How many states are kept.
    pub(super) fn snapshots(&self) -> usize {
        self.ring.len()
    }

    /// The newest state, unless closed.
    pub(super) fn latest(&self) -> Option<Arc<DiskView>> {
        self.ring.back().map(|(_, view)| Arc::clone(view))
    }

    /// A version to read at, `now` being the clock's: the newest, or `at` if it is in the window.
    pub(super) fn hand_out(&mut self, now: u64, at: Option<u64>) -> Result<u64, StoreError> {
        let allowed = self.in_flight.map_or(self.ceiling, |version| self.ceiling.min(version - 1));
        let newest = now.min(allowed).max(self.last_version);
        let version = at.unwrap_or(newest);
        if version > newest {
            return Err(StoreError::FutureVersion);
        }
        if version < newest.saturating_sub(WINDOW) {
            return Err(StoreError::TooOld);
        }
        self.last_version = self.last_version.max(version);
        self.forget(newest);
        Ok(version)
    }

    /// The state at a version that was handed out.
    pub(super) fn view_at(&self, version: u64) -> Result<Arc<DiskView>, StoreError> {
        if self.ring.is_empty() {
            return Err(super::closed());
        }
        let up_to = self.ring.partition_point(|(published, _)| *published <= version);
        match up_to.checked_sub(1).and_then(|index| self.ring.get(index)) {
            Some((_, view)) => Ok(Arc::clone(view)),
            None => Err(StoreError::TooOld),
        }
    }

    /// What the group of exactly that version wrote, if it is at hand.
    pub(super) fn written_at(&self, version: u64) -> Option<Arc<Writes>> {
        let found = self.at_hand.binary_search_by_key(&version, |(written, _)| *written).ok()?;
        self.at_hand.get(found).map(|(_, writes)| Arc::clone(writes))
    }

    /// Begins a group: its version is above all handed out. `None` once closed.
    pub(super) fn begin_group(&mut self, now: u64) -> Option<(u64, Arc<DiskView>)> {
        let latest = self.latest()?;
        let version = now.max(self.last_version + 1);
        self.in_flight = Some(version);
        Some((version, latest))
    }

    /// Makes a group readable that is on stable storage.
    pub(super) fn publish(&mut self, version: u64, view: DiskView, writes: Arc<Writes>) {
        assert_eq!(self.in_flight.take(), Some(version), "only the group in flight is published");
        assert!(version > self.last_version, "a version handed out is below every later commit");
        self.last_version = version;
        if !self.ring.is_empty() {
            self.ring.push_back((version, Arc::new(view)));
        }
        if self.at_hand.len() == GROUPS_AT_HAND {
            self.at_hand.pop_front();
        }
        if writes.len() <= ROWS_AT_HAND {
            self.at_hand.push_back((version, writes));
        }
        self.forget(version);
    }

    /// Ends a group that wrote nothing: its version shows what was there before.
    pub(super) fn end_group_without_rows(&mut self, version: u64) {
        assert_eq!(self.in_flight.take(), Some(version), "only the group in flight ends");
        self.last_version = version;
    }

    /// Raises the ceiling to one that is durable.
    pub(super) fn raise_ceiling(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    pub(super) fn close(&mut self) {
        self.ring.clear();
        self.at_hand.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ring.is_empty()
    }

    /// Drops states that no version of the window needs.
    fn forget(&mut self, newest: u64) {
        let oldest = newest.saturating_sub(WINDOW);
        while self.ring.get(1).is_some_and(|(version, _)| *version <= oldest) {
            self.ring.pop_front();
        }
    }
}
