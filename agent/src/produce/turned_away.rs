//! Idempotent producers that this agent has just turned a batch of away: what they sent behind it, before they knew, must
//! not be appended in its place.
//!
//! The log refuses a sequence that does not follow, but a producer without state in a partition may begin at any (its id
//! may be older than the topic): its second batch, sent while the first one was turned away, would be its first. Where
//! the producer tries again elsewhere in the meantime, what comes here behind that is held off for [`FORGOTTEN`] at most.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use penstock_metadata::keys::log::BatchProducer;
use penstock_types::TopicPartition;
use tokio::time::Instant;

use super::reply::Lineage;

/// By then a producer knows, and what it sent before has come.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// So many are remembered.
const MOST: usize = 10_000;

/// The first batch that was turned away, by producer and partition.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    first: BTreeMap<Lineage, (BatchProducer, Instant)>,
    order: VecDeque<(Instant, Lineage)>,
}

impl TurnedAway {
    /// A batch is turned away.
    pub(crate) fn note(&mut self, partition: TopicPartition, batch: BatchProducer, now: Instant) {
        self.forget(now);
        let lineage = (partition, batch.id);
        let is_first = self.first.get(&lineage).is_none_or(|(first, _)| !follows(first, &batch));
        if is_first && self.order.len() < MOST {
            self.first.insert(lineage, (batch, now));
            self.order.push_back((now, lineage));
        }
    }

    /// Whether a batch stands behind one that was turned away and has not come again.
    pub(crate) fn is_behind(
        &mut self,
        partition: TopicPartition,
        batch: &BatchProducer,
        now: Instant,
    ) -> bool {
        if self.first.is_empty() {
            return false;
        }
        self.forget(now);
        let lineage = (partition, batch.id);
        let Some((first, _)) = self.first.get(&lineage) else { return false };
        if follows(first, batch) {
            return true;
        }
        self.first.remove(&lineage);
        false
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, lineage)) = self.order.front().copied() {
            if now.saturating_duration_since(at) < FORGOTTEN {
                break;
            }
            self.order.pop_front();
            if self.first.get(&lineage).is_some_and(|(_, noted)| *noted == at) {
                self.first.remove(&lineage);
            }
        }
    }
}

/// Whether `later` is of the same epoch and has a higher sequence; sequences wrap.
fn follows(first: &BatchProducer, later: &BatchProducer) -> bool {
    let ahead = later.base_sequence.get().wrapping_sub(first.base_sequence.get());
    // Sequences are 31 bits wide.
    first.epoch == later.epoch && ahead != 0 && ahead & i32::MAX < i32::MAX / 2
}

#[cfg(test)]
mod tests {
    use penstock_types::{PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId};

    use super::*;

    fn batch(epoch: i16, sequence: i32) -> BatchProducer {
        BatchProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Sequence::new(sequence),
        }
    }

    fn partition(index: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::NIL, partition: PartitionIndex::new(index) }
    }

    #[test]
    fn what_is_behind_waits_until_the_first_comes_again() {
        let (mut away, now) = (TurnedAway::default(), Instant::now());
        assert!(!away.is_behind(partition(0), &batch(0, 2), now));
        away.note(partition(0), batch(0, 2), now);
        away.note(partition(0), batch(0, 5), now);
        assert!(away.is_behind(partition(0), &batch(0, 5), now));
        assert!(!away.is_behind(partition(1), &batch(0, 5), now));
        assert!(!away.is_behind(partition(0), &batch(0, 2), now));
        assert!(!away.is_behind(partition(0), &batch(0, 5), now));
    }

    #[test]
    fn another_epoch_and_time_end_it() {
        let (mut away, now) = (TurnedAway::default(), Instant::now());
        away.note(partition(0), batch(0, 2), now);
        assert!(!away.is_behind(partition(0), &batch(1, 5), now));
        away.note(partition(0), batch(1, 2), now);
        assert!(away.is_behind(partition(0), &batch(1, 5), now));
        assert!(!away.is_behind(partition(0), &batch(1, 5), now + FORGOTTEN));
        assert!(away.first.is_empty() && away.order.is_empty());
    }

    #[test]
    fn sequences_wrap() {
        assert!(follows(&batch(0, i32::MAX), &batch(0, 0)));
        assert!(!follows(&batch(0, 0), &batch(0, i32::MAX)));
        assert!(!follows(&batch(0, 3), &batch(0, 3)));
    }

    #[test]
    fn their_number_is_bounded() {
        let (mut away, now) = (TurnedAway::default(), Instant::now());
        for index in 0..20_000 {
            away.note(partition(index), batch(0, 0), now);
        }
        assert_eq!((away.first.len(), away.order.len()), (MOST, MOST));
    }
}
