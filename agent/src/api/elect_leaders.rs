//! ElectLeaders (key 43): nothing is ever to be elected, since any agent serves any partition.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use kafka_protocol::messages::elect_leaders_response::{
    ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use penstock_types::PartitionIndex;

use super::context::RequestContext;
use super::topic_error::{store_error, text};
use crate::broker::Broker;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Answers that no election is needed, for each partition that there is.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: ElectLeadersRequest,
    context: &RequestContext,
) -> ElectLeadersResponse {
    let refused = |error: ResponseError| {
        // Version 0 has no place for it, and only the preferred kind of election.
        let code = if context.api_version == 0 { 0 } else { error.code() };
        ElectLeadersResponse::default().with_error_code(code)
    };
    if !matches!(request.election_type, PREFERRED | UNCLEAN) {
        return refused(ResponseError::InvalidRequest);
    }
    if let Err(error) = broker.topics.refresh().await {
        return refused(store_error(&error));
    }
    let results = match &request.topic_partitions {
        // Of all partitions only those are listed that had an election to hold.
        None => broker
            .topics
            .all()
            .iter()
            .map(|topic| result(&TopicName(text(&topic.name)), Vec::new()))
            .collect(),
        Some(asked) => asked
            .iter()
            .map(|asked| {
                let partitions = asked.partitions.iter().map(|index| verdict(broker, &asked.topic, *index));
                result(&asked.topic, partitions.collect())
            })
            .collect(),
    };
    ElectLeadersResponse::default().with_replica_election_results(results)
}

fn result(topic: &TopicName, partitions: Vec<PartitionResult>) -> ReplicaElectionResult {
    ReplicaElectionResult::default().with_topic(topic.clone()).with_partition_result(partitions)
}

fn verdict(broker: &Broker, name: &TopicName, index: i32) -> PartitionResult {
    let (error, message) = match broker.topics.by_name(name) {
        None => (ResponseError::UnknownTopicOrPartition, format!("No such topic as {}", name.as_str())),
        Some(topic) if !topic.has_partition(PartitionIndex::new(index)) => (
            ResponseError::UnknownTopicOrPartition,
            format!("No such partition as {}-{index}", name.as_str()),
        ),
        Some(_) => {
            (ResponseError::ElectionNotNeeded, "Leader election not needed for topic partition.".to_owned())
        }
    };
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(Some(text(&message)))
}
