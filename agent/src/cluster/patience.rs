//! What an agent that starts bears of its metadata store.

use std::time::Duration;

use penstock_metadata::kv::StoreError;
use penstock_types::pause;
use tokio::time::Instant;

/// For how long a starting agent tries again: as `initial.broker.registration.timeout.ms` of Apache Kafka.
const BEARS_FOR: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two warnings.
const SAYS_EVERY: Duration = Duration::from_secs(10);

/// The patience of an agent that starts while its store is away, slow or throttles: whoever runs it has nothing to do
/// but to wait, too, and an agent that ended would only be started again.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    says_at: Instant,
}

impl Patience {
    /// It begins now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { until: now + BEARS_FOR, says_at: now }
    }

    /// Bears that something failed with `error`: it may be tried again, after the pause that this takes. Says what is
    /// waited for.
    ///
    /// # Errors
    /// `error`, if it is not to be borne or has been for long enough.
    pub(crate) async fn bear(&mut self, error: StoreError) -> Result<(), StoreError> {
        let now = Instant::now();
        if !error.is_retryable() || now >= self.until {
            return Err(error);
        }
        if now >= self.says_at {
            self.says_at = now + SAYS_EVERY;
            let left = self.until - now;
            tracing::warn!(%error, "the metadata store fails; starting waits for it up to {} s more", left.as_secs());
        }
        pause(PAUSE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StoreError {
        StoreError::Unavailable { reason: "away".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_a_minute() {
        let (mut patience, begun) = (Patience::new(), Instant::now());
        while patience.bear(away()).await.is_ok() {}
        assert_eq!(begun.elapsed(), BEARS_FOR);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_wrong_is_not_borne() {
        let failed = StoreError::Failed { reason: "a row that can't be read".to_owned() };
        assert_eq!(Patience::new().bear(failed.clone()).await, Err(failed));
    }
}
