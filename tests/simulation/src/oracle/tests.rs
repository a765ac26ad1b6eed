use std::time::Duration;

use super::*;
use crate::ambient::EPOCH_MS;

const A: Partition = (Uuid::from_u128(1), 0);
const B: Partition = (Uuid::from_u128(1), 1);

fn id(number: u64) -> RecordId {
    RecordId { producer: 1, number }
}

fn oracle(sent: u64) -> Oracle {
    let oracle = Oracle::default();
    (0..sent).for_each(|number| oracle.sends(id(number), A, 1, true));
    oracle
}

fn finds(oracle: &Oracle, what: &str) {
    let violations = oracle.violations();
    assert!(violations.iter().any(|violation| violation.contains(what)), "{what}: {violations:?}");
}

#[test]
fn a_log_as_it_should_be_is_no_finding() {
    let oracle = oracle(3);
    for number in 0..3 {
        oracle.acknowledged(id(number), Some(number as i64));
        oracle.saw("c", A, number as i64, id(number));
        // Who reads again sees the same.
        oracle.saw("d", A, number as i64, id(number));
    }
    let began = oracle.tick();
    oracle.told_end("c", A, began, 3);
    oracle.final_check();
    assert_eq!(oracle.violations(), Vec::<String>::new());
}

#[test]
fn what_was_acknowledged_and_is_not_read_is_lost() {
    let oracle = oracle(2);
    oracle.acknowledged(id(0), None);
    oracle.final_check();
    finds(&oracle, "is lost");
}

#[test]
fn an_offset_names_one_record() {
    let oracle = oracle(2);
    oracle.acknowledged(id(0), Some(0));
    oracle.saw("c", A, 0, id(1));
    finds(&oracle, "offset 0");
}

#[test]
fn a_record_stands_once_or_as_often_as_it_was_sent() {
    let idempotent = oracle(1);
    idempotent.saw("c", A, 0, id(0));
    idempotent.saw("c", A, 1, id(0));
    finds(&idempotent, "stands at");
    let plain = Oracle::default();
    plain.sends(id(0), A, 1, false);
    plain.sends(id(0), A, 2, false);
    plain.saw("c", A, 0, id(0));
    plain.saw("c", A, 1, id(0));
    assert!(plain.violations().is_empty());
    plain.saw("c", A, 2, id(0));
    finds(&plain, "stands at");
}

#[test]
fn what_was_refused_is_not_in_the_log() {
    let oracle = oracle(1);
    oracle.refused(id(0));
    oracle.saw("c", A, 0, id(0));
    finds(&oracle, "refused 1 times");
}

#[test]
fn order_within_a_session_is_kept() {
    let oracle = oracle(2);
    oracle.saw("c", A, 0, id(1));
    oracle.saw("c", A, 1, id(0));
    oracle.final_check();
    finds(&oracle, "stands behind");
}

#[test]
fn records_that_nobody_sent_or_to_another_partition_are_found() {
    let nobody = oracle(1);
    nobody.saw("c", A, 0, id(7));
    finds(&nobody, "never sent");
    let elsewhere = oracle(1);
    elsewhere.saw("c", B, 0, id(0));
    finds(&elsewhere, "was sent to");
}

#[test]
fn holes_are_found() {
    let oracle = oracle(2);
    oracle.saw("c", A, 0, id(0));
    oracle.saw("c", A, 2, id(1));
    let began = oracle.tick();
    oracle.told_end("c", A, began, 3);
    oracle.final_check();
    finds(&oracle, "in a row");
}

#[test]
fn an_end_that_was_told_before_a_request_is_not_taken_back() {
    let oracle = oracle(1);
    let early = oracle.tick();
    let late = {
        oracle.told_end("c", A, early, 5);
        oracle.tick()
    };
    // Who asked before that may be told less.
    oracle.told_end("d", A, early, 4);
    assert!(oracle.violations().is_empty());
    oracle.told_end("d", A, late, 4);
    finds(&oracle, "behind 5");
}

#[test]
fn who_asks_behind_an_acknowledgement_is_told_an_end_behind_it() {
    let oracle = oracle(1);
    oracle.acknowledged(id(0), Some(0));
    let began = oracle.tick();
    oracle.told_end("c", A, began, 0);
    finds(&oracle, "behind 1");
}

#[test]
fn a_deleted_topic_takes_nothing() {
    let oracle = oracle(1);
    oracle.doomed(A.0);
    oracle.acknowledged(id(0), Some(0));
    oracle.deleted(A.0);
    assert!(oracle.violations().is_empty());
    oracle.sends(id(1), A, 1, true);
    oracle.acknowledged(id(1), Some(1));
    finds(&oracle, "after its topic was deleted");
}

#[test]
fn producer_ids_are_given_once() {
    let oracle = Oracle::default();
    oracle.took_id(1, 1000);
    oracle.took_id(2, 1000);
    finds(&oracle, "was given to");
}

#[test]
fn a_partition_has_one_owner_in_a_generation() {
    let oracle = Oracle::default();
    let assign =
        |generation, member| oracle.groups(|groups, _| groups.assigned("g", generation, member, &[A]));
    assign(1, "x");
    assign(2, "y");
    assert!(oracle.violations().is_empty());
    assign(2, "x");
    finds(&oracle, "belongs to");
}

#[test]
fn an_old_generation_commits_nothing_once_a_newer_one_is_known() {
    let oracle = Oracle::default();
    let early = oracle.tick();
    oracle.groups(|groups, now| groups.joined(now, "g", 2, "x"));
    oracle.groups(|groups, now| groups.committed((early, now), "g", 1, (A, 5)));
    assert!(oracle.violations().is_empty());
    let late = oracle.tick();
    oracle.groups(|groups, now| groups.committed((late, now), "g", 1, (A, 5)));
    finds(&oracle, "took an offset");
}

/// A member of generation 1 sends a commit.
fn commits(oracle: &Oracle, offset: i64) {
    oracle.groups(|groups, tick| {
        groups.commits(tick, "g", 1, (A, offset));
        Ok(())
    });
}

/// Its commit is acknowledged.
fn committed(oracle: &Oracle, offset: i64) {
    let began = oracle.tick();
    oracle.groups(|groups, now| groups.committed((began, now), "g", 1, (A, offset)));
}

#[test]
fn committed_offsets_do_not_go_back() {
    let oracle = Oracle::default();
    for offset in [5, 7] {
        commits(&oracle, offset);
        committed(&oracle, offset);
    }
    let began = oracle.tick();
    let read = |offset| oracle.groups(|groups, now| groups.read((began, now), "g", 2, A, offset));
    read(7);
    assert!(oracle.violations().is_empty());
    read(5);
    finds(&oracle, "was at 7");
    read(9);
    finds(&oracle, "nobody committed");
}

#[test]
fn a_commit_that_nobody_waited_for_may_come_late() {
    let oracle = Oracle::default();
    commits(&oracle, 5);
    commits(&oracle, 7);
    committed(&oracle, 7);
    for generation in [2, 3] {
        let began = oracle.tick();
        oracle.groups(|groups, now| groups.read((began, now), "g", generation, A, 5));
    }
    assert!(oracle.violations().is_empty());
}

/// Three records before the backup and two behind it; `end` is where the restored log ends.
fn restored(end: i64) -> Oracle {
    let oracle = oracle(5);
    (0..3).for_each(|number| oracle.acknowledged(id(number), Some(number as i64)));
    let mark = oracle.tick();
    (3..5).for_each(|number| oracle.acknowledged(id(number), Some(number as i64)));
    oracle.restored(mark, &BTreeMap::from([(A, end), (B, 0)]));
    oracle
}

#[test]
fn what_came_behind_a_backup_may_be_gone() {
    let oracle = restored(4);
    oracle.sends(id(9), A, 2, true);
    oracle.acknowledged(id(9), Some(4));
    for (offset, number) in [0, 1, 2, 3, 9].into_iter().enumerate() {
        oracle.saw("c", A, offset as i64, id(number));
    }
    oracle.final_check();
    assert_eq!(oracle.violations(), Vec::<String>::new());
}

#[test]
fn what_was_acknowledged_before_a_backup_is_there() {
    finds(&restored(2), "before the backup");
    let oracle = restored(3);
    (0..2).for_each(|number| oracle.saw("c", A, number as i64, id(number)));
    oracle.sends(id(9), A, 2, true);
    oracle.acknowledged(id(9), Some(2));
    finds(&oracle, "offset 2");
}

#[test]
fn nothing_of_the_older_life_comes_behind_a_restore() {
    let oracle = restored(3);
    oracle.saw("c", A, 3, id(3));
    finds(&oracle, "older life");
    let oracle = restored(3);
    oracle.acknowledged(id(4), Some(3));
    finds(&oracle, "older life");
}

#[test]
fn a_topic_of_the_backup_is_there_again() {
    let oracle = oracle(2);
    oracle.acknowledged(id(0), Some(0));
    let mark = oracle.tick();
    oracle.doomed(A.0);
    oracle.deleted(A.0);
    oracle.restored(mark, &BTreeMap::from([(A, 1)]));
    assert!(!oracle.is_doomed(A.0));
    oracle.final_check();
    assert_eq!(oracle.violations().len(), 0);
    let gone = oracle.tick();
    oracle.restored(gone, &BTreeMap::new());
    finds(&oracle, "is not there");
}

#[test]
fn groups_are_where_the_backup_has_them() {
    let oracle = Oracle::default();
    let commit = |offset| {
        oracle.groups(|groups, now| {
            groups.commits(now, "g", 1, (A, offset));
            Ok(())
        });
        let began = oracle.tick();
        oracle.groups(|groups, now| groups.committed((began, now), "g", 1, (A, offset)));
    };
    commit(5);
    let mark = oracle.tick();
    commit(7);
    oracle.restored(mark, &BTreeMap::from([(A, 6)]));
    let read = |offset| {
        let began = oracle.tick();
        oracle.groups(|groups, now| groups.read((began, now), "g", 1, A, offset));
    };
    read(5);
    assert_eq!(oracle.violations(), Vec::<String>::new());
    read(7);
    finds(&oracle, "nobody committed");
    read(-1);
    finds(&oracle, "and was at 5");
}

#[test]
fn the_first_record_since_a_time_is_the_first() {
    let told = |answer, finds_it: bool| {
        let oracle = oracle(3);
        [10, 30, 20].into_iter().zip(0..).for_each(|(time, offset)| oracle.saw_time(A, offset, time));
        let known = oracle.first_since(A, 15);
        assert_eq!(known, Some(1));
        oracle.told_first_since("c", A, 15, known, answer);
        assert_eq!(!oracle.violations().is_empty(), finds_it, "{answer:?}");
    };
    told((1, 30), false);
    // Read by nobody yet, and before the others.
    told((0, 15), true);
    told((2, 20), true);
    told((1, 29), true);
    told((-1, -1), true);
    let oracle = oracle(0);
    oracle.told_first_since("c", B, 15, None, (-1, -1));
    oracle.told_first_since("c", B, 15, None, (7, 15));
    assert_eq!(oracle.violations().len(), 0);
}

#[test]
fn records_carry_who_sent_them() {
    let value = id(3).value(40);
    assert_eq!(RecordId::of(&value), Some(id(3)));
    let mut changed = value.to_vec();
    changed[20] ^= 1;
    assert_eq!(RecordId::of(&changed), None);
    assert_eq!(RecordId::of(&value[..5]), None);
}

/// Two records of a key, at 0 and 1, made so many milliseconds ago; the second may be a tombstone.
fn compacted(is_tombstone: bool, ages_ms: [i64; 2]) -> Oracle {
    let oracle = Oracle::default();
    let (min_lag, delete_retention) = (Duration::from_millis(50), Duration::from_millis(100));
    oracle.compacts(A.0, Compacting { min_lag, delete_retention, eager: true, exact: true });
    for (number, age) in (0..2).zip(ages_ms) {
        oracle.keyed(id(number), Keyed { key: 7, is_tombstone: is_tombstone && number == 1 });
        oracle.made(id(number), EPOCH_MS - age);
        oracle.sends(id(number), A, 1, true);
        oracle.acknowledged(id(number), Some(number as i64));
    }
    oracle
}

#[test]
fn a_record_goes_for_a_newer_one_of_its_key() {
    let oracle = compacted(false, [90, 80]);
    oracle.found_gaps("c", A, 0..1);
    oracle.saw("c", A, 1, id(1));
    oracle.final_check();
    oracle.final_check_of_compaction(&BTreeMap::from([(A, 2)]));
    assert_eq!(oracle.violations(), Vec::<String>::new());
    oracle.found_gaps("c", A, 1..2);
    finds(&oracle, "nothing took its place");
    let young = compacted(false, [90, 40]);
    young.found_gaps("c", A, 0..1);
    finds(&young, "nothing took its place");
    let plain = oracle_of_one();
    plain.found_gaps("c", A, 0..1);
    finds(&plain, "comes next");
}

fn oracle_of_one() -> Oracle {
    let oracle = oracle(1);
    oracle.acknowledged(id(0), Some(0));
    oracle
}

#[test]
fn a_tombstone_goes_when_its_time_is_over() {
    let old = compacted(true, [160, 150]);
    old.found_gaps("c", A, 0..2);
    old.final_check();
    old.final_check_of_compaction(&BTreeMap::from([(A, 2)]));
    assert_eq!(old.violations(), Vec::<String>::new());
    let young = compacted(true, [160, 149]);
    young.found_gaps("c", A, 0..2);
    finds(&young, "a tombstone, is gone");
}

#[test]
fn what_nobody_saw_may_have_taken_a_records_place() {
    let oracle = compacted(false, [90, 80]);
    oracle.keyed(id(2), Keyed { key: 7, is_tombstone: true });
    oracle.made(id(2), EPOCH_MS - 70);
    oracle.sends(id(2), A, 1, true);
    oracle.unknown(id(2));
    let began = oracle.tick();
    oracle.told_end("c", A, began, 3);
    oracle.found_gaps("c", A, 0..3);
    oracle.final_check_of_compaction(&BTreeMap::new());
    assert_eq!(oracle.violations(), Vec::<String>::new());
    // Nor has it, where there was no room for it.
    let full = compacted(false, [90, 80]);
    full.keyed(id(2), Keyed { key: 7, is_tombstone: true });
    full.sends(id(2), A, 1, true);
    full.found_gaps("c", A, 0..2);
    finds(&full, "nothing took its place");
}

#[test]
fn what_was_gone_does_not_come_back() {
    let keyed = Some(Keyed { key: 7, is_tombstone: false });
    let deleted = compacted(true, [160, 150]);
    let before = deleted.tick();
    deleted.found_gaps("c", A, 1..2);
    deleted.saw_key("d", (A, 0), before, id(0), keyed);
    assert_eq!(deleted.violations(), Vec::<String>::new());
    let began = deleted.tick();
    deleted.saw_key("d", (A, 0), began, id(0), keyed);
    finds(&deleted, "is back");
    let other = compacted(false, [90, 80]);
    other.saw_key("d", (A, 0), before, id(0), Some(Keyed { key: 8, is_tombstone: false }));
    finds(&other, "was sent with");
}

#[test]
fn below_what_is_compacted_a_key_is_there_once() {
    let cleaned = |to: i64| {
        let oracle = compacted(false, [90, 80]);
        oracle.final_check_of_compaction(&BTreeMap::from([(A, to)]));
        (oracle.violations().len(), oracle.uncompacted(&BTreeMap::from([(A, to)])))
    };
    assert_eq!((cleaned(1), cleaned(2)), ((0, 1), (1, 0)));
}
