//! OffsetCommit (key 8): a group stores how far it has come.

use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use penstock_types::PartitionIndex;

use super::context::RequestContext;
use super::group_error::{outcome_code, owned};
use crate::broker::Broker;
use crate::coordinator::{CommitCall, CommitEntry, GroupCoordinator, Refusal};

/// From this version on a client understands that there is no such group (KIP-848).
const KNOWS_MISSING_GROUPS: i16 = 9;

/// Answers for each partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: OffsetCommitRequest,
    context: &RequestContext,
) -> OffsetCommitResponse {
    let groups = &broker.groups;
    refresh_if_unknown(groups, &request.topics).await;
    let mut entries = Vec::new();
    // For each partition of the request, in order: a refusal, or that its entry is the next one.
    let mut admitted = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let entry = entry(groups, topic, partition);
            admitted.push(entry.as_ref().map(|_| ()).map_err(|refusal| *refusal));
            entries.extend(entry);
        }
    }
    // Kafka asks the coordinator only for partitions that there are; their metadata is the coordinator's to refuse,
    // once it has found the member to be one.
    let is_unknown = |admitted: &Result<(), Refusal>| *admitted == Err(Refusal::UnknownTopicOrPartition);
    let outcomes = if admitted.iter().all(is_unknown) {
        Ok(Vec::new())
    } else {
        let commit = CommitCall {
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id.to_string(),
            instance_id: owned(request.group_instance_id.as_ref()),
            knows_missing_groups: context.api_version >= KNOWS_MISSING_GROUPS,
            retention_ms: Some(request.retention_time_ms).filter(|retention| *retention != -1),
            entries,
        };
        groups.commit_offsets(&request.group_id, commit).await
    };
    encode(&request.topics, admitted, outcomes)
}

/// A topic that isn't known may have been made elsewhere a moment ago.
async fn refresh_if_unknown(groups: &GroupCoordinator, topics: &[OffsetCommitRequestTopic]) {
    let unknown = |topic: &OffsetCommitRequestTopic| {
        let facts = groups.topics().topic(&topic.name);
        let has = |partition: i32| facts.is_some_and(|facts| facts.has(PartitionIndex::new(partition)));
        topic.partitions.iter().any(|partition| !has(partition.partition_index))
    };
    if topics.iter().any(unknown)
        && let Err(error) = groups.topics().refresh().await
    {
        tracing::debug!(%error, "topics can't be read; OffsetCommit goes by what is known");
    }
}

fn entry(
    groups: &GroupCoordinator,
    topic: &OffsetCommitRequestTopic,
    partition: &OffsetCommitRequestPartition,
) -> Result<CommitEntry, Refusal> {
    let index = PartitionIndex::new(partition.partition_index);
    let facts = groups.topics().topic(&topic.name).filter(|facts| facts.has(index));
    let facts = facts.ok_or(Refusal::UnknownTopicOrPartition)?;
    let metadata = owned(partition.committed_metadata.as_ref()).unwrap_or_default();
    if metadata.encode_utf16().count() > groups.options().offset_metadata_max {
        return Err(Refusal::OffsetMetadataTooLarge);
    }
    Ok(CommitEntry {
        topic: topic.name.to_string(),
        topic_id: facts.id,
        partition: index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata,
    })
}

fn encode(
    topics: &[OffsetCommitRequestTopic],
    admitted: Vec<Result<(), Refusal>>,
    outcomes: Result<Vec<Result<(), Refusal>>, Refusal>,
) -> OffsetCommitResponse {
    let mut admitted = admitted.into_iter();
    let is_refused = outcomes.is_err();
    let (mut outcomes, refused) = match outcomes {
        Ok(outcomes) => (outcomes.into_iter(), Refusal::UnknownServerError),
        Err(refusal) => (Vec::new().into_iter(), refusal),
    };
    let mut answer = |partition: &OffsetCommitRequestPartition| {
        let outcome = match admitted.next().unwrap_or(Ok(())) {
            Ok(()) => outcomes.next().unwrap_or(Err(refused)),
            Err(Refusal::OffsetMetadataTooLarge) if is_refused => Err(refused),
            Err(refusal) => Err(refusal),
        };
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(outcome_code(outcome))
    };
    let topics = topics.iter().map(|topic| {
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(&mut answer).collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
