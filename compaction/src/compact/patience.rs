//! What this agent remembers of partitions that failed: when each is compacted again. It is forgotten with the process.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_types::TopicPartition;
use tokio::time::Instant;

/// A partition that fails is compacted again after at most so long.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Partitions that failed: how often, and when they may be tried again.
#[derive(Debug, Default)]
pub(super) struct Patience(BTreeMap<TopicPartition, (u32, Instant)>);

impl Patience {
    /// Whether a partition may be compacted (again).
    pub(super) fn may_begin(&self, partition: TopicPartition, now: Instant) -> bool {
        self.0.get(&partition).is_none_or(|(_, not_before)| *not_before <= now)
    }

    /// It has failed: it waits for `interval`, twice as long each time.
    pub(super) fn failed(&mut self, partition: TopicPartition, interval: Duration, now: Instant) {
        let (failures, not_before) = self.0.entry(partition).or_insert((0, now));
        *not_before = now + interval.saturating_mul(1 << (*failures).min(20)).min(LONGEST);
        *failures += 1;
    }

    /// It is compacted.
    pub(super) fn forget(&mut self, partition: TopicPartition) {
        self.0.remove(&partition);
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, is_there: impl Fn(&TopicPartition) -> bool) {
        self.0.retain(|partition, _| is_there(partition));
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::partition;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_fails_waits_longer_each_time() {
        let (mut patience, interval) = (Patience::default(), Duration::from_secs(600));
        let mut waits = Vec::new();
        for _ in 0..5 {
            let now = Instant::now();
            patience.failed(partition(0), interval, now);
            assert!(patience.may_begin(partition(1), now) && !patience.may_begin(partition(0), now));
            while !patience.may_begin(partition(0), Instant::now()) {
                tokio::time::advance(Duration::from_secs(10)).await;
            }
            waits.push(now.elapsed().as_secs());
        }
        assert_eq!(waits, [600, 1_200, 2_400, 3_600, 3_600]);
        patience.failed(partition(0), interval, Instant::now());
        patience.keep(|of| *of == partition(1));
        assert!(patience.may_begin(partition(0), Instant::now()));
    }
}
