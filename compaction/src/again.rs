//! Running again what may be run again.

use penstock_metadata::kv::StoreError;

/// How often a transaction is tried that conflicts, or whose outcome is unknown.
pub(crate) const ATTEMPTS: u32 = 8;

/// Runs what may be run again until it has an outcome. (A macro, since the future of a function that takes an
/// asynchronous closure can't be shown to be `Send`.)
macro_rules! again {
    ($run:expr) => {{
        let mut attempts = 0;
        loop {
            match $run.await {
                Err(error)
                    if penstock_metadata::kv::StoreError::is_retryable(&error)
                        && attempts < $crate::again::ATTEMPTS =>
                {
                    attempts += 1;
                    penstock_types::pause(std::time::Duration::from_millis(5 << attempts)).await;
                }
                settled => break settled,
            }
        }
    }};
}
pub(crate) use again;

/// Whether a transaction would have to be smaller.
pub(crate) fn is_too_much(error: &StoreError) -> bool {
    matches!(error, StoreError::TooOld | StoreError::TooLarge { .. })
}
