//! What time it is, for what expires by the wall clock: nobody's clock alone decides.
//!
//! With three clocks or more it is their median (of an even number the lower middle): one that is wrong doesn't matter. With
//! fewer, the clock is held against the store's versions, which advance about a million a second: it may be further
//! ahead of what was reckoned last by no more than they have advanced since, and a configured step. A clock beyond that
//! expires nothing. A clock that lags expires less, and harms nobody.

use std::time::Duration;

use penstock_types::{Incarnation, StoreVersion, TimestampMs};

use crate::keys::Keyspace;
use crate::keys::cluster::{ReckonedTime, decode_time, encode_time, time_key};
use crate::kv::{Isolation, Priority, SharedStore, StoreError, WriteConflict, limits};
use crate::visible;

/// Clocks of which the median is believed.
const MANY: usize = 3;

/// Why it can't be told what time it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The clocks are further ahead than they may be.
    #[error(
        "the clock shows {} s more than the metadata store's versions account for: nothing expires before an operator \
         accepts it or the clock is right",
        .by.as_secs()
    )]
    Ahead {
        /// How much further.
        by: Duration,
    },
    /// There is no clock.
    #[error("no agent tells what its clock shows")]
    NoClock,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The lower median.
fn median(clocks: &[TimestampMs]) -> Option<TimestampMs> {
    let mut sorted = clocks.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// What time it is at `version`, by `clocks` and what was reckoned `last`. Pure.
///
/// # Errors
/// [`TimeError::Ahead`], [`TimeError::NoClock`].
pub fn reckon(
    last: Option<ReckonedTime>,
    clocks: &[TimestampMs],
    (incarnation, version): (Incarnation, StoreVersion),
    step: Duration,
) -> Result<TimestampMs, TimeError> {
    let shown = median(clocks).ok_or(TimeError::NoClock)?;
    let Some(last) = last.filter(|_| clocks.len() < MANY) else { return Ok(shown) };
    let passed = match last.incarnation == incarnation {
        true => limits::time_of(version.get().saturating_sub(last.version.get())),
        // Versions of two lives can't be compared.
        false => Duration::ZERO,
    };
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let most = last.now_ms.saturating_add(milliseconds(passed)).saturating_add(milliseconds(step));
    if shown > most {
        let by = Duration::from_millis(shown.abs_diff(most));
        return Err(TimeError::Ahead { by });
    }
    Ok(shown)
}

/// Reckons, and writes it down.
///
/// # Errors
/// See [`TimeError`]. After an error of the store it may be tried again.
pub async fn now(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    clocks: &[TimestampMs],
    step: Duration,
) -> Result<TimestampMs, TimeError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let version = transaction.read_version().await?;
    let key = time_key(keyspace);
    let last = transaction.get(&key, Isolation::Serializable).await?;
    let last = decode_time(last.as_deref()).map_err(StoreError::from)?;
    let now_ms = reckon(last, clocks, (incarnation, version), step)?;
    // It never goes back: a clock that was set back and is right again hasn't jumped.
    let latest = last.map_or(now_ms, |last| last.now_ms.max(now_ms));
    let reckoned = ReckonedTime { now_ms: latest, incarnation, version };
    transaction.set(&key, &encode_time(reckoned), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(now_ms)
}

/// An operator says that the clocks are right.
///
/// # Errors
/// [`TimeError::NoClock`], and the store's.
pub async fn accept(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    clocks: &[TimestampMs],
) -> Result<TimestampMs, TimeError> {
    let now_ms = median(clocks).ok_or(TimeError::NoClock)?;
    let mut transaction = store.begin(Priority::Default);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let version = transaction.read_version().await?;
    let reckoned = ReckonedTime { now_ms, incarnation, version };
    transaction.set(&time_key(keyspace), &encode_time(reckoned), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(now_ms)
}

#[cfg(test)]
mod tests;
