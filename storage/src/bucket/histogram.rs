//! Two latency histograms: one counts for ever, for metrics; one forgets, for the hedging delay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of [`LatencyHistogram`]'s buckets in microseconds; one more bucket takes the rest.
pub const LATENCY_BOUNDS_MICROSECONDS: [u64; 16] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000, 20_000_000, 60_000_000,
];

/// Counts latencies since the start.
#[derive(Debug, Default)]
pub struct LatencyHistogram {
    counts: [AtomicU64; LATENCY_BOUNDS_MICROSECONDS.len() + 1],
    sum_microseconds: AtomicU64,
}

/// A [`LatencyHistogram`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencySnapshot {
    /// Latencies by bucket, not cumulative: of [`LATENCY_BOUNDS_MICROSECONDS`], and of those above.
    pub counts: Vec<u64>,
    /// All latencies together.
    pub sum_microseconds: u64,
}

impl LatencySnapshot {
    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl LatencyHistogram {
    /// Counts one.
    pub fn record(&self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROSECONDS.partition_point(|bound| *bound < microseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot {
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum_microseconds: self.sum_microseconds.load(Ordering::Relaxed),
        }
    }
}

/// Buckets per power of two: a bucket is at most an eighth wide.
const STEPS: usize = 8;
/// Powers of two of a microsecond: up to two minutes.
const OCTAVES: usize = 27;
/// At this many latencies all counts are halved, so that old ones fade.
const FADE_AT: u32 = 2048;

/// Latencies of the recent past: a quantile within an eighth.
#[derive(Debug, Clone)]
pub(super) struct RecentLatencies {
    counts: Vec<u32>,
    total: u32,
}

impl Default for RecentLatencies {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * OCTAVES], total: 0 }
    }
}

impl RecentLatencies {
    pub(super) fn record(&mut self, latency: Duration) {
        self.counts[bucket_of(latency)] += 1;
        self.total += 1;
        if self.total >= FADE_AT {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += *count;
            }
        }
    }

    pub(super) fn samples(&self) -> u32 {
        self.total
    }

    /// The latency that `quantile` of the recent ones stayed within; `None` without any.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = (f64::from(self.total) * quantile.clamp(0.0, 1.0)).ceil().max(1.0) as u32;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(upper_bound(bucket));
            }
        }
        Some(upper_bound(self.counts.len() - 1))
    }
}

fn bucket_of(latency: Duration) -> usize {
    let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(STEPS as u64);
    let octave = microseconds.ilog2() as usize;
    let step = (microseconds >> (octave - STEPS.ilog2() as usize)) as usize - STEPS;
    (octave * STEPS + step).min(STEPS * OCTAVES - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    let (octave, step) = (bucket / STEPS, bucket % STEPS);
    Duration::from_micros((((STEPS + step + 1) as u64) << octave) / STEPS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_an_eighth_above() {
        for microseconds in [8_u64, 100, 999, 5_000, 14_000, 1_000_000, 60_000_000] {
            let mut recent = RecentLatencies::default();
            recent.record(Duration::from_micros(microseconds));
            let seen = recent.quantile(0.99).expect("one was recorded").as_micros() as u64;
            assert!(
                seen >= microseconds && seen <= microseconds + microseconds / 8 + 1,
                "{microseconds} {seen}"
            );
        }
    }

    #[test]
    fn the_tail_shows_and_the_past_fades() {
        let mut recent = RecentLatencies::default();
        assert_eq!(recent.quantile(0.99), None);
        for i in 0..1000 {
            recent.record(Duration::from_millis(if i % 50 == 0 { 300 } else { 10 }));
        }
        assert!(recent.quantile(0.9).expect("full") < Duration::from_millis(12));
        assert!(recent.quantile(0.99).expect("full") >= Duration::from_millis(300));
        for _ in 0..20_000 {
            recent.record(Duration::from_millis(10));
        }
        assert!(recent.quantile(0.99).expect("full") < Duration::from_millis(12));
        assert!(recent.samples() < FADE_AT);
    }

    #[test]
    fn extremes_have_a_bucket() {
        let mut recent = RecentLatencies::default();
        recent.record(Duration::ZERO);
        recent.record(Duration::MAX);
        assert!(recent.quantile(1.0).expect("two") > Duration::from_secs(60));
        let forever = LatencyHistogram::default();
        forever.record(Duration::from_secs(600));
        forever.record(Duration::from_micros(500));
        let snapshot = forever.snapshot();
        assert_eq!((snapshot.counts[0], snapshot.counts[16], snapshot.count()), (1, 1, 2));
    }
}
