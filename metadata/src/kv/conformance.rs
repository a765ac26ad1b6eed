//! What every store must do, as named cases over a [`SharedStore`]: the contract of [`super`], executable.
//!
//! Each case works under a random prefix of its own, so that cases and runs share a store. None relies on exact
//! versions, on two commits having different ones, or on how long anything takes.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use penstock_types::Randomness;

use super::{
    Committed, Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, Transaction,
    WriteConflict, prefixed,
};

mod conflicts;
mod mutations;
mod reads;
mod stamps;
mod versions;
mod watches;

/// What the suite needs to know of a store.
pub struct Setup {
    /// The store.
    pub store: SharedStore,
    /// Where prefixes and schedules come from.
    pub randomness: Arc<dyn Randomness>,
    /// Lets a little more than [`super::limits::TRANSACTION_AGE`] pass; `None` skips what needs it.
    pub let_transactions_age: Option<fn() -> BoxFuture<'static, ()>>,
}

/// One thing that a store must do.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    run: fn(Context) -> BoxFuture<'static, ()>,
}

macro_rules! cases {
    ($($module:ident :: $case:ident),* $(,)?) => {
        &[$(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |context| Box::pin($module::$case(context)),
        }),*]
    };
}

/// All cases.
pub const CASES: &[Case] = cases![
    reads::keys_sort_as_unsigned_bytes,
    reads::absent_and_empty_values_differ,
    reads::ranges_are_half_open,
    reads::pages_end_at_their_limit,
    reads::pages_end_at_their_bytes,
    reads::several_reads_answer_in_order,
    reads::all_reads_see_one_version,
    reads::own_writes_are_not_seen,
    reads::what_a_commit_wrote_is_read_at_its_version,
    conflicts::a_changed_read_conflicts,
    conflicts::an_absent_key_that_appears_conflicts,
    conflicts::write_skew_is_refused,
    conflicts::phantoms_conflict,
    conflicts::a_cleared_range_conflicts,
    conflicts::a_page_conflicts_as_far_as_it_reached,
    conflicts::snapshot_reads_do_not_conflict,
    conflicts::blind_writes_do_not_conflict,
    conflicts::writes_may_disturb_nobody,
    conflicts::stamped_keys_disturb_their_range,
    conflicts::conflict_ranges_can_be_added,
    conflicts::read_only_transactions_never_conflict,
    conflicts::own_writes_do_not_conflict,
    conflicts::what_was_read_after_the_write_does_not_conflict,
    conflicts::nothing_remains_of_a_refused_transaction,
    conflicts::concurrent_increments_are_serializable,
    mutations::mutations_apply_in_order,
    mutations::additions_wrap_and_start_at_zero,
    mutations::maxima_are_unsigned_and_start_at_zero,
    mutations::numbers_are_padded_and_cut,
    mutations::numbers_side_by_side_are_added,
    mutations::ranges_are_cleared_to_their_bounds,
    mutations::a_cleared_range_takes_earlier_writes_of_its_transaction,
    mutations::concurrent_additions_all_count,
    stamps::stamps_stand_in_keys_and_values,
    stamps::one_transaction_has_one_stamp,
    stamps::stamps_are_unique_and_ordered,
    stamps::a_commit_is_seen_at_its_own_version,
    stamps::rows_and_counter_agree_at_every_version,
    stamps::read_only_commits_have_no_stamp,
    versions::read_versions_see_every_commit_that_returned,
    versions::an_old_version_can_be_read,
    versions::a_version_ahead_is_refused,
    versions::large_keys_and_values_are_refused,
    versions::large_transactions_are_refused,
    versions::keys_outside_are_refused,
    versions::inverted_ranges_are_refused,
    versions::old_transactions_are_refused,
    watches::a_change_wakes,
    watches::a_removal_wakes,
    watches::other_keys_do_not_wake,
    watches::a_change_before_arming_wakes,
    watches::a_watch_without_commit_fails,
    watches::a_watch_may_come_with_writes,
    watches::all_watchers_wake,
    watches::no_change_is_missed,
];

/// Runs every case, one after the other.
///
/// # Panics
/// Where the store fails one; the case's name was printed before.
pub async fn run(setup: Setup) {
    for case in CASES {
        run_case(&setup, case).await;
    }
}

/// Runs one case.
///
/// # Panics
/// Where the store fails it.
pub async fn run_case(setup: &Setup, case: &Case) {
    println!("conformance of {}: {}", setup.store.name(), case.name);
    let mut prefix = b"conformance/".to_vec();
    prefix.extend_from_slice(&setup.randomness.next_u64().to_be_bytes());
    let context = Context {
        store: Arc::clone(&setup.store),
        randomness: Arc::clone(&setup.randomness),
        let_transactions_age: setup.let_transactions_age,
        prefix,
    };
    let cleanup = context.clone();
    (case.run)(context).await;
    cleanup.write(|transaction| transaction.clear_range(cleanup.everything(), WriteConflict::Yes)).await;
}

/// A case's store and prefix.
#[derive(Clone)]
struct Context {
    store: SharedStore,
    randomness: Arc<dyn Randomness>,
    let_transactions_age: Option<fn() -> BoxFuture<'static, ()>>,
    prefix: Vec<u8>,
}

impl Context {
    fn key(&self, suffix: impl AsRef<[u8]>) -> Vec<u8> {
        [&self.prefix, suffix.as_ref()].concat()
    }

    fn range(&self, start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> KeyRange {
        self.key(start)..self.key(end)
    }

    fn everything(&self) -> KeyRange {
        prefixed(&self.prefix)
    }

    fn begin(&self) -> Box<dyn Transaction> {
        self.store.begin(Priority::Default)
    }

    /// Commits writes that may be repeated, whatever it takes.
    async fn write(&self, write: impl Fn(&mut dyn Transaction)) -> Committed {
        loop {
            let mut transaction = self.begin();
            write(&mut *transaction);
            match transaction.commit().await {
                Ok(committed) => return committed,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    }

    async fn set(&self, suffix: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Committed {
        let key = self.key(suffix);
        self.write(|transaction| transaction.set(&key, value.as_ref(), WriteConflict::Yes)).await
    }

    /// A key's value at a fresh read version.
    async fn get(&self, suffix: impl AsRef<[u8]>) -> Option<Bytes> {
        let key = self.key(suffix);
        self.begin().get(&key, Isolation::Snapshot).await.expect("a read")
    }

    async fn number(&self, suffix: impl AsRef<[u8]>) -> Option<i64> {
        let value = self.get(suffix).await?;
        Some(i64::from_le_bytes(value.as_ref().try_into().expect("8 bytes")))
    }

    /// Everything under the prefix, as (suffix, value).
    async fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.rows_seen_by(&mut *self.begin()).await
    }

    async fn rows_seen_by(&self, transaction: &mut dyn Transaction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut range = self.everything();
        let mut rows = Vec::new();
        loop {
            let options = RangeOptions::page(1_000, Isolation::Snapshot);
            let page = transaction.range(range.clone(), options).await.expect("a page");
            rows.extend(
                page.rows.iter().map(|row| (row.key[self.prefix.len()..].to_vec(), row.value.to_vec())),
            );
            match page.rows.last() {
                Some(last) if page.more => range.start = super::single_key(&last.key).end,
                _ => return rows,
            }
        }
    }

    async fn suffixes(&self) -> Vec<Vec<u8>> {
        self.rows().await.into_iter().map(|(suffix, _)| suffix).collect()
    }
}

/// A serializable page.
fn page(limit: usize) -> RangeOptions {
    RangeOptions::page(limit, Isolation::Serializable)
}

fn assert_conflict(result: Result<Committed, StoreError>) {
    assert_eq!(result, Err(StoreError::Conflict));
}

fn assert_committed(result: Result<Committed, StoreError>) -> Committed {
    result.expect("nothing conflicts")
}
