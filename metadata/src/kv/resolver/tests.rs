use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::kv::single_key;

/// Ranges by version, asked one by one.
#[derive(Default)]
struct NaiveHistory(Vec<(KeyRange, u64)>);

impl NaiveHistory {
    fn changed_since(&self, range: &KeyRange, version: u64) -> bool {
        range.start < range.end
            && self.0.iter().any(|(written, at)| {
                *at > version
                    && written.start < range.end
                    && range.start < written.end
                    && written.start < written.end
            })
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..4, 0..4)
}

#[derive(Debug, Clone)]
enum Step {
    Record(KeyRange),
    Forget(u64),
    Ask(KeyRange, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (key(), key()).prop_map(|(a, b)| Step::Record(a..b)),
        4 => key().prop_map(|key| Step::Record(single_key(&key))),
        2 => (1u64..30).prop_map(Step::Forget),
        8 => (key(), key(), 0u64..30).prop_map(|(a, b, age)| Step::Ask(a..b, age)),
    ]
}

proptest! {
    #[test]
    fn the_history_answers_as_a_list_of_ranges_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut history = ConflictHistory::default();
        let mut naive = NaiveHistory::default();
        let mut version = 100;
        let mut oldest = 0;
        for step in steps {
            match step {
                Step::Record(range) => {
                    version += 1;
                    history.record(range.clone(), version);
                    naive.0.push((range, version));
                }
                Step::Forget(age) => {
                    oldest = oldest.max(version - age);
                    history.forget(oldest);
                }
                Step::Ask(range, age) => {
                    let since = (version - age).max(oldest);
                    prop_assert_eq!(history.changed_since(&range, since), naive.changed_since(&range, since));
                }
            }
        }
    }
}

#[test]
fn the_history_stays_small() {
    let mut history = ConflictHistory::default();
    for version in 0..100_000u64 {
        history.record(single_key(&version.to_be_bytes()), version);
        history.forget(version.saturating_sub(100));
    }
    assert!(history.boundaries() < 1_000, "{} boundaries for a window of 100 keys", history.boundaries());
}

struct NoRows;

impl Latest for NoRows {
    fn get(&self, _key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
    fn keys(&self, _range: &KeyRange) -> Result<Vec<Bytes>, StoreError> {
        Ok(Vec::new())
    }
}

fn add(key: &[u8]) -> Commit {
    Commit {
        mutations: vec![Mutation::Add {
            key: Bytes::copy_from_slice(key),
            addend: Bytes::copy_from_slice(&1i64.to_le_bytes()),
        }],
        ..Commit::default()
    }
}

#[test]
fn a_group_shares_a_version_and_later_commits_see_earlier_ones() {
    let mut resolver = Resolver::default();
    let mut writes = Writes::new();
    resolver.begin_group(10);
    let mut resolve = |order, commit| {
        resolver.resolve(10, order, commit, &mut writes, &NoRows).expect("no rows can be read")
    };
    let writer = Commit { write_conflicts: vec![single_key(b"a")], ..add(b"n") };
    let reader = || Commit { read_version: Some(9), read_conflicts: vec![single_key(b"a")], ..add(b"n") };
    let first = resolve(0, reader()).expect("it comes before the write");
    let second = resolve(1, writer).expect("it read nothing");
    assert_eq!(resolve(2, reader()), Err(StoreError::Conflict));
    let fourth = resolve(3, add(b"n")).expect("it is blind");
    let stamps = [first, second, fourth].map(|committed| committed.stamp.expect("a stamp"));
    assert_eq!(stamps.map(|stamp| stamp.version().get()), [10; 3]);
    assert_eq!(stamps.map(|stamp| stamp.order()), [0, 1, 3]);
    let sum = writes[&b"n"[..]].as_deref().expect("a number");
    assert_eq!(sum, 3i64.to_le_bytes());
}

#[test]
fn what_left_the_window_is_too_old() {
    let mut resolver = Resolver::default();
    let mut writes = Writes::new();
    let version = 3 * WINDOW;
    resolver.begin_group(version);
    let reads = |read_version| Commit {
        read_version: Some(read_version),
        read_conflicts: vec![single_key(b"a")],
        ..add(b"n")
    };
    let mut resolve =
        |commit| resolver.resolve(version, 0, commit, &mut writes, &NoRows).expect("no rows can be read");
    assert_eq!(resolve(reads(2 * WINDOW - 1)), Err(StoreError::TooOld));
    assert!(resolve(reads(2 * WINDOW)).is_ok());
    assert!(resolve(Commit { read_version: Some(1), ..add(b"n") }).is_ok(), "without reads there is no age");
}

#[test]
fn dropped_watches_leave_no_trace() {
    let watches = std::sync::Arc::new(Watches::default());
    let (pending, watch) = watches.prepare(b"a");
    watches.arm(pending, None, || Ok(None));
    let (other, other_watch) = watches.prepare(b"a");
    watches.arm(other, None, || Ok(None));
    assert_eq!(watches.armed(), 2);
    drop(watch);
    assert_eq!(watches.armed(), 1);
    drop(other_watch);
    assert_eq!(watches.armed(), 0);
    // Dropped before it is armed, it never is.
    let (pending, watch) = watches.prepare(b"a");
    drop(watch);
    watches.arm(pending, None, || Ok(None));
    assert_eq!(watches.armed(), 0);
}
