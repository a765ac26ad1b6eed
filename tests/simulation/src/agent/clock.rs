//! An agent's wall clock: wrong, drifting, and moved by hand.

use std::sync::atomic::{AtomicI64, Ordering};

use penstock_types::{Clock, TimestampMs};

use crate::ambient::EPOCH_MS;
use crate::trace;

/// A clock.
#[derive(Debug)]
pub struct SimClock {
    /// How far it goes wrong, in millionths.
    drift_ppm: i64,
    offset_ms: AtomicI64,
}

impl SimClock {
    /// A clock that goes wrong by so many millionths, and shows so much more than it should.
    pub fn new(drift_ppm: i64, offset_ms: i64) -> Self {
        Self { drift_ppm, offset_ms: AtomicI64::new(offset_ms) }
    }

    /// Moves it.
    pub fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> TimestampMs {
        let elapsed = trace::elapsed().as_millis() as i64;
        EPOCH_MS + elapsed + elapsed * self.drift_ppm / 1_000_000 + self.offset_ms.load(Ordering::Relaxed)
    }
}
