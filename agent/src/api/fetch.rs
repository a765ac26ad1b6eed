//! Fetch (key 1): record batches to be read, with incremental sessions (KIP-227) and topic ids (KIP-516).

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchRequest, FetchTopic, ForgottenTopic};
use penstock_metadata::kv::StoreError;
use penstock_metadata::topics::Topic;
use penstock_types::{NodeId, PartitionIndex, TopicId, TopicPartition};

use super::context::RequestContext;
use super::fetch_encode::{self, AnsweredPartition};
use super::live::ClientZone;
use super::produce::CATALOG_AGE;
use crate::broker::Broker;
use crate::cluster::placement;
use crate::fetch::session::{
    FetchContext, News, PartitionKey, SessionError, SessionRequest, TopicKey, Wanted,
};
use crate::fetch::{self, FetchTarget, FetchedPartition, IsolationLevel, PartitionError};
use crate::wire::{EncodeError, Frame};

/// From this version on topics are named by id.
const TOPIC_IDS: i16 = 13;

/// Answers at once, or when there is enough. Dropped when the client goes away.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: FetchRequest,
    context: &RequestContext,
) -> Result<Frame, EncodeError> {
    broker.traffic.touch();
    let version = context.api_version;
    let session = SessionRequest { id: request.session_id, epoch: request.session_epoch };
    let named = named_partitions(&request.topics, version);
    let forgotten = forgotten_partitions(&request.forgotten_topics_data, version);
    let new_id = (broker.randomness.next_u64() >> 33) as i32;
    let begun = broker.sessions.lock().begin(session, named, &forgotten, version >= TOPIC_IDS, new_id);
    let fetch = match begun {
        Ok(fetch) => fetch,
        Err(error) => return fetch_encode::refusal(context, session_error(error)),
    };
    if let Err(error) = know_topics(broker, &fetch).await {
        tracing::debug!(%error, "topics can't be read; a fetch goes by what is known");
    }
    let sends_away = broker.cluster.sends_away();
    let is_replica = request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0;
    let mut resolved: Vec<Result<FetchTarget, ResponseError>> = Vec::with_capacity(fetch.partitions.len());
    for (key, wanted) in &fetch.partitions {
        let target = resolve(broker, key, wanted);
        let target = if sends_away { target.and(Err(ResponseError::NotLeaderOrFollower)) } else { target };
        resolved.push(if is_replica { target.and_then(|target| Err(no_follower(&target))) } else { target });
    }
    let isolation = match request.isolation_level {
        1 => IsolationLevel::ReadCommitted,
        _ => IsolationLevel::ReadUncommitted,
    };
    let sends_near = send_near(broker, &request.rack_id, context, &mut resolved);
    let asked = fetch::FetchRequest {
        targets: resolved.iter().flatten().copied().collect(),
        min_bytes: request.min_bytes.max(0) as u64,
        max_bytes: request.max_bytes.max(0) as u64,
        max_wait: Duration::from_millis(request.max_wait_ms.max(0) as u64),
        isolation,
    };
    let answers_at_once = resolved.iter().any(Result::is_err) || sends_near;
    let fetched = broker.fetch.fetch(&asked, answers_at_once).await;
    let mut results = fetched.partitions.into_iter();
    let answers: Vec<Result<FetchedPartition, ResponseError>> = resolved
        .iter()
        .map(|target| match target {
            Ok(_) => match results.next() {
                Some(Ok(fetched)) => Ok(fetched),
                Some(Err(error)) => Err(partition_error(&error)),
                None => Err(ResponseError::UnknownServerError),
            },
            Err(error) => Err(*error),
        })
        .collect();
    let told = tell(broker, &fetch, &answers);
    let answered = fetch.partitions.iter().zip(&answers).zip(told).filter(|(_, told)| *told);
    let answered = answered.map(|(((key, _), answer), _)| AnsweredPartition { key, answer });
    fetch_encode::answer(context, fetch.session, isolation, answered, fetched.memory)
}

/// Has the catalog at hand. What a partition holds is validated by the feed; that a topic was deleted by another agent
/// may be learnt a moment later, as in Kafka.
async fn know_topics(broker: &Broker, fetch: &FetchContext) -> Result<(), StoreError> {
    let is_known = |(key, wanted): &(PartitionKey, Wanted)| resolve(broker, key, wanted).is_ok();
    broker.topics.refresh_unless(CATALOG_AGE, || fetch.partitions.iter().all(is_known)).await
}

/// Sends a consumer of zone `rack` where it is to read instead (KIP-392): of each partition to the replica in its zone, if
/// this agent is of another, and unless the client was told of a leader in its zone to begin with. Whether any is sent.
fn send_near(
    broker: &Broker,
    rack: &str,
    context: &RequestContext,
    resolved: &mut [Result<FetchTarget, ResponseError>],
) -> bool {
    let own_zone = broker.config.node.zone.as_str();
    if rack.is_empty() || rack == own_zone || !ClientZone::of(broker, context).name.is_empty() {
        return false;
    }
    let membership = broker.cluster.membership();
    let placements = placement::Placements::new(&membership, "");
    let is_near = |node: &NodeId| membership.member(*node).is_some_and(|member| &*member.zone == rack);
    for target in resolved.iter_mut().flatten() {
        target.elsewhere = placements.of(target.partition).replicas.into_iter().find(is_near);
    }
    resolved.iter().flatten().any(|target| target.elsewhere.is_some())
}

fn tell(
    broker: &Broker,
    fetch: &FetchContext,
    answers: &[Result<FetchedPartition, ResponseError>],
) -> Vec<bool> {
    let news: Vec<News> = answers
        .iter()
        .map(|answer| match answer {
            Ok(fetched) => News {
                high_watermark: fetched.high_watermark.get(),
                log_start: fetched.log_start.get(),
                has_records: fetched.bytes > 0 || fetched.preferred.is_some(),
                is_error: false,
            },
            Err(_) => News { high_watermark: -1, log_start: -1, has_records: false, is_error: true },
        })
        .collect();
    broker.sessions.lock().tell(fetch, &news)
}

fn topic_key(name: &str, id: uuid::Uuid, version: i16) -> TopicKey {
    if version >= TOPIC_IDS { TopicKey::Id(TopicId::new(id)) } else { TopicKey::Name(name.to_owned()) }
}

fn named_partitions(topics: &[FetchTopic], version: i16) -> Vec<(PartitionKey, Wanted)> {
    let mut named = Vec::new();
    for topic in topics {
        let key = topic_key(&topic.topic, topic.topic_id, version);
        for partition in &topic.partitions {
            let wanted = Wanted {
                offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            named.push((PartitionKey { topic: key.clone(), partition: partition.partition }, wanted));
        }
    }
    named
}

fn forgotten_partitions(topics: &[ForgottenTopic], version: i16) -> Vec<PartitionKey> {
    let of_topic = |topic: &ForgottenTopic| {
        let key = topic_key(&topic.topic, topic.topic_id, version);
        let keys = topic
            .partitions
            .iter()
            .map(move |partition| PartitionKey { topic: key.clone(), partition: *partition });
        keys.collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn resolve(broker: &Broker, key: &PartitionKey, wanted: &Wanted) -> Result<FetchTarget, ResponseError> {
    let topic: Arc<Topic> = match &key.topic {
        TopicKey::Id(id) => broker.topics.by_id(*id).ok_or(ResponseError::UnknownTopicId)?,
        TopicKey::Name(name) => broker.topics.by_name(name).ok_or(ResponseError::UnknownTopicOrPartition)?,
    };
    let partition = PartitionIndex::new(key.partition);
    if !topic.has_partition(partition) {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    Ok(FetchTarget {
        partition: TopicPartition { topic: topic.id, partition },
        offset: wanted.offset,
        max_bytes: wanted.max_bytes.max(0) as u64,
        current_leader_epoch: (wanted.current_leader_epoch >= 0).then_some(wanted.current_leader_epoch),
        last_fetched_epoch: (wanted.last_fetched_epoch >= 0).then_some(wanted.last_fetched_epoch),
        elsewhere: None,
    })
}

/// Agents don't replicate from one another: nobody follows a leader here. Kafka's answers to a stranger.
fn no_follower(target: &FetchTarget) -> ResponseError {
    match target.current_leader_epoch {
        Some(_) => ResponseError::UnknownLeaderEpoch,
        None => ResponseError::NotLeaderOrFollower,
    }
}

fn session_error(error: SessionError) -> ResponseError {
    match error {
        SessionError::NotFound => ResponseError::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ResponseError::InvalidFetchSessionEpoch,
        SessionError::TopicIds => ResponseError::FetchSessionTopicIdError,
    }
}

/// Kafka's answer where a partition can't be fetched, or its offsets told.
pub(crate) fn partition_error(error: &PartitionError) -> ResponseError {
    match error {
        PartitionError::OffsetOutOfRange => ResponseError::OffsetOutOfRange,
        PartitionError::FencedLeaderEpoch => ResponseError::FencedLeaderEpoch,
        PartitionError::UnknownLeaderEpoch => ResponseError::UnknownLeaderEpoch,
        // Retriable, and consumers try again without telling their user.
        PartitionError::Unavailable(reason) => {
            tracing::debug!(reason, "a partition can't be read now");
            ResponseError::KafkaStorageError
        }
    }
}
