//! OffsetDelete (key 47): an operator removes offsets of topics that no member consumes (KIP-496).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use penstock_types::PartitionIndex;

use super::context::RequestContext;
use super::group_error::{code, outcome_code};
use crate::broker::Broker;
use crate::coordinator::Refusal;

/// Answers for each partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: OffsetDeleteRequest,
    _context: &RequestContext,
) -> OffsetDeleteResponse {
    let groups = &broker.groups;
    let known = |topic: &str, partition: i32| {
        groups.topics().topic(topic).is_some_and(|facts| facts.has(PartitionIndex::new(partition)))
    };
    let mut wanted: BTreeMap<String, BTreeSet<PartitionIndex>> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if known(&topic.name, partition.partition_index) {
                let partition = PartitionIndex::new(partition.partition_index);
                wanted.entry(topic.name.to_string()).or_default().insert(partition);
            }
        }
    }
    let deleted = match groups.delete_offsets(&request.group_id, wanted.clone()).await {
        Ok(deleted) => deleted,
        Err(refusal) => return OffsetDeleteResponse::default().with_error_code(code(refusal)),
    };
    let outcome = |topic: &str, partition: i32| {
        let wanted = wanted.get(topic).is_some_and(|wanted| wanted.contains(&PartitionIndex::new(partition)));
        if !wanted {
            Err(Refusal::UnknownTopicOrPartition)
        } else if deleted.subscribed.contains(topic) {
            Err(Refusal::GroupSubscribedToTopic)
        } else {
            Ok(())
        }
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(outcome_code(outcome(&topic.name, partition.partition_index)))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
