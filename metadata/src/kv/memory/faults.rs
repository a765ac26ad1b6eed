//! Faults of the memory store: what goes wrong, how often. Who is hit is drawn from the store's randomness.

use std::ops::Range;
use std::time::Duration;

use penstock_types::Randomness;

use crate::kv::StoreError;
use crate::kv::limits;
use crate::kv::resolver::Wake;

/// What goes wrong. Each number is a probability between 0 (never, the default) and 1 (always).
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryFaults {
    /// A commit conflicts with nobody.
    pub conflict: f64,
    /// A commit happens (unless it conflicts) and its maker is told that the outcome is unknown.
    pub unknown_applied: f64,
    /// A commit never happens and its maker is told that the outcome is unknown.
    pub unknown_not_applied: f64,
    /// A commit happens only later, unless it conflicts by then, and its maker is told at once that the outcome is
    /// unknown. It lands with the first use of the store after [`MemoryFaults::applied_later_after`].
    pub unknown_applied_later: f64,
    /// How much later.
    pub applied_later_after: Range<Duration>,
    /// A read finds its version too old.
    pub too_old: f64,
    /// A read version is ahead of the store.
    pub future_version: f64,
    /// A transaction of [`crate::kv::Priority::Batch`] gets no read version.
    pub throttled: f64,
    /// An operation doesn't reach the store.
    pub unavailable: f64,
    /// How long a read version, a read and each half of a commit take; `None` for no time.
    pub latency: Option<Range<Duration>>,
    /// A change doesn't wake a watch (a later one may).
    pub watch_lost: f64,
    /// A change wakes a watch after [`MemoryFaults::watch_late_by`].
    pub watch_late: f64,
    /// How late.
    pub watch_late_by: Range<Duration>,
    /// A watch wakes without a change, within [`MemoryFaults::watch_late_by`].
    pub watch_spurious: f64,
    /// A watch fails as soon as it is armed.
    pub watch_error: f64,
    /// A commit makes the versions jump ahead.
    pub version_jump: f64,
    /// How far: a recovery of FoundationDB jumps some 100 million.
    pub version_jump_by: u64,
}

impl Default for MemoryFaults {
    fn default() -> Self {
        Self {
            conflict: 0.0,
            unknown_applied: 0.0,
            unknown_not_applied: 0.0,
            unknown_applied_later: 0.0,
            applied_later_after: Duration::ZERO..Duration::from_secs(2),
            too_old: 0.0,
            future_version: 0.0,
            throttled: 0.0,
            unavailable: 0.0,
            latency: None,
            watch_lost: 0.0,
            watch_late: 0.0,
            watch_late_by: Duration::ZERO..Duration::from_secs(1),
            watch_spurious: 0.0,
            watch_error: 0.0,
            version_jump: 0.0,
            version_jump_by: 100 * limits::VERSIONS_PER_SECOND,
        }
    }
}

impl MemoryFaults {
    /// How a change wakes a watch; `None` if it doesn't.
    pub(super) fn wake(&self, randomness: &dyn Randomness) -> Option<Wake> {
        if strikes(randomness, self.watch_lost) {
            return None;
        }
        if strikes(randomness, self.watch_late) {
            return Some(Wake { after: between(randomness, &self.watch_late_by), result: Ok(()) });
        }
        Some(Wake::NOW)
    }

    /// How a watch resolves though nothing changed, if it does.
    pub(super) fn wake_unasked(&self, randomness: &dyn Randomness) -> Option<Wake> {
        if strikes(randomness, self.watch_error) {
            let reason = "a fault was asked for".to_owned();
            return Some(Wake { after: Duration::ZERO, result: Err(StoreError::Unavailable { reason }) });
        }
        if strikes(randomness, self.watch_spurious) {
            return Some(Wake { after: between(randomness, &self.watch_late_by), result: Ok(()) });
        }
        None
    }
}

/// Draws whether a fault of that probability strikes; draws nothing where the answer is certain.
pub(super) fn strikes(randomness: &dyn Randomness, probability: f64) -> bool {
    const STEPS: u64 = 1 << 53;
    if probability <= 0.0 {
        return false;
    }
    probability >= 1.0 || (randomness.below(STEPS) as f64) < probability * STEPS as f64
}

/// Draws a duration, to the microsecond.
pub(super) fn between(randomness: &dyn Randomness, range: &Range<Duration>) -> Duration {
    let span = range.end.saturating_sub(range.start).as_micros();
    range.start + Duration::from_micros(randomness.below(u64::try_from(span).unwrap_or(u64::MAX)))
}
