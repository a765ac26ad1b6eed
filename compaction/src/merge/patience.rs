//! What this agent remembers of units that failed: when each is begun again, and when what can't be read of it is given up.
//! It is forgotten with the process.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_metadata::keys::merge_queue::CommitPlace;
use penstock_metadata::keys::merge_unit::Unit;
use tokio::time::Instant;

/// A unit that fails is begun again after at most so long.
const LONGEST: Duration = Duration::from_secs(3_600);
/// How often it is found that something isn't there, or isn't what the log says, before that is believed.
const LOOKS: u32 = 3;
/// How often it is asked for what is refused: with the waits in between, most of a day.
const ASKS: u32 = 24;

#[derive(Debug, Clone, Copy)]
struct Failing {
    failures: u32,
    /// Those of them of which nothing but unreadable batches was the reason.
    unreadable: u32,
    not_before: Instant,
}

/// Units that failed, by level and last place.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<(u8, CommitPlace), Failing>);

impl Patience {
    /// Whether a unit may be begun (again).
    pub(super) fn may_begin(&self, unit: &Unit, now: Instant) -> bool {
        self.0.get(&(unit.level, unit.last)).is_none_or(|failing| failing.not_before <= now)
    }

    /// A unit has failed: it waits for `interval`, twice as long each time.
    pub(super) fn failed(&mut self, unit: &Unit, interval: Duration, now: Instant) {
        let failing = self.of(unit, now);
        let wait = interval.saturating_mul(1 << failing.failures.min(20)).min(LONGEST);
        failing.failures += 1;
        failing.not_before = now + wait;
    }

    /// Some of a unit can't be read, and all the rest is merged. Whether to leave it at that.
    pub(super) fn is_enough(&mut self, unit: &Unit, is_refused: bool, now: Instant) -> bool {
        let failing = self.of(unit, now);
        failing.unreadable += 1;
        failing.unreadable >= if is_refused { ASKS } else { LOOKS }
    }

    /// A unit is done.
    pub(super) fn forget(&mut self, unit: &Unit) {
        self.0.remove(&(unit.level, unit.last));
    }

    /// Forgets what others have done of a level.
    pub(super) fn keep(&mut self, level: u8, units: &[Unit]) {
        self.0.retain(|(of, last), _| *of != level || units.iter().any(|unit| unit.last == *last));
    }

    fn of(&mut self, unit: &Unit, now: Instant) -> &mut Failing {
        let none = Failing { failures: 0, unreadable: 0, not_before: now };
        self.0.entry((unit.level, unit.last)).or_insert(none)
    }
}

#[cfg(test)]
mod tests {
    use penstock_types::{Incarnation, Versionstamp};

    use super::*;

    fn unit(level: u8, last: u8) -> Unit {
        let place =
            CommitPlace { incarnation: Incarnation::FIRST, stamp: Versionstamp::from_bytes([last; 10]) };
        Unit { level, first: place, last: place, begins: place, objects: 1, bytes: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_fails_waits_longer_each_time() {
        let (mut patience, interval) = (Patience::default(), Duration::from_secs(10));
        let (one, other) = (unit(0, 1), unit(0, 2));
        let mut waits = Vec::new();
        for _ in 0..12 {
            let now = Instant::now();
            patience.failed(&one, interval, now);
            assert!(patience.may_begin(&other, now) && !patience.may_begin(&one, now));
            while !patience.may_begin(&one, Instant::now()) {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            waits.push(now.elapsed().as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600, 3_600]);
        patience.failed(&one, interval, Instant::now());
        patience.keep(1, &[]);
        assert!(!patience.may_begin(&one, Instant::now()));
        patience.keep(0, &[other]);
        assert!(patience.may_begin(&one, Instant::now()), "somebody else has ended it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_asked_for_longer_than_what_is_gone() {
        let mut patience = Patience::default();
        let looks = |patience: &mut Patience, unit: &Unit, is_refused| {
            (1..100).find(|_| patience.is_enough(unit, is_refused, Instant::now())).expect("an end")
        };
        assert_eq!(looks(&mut patience, &unit(0, 1), false), 3);
        assert_eq!(looks(&mut patience, &unit(1, 1), true), 24);
        patience.forget(&unit(0, 1));
        assert_eq!(looks(&mut patience, &unit(0, 1), false), 3);
    }
}
