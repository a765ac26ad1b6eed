//! DescribeQuorum (key 55): who keeps the cluster's metadata (KIP-595, KIP-853).
//!
//! The metadata is in the metadata store, so the quorum is what clients take for the controller: one voter that is up
//! to date. The "log" has the store's versions for offsets. Tools ask for it at their start.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_quorum_request::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use penstock_metadata::kv::Priority;

use super::context::RequestContext;
use super::live;
use super::topic_error::{store_error, text};
use crate::broker::Broker;

const METADATA_TOPIC: &str = "__cluster_metadata";
/// The quorum's epoch: it never changes hands.
const EPOCH: i32 = 1;

/// Answers for the metadata partition; any other is unknown.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeQuorumRequest,
    context: &RequestContext,
) -> DescribeQuorumResponse {
    let known = request.topics.iter().any(|topic| {
        topic.topic_name.as_str() == METADATA_TOPIC
            && topic.partitions.iter().any(|one| one.partition_index == 0)
    });
    let end = if known {
        match broker.store.begin(Priority::Default).read_version().await {
            Ok(version) => i64::try_from(version.get()).unwrap_or(i64::MAX),
            Err(error) => {
                let code = store_error(&error).code();
                let message = Some(text(&error.to_string()));
                return DescribeQuorumResponse::default().with_error_code(code).with_error_message(message);
            }
        }
    } else {
        0
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            if topic.topic_name.as_str() == METADATA_TOPIC && asked.partition_index == 0 {
                quorum(broker, end)
            } else {
                unknown(asked.partition_index)
            }
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    let mut response = DescribeQuorumResponse::default()
        .with_error_message(Some(text("")))
        .with_topics(topics.collect::<Vec<TopicData>>());
    if known && context.api_version >= 2 {
        response.nodes = vec![node(broker)];
    }
    response
}

fn quorum(broker: &Broker, end: i64) -> PartitionData {
    let controller = live::controller(&broker.cluster.membership());
    let now = broker.clock.now_ms();
    let voter = ReplicaState::default()
        .with_replica_id(controller)
        .with_log_end_offset(end)
        .with_last_fetch_timestamp(now)
        .with_last_caught_up_timestamp(now);
    PartitionData::default()
        .with_partition_index(0)
        .with_error_message(Some(text("")))
        .with_leader_id(controller)
        .with_leader_epoch(EPOCH)
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

fn unknown(partition: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(ResponseError::UnknownTopicOrPartition.code())
        .with_error_message(Some(text("This server does not host this topic-partition.")))
}

fn node(broker: &Broker) -> Node {
    let membership = broker.cluster.membership();
    let controller = live::controller(&membership);
    let listeners = live::brokers(&membership).into_iter().filter(|live| live.id == controller).map(|live| {
        Listener::default()
            .with_name(text("PLAINTEXT"))
            .with_host(live.host)
            .with_port(u16::try_from(live.port).unwrap_or(0))
    });
    Node::default().with_node_id(controller).with_listeners(listeners.collect())
}
