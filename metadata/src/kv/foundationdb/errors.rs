//! FoundationDB's errors by what they mean to a caller of the seam.
//!
//! The codes and their meanings: <https://apple.github.io/foundationdb/api-error-codes.html>.
//!
//! Invariant: a commit that FoundationDB doesn't say is refused may have happened. Only an error that is known to be a
//! refusal is [`Outcome::DidNotHappen`](crate::kv::Outcome::DidNotHappen).

use ::foundationdb::FdbError;

use crate::kv::{StoreError, limits};

/// An error of anything but a commit.
pub(super) fn of_read(error: FdbError) -> StoreError {
    refusal(error).unwrap_or_else(|| match error.code() {
        // Illegal calls: a bug here, or a cluster that is set up in a way that can't serve.
        2000..=2999 => StoreError::Failed { reason: text(error) },
        _ => unavailable(error),
    })
}

/// An error of a commit of so many bytes.
pub(super) fn of_commit(error: FdbError) -> StoreError {
    match refusal(error) {
        Some(refused) => refused,
        // Refused by the client before anything was sent.
        None if (2000..=2999).contains(&error.code()) => StoreError::Failed { reason: text(error) },
        // commit_unknown_result (1021, 1022) says so; cancelled (1025), timed out (1031) and a change of the cluster's
        // version (1039) leave a commit under way behind; of all others nothing is known.
        None => StoreError::CommitUnknown,
    }
}

/// What says for sure that nothing happened and nothing will; `None` if the error doesn't say that of a commit.
fn refusal(error: FdbError) -> Option<StoreError> {
    let too_large = |what, limit| StoreError::TooLarge { what, bytes: limit + 1, limit };
    Some(match error.code() {
        // not_committed
        1020 => StoreError::Conflict,
        // transaction_too_old
        1007 => StoreError::TooOld,
        // future_version; process_behind: a storage server lags behind the versions it is asked for.
        1009 | 1037 => StoreError::FutureVersion,
        // batch_transaction_throttled, tag_throttled, proxy_tag_throttled; proxies without memory for more commits
        // and read versions; a client with too many watches.
        1051 | 1213 | 1223 | 1042 | 1078 | 1032 => StoreError::Throttled,
        // database_locked: an operator holds it, for a restore or a switch.
        1038 => unavailable(error),
        2101 => too_large("a transaction", limits::TRANSACTION_BYTES),
        2102 => too_large("a key", limits::KEY_BYTES),
        2103 => too_large("a value", limits::VALUE_BYTES),
        _ => return None,
    })
}

fn unavailable(error: FdbError) -> StoreError {
    StoreError::Unavailable { reason: text(error) }
}

fn text(error: FdbError) -> String {
    format!("FoundationDB: {} ({})", error.message(), error.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Outcome;

    fn commit(code: i32) -> StoreError {
        of_commit(FdbError::from_code(code))
    }

    fn read(code: i32) -> StoreError {
        of_read(FdbError::from_code(code))
    }

    #[test]
    fn refusals_mean_the_same_wherever_they_come_up() {
        for (code, error) in [
            (1020, StoreError::Conflict),
            (1007, StoreError::TooOld),
            (1009, StoreError::FutureVersion),
            (1037, StoreError::FutureVersion),
            (1213, StoreError::Throttled),
            (1223, StoreError::Throttled),
            (1051, StoreError::Throttled),
            (1042, StoreError::Throttled),
            (1078, StoreError::Throttled),
            (1032, StoreError::Throttled),
        ] {
            assert_eq!((commit(code), read(code)), (error.clone(), error), "{code}");
        }
        assert!(matches!(commit(1038), StoreError::Unavailable { .. }));
        for code in [2101, 2102, 2103] {
            assert!(matches!(commit(code), StoreError::TooLarge { .. }), "{code}");
        }
        for code in [2004, 2005, 2017] {
            assert!(!commit(code).is_retryable() && !read(code).is_retryable(), "{code}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_refused_may_have_happened() {
        // Unknown results, cancelled, timed out, another cluster version, broken connections, failures inside.
        for code in [1021, 1022, 1025, 1031, 1039, 1026, 1030, 1100, 1101, 1500, 1510, 4100, 99_999] {
            assert_eq!(commit(code), StoreError::CommitUnknown, "{code}");
            assert_eq!(read(code).outcome(), Outcome::DidNotHappen, "{code}");
            assert!(read(code).is_retryable(), "{code}");
        }
    }

    /// The library's own opinion, for every code that it knows.
    #[test]
    fn the_table_agrees_with_the_library() {
        for code in 1..5_000 {
            let error = FdbError::from_code(code);
            if error.is_maybe_committed() {
                assert_eq!(of_commit(error).outcome(), Outcome::MayHaveHappened, "{code}");
            }
            if error.is_retryable_not_committed() {
                assert!(of_commit(error).is_retryable(), "{code}");
                assert!(of_read(error).is_retryable(), "{code}");
            }
            if of_commit(error).outcome() == Outcome::DidNotHappen {
                assert!(!error.is_maybe_committed(), "{code}");
            }
        }
    }
}
