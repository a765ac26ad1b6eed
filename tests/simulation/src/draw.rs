//! Chance: streams of numbers that follow from the seed and a label, so that what one of them draws doesn't change
//! what another one does.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use penstock_types::{Randomness, SeededRandomness};

/// A stream of chance.
#[derive(Debug, Clone)]
pub struct Draw {
    seed: u64,
    stream: Arc<SeededRandomness>,
}

impl Draw {
    /// The stream `label` of `seed`.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for byte in label.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        Self { seed, stream: Arc::new(SeededRandomness::new(hash)) }
    }

    /// Another stream of the same seed.
    pub fn stream(&self, label: &str) -> Self {
        Self::new(self.seed, label)
    }

    /// The stream as an agent takes it.
    pub fn randomness(&self) -> Arc<dyn Randomness> {
        Arc::clone(&self.stream) as _
    }

    /// 64 bits.
    pub fn bits(&self) -> u64 {
        self.stream.next_u64()
    }

    /// A number of a range that isn't empty.
    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.stream.below(range.end - range.start)
    }

    /// An index below `count`.
    pub fn index(&self, count: usize) -> usize {
        self.stream.below(count as u64) as usize
    }

    /// One of them.
    pub fn pick<'a, T>(&self, among: &'a [T]) -> &'a T {
        &among[self.index(among.len())]
    }

    /// Between 0 and 1.
    pub fn fraction(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of that probability happens.
    pub fn chance(&self, probability: f64) -> bool {
        probability > 0.0 && self.fraction() < probability
    }

    /// A probability between two, small ones as often as large ones.
    pub fn rate(&self, range: Range<f64>) -> f64 {
        range.start * (range.end / range.start).powf(self.fraction())
    }

    /// A duration, to the microsecond.
    pub fn duration(&self, range: Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start).as_micros() as u64;
        range.start + Duration::from_micros(self.stream.below(span.max(1)))
    }

    /// A duration around `mean`: most are shorter, some much longer.
    pub fn around(&self, mean: Duration) -> Duration {
        mean.mul_f64((-(1.0 - self.fraction()).ln()).min(8.0))
    }
}
