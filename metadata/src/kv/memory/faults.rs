//! Faults of the memory store: what goes wrong, how often. Who is hit is drawn from the store's randomness.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;
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

/// A kind of fault, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// [`MemoryFaults::conflict`].
    Conflict,
    /// [`MemoryFaults::unknown_applied`], whatever became of the commit.
    UnknownApplied,
    /// [`MemoryFaults::unknown_not_applied`].
    UnknownNotApplied,
    /// [`MemoryFaults::unknown_applied_later`], as its maker is told.
    UnknownAppliedLater,
    /// [`MemoryFaults::too_old`].
    TooOld,
    /// [`MemoryFaults::future_version`].
    FutureVersion,
    /// [`MemoryFaults::throttled`].
    Throttled,
    /// [`MemoryFaults::unavailable`].
    Unavailable,
    /// [`MemoryFaults::watch_lost`].
    WatchLost,
    /// [`MemoryFaults::watch_late`].
    WatchLate,
    /// [`MemoryFaults::watch_spurious`].
    WatchSpurious,
    /// [`MemoryFaults::watch_error`].
    WatchError,
    /// [`MemoryFaults::version_jump`].
    VersionJump,
}

/// How often each kind of fault has struck. Counting draws nothing.
#[derive(Debug, Default)]
pub(super) struct FaultCounts(Mutex<BTreeMap<FaultKind, u64>>);

impl FaultCounts {
    /// Draws whether a fault of that probability strikes, and counts it if so.
    pub(super) fn strikes(&self, randomness: &dyn Randomness, kind: FaultKind, probability: f64) -> bool {
        let strikes = strikes(randomness, probability);
        if strikes {
            *self.0.lock().entry(kind).or_insert(0) += 1;
        }
        strikes
    }

    /// What was counted.
    pub(super) fn all(&self) -> BTreeMap<FaultKind, u64> {
        self.0.lock().clone()
    }
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
    pub(super) fn wake(&self, randomness: &dyn Randomness, counts: &FaultCounts) -> Option<Wake> {
        if counts.strikes(randomness, FaultKind::WatchLost, self.watch_lost) {
            return None;
        }
        if counts.strikes(randomness, FaultKind::WatchLate, self.watch_late) {
            return Some(Wake { after: between(randomness, &self.watch_late_by), result: Ok(()) });
        }
        Some(Wake::NOW)
    }

    /// How a watch resolves though nothing changed, if it does.
    pub(super) fn wake_unasked(&self, randomness: &dyn Randomness, counts: &FaultCounts) -> Option<Wake> {
        if counts.strikes(randomness, FaultKind::WatchError, self.watch_error) {
            let reason = "a fault was asked for".to_owned();
            return Some(Wake { after: Duration::ZERO, result: Err(StoreError::Unavailable { reason }) });
        }
        if counts.strikes(randomness, FaultKind::WatchSpurious, self.watch_spurious) {
            return Some(Wake { after: between(randomness, &self.watch_late_by), result: Ok(()) });
        }
        None
    }
}

/// Draws whether a fault of that probability strikes; draws nothing where the answer is certain.
fn strikes(randomness: &dyn Randomness, probability: f64) -> bool {
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
