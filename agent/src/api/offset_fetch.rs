//! OffsetFetch (key 9): how far a group has come (KIP-709 asks for several groups at once, from version 8).
//!
//! A group that was never used has no offsets, and that is no error. `require_stable` asks not to be shown offsets that
//! an open transaction may change: there are none.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::protocol::StrBytes;
use penstock_metadata::groups::StoredOffsets;
use penstock_types::PartitionIndex;

use super::context::RequestContext;
use super::group_error::{code, text};
use crate::broker::Broker;
use crate::coordinator::Refusal;

/// From this version on an answer has an error of its own.
const GROUP_ERROR: i16 = 2;
/// From this version on several groups are asked for at once.
const BATCHED: i16 = 8;

/// One partition's answer, before its version's form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fetched {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

type FetchedTopics = Vec<(TopicName, Vec<Fetched>)>;

/// Answers for each group and partition.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: OffsetFetchRequest,
    context: &RequestContext,
) -> OffsetFetchResponse {
    if context.api_version >= BATCHED {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            groups.push(answer_group(broker, group).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let topics: Option<Vec<_>> = request.topics.as_ref().map(|topics| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect()
    });
    let fetched = fetch(broker, &request.group_id, topics.as_deref()).await;
    encode(fetched, topics.unwrap_or_default(), context.api_version)
}

async fn answer_group(broker: &Arc<Broker>, group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topics: Option<Vec<_>> = group.topics.as_ref().map(|topics| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.clone())).collect()
    });
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    let fetched = match fetch(broker, &group.group_id, topics.as_deref()).await {
        Ok(fetched) => fetched,
        Err(refusal) => return answer.with_error_code(code(refusal)),
    };
    let partition = |fetched: Fetched| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(fetched.partition)
            .with_committed_offset(fetched.offset)
            .with_committed_leader_epoch(fetched.leader_epoch)
            .with_metadata(Some(fetched.metadata))
    };
    let topics = fetched.into_iter().map(|(name, partitions)| {
        OffsetFetchResponseTopics::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    answer.with_topics(topics.collect())
}

/// The versions with one group.
fn encode(
    fetched: Result<FetchedTopics, Refusal>,
    asked: Vec<(TopicName, Vec<i32>)>,
    version: i16,
) -> OffsetFetchResponse {
    let (topics, error_code) = match fetched {
        Ok(fetched) => (fetched, 0),
        Err(refusal) if version >= GROUP_ERROR => {
            return OffsetFetchResponse::default().with_error_code(code(refusal));
        }
        Err(refusal) => (found(&StoredOffsets::new(), &asked), code(refusal)),
    };
    let partition = |fetched: Fetched| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(fetched.partition)
            .with_committed_offset(fetched.offset)
            .with_committed_leader_epoch(fetched.leader_epoch)
            .with_metadata(Some(fetched.metadata))
            .with_error_code(error_code)
    };
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

async fn fetch(
    broker: &Arc<Broker>,
    group: &str,
    topics: Option<&[(TopicName, Vec<i32>)]>,
) -> Result<FetchedTopics, Refusal> {
    let Some(topics) = topics else {
        let stored = broker.groups.fetch_offsets(group, None).await?;
        let all: Vec<_> = stored
            .iter()
            .map(|(topic, partitions)| {
                (TopicName(text(topic)), partitions.keys().map(|partition| partition.get()).collect())
            })
            .collect();
        return Ok(found(&stored, &all));
    };
    let partitions: Vec<(&str, PartitionIndex)> = topics
        .iter()
        .flat_map(|(topic, partitions)| {
            partitions.iter().map(move |partition| (&***topic, PartitionIndex::new(*partition)))
        })
        // No topic has a longer name, no partition a negative number: there is nothing to find.
        .filter(|(topic, partition)| topic.len() <= 249 && partition.get() >= 0)
        .collect();
    let stored = broker.groups.fetch_offsets(group, Some(&partitions)).await?;
    Ok(found(&stored, topics))
}

/// What was found of what was asked for, -1 where there is none.
fn found(stored: &StoredOffsets, asked: &[(TopicName, Vec<i32>)]) -> FetchedTopics {
    let one = |topic: &str, partition: i32| {
        let stored = stored.get(topic).and_then(|offsets| offsets.get(&PartitionIndex::new(partition)));
        Fetched {
            partition,
            offset: stored.map_or(-1, |stored| stored.offset),
            leader_epoch: stored.map_or(-1, |stored| stored.leader_epoch),
            metadata: stored.map_or_else(StrBytes::default, |stored| text(&stored.metadata)),
        }
    };
    let topic = |(topic, partitions): &(TopicName, Vec<i32>)| {
        (topic.clone(), partitions.iter().map(|partition| one(topic, *partition)).collect())
    };
    asked.iter().map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::group_error::assert_encodes;

    #[test]
    fn every_version_can_say_everything() {
        let name = TopicName("t".into());
        let fetched = || {
            vec![(
                name.clone(),
                vec![Fetched { partition: 1, offset: 5, leader_epoch: 0, metadata: "x".into() }],
            )]
        };
        let asked = vec![(name.clone(), vec![1, 2])];
        for version in 1..BATCHED {
            assert_encodes(&encode(Ok(fetched()), asked.clone(), version), version);
            let refused = encode(Err(Refusal::CoordinatorNotAvailable), asked.clone(), version);
            assert_encodes(&refused, version);
            let in_partitions = refused.topics.iter().flat_map(|topic| &topic.partitions);
            let codes: Vec<i16> = in_partitions.map(|partition| partition.error_code).collect();
            let code = code(Refusal::CoordinatorNotAvailable);
            let (expected, group) =
                if version < GROUP_ERROR { (vec![code; 2], 0) } else { (Vec::new(), code) };
            assert_eq!((codes, refused.error_code), (expected, group));
        }
    }
}
