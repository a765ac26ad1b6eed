//! Whether clients are still here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When clients last sent records or fetches. Cheap enough for every request.
#[derive(Debug)]
pub struct Traffic {
    since: Instant,
    last_ms: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { since: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Traffic {
    /// A client sends records or fetches.
    pub fn touch(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Whether none has for so long.
    pub fn is_quiet_for(&self, span: Duration) -> bool {
        let quiet = self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed));
        Duration::from_millis(quiet) >= span
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
