//! Attempts under a deadline, with jittered pauses between them.

use std::future::Future;
use std::time::Duration;

use penstock_types::{Randomness, pause};
use tokio::time::{Instant, timeout};

use super::stats::BucketStats;
use super::{Bucket, BucketError, BucketOptions, Failure, Operation, Outcome};

/// The pauses between the attempts of one operation.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(options: &BucketOptions) -> Self {
        let longest = options.longest_backoff.max(Duration::from_millis(1));
        Self { next: options.first_backoff.clamp(Duration::from_millis(1), longest), longest }
    }

    /// The next pause: between half of it and all of it, so that agents that failed together don't return together.
    pub(super) fn next(&mut self, randomness: &dyn Randomness) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
        half + Duration::from_micros(randomness.below(half.as_micros() as u64 + 1))
    }
}

/// Which failures are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// All that may pass: the operation can be repeated.
    Whatever,
    /// Only those that surely did not happen.
    IfItDidNotHappen,
}

impl Bucket {
    /// Runs `attempt` until it succeeds, fails for good, or `deadline` is over. `bytes`: how many it moves at most.
    pub(super) async fn retrying<T, F>(
        &self,
        (operation, key): (Operation, &str),
        again: Again,
        bytes: u64,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, BucketError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = Backoff::new(&self.options);
        let mut outcome = Outcome::DidNotHappen;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let limit = self.time_for_attempt(bytes, deadline);
            let failure = match timeout(limit, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::timeout(limit),
            };
            self.stats.failed(&failure);
            outcome = outcome.or(failure.outcome);
            let retriable = failure.class.is_retriable()
                && (again == Again::Whatever || failure.outcome == Outcome::DidNotHappen);
            let wait = backoff.next(&*self.randomness);
            if !retriable || Instant::now() + wait >= deadline {
                return Err(Failure { outcome, ..failure }.into_error(operation, key, attempts));
            }
            tracing::debug!(%operation, key, class = %failure.class, ?wait, "object store request failed, trying again");
            BucketStats::add(&self.stats.retries, 1);
            pause(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_types::SeededRandomness;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_jittered() {
        let options = BucketOptions::default();
        let randomness = SeededRandomness::new(7);
        let mut backoff = Backoff::new(&options);
        let mut expected = options.first_backoff;
        for _ in 0..20 {
            let wait = backoff.next(&randomness);
            assert!(
                wait >= expected / 2 && wait <= expected + Duration::from_micros(1),
                "{wait:?} {expected:?}"
            );
            expected = (expected * 2).min(options.longest_backoff);
        }
    }
}
