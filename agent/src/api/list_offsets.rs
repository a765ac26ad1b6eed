//! ListOffsets (key 2): the ends of a log, or the offset at a time.

use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use penstock_types::{PartitionIndex, TopicPartition};

use super::context::RequestContext;
use super::fetch::partition_error;
use crate::broker::Broker;
use crate::fetch::{IsolationLevel, ListedOffset, OffsetQuery};

/// Answers for each partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: ListOffsetsRequest,
    context: &RequestContext,
) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        1 => IsolationLevel::ReadCommitted,
        _ => IsolationLevel::ReadUncommitted,
    };
    if let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "topics can't be read; ListOffsets goes by what is known");
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut doubled = std::collections::BTreeSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.to_string(), partition.partition_index);
            if !seen.insert(key.clone()) {
                doubled.insert(key);
            }
        }
    }
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let found = broker.topics.by_name(&topic.name);
        let partitions = topic.partitions.iter().map(|asked| {
            let found = found.as_ref();
            let is_doubled = doubled.contains(&(topic.name.to_string(), asked.partition_index));
            async move {
                if is_doubled {
                    return refusal(asked, ResponseError::InvalidRequest);
                }
                let Some(query) = query(asked.timestamp, context.api_version) else {
                    return refusal(asked, ResponseError::UnsupportedVersion);
                };
                let partition = PartitionIndex::new(asked.partition_index);
                let Some(topic) = found.filter(|topic| topic.has_partition(partition)) else {
                    return refusal(asked, ResponseError::UnknownTopicOrPartition);
                };
                let partition = TopicPartition { topic: topic.id, partition };
                answer(broker, asked, query, partition, isolation, context.api_version).await
            }
        });
        let mut answered = ListOffsetsTopicResponse::default();
        answered.name = topic.name.clone();
        answered.partitions = join_all(partitions).await;
        response.topics.push(answered);
    }
    response
}

/// What a special timestamp stands for; `None` where this version doesn't know it.
fn query(timestamp: i64, version: i16) -> Option<OffsetQuery> {
    match timestamp {
        -1 => Some(OffsetQuery::Latest),
        -2 => Some(OffsetQuery::Earliest),
        -3 => (version >= 7).then_some(OffsetQuery::MaxTimestamp),
        // Nothing is tiered: the earliest local offset is the earliest one.
        -4 => (version >= 8).then_some(OffsetQuery::Earliest),
        -5 => (version >= 9).then_some(OffsetQuery::LatestTiered),
        timestamp if timestamp >= 0 => Some(OffsetQuery::AtOrAfter(timestamp)),
        _ => None,
    }
}

async fn answer(
    broker: &Broker,
    asked: &ListOffsetsPartition,
    query: OffsetQuery,
    partition: TopicPartition,
    isolation: IsolationLevel,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
    match broker.fetch.list_offset(partition, query, isolation, epoch).await {
        Ok(ListedOffset { timestamp, offset, leader_epoch }) => ListOffsetsPartitionResponse::default()
            .with_partition_index(asked.partition_index)
            .with_timestamp(timestamp)
            .with_offset(offset)
            // Before version 4 the answer has no such field.
            .with_leader_epoch(
                leader_epoch.filter(|_| version >= 4).map_or(-1, penstock_types::LeaderEpoch::get),
            ),
        Err(error) => refusal(asked, partition_error(&error)),
    }
}

fn refusal(asked: &ListOffsetsPartition, error: ResponseError) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_error_code(error.code())
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1)
}
