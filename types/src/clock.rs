//! Wall-clock time as an argument. Monotonic time is `tokio::time::Instant`, which a paused or simulated runtime
//! controls; the wall clock is only ever a hint (record timestamps, retention), never an order.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z, as in Kafka's record timestamps. Negative before 1970; -1 is "none".
pub type TimestampMs = i64;

/// Where "now" comes from.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The wall clock in milliseconds since the epoch. May jump, may go back.
    fn now_ms(&self) -> TimestampMs;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now_ms(&self) -> TimestampMs {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    /// A clock that shows `now_ms`.
    pub fn at(now_ms: TimestampMs) -> Self {
        Self(AtomicI64::new(now_ms))
    }
    /// Moves the clock by `by_ms` (which may be negative).
    pub fn advance_ms(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> TimestampMs {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits for `duration` of the runtime's (possibly simulated) time: for back-off and timers, never as a stand-in
/// for waiting on a condition.
#[expect(clippy::disallowed_methods, reason = "the named replacement")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline` of the runtime's time.
#[expect(clippy::disallowed_methods, reason = "the named replacement")]
pub async fn pause_until(deadline: tokio::time::Instant) {
    tokio::time::sleep_until(deadline).await;
}
