//! Which partitions are compacted now: as Kafka's `LogCleanerManager` chooses, by batches instead of segments.

use std::time::Duration;

use penstock_config::topic::TopicConfig;
use penstock_metadata::kv::Priority;
use penstock_metadata::log_compaction::{Standing, standing};
use penstock_metadata::present::Present;
use penstock_metadata::topics::Topic;
use penstock_types::{BatchPosition, Offset, TimestampMs, TopicPartition};

use super::scan::{Found, Scan};
use super::{CompactError, Compaction, CompactionParts};
use crate::again;

/// Batches are looked at by so many bytes of them.
const LOOK_BYTES: u64 = u64::MAX;

/// What a topic's options, and the job's own, say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rules {
    /// `min.compaction.lag.ms`
    pub(super) min_lag_ms: i64,
    /// `max.compaction.lag.ms`
    pub(super) max_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`
    pub(super) ratio: f64,
    /// With so many bytes a partition doesn't wait.
    pub(super) due_bytes: u64,
    /// With less it waits until the oldest is so old.
    pub(super) delay: Duration,
    /// `delete.retention.ms`
    pub(super) delete_retention_ms: i64,
}

impl Rules {
    /// How long rows may wait for a seal before it is time to compact them.
    pub(super) fn seal_after(&self) -> Duration {
        self.delay.min(Duration::from_millis(u64::try_from(self.max_lag_ms).unwrap_or(0)))
    }

    /// The rules for a topic; `None` if it isn't compacted.
    pub(super) fn of(topic: &Topic, due_bytes: u64, delay: Duration) -> Option<Self> {
        let config: &TopicConfig = &topic.config;
        // Kafka compacts no segment that is written to, and ends one by its age and size.
        config.cleanup_policy.compact.then(|| Self {
            min_lag_ms: milliseconds(config.min_compaction_lag),
            max_lag_ms: milliseconds(config.max_compaction_lag),
            ratio: config.min_cleanable_dirty_ratio,
            due_bytes: due_bytes.min(config.segment_bytes),
            delay: delay.min(config.segment),
            delete_retention_ms: milliseconds(config.delete_retention),
        })
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What no run has looked at, as far as it may be compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dirty {
    /// Where it ends: at the first batch that is too young.
    pub(super) bound: Offset,
    pub(super) bytes: u64,
    /// Records, at most.
    pub(super) records: u64,
    /// When the oldest was written, by its timestamp.
    oldest_ms: Option<TimestampMs>,
    /// The place of the first.
    first: Option<BatchPosition>,
}

impl Dirty {
    /// Adds the next batch, of that age; `false` if it is too young, as all behind it are then.
    fn add(&mut self, found: &Found, age: Duration, now_ms: TimestampMs, min_lag_ms: i64) -> bool {
        let facts = &found.batch.facts;
        let written_ms = match facts.max_timestamp {
            0.. => facts.max_timestamp,
            _ => now_ms.saturating_sub(milliseconds(age)),
        };
        let is_young = min_lag_ms > 0 && written_ms > now_ms.saturating_sub(min_lag_ms);
        if is_young && !penstock_types::planted!("compact-young") {
            return false;
        }
        self.first.get_or_insert(found.batch.at);
        self.bound = found.batch.end_offset();
        self.bytes += found.stored_bytes();
        self.records += u64::from(facts.records);
        self.oldest_ms = Some(self.oldest_ms.map_or(written_ms, |oldest| oldest.min(written_ms)));
        true
    }

    /// Its share of the log that has so many bytes that were compacted.
    pub(super) fn share(&self, clean_bytes: u64) -> f64 {
        let all = clean_bytes.saturating_add(self.bytes);
        if all == 0 { 0.0 } else { self.bytes as f64 / all as f64 }
    }

    /// For how long it has been due, if it is; `age` is that of its first batch. Pure.
    pub(super) fn due(
        &self,
        clean_bytes: u64,
        rules: &Rules,
        age: Duration,
        now_ms: TimestampMs,
    ) -> Option<Duration> {
        self.first?;
        let over_ms =
            self.oldest_ms.map(|oldest| now_ms.saturating_sub(oldest).saturating_sub(rules.max_lag_ms));
        let by_lag = over_ms.and_then(|over| u64::try_from(over).ok()).filter(|over| *over > 0);
        let by_lag = by_lag.map(Duration::from_millis);
        let waited = age.checked_sub(rules.delay);
        let enough = self.bytes >= rules.due_bytes;
        let by_share = (self.share(clean_bytes) > rules.ratio && (enough || waited.is_some()))
            .then(|| waited.unwrap_or_default());
        by_lag.max(by_share)
    }
}

/// A partition as it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) partition: TopicPartition,
    pub(super) rules: Rules,
    pub(super) clean_bytes: u64,
    pub(super) dirty: Dirty,
    /// How long ago the first dirty batch was committed.
    pub(super) age: Duration,
}

impl Look {
    /// The dirty part's share of the log.
    pub(super) fn share(&self) -> f64 {
        self.dirty.share(self.clean_bytes)
    }
}

/// What was seen of a partition's dirty part, so that the next look begins where it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Where it began.
    from: Offset,
    /// By which lag batches were too young.
    min_lag_ms: i64,
    dirty: Dirty,
}

impl Compaction {
    /// Looks at what a partition has to compact; `None` for nothing.
    pub(super) async fn look(
        &self,
        partition: TopicPartition,
        rules: Rules,
        now_ms: TimestampMs,
    ) -> Result<Option<Look>, CompactError> {
        let CompactionParts { store, keyspace, incarnation, .. } = &self.parts;
        let Some(standing) = again!(standing(store, keyspace, partition))? else { return Ok(None) };
        let Standing { end, clean_bytes, .. } = standing;
        if standing.first_dirty() >= end {
            return Ok(None);
        }
        let present = again!(async {
            Present::read(&mut *store.begin(Priority::Batch), keyspace, *incarnation).await
        })?;
        let (from, min_lag_ms) = (standing.first_dirty(), rules.min_lag_ms);
        let seen = self.seen.lock().get(&partition).copied();
        let seen = seen.filter(|seen| (seen.from, seen.min_lag_ms) == (from, min_lag_ms));
        let mut dirty = seen.map(|seen| seen.dirty).unwrap_or_default();
        let mut scan = Scan::new(partition, dirty.bound.max(from), end);
        let age = |at: BatchPosition| present.age(at.incarnation, at.stamp.version());
        'all: loop {
            let window = scan.next(store, keyspace, LOOK_BYTES).await?;
            if window.is_empty() {
                break;
            }
            for found in &window {
                if !dirty.add(found, age(found.batch.at), now_ms, min_lag_ms) {
                    break 'all;
                }
            }
        }
        self.seen.lock().insert(partition, Seen { from, min_lag_ms, dirty });
        let first = dirty.first.map(age);
        Ok(first.map(|age| Look { partition, rules, clean_bytes, dirty, age }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        min_lag_ms: 0,
        max_lag_ms: 1_000_000,
        ratio: 0.5,
        due_bytes: 1_000,
        delay: Duration::from_secs(100),
        delete_retention_ms: 0,
    };

    fn dirty(bytes: u64, oldest_ms: i64) -> Dirty {
        let first = Some(BatchPosition::ZERO);
        Dirty { bound: Offset::at(9), bytes, records: 9, oldest_ms: Some(oldest_ms), first }
    }

    #[test]
    fn a_partition_is_due_by_its_share_and_by_its_age() {
        let due = |dirty: Dirty, age, clean| {
            let over = dirty.due(clean, &RULES, Duration::from_secs(age), 2_000_000);
            over.map(|over| over.as_secs())
        };
        assert_eq!(due(dirty(1_000, 1_500_000), 5, 999), Some(0), "more than half, and enough");
        assert_eq!(due(dirty(1_000, 1_500_000), 5, 1_000), None, "no more than half");
        assert_eq!(due(dirty(999, 1_500_000), 99, 0), None, "too little, and too young");
        assert_eq!(due(dirty(999, 1_500_000), 130, 0), Some(30));
        assert_eq!(due(dirty(1, 1_000_000), 5, 1_000), None);
        assert_eq!(due(dirty(1, 990_000), 5, 1_000), Some(10), "the longest lag is over");
        assert_eq!(due(Dirty::default(), 5, 0), None);
    }
}
