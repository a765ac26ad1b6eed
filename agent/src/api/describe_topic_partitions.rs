//! DescribeTopicPartitions (key 75): topics and partitions in pages (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::describe_topic_partitions_request::{
    Cursor as From, DescribeTopicPartitionsRequest,
};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use penstock_metadata::topics::{Topic, validate_name};

use super::context::RequestContext;
use super::live::{ClientZone, Placement, Placements, TOPIC_OPERATIONS};
use super::topic_error::text;
use crate::broker::Broker;

#[cfg(test)]
mod tests;

/// Answers with a page that begins at the cursor.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeTopicPartitionsRequest,
    context: &RequestContext,
) -> DescribeTopicPartitionsResponse {
    if let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "topics can't be read; DescribeTopicPartitions goes by what is known");
    }
    if let Some(refused) = malformed(&request) {
        return refused;
    }
    let most = broker.topics.broker().integer("max.request.partition.size.limit");
    let limit = i64::from(request.response_partition_limit).min(most).max(1) as usize;
    let cursor = request.cursor.as_ref();
    let wanted = if request.topics.is_empty() {
        // One topic more than can be shown, for the next cursor: each shows at least one partition.
        let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
        broker.topics.page(from, limit + 1).into_iter().map(Wanted::There).collect()
    } else {
        let names: BTreeSet<&TopicName> = request.topics.iter().map(|topic| &topic.name).collect();
        let from = |name: &TopicName| cursor.is_none_or(|cursor| *name >= cursor.topic_name);
        let names = names.into_iter().filter(|name| from(name));
        names
            .map(|name| match broker.topics.by_name(name) {
                Some(topic) => Wanted::There(topic),
                None => Wanted::Missing(name.clone()),
            })
            .collect()
    };
    let membership = broker.cluster.membership();
    let zone = ClientZone::of(broker, context);
    let told = zone.brokers(&membership);
    page(wanted, cursor, limit, &Placements::new(&membership, &zone, &told))
}

/// A cursor must stand at a topic that was asked for and at a partition that could be.
fn malformed(request: &DescribeTopicPartitionsRequest) -> Option<DescribeTopicPartitionsResponse> {
    let cursor = request.cursor.as_ref()?;
    let among =
        request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
    if among && cursor.partition_index >= 0 {
        return None;
    }
    let refused = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(topic.name.clone()))
    });
    Some(DescribeTopicPartitionsResponse::default().with_topics(refused.collect()))
}

enum Wanted {
    There(Arc<Topic>),
    Missing(TopicName),
}

impl Wanted {
    fn name(&self) -> TopicName {
        match self {
            Self::There(topic) => TopicName(text(&topic.name)),
            Self::Missing(name) => name.clone(),
        }
    }
}

/// The page of at most `limit` partitions of `wanted` (sorted by name).
fn page(
    wanted: Vec<Wanted>,
    cursor: Option<&From>,
    limit: usize,
    placements: &Placements<'_>,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for wanted in wanted {
        let name = wanted.name();
        let first = match cursor {
            Some(cursor) if cursor.topic_name == name => u32::try_from(cursor.partition_index).unwrap_or(0),
            _ => 0,
        };
        if left == 0 {
            let next = Cursor::default().with_topic_name(name).with_partition_index(0);
            return response.with_next_cursor(Some(next));
        }
        let topic = match wanted {
            Wanted::Missing(_) => {
                response.topics.push(missing(name));
                continue;
            }
            Wanted::There(topic) => topic,
        };
        let end = topic.partitions.min(first.saturating_add(left as u32));
        let shown = (first..end)
            .map(|index| shown(index, &placements.of(topic.id, index as i32)))
            .collect::<Vec<_>>();
        left -= shown.len();
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(name.clone()))
                .with_topic_id(topic.id.get())
                .with_partitions(shown)
                .with_topic_authorized_operations(TOPIC_OPERATIONS),
        );
        if end < topic.partitions {
            let next = Cursor::default().with_topic_name(name).with_partition_index(end as i32);
            return response.with_next_cursor(Some(next));
        }
    }
    response
}

fn missing(name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    let error = match validate_name(&name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn shown(index: u32, placement: &Placement) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index as i32)
        .with_leader_id(placement.leader)
        .with_leader_epoch(placement.leader_epoch)
        .with_replica_nodes(placement.replicas.clone())
        .with_isr_nodes(placement.replicas.clone())
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
