//! DescribeLogDirs (key 35): how many bytes partitions hold. The one "log directory" is the object store; every agent
//! tells of the partitions whose replica it is said to be.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use penstock_metadata::topics::{Topic, partition_sizes};
use penstock_types::{PartitionIndex, TopicPartition};

use super::context::RequestContext;
use super::live::Placements;
use super::topic_error::{store_error, text};
use crate::broker::Broker;
use crate::cluster::Membership;

/// What stands for sizes that aren't known: an object store has no end.
const UNKNOWN_BYTES: i64 = -1;

/// Answers for the partitions asked for that there are, or for all.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeLogDirsRequest,
    _context: &RequestContext,
) -> DescribeLogDirsResponse {
    let wanted = match broker.topics.refresh().await {
        Ok(()) => wanted(broker, request.topics.as_deref()),
        Err(error) => return DescribeLogDirsResponse::default().with_error_code(store_error(&error).code()),
    };
    let membership = broker.cluster.membership();
    let wanted = held(wanted, &membership);
    let partitions = wanted.iter().flat_map(|(topic, partitions)| {
        let id = topic.id;
        partitions
            .iter()
            .map(move |index| TopicPartition { topic: id, partition: PartitionIndex::new(*index) })
    });
    let partitions: Vec<TopicPartition> = partitions.collect();
    let sizes = match partition_sizes(&broker.store, &broker.keyspace, &partitions).await {
        Ok(sizes) => sizes,
        Err(error) => return DescribeLogDirsResponse::default().with_error_code(store_error(&error).code()),
    };
    let mut sizes = sizes.into_iter();
    let topics = wanted.iter().map(|(topic, partitions)| {
        let partitions = partitions.iter().zip(sizes.by_ref()).map(|(index, size)| {
            DescribeLogDirsPartition::default()
                .with_partition_index(*index)
                .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX))
        });
        let partitions = partitions.collect();
        DescribeLogDirsTopic::default().with_name(TopicName(text(&topic.name))).with_partitions(partitions)
    });
    let topics = topics.collect();
    let options = broker.topics.broker();
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(text(options.text("log.dirs").unwrap_or_default()))
        .with_topics(topics)
        .with_total_bytes(UNKNOWN_BYTES)
        .with_usable_bytes(UNKNOWN_BYTES);
    DescribeLogDirsResponse::default().with_results(vec![directory])
}

/// Those that clients are told to be this agent's: whoever asks every broker adds up what they say.
fn held(wanted: Vec<(Arc<Topic>, Vec<i32>)>, membership: &Membership) -> Vec<(Arc<Topic>, Vec<i32>)> {
    let own = BrokerId(membership.own.get());
    let placements = Placements::of_nobody(membership);
    let held = wanted.into_iter().filter_map(|(topic, mut partitions)| {
        partitions.retain(|index| placements.of(topic.id, *index).replicas.contains(&own));
        (!partitions.is_empty()).then_some((topic, partitions))
    });
    held.collect()
}

/// The topics and partitions to describe, without those that aren't there.
fn wanted(broker: &Broker, asked: Option<&[DescribableLogDirTopic]>) -> Vec<(Arc<Topic>, Vec<i32>)> {
    let Some(asked) = asked else {
        let all = broker.topics.all().into_iter();
        return all
            .map(|topic| {
                let partitions = (0..topic.partitions as i32).collect();
                (topic, partitions)
            })
            .collect();
    };
    let mut seen = BTreeSet::new();
    let there = asked.iter().filter_map(|asked| {
        let topic = broker.topics.by_name(&asked.topic)?;
        let partitions: BTreeSet<i32> = asked.partitions.iter().copied().collect();
        let is_there = |index: &i32| topic.has_partition(PartitionIndex::new(*index));
        let partitions: Vec<i32> = partitions.into_iter().filter(is_there).collect();
        (!partitions.is_empty() && seen.insert(topic.id)).then_some((topic, partitions))
    });
    there.collect()
}
