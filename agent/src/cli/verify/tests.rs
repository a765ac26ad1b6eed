use std::time::Duration;

use proptest::prelude::*;

use super::ledger::{Follow, Ledger, Violation};
use super::record::{self, Content, Identity};

fn identity(producer: u32, sequence: u64) -> Identity {
    Identity { producer, sequence }
}

/// What a run finds in a log, with everything below acknowledged at the offset of its place in `acknowledged`.
fn judged(acknowledged: &[(u32, u64)], log: &[(u32, u64)]) -> Vec<Violation> {
    let ledger = Ledger::new(1, 2);
    for (offset, (producer, sequence)) in (0..).zip(acknowledged) {
        while ledger.next(0, *producer).sequence < *sequence {}
        ledger.acknowledged(0, identity(*producer, *sequence), Some(offset));
    }
    let mut follow = Follow::default();
    for (offset, (producer, sequence)) in (0..).zip(log) {
        let identity = identity(*producer, *sequence);
        for violation in follow.step(offset).into_iter().chain(follow.record(identity)) {
            ledger.found(violation, String::new());
        }
        ledger.read(0, offset, identity);
    }
    ledger.end(0, 0, log.len() as u64);
    ledger.judge(0, follow.next);
    ledger.violations().into_keys().collect()
}

#[test]
fn logs_are_judged() {
    use Violation::{Duplicated, Lost, Misplaced, Reordered};
    let acknowledged = [(0, 0), (1, 0), (0, 1)];
    assert_eq!(judged(&acknowledged, &acknowledged), []);
    assert_eq!(judged(&acknowledged, &[(0, 0), (1, 0)]), [Lost]);
    assert_eq!(judged(&acknowledged, &[(0, 0), (1, 0), (0, 1), (1, 0)]), [Duplicated]);
    assert_eq!(judged(&acknowledged, &[(0, 0), (0, 1), (1, 0)]), [Misplaced]);
    assert_eq!(judged(&acknowledged, &[(0, 1), (1, 0), (0, 0)]), [Reordered, Misplaced]);
    // Where the offset wasn't told, it has to be somewhere.
    for (log, found) in [(vec![(0, 7), (0, 0)], vec![]), (vec![(0, 7)], vec![Lost])] {
        let ledger = Ledger::new(1, 1);
        let sent = ledger.next(0, 0);
        ledger.acknowledged(0, sent, None);
        for (offset, (producer, sequence)) in (0..).zip(&log) {
            ledger.read(0, offset, identity(*producer, *sequence));
        }
        ledger.end(0, 0, log.len() as u64);
        ledger.judge(0, log.len() as u64);
        assert_eq!(ledger.violations().into_keys().collect::<Vec<_>>(), found);
    }
    // What couldn't be read is not lost.
    let ledger = Ledger::new(1, 1);
    let sent = ledger.next(0, 0);
    ledger.acknowledged(0, sent, Some(5));
    ledger.end(0, 0, 6);
    ledger.judge(0, 3);
    assert!(ledger.violations().is_empty());
    // What was never acknowledged may be there, once.
    assert_eq!(judged(&[(0, 0)], &[(0, 0), (0, 1), (1, 0)]), []);
    assert_eq!(judged(&[(0, 0)], &[(0, 0), (0, 1), (0, 1)]), [Duplicated]);
    // What was given up leaves no gap that matters.
    assert_eq!(judged(&[(0, 0), (0, 3)], &[(0, 0), (0, 3)]), []);
}

#[test]
fn offsets_are_followed() {
    let mut follow = Follow::default();
    assert_eq!(follow.step(0), None);
    assert_eq!(follow.step(2), Some(Violation::Hole));
    assert_eq!(follow.step(2), Some(Violation::OffsetWentBack));
    assert_eq!(follow.step(3), None);
    let ledger = Ledger::new(1, 1);
    ledger.read(0, 5, identity(0, 1));
    ledger.read(0, 5, identity(0, 1));
    assert!(ledger.violations().is_empty());
    ledger.read(0, 5, identity(0, 2));
    assert_eq!(ledger.violations().into_keys().collect::<Vec<_>>(), [Violation::OffsetChanged]);
}

#[test]
fn ends_never_go_back() {
    let ledger = Ledger::new(1, 1);
    let sent = ledger.next(0, 0);
    ledger.acknowledged(0, sent, Some(6));
    assert_eq!(ledger.least_end(0), 7);
    ledger.end(0, 7, 9);
    assert_eq!(ledger.least_end(0), 9);
    assert!(ledger.violations().is_empty());
    ledger.end(0, 9, 8);
    assert_eq!(ledger.violations()[&Violation::EndWentBack].count, 1);
}

#[test]
fn times_have_units() {
    let good = ["90", "90s", "1.5m", "2h", "250ms"].map(|text| super::duration(text).expect("a time"));
    assert_eq!(good, [90_000, 90_000, 90_000, 7_200_000, 250].map(Duration::from_millis));
    for bad in ["", "m", "0", "-1s", "1w", "1e9h", "NaN"] {
        super::duration(bad).expect_err(bad);
    }
}

proptest! {
    #[test]
    fn a_record_is_known_again_and_any_damage_is_seen(
        run: u64, producer: u32, sequence: u64, partition in 0..1000i32, length in 64usize..400, at: u16, flip in 1u8..,
    ) {
        let mut value = vec![0; length];
        let written = identity(producer, sequence);
        record::write(&mut value, run, partition, written);
        prop_assert_eq!(record::read(Some(&value), run, partition), Content::Sound(written));
        prop_assert_eq!(record::read(Some(&value), run ^ 1, partition), Content::Foreign);
        prop_assert_eq!(record::read(Some(&value), run, partition + 1), Content::Foreign);
        let at = usize::from(at) % length;
        value[at] ^= flip;
        prop_assert!(!matches!(record::read(Some(&value), run, partition), Content::Sound(_)));
        prop_assert_eq!(record::read(None, run, partition), Content::Foreign);
    }
}
