//! When a slow upload deserves a second copy: after the tail latency of its size class, within a budget.
//!
//! A latency is recorded only of the request that was answered. A copy that the hedge overtook is not: counting how
//! long it had taken so far would push the delay up each time that a hedge helps, until none is sent any more.
//! Without it the delay settles where the hedged share is what the quantile leaves, plus what hangs.

use std::time::Duration;

use parking_lot::Mutex;

use super::histogram::RecentLatencies;
use super::options::HedgeOptions;

/// Powers of two of a byte; larger uploads share the last class.
const CLASSES: usize = 34;

/// The tail latency by size class, and the budget.
#[derive(Debug)]
pub(super) struct Hedging {
    options: HedgeOptions,
    classes: Vec<Mutex<RecentLatencies>>,
    /// In thousandths of a hedge.
    tokens: Mutex<u64>,
}

const TOKEN: u64 = 1000;

impl Hedging {
    pub(super) fn new(options: HedgeOptions) -> Self {
        let classes = (0..CLASSES).map(|_| Mutex::default()).collect();
        // A start with one hedge in hand: the first slow upload shouldn't have to wait for nineteen others.
        let tokens = Mutex::new(u64::from(options.budget_burst).min(1) * TOKEN);
        Self { options, classes, tokens }
    }

    /// How long to wait for the first copy of an upload of `bytes`; `None`: hedging is off.
    pub(super) fn delay(&self, bytes: u64) -> Option<Duration> {
        if !self.options.enabled {
            return None;
        }
        let recent = self.classes[class_of(bytes)].lock();
        let tail = if recent.samples() < self.options.minimum_samples.max(1) {
            self.options.initial_delay
        } else {
            recent.quantile(self.options.quantile).unwrap_or(self.options.initial_delay)
        };
        Some(tail.max(self.options.shortest_delay))
    }

    /// The latency of an answered request.
    pub(super) fn record(&self, bytes: u64, latency: Duration) {
        self.classes[class_of(bytes)].lock().record(latency);
    }

    /// An upload begins: it pays its share into the budget.
    pub(super) fn earn(&self) {
        let share = (self.options.budget_percent.clamp(0.0, 100.0) / 100.0 * TOKEN as f64) as u64;
        let mut tokens = self.tokens.lock();
        *tokens = (*tokens + share).min(u64::from(self.options.budget_burst) * TOKEN);
    }

    /// Takes one hedge from the budget, if there is one.
    pub(super) fn take(&self) -> bool {
        let mut tokens = self.tokens.lock();
        if *tokens < TOKEN {
            return false;
        }
        *tokens -= TOKEN;
        true
    }
}

fn class_of(bytes: u64) -> usize {
    let class = bytes.checked_next_power_of_two().map_or(u64::BITS, u64::ilog2);
    (class as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_follows_the_size_class() {
        let hedging = Hedging::new(HedgeOptions::default());
        assert_eq!(hedging.delay(1000), Some(Duration::from_secs(1)), "nothing known yet");
        for _ in 0..100 {
            hedging.record(1000, Duration::from_millis(5));
            hedging.record(8 << 20, Duration::from_millis(80));
        }
        assert_eq!(hedging.delay(900), Some(Duration::from_millis(25)), "the floor");
        let large = hedging.delay(8 << 20).expect("on");
        assert!(large >= Duration::from_millis(80) && large <= Duration::from_millis(90), "{large:?}");
        assert_eq!(hedging.delay(64 << 20), Some(Duration::from_secs(1)), "another class");
        assert_eq!(Hedging::new(HedgeOptions { enabled: false, ..HedgeOptions::default() }).delay(1), None);
    }

    #[test]
    fn the_budget_is_a_share_of_the_uploads() {
        let hedging = Hedging::new(HedgeOptions::default());
        let mut taken = 0;
        for _ in 0..10_000 {
            hedging.earn();
            taken += u32::from(hedging.take());
        }
        assert!((499..=501).contains(&taken), "{taken}");
        for _ in 0..10_000 {
            hedging.earn();
        }
        assert_eq!((0..100).filter(|_| hedging.take()).count(), 10, "no more than the burst is saved up");
    }

    #[test]
    fn every_size_has_a_class() {
        for bytes in [0, 1, 2, 3, 1 << 20, u64::MAX] {
            assert!(class_of(bytes) < CLASSES);
        }
        assert_eq!(class_of((1 << 20) - 1), class_of(1 << 20));
    }
}
