//! ListOffsets and OffsetForLeaderEpoch: which offset stands at the ends of a log, or at a time.

use std::sync::Arc;

use penstock_metadata::fold::{BatchEntry, BatchSource, MaxTimestamp};
use penstock_metadata::lookup::PlanLimits;
use penstock_metadata::view::PartitionView;
use penstock_storage::batch::{FoundRecord, find_max_timestamp, find_timestamp};
use penstock_storage::cache::ReadKind;
use penstock_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};

use super::{Fetch, IsolationLevel, PartitionError, check_leader_epoch};

/// What is asked of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start offset (-2), also as the earliest local one (-4): nothing is tiered.
    Earliest,
    /// The end: the high watermark, or the last stable offset (-1).
    Latest,
    /// The first record with the largest timestamp (-3, KIP-734).
    MaxTimestamp,
    /// The last tiered offset (-5, KIP-1005): none.
    LatestTiered,
    /// The first record with that timestamp or a later one.
    AtOrAfter(TimestampMs),
}

/// The answer; the offset is -1 where there is no such record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The record's timestamp; -1 where it isn't asked for.
    pub timestamp: TimestampMs,
    /// The offset.
    pub offset: i64,
    /// The record's leader epoch; `None` where there is no record.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl ListedOffset {
    const NONE: Self = Self { timestamp: -1, offset: -1, leader_epoch: None };

    fn end(offset: Offset) -> Self {
        Self { timestamp: -1, offset: offset.get(), leader_epoch: Some(LeaderEpoch::FIRST) }
    }

    fn record(base_offset: Offset, found: &FoundRecord, batch: &BatchEntry) -> Self {
        let offset = base_offset.get() + i64::from(found.offset_delta);
        Self { timestamp: found.timestamp, offset, leader_epoch: Some(batch.leader_epoch) }
    }
}

impl Fetch {
    /// Answers a query, of the log as it was when this was called or later.
    pub async fn list_offset(
        &self,
        partition: TopicPartition,
        query: OffsetQuery,
        isolation: IsolationLevel,
        current_leader_epoch: Option<i32>,
    ) -> Result<ListedOffset, PartitionError> {
        check_leader_epoch(current_leader_epoch)?;
        let view = self.view(partition).await?;
        let (high_watermark, last_stable, log_start, max_timestamp) = view.read(|tail| {
            let max_timestamp = tail.state.max_timestamp;
            (tail.high_watermark(), tail.last_stable_offset(), tail.log_start, max_timestamp)
        });
        let end = match isolation {
            IsolationLevel::ReadUncommitted => high_watermark,
            IsolationLevel::ReadCommitted => last_stable,
        };
        match query {
            OffsetQuery::Earliest => Ok(ListedOffset::end(view.fresh_log_start().await?)),
            OffsetQuery::Latest => Ok(ListedOffset::end(end)),
            OffsetQuery::LatestTiered => Ok(ListedOffset::NONE),
            OffsetQuery::AtOrAfter(timestamp) => self.at_or_after(&view, timestamp, log_start, end).await,
            OffsetQuery::MaxTimestamp if max_timestamp.timestamp < 0 => Ok(ListedOffset::NONE),
            OffsetQuery::MaxTimestamp => {
                let Some(batch) = self.batch_at(&view, max_timestamp, log_start, high_watermark).await?
                else {
                    // It was deleted, or compacted away.
                    return self.largest_left(&view, log_start, high_watermark).await;
                };
                let from = batch.base_offset.max(log_start);
                self.at_or_after(&view, max_timestamp.timestamp, from, high_watermark).await
            }
        }
    }

    /// The end of a leader epoch (KIP-101, KIP-320): epochs are constant, so there is one.
    pub async fn epoch_end_offset(
        &self,
        partition: TopicPartition,
        epoch: i32,
        current_leader_epoch: Option<i32>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, PartitionError> {
        check_leader_epoch(current_leader_epoch)?;
        if epoch != LeaderEpoch::FIRST.get() {
            return Ok(None);
        }
        let view = self.view(partition).await?;
        Ok(Some((LeaderEpoch::FIRST, view.read(penstock_metadata::view::TailView::high_watermark))))
    }

    /// A validated view.
    pub(crate) async fn view(&self, partition: TopicPartition) -> Result<Arc<PartitionView>, PartitionError> {
        let views = self.parts.views.validated(&[partition]).await?;
        let view = views.into_iter().next();
        Ok(view.ok_or_else(|| PartitionError::Unavailable("no view".to_owned()))??)
    }

    async fn at_or_after(
        &self,
        view: &PartitionView,
        timestamp: TimestampMs,
        log_start: Offset,
        end: Offset,
    ) -> Result<ListedOffset, PartitionError> {
        let mut from = log_start;
        loop {
            let batch = self.parts.log.first_batch_at_or_after(view, timestamp, from).await?;
            let Some(batch) = batch.filter(|batch| batch.base_offset < end) else {
                return Ok(ListedOffset::NONE);
            };
            let below = log_start.get() - batch.base_offset.get();
            let least = i32::try_from(below.max(0)).unwrap_or(i32::MAX);
            let found = self.find_in(&batch, |bytes| find_timestamp(bytes, timestamp, least)).await?;
            match found.map(|found| ListedOffset::record(batch.base_offset, &found, &batch)) {
                Some(listed) if listed.offset < end.get() => return Ok(listed),
                Some(_) => return Ok(ListedOffset::NONE),
                // Its latest records lie below the log start.
                None => from = batch.end_offset(),
            }
        }
    }

    /// The batch with the largest timestamp of all that were ever appended, if it is still in the log with it.
    async fn batch_at(
        &self,
        view: &PartitionView,
        largest: MaxTimestamp,
        log_start: Offset,
        end: Offset,
    ) -> Result<Option<BatchEntry>, PartitionError> {
        if largest.base_offset < log_start {
            return Ok(None);
        }
        let limits = PlanLimits { end, max_bytes: 0, at_least_one: true };
        let batches = self.parts.log.plan(view, largest.base_offset, limits).await?;
        let is_it = |batch: &BatchEntry| {
            batch.base_offset == largest.base_offset && batch.facts.max_timestamp == largest.timestamp
        };
        Ok(batches.into_iter().find(is_it))
    }

    /// The largest timestamp of what is left, where the largest of all is gone: batch by batch.
    async fn largest_left(
        &self,
        view: &PartitionView,
        log_start: Offset,
        end: Offset,
    ) -> Result<ListedOffset, PartitionError> {
        let mut largest: Option<BatchEntry> = None;
        let mut from = log_start;
        while from < end {
            let limits = PlanLimits { end, max_bytes: 1 << 30, at_least_one: true };
            let batches = self.parts.log.plan(view, from, limits).await?;
            let Some(last) = batches.last() else { break };
            from = last.end_offset();
            for batch in batches {
                if largest.is_none_or(|largest| batch.facts.max_timestamp > largest.facts.max_timestamp) {
                    largest = Some(batch);
                }
            }
        }
        let Some(batch) = largest else { return Ok(ListedOffset::NONE) };
        let found = self.find_in(&batch, |bytes| find_max_timestamp(bytes)).await?;
        Ok(found.map_or(ListedOffset::NONE, |found| ListedOffset::record(batch.base_offset, &found, &batch)))
    }

    async fn find_in(
        &self,
        batch: &BatchEntry,
        find: impl FnOnce(&bytes::Bytes) -> Result<Option<FoundRecord>, penstock_storage::batch::BatchError>,
    ) -> Result<Option<FoundRecord>, PartitionError> {
        let BatchSource::Object { object, position } = batch.source else {
            return Ok(Some(FoundRecord { offset_delta: 0, timestamp: batch.facts.max_timestamp }));
        };
        let range = position..position + u64::from(batch.facts.length);
        let unavailable = |reason: String| PartitionError::Unavailable(reason);
        let read = self.parts.cache.read(object, range, ReadKind::Tail).await;
        let slices = read.map_err(|error| unavailable(error.to_string()))?;
        let bytes = match <[bytes::Bytes; 1]>::try_from(slices) {
            Ok([one]) => one,
            Err(slices) => slices.concat().into(),
        };
        find(&bytes).map_err(|error| unavailable(error.to_string()))
    }
}
