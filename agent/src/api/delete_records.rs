//! DeleteRecords (key 21): moves the log start of partitions, so that what lies below is deleted (KIP-107).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use penstock_metadata::log_starts::{MoveError, NewStart};
use penstock_metadata::topics::{Request, Topic, is_internal};
use penstock_types::{Offset, PartitionIndex, TopicPartition};

use super::context::RequestContext;
use super::topic_error::store_error;
use crate::broker::Broker;

/// The offset that stands for the end of the log.
const HIGH_WATERMARK: i64 = -1;
/// The low watermark of a partition that was refused.
const NO_LOW_WATERMARK: i64 = -1;

/// Moves the log starts; answers for each partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DeleteRecordsRequest,
    _context: &RequestContext,
) -> DeleteRecordsResponse {
    let refreshed = broker.topics.refresh().await;
    let (mut wanted, mut outcomes) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let known = broker.topics.by_name(&topic.name);
        for partition in &topic.partitions {
            let checked = match &refreshed {
                Ok(()) => check(&topic.name, known.as_deref(), partition),
                Err(error) => Err(store_error(error)),
            };
            outcomes.push(checked.map(|one| {
                wanted.push(one);
                wanted.len() - 1
            }));
        }
    }
    let how = Request::new(false, request.timeout_ms);
    let moved = broker.topic_admin.move_log_starts(&wanted, how).await;
    // Answers to Produce tell it without asking the store.
    for ((partition, _), start) in wanted.iter().zip(&moved) {
        if let Ok(start) = start {
            broker.views.get(*partition).starts_at(*start);
        }
    }
    let mut outcomes = outcomes.into_iter();
    let mut outcome = || match outcomes.next()? {
        Ok(index) => Some(moved[index].as_ref().map_err(refusal).map(|start| start.get())),
        Err(error) => Some(Err(error)),
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().filter_map(|partition| {
            let (low_watermark, code) = match outcome()? {
                Ok(start) => (start, 0),
                Err(error) => (NO_LOW_WATERMARK, error.code()),
            };
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_low_watermark(low_watermark)
                .with_error_code(code);
            Some(result)
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

/// What is wanted of a partition, or what Kafka refuses before it looks at the log.
fn check(
    name: &str,
    topic: Option<&Topic>,
    partition: &DeleteRecordsPartition,
) -> Result<(TopicPartition, NewStart), ResponseError> {
    if is_internal(name) {
        return Err(ResponseError::InvalidTopicException);
    }
    let index = PartitionIndex::new(partition.partition_index);
    let topic =
        topic.filter(|topic| topic.has_partition(index)).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !topic.config.cleanup_policy.delete {
        return Err(ResponseError::PolicyViolation);
    }
    let start = match partition.offset {
        HIGH_WATERMARK => NewStart::End,
        offset => NewStart::At(Offset::new(offset).ok_or(ResponseError::OffsetOutOfRange)?),
    };
    Ok((TopicPartition { topic: topic.id, partition: index }, start))
}

fn refusal(error: &MoveError) -> ResponseError {
    match error {
        MoveError::NoTopic(_) => ResponseError::UnknownTopicOrPartition,
        MoveError::BehindEnd { .. } => ResponseError::OffsetOutOfRange,
        // Only what expires by options asks for that.
        MoveError::OptionsChanged => ResponseError::RequestTimedOut,
        MoveError::Store(error) => store_error(error),
    }
}
