//! Rows with their history, as far as the window of read versions reaches.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::kv::resolver::{Latest, Writes, bounds};
use crate::kv::{KeyRange, Row, StoreError};

/// A key's values by version, ascending; `None` where it was removed.
type History = Vec<(u64, Option<Bytes>)>;

#[derive(Debug, Default)]
pub(super) struct VersionedRows {
    rows: BTreeMap<Bytes, History>,
    /// Which keys changed at which version: what is to be looked at when that version leaves the window.
    changes: VecDeque<(u64, Vec<Bytes>)>,
}

impl VersionedRows {
    /// Adds the rows of a version above all others.
    pub(super) fn apply(&mut self, version: u64, writes: &Writes) {
        if writes.is_empty() {
            return;
        }
        for (key, value) in writes {
            self.rows.entry(key.clone()).or_default().push((version, value.clone()));
        }
        self.changes.push_back((version, writes.keys().cloned().collect()));
    }

    /// Forgets what no version from `oldest` on can see.
    pub(super) fn forget(&mut self, oldest: u64) {
        while self.changes.front().is_some_and(|(version, _)| *version <= oldest) {
            let Some((_, keys)) = self.changes.pop_front() else { return };
            for key in keys {
                let Some(history) = self.rows.get_mut(&key) else { continue };
                let unseen = history.partition_point(|(version, _)| *version <= oldest).saturating_sub(1);
                history.drain(..unseen);
                if let [(version, None)] = history.as_slice()
                    && *version <= oldest
                {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// A key's value at a version.
    pub(super) fn get_at(&self, key: &[u8], version: u64) -> Option<Bytes> {
        visible(self.rows.get(key)?, version)
    }

    /// The rows of a range at a version, in order.
    pub(super) fn range_at<'a>(
        &'a self,
        range: &KeyRange,
        version: u64,
    ) -> impl DoubleEndedIterator<Item = Row> + 'a {
        self.rows.range::<[u8], _>(bounds(range)).filter_map(move |(key, history)| {
            let value = visible(history, version)?;
            Some(Row { key: key.clone(), value })
        })
    }

    /// A row of the range, seen at `version`, that was not last written at it.
    pub(super) fn older_in(&self, range: &KeyRange, version: u64) -> Option<Bytes> {
        self.rows.range::<[u8], _>(bounds(range)).find_map(|(key, history)| {
            let (written, value) = history.iter().rev().find(|(written, _)| *written <= version)?;
            (value.is_some() && *written < version).then(|| key.clone())
        })
    }

    /// The newest row of every key that has one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Bytes, Bytes)> {
        self.rows.iter().filter_map(|(key, history)| Some((key, visible(history, u64::MAX)?)))
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.rows.values().map(Vec::len).sum()
    }
}

fn visible(history: &History, version: u64) -> Option<Bytes> {
    history.iter().rev().find(|(written, _)| *written <= version)?.1.clone()
}

impl Latest for VersionedRows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get_at(key, u64::MAX))
    }

    fn keys(&self, range: &KeyRange) -> Result<Vec<Bytes>, StoreError> {
        Ok(self.range_at(range, u64::MAX).map(|row| row.key).collect())
    }
}
