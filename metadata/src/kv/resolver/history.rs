//! Which parts of the key space were written at which version, as far as the window of read versions reaches.
//!
//! A step function over the key space: each boundary key holds the version of the last conflicting write to the
//! keys from it up to the next boundary; below the first boundary nothing was written. Recording and asking cost the
//! logarithm of the boundaries plus those inside the range.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::bounds;
use crate::kv::KeyRange;

/// Boundaries looked at per forgotten group, beyond twice those recorded since the last one: keeps the boundaries
/// that nobody needs at a fraction of those in the window without ever walking all of them at once.
const SWEEP_AT_LEAST: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct ConflictHistory {
    segments: BTreeMap<Vec<u8>, u64>,
    recorded_since_sweep: usize,
    sweep_from: Vec<u8>,
}

impl ConflictHistory {
    /// Notes that `range` was written at `version`, which is no lower than any noted before.
    pub(crate) fn record(&mut self, range: KeyRange, version: u64) {
        if range.start >= range.end {
            return;
        }
        self.recorded_since_sweep += 2;
        if !self.segments.contains_key(&range.end) {
            let behind = self.at(&range.end);
            self.segments.insert(range.end.clone(), behind);
        }
        if self.segments.range::<[u8], _>(bounds(&range)).next().is_some() {
            self.segments.extract_if(range.clone(), |_, _| true).for_each(drop);
        }
        self.segments.insert(range.start, version);
    }

    /// Whether anything in `range` was written after `version`.
    pub(crate) fn changed_since(&self, range: &KeyRange, version: u64) -> bool {
        if range.start >= range.end {
            return false;
        }
        self.at(&range.start) > version
            || self.segments.range::<[u8], _>(bounds(range)).any(|(_, written)| *written > version)
    }

    /// Drops boundaries that no read version from `oldest` on can tell apart, a few at a time.
    pub(crate) fn forget(&mut self, oldest: u64) {
        let budget = SWEEP_AT_LEAST + 2 * std::mem::take(&mut self.recorded_since_sweep);
        let from = std::mem::take(&mut self.sweep_from);
        let before = (Bound::Unbounded, Bound::Excluded(from.as_slice()));
        let mut follows_old =
            self.segments.range::<[u8], _>(before).next_back().is_none_or(|(_, at)| *at <= oldest);
        let mut useless = Vec::new();
        let onwards = (Bound::Included(from.as_slice()), Bound::Unbounded);
        for (looked_at, (key, written)) in self.segments.range::<[u8], _>(onwards).enumerate() {
            if looked_at == budget {
                self.sweep_from = key.clone();
                break;
            }
            let old = *written <= oldest;
            if old && follows_old {
                useless.push(key.clone());
            }
            follows_old = old;
        }
        for key in useless {
            self.segments.remove(&key);
        }
    }

    fn at(&self, key: &[u8]) -> u64 {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        self.segments.range::<[u8], _>(up_to).next_back().map_or(0, |(_, written)| *written)
    }

    #[cfg(test)]
    pub(crate) fn boundaries(&self) -> usize {
        self.segments.len()
    }
}
