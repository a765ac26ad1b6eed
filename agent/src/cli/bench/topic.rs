//! The topic that a benchmark uses.

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataPartition;

use super::CommonArguments;
use crate::cli::CommandError;
use crate::cli::client::check_each;

/// Makes the topic unless it is there, and returns its partitions.
pub(super) fn ensure(common: &CommonArguments) -> Result<Vec<i32>, CommandError> {
    let admin = common.connect.admin()?;
    let new = NewTopic::new(&common.topic, common.partitions, TopicReplication::Fixed(-1));
    let results =
        admin.wait("can't make the topic", admin.client().create_topics([&new], &admin.options()))?;
    check_each(
        "can't make the topic",
        results.into_iter().map(|result| match result {
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(name),
            other => other,
        }),
    )?;
    partitions(common)
}

/// The topic's partitions.
pub(super) fn partitions(common: &CommonArguments) -> Result<Vec<i32>, CommandError> {
    let metadata = common.connect.admin()?.metadata()?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == common.topic);
    let topic = topic.ok_or_else(|| CommandError::Failed(format!("there is no topic {}", common.topic)))?;
    let mut partitions: Vec<i32> = topic.partitions().iter().map(MetadataPartition::id).collect();
    partitions.sort_unstable();
    Ok(partitions)
}
