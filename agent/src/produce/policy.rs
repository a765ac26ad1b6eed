//! When to flush: cost-bounded latency, as a pure function of time.
//!
//! A budget of PUT requests per second fills a token bucket. A flush starts at once while there is a token (and an
//! upload slot, which the caller holds); else it waits for one and batches meanwhile. Idle topics so get the store's
//! own latency, busy ones get big objects, and the bill has a ceiling either way. A fixed interval is the other
//! setting: then a flush waits until its oldest batch has that age, or the object is full.

use std::time::Duration;

use tokio::time::Instant;

/// The setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FlushSetting {
    /// At once while the budget allows.
    CostBounded {
        /// PUT requests per second, above 0.
        put_per_second: f64,
        /// Tokens that may be saved up, at least 1.
        burst: f64,
    },
    /// At a fixed age, or when full.
    Interval(Duration),
}

/// What waits to be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When the oldest batch came.
    pub oldest: Instant,
    /// Whether it fills an object.
    pub full: bool,
}

/// The policy's state.
#[derive(Debug, Clone)]
pub struct FlushPolicy {
    setting: FlushSetting,
    tokens: f64,
    filled: Instant,
}

impl FlushPolicy {
    /// A policy with a full bucket at `now`.
    pub fn new(setting: FlushSetting, now: Instant) -> Self {
        let tokens = match setting {
            FlushSetting::CostBounded { burst, .. } => burst,
            FlushSetting::Interval(_) => 0.0,
        };
        Self { setting, tokens, filled: now }
    }

    /// When what waits may be flushed: `now` or later. Ask again when the time has come, or more has arrived.
    pub fn due(&mut self, waiting: Waiting, now: Instant) -> Instant {
        match self.setting {
            FlushSetting::CostBounded { put_per_second, .. } => {
                self.fill(now);
                let missing = 1.0 - self.tokens;
                if missing <= 0.0 { now } else { now + Duration::from_secs_f64(missing / put_per_second) }
            }
            FlushSetting::Interval(_) if waiting.full => now,
            FlushSetting::Interval(interval) => (waiting.oldest + interval).max(now),
        }
    }

    /// Pays for a flush that starts at `now`.
    pub fn spend(&mut self, now: Instant) {
        self.fill(now);
        if let FlushSetting::CostBounded { .. } = self.setting {
            self.tokens -= 1.0;
        }
    }

    fn fill(&mut self, now: Instant) {
        if let FlushSetting::CostBounded { put_per_second, burst } = self.setting {
            let passed = now.saturating_duration_since(self.filled).as_secs_f64();
            self.tokens = (self.tokens + passed * put_per_second).min(burst);
        }
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(oldest: Instant) -> Waiting {
        Waiting { oldest, full: false }
    }

    #[test]
    fn an_idle_agent_flushes_at_once() {
        let start = Instant::now();
        let mut policy =
            FlushPolicy::new(FlushSetting::CostBounded { put_per_second: 4.0, burst: 2.0 }, start);
        for _ in 0..2 {
            assert_eq!(policy.due(waiting(start), start), start);
            policy.spend(start);
        }
        let due = policy.due(waiting(start), start);
        assert_eq!(due, start + Duration::from_millis(250));
    }

    #[test]
    fn an_interval_waits_for_age_or_size() {
        let start = Instant::now();
        let interval = Duration::from_millis(250);
        let mut policy = FlushPolicy::new(FlushSetting::Interval(interval), start);
        assert_eq!(policy.due(waiting(start), start), start + interval);
        assert_eq!(policy.due(Waiting { oldest: start, full: true }, start), start);
    }

    proptest! {
        /// Whatever arrives whenever: in every stretch of time no more flushes start than budget and burst allow.
        #[test]
        fn the_budget_holds_over_every_stretch(
            rate in 0.5f64..200.0,
            burst in 1u8..20,
            gaps_ms in prop::collection::vec(0u64..400, 1..200),
        ) {
            let start = Instant::now();
            let burst = f64::from(burst);
            let mut policy = FlushPolicy::new(FlushSetting::CostBounded { put_per_second: rate, burst }, start);
            let mut now = start;
            let mut flushes: Vec<Instant> = Vec::new();
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                let due = policy.due(waiting(now), now);
                prop_assert!(due >= now);
                prop_assert!(due <= now + Duration::from_secs_f64(1.0 / rate + 0.001), "it waits for one token");
                now = due;
                policy.spend(now);
                flushes.push(now);
            }
            for (first, from) in flushes.iter().enumerate() {
                for (last, to) in flushes.iter().enumerate().skip(first) {
                    let allowed = burst + to.duration_since(*from).as_secs_f64() * rate + 1e-3;
                    prop_assert!(((last - first + 1) as f64) <= allowed + 1e-6 * rate + 0.01);
                }
            }
        }
    }
}
