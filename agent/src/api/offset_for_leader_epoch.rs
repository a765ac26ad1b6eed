//! OffsetForLeaderEpoch (key 23): where a leader epoch ends (KIP-101, KIP-320).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use penstock_types::{PartitionIndex, TopicPartition};

use super::context::RequestContext;
use super::fetch::partition_error;
use crate::broker::Broker;

/// Answers for each partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
    _context: &RequestContext,
) -> OffsetForLeaderEpochResponse {
    if let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "topics can't be read; OffsetForLeaderEpoch goes by what is known");
    }
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let mut answered = OffsetForLeaderTopicResult::default();
        answered.topic = topic.topic.clone();
        let found = broker.topics.by_name(&topic.topic);
        for asked in &topic.partitions {
            let partition = PartitionIndex::new(asked.partition);
            let topic = found.as_ref().filter(|topic| topic.has_partition(partition));
            let end = match topic {
                Some(topic) => {
                    let partition = TopicPartition { topic: topic.id, partition };
                    end_of_epoch(broker, asked, partition).await
                }
                None => refusal(asked, ResponseError::UnknownTopicOrPartition),
            };
            answered.partitions.push(end);
        }
        response.topics.push(answered);
    }
    response
}

async fn end_of_epoch(
    broker: &Broker,
    asked: &OffsetForLeaderPartition,
    partition: TopicPartition,
) -> EpochEndOffset {
    let current = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    match broker.fetch.epoch_end_offset(partition, asked.leader_epoch, current).await {
        Ok(end) => EpochEndOffset::default()
            .with_partition(asked.partition)
            .with_leader_epoch(end.map_or(-1, |(epoch, _)| epoch.get()))
            .with_end_offset(end.map_or(-1, |(_, offset)| offset.get())),
        Err(error) => refusal(asked, partition_error(&error)),
    }
}

fn refusal(asked: &OffsetForLeaderPartition, error: ResponseError) -> EpochEndOffset {
    EpochEndOffset::default()
        .with_partition(asked.partition)
        .with_error_code(error.code())
        .with_leader_epoch(-1)
        .with_end_offset(-1)
}
