//! How fast a job may go, and how long one of its uploads may take.

use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::pause_until;
use tokio::time::Instant;

/// How long an upload may take, whatever its size.
const PUT_DEADLINE: Duration = Duration::from_secs(300);
/// And a second for so many bytes of it.
const SLOWEST_PUT: u64 = 256 * 1024;

/// How long an upload of so many bytes may take.
pub(crate) fn put_deadline(bytes: u64) -> Duration {
    PUT_DEADLINE + Duration::from_secs(bytes / SLOWEST_PUT)
}

/// Requests and bytes a second, whichever takes longer. What is taken is paid for by those that come next.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    requests_per_second: u32,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64, requests_per_second: u32) -> Self {
        let (bytes_per_second, requests_per_second) = (bytes_per_second.max(1), requests_per_second.max(1));
        Self { bytes_per_second, requests_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until what was taken before is paid for.
    pub(crate) async fn take(&self, requests: u64, bytes: u64) {
        let begins_at = {
            let mut free_at = self.free_at.lock();
            let now = Instant::now();
            let begins_at = free_at.map_or(now, |free_at| free_at.max(now));
            *free_at = Some(begins_at + self.cost(requests, bytes));
            begins_at
        };
        pause_until(begins_at).await;
    }

    fn cost(&self, requests: u64, bytes: u64) -> Duration {
        let of_bytes = bytes as f64 / self.bytes_per_second as f64;
        let of_requests = requests as f64 / f64::from(self.requests_per_second);
        // Never longer than a sane run of the job.
        Duration::from_secs_f64(of_bytes.max(of_requests).min(86_400.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_counts() {
        let pace = Pace::new(1_000, 10);
        let begun = Instant::now();
        pace.take(1, 2_000).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        pace.take(40, 100).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        pace.take(0, 0).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(6));
        // Time that nobody used isn't saved.
        tokio::time::advance(Duration::from_secs(100)).await;
        pace.take(10, 0).await;
        pace.take(0, 0).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(107));
    }
}
