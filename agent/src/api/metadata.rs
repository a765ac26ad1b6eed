//! Metadata (key 3): brokers, topics, and topics made because somebody asked for them.
//!
//! A topic that is made here is in the same answer, where Kafka answers UNKNOWN_TOPIC_OR_PARTITION once and has it at
//! the client's next try.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use penstock_metadata::topics::{CreateTopicError, Lookup, NewTopic, Request, Terms, Topic, validate_name};
use penstock_types::TopicId;

use super::context::RequestContext;
use super::live::{self, CLUSTER_OPERATIONS, ClientZone, NO_OPERATIONS, Placements, TOPIC_OPERATIONS};
use super::topic_error::text;
use crate::broker::Broker;

/// How long a topic that is made on the way may take, in milliseconds.
const CREATION_MS: i32 = 10_000;
/// The most topics that one request makes on the way.
const CREATIONS: usize = 1_000;

/// Answers for the topics asked for, or for all.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: MetadataRequest,
    context: &RequestContext,
) -> MetadataResponse {
    let version = context.api_version;
    if let Some(refused) = malformed(&request, version) {
        return refused;
    }
    let fresh = broker.topics.refresh().await;
    if let Err(error) = &fresh {
        tracing::debug!(%error, "topics can't be read; Metadata goes by what is known");
    }
    let operations =
        if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NO_OPERATIONS };
    let membership = broker.cluster.membership();
    let zone = ClientZone::of(broker, context);
    let told = zone.brokers(&membership);
    let topics = Topics { placements: Placements::new(&membership, &zone, &told), operations };
    let answered = match request.topics.as_deref() {
        None => topics.all(broker),
        Some([]) if version == 0 => topics.all(broker),
        Some(asked) if asked.iter().any(|topic| !topic.topic_id.is_nil()) => topics.by_id(broker, asked),
        Some(asked) => {
            let create = request.allow_auto_topic_creation
                && broker.topics.broker().boolean("auto.create.topics.enable");
            topics.by_name(broker, asked, create, fresh.is_ok()).await
        }
    };
    let cluster_operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NO_OPERATIONS };
    let controller = zone.controller(&membership, &told);
    let brokers = told.into_iter().map(|live| {
        MetadataResponseBroker::default()
            .with_node_id(live.id)
            .with_host(live.host)
            .with_port(live.port)
            .with_rack(live.rack)
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&broker.identity.cluster_id)))
        .with_controller_id(controller)
        .with_topics(answered)
        .with_cluster_authorized_operations(cluster_operations)
}

/// A topic has a name or an id; ids came with version 12 (10 and 11 carry them, but don't serve them).
fn malformed(request: &MetadataRequest, version: i16) -> Option<MetadataResponse> {
    let topics = request.topics.as_deref().unwrap_or_default();
    let wrong = |topic: &MetadataRequestTopic| {
        let by_id = !topic.topic_id.is_nil();
        if version < 12 { by_id || topic.name.is_none() } else { !by_id && topic.name.is_none() }
    };
    if !topics.iter().any(wrong) {
        return None;
    }
    let refused = topics.iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    Some(MetadataResponse::default().with_controller_id((-1).into()).with_topics(refused.collect()))
}

struct Topics<'a> {
    placements: Placements<'a>,
    operations: i32,
}

impl Topics<'_> {
    fn all(&self, broker: &Broker) -> Vec<MetadataResponseTopic> {
        broker.topics.all().iter().map(|topic| self.found(topic)).collect()
    }

    /// Topics without an id are not looked at, as in Kafka.
    fn by_id(&self, broker: &Broker, asked: &[MetadataRequestTopic]) -> Vec<MetadataResponseTopic> {
        let mut seen = BTreeSet::new();
        let asked = asked.iter().map(|topic| TopicId::new(topic.topic_id));
        let ids: Vec<TopicId> = asked.filter(|id| *id != TopicId::NIL && seen.insert(*id)).collect();
        let Lookup { topics, .. } = broker.topics.lookup(&ids);
        let mut answered: Vec<_> = topics.iter().flatten().map(|topic| self.found(topic)).collect();
        for (id, topic) in ids.iter().zip(&topics) {
            if topic.is_none() {
                answered.push(
                    MetadataResponseTopic::default()
                        .with_error_code(ResponseError::UnknownTopicId.code())
                        .with_name(None)
                        .with_topic_id(id.get()),
                );
            }
        }
        answered
    }

    async fn by_name(
        &self,
        broker: &Broker,
        asked: &[MetadataRequestTopic],
        create: bool,
        fresh: bool,
    ) -> Vec<MetadataResponseTopic> {
        let mut seen = BTreeSet::new();
        let names = asked.iter().filter_map(|topic| topic.name.as_ref());
        let names: Vec<&TopicName> = names.filter(|name| seen.insert(name.as_str())).collect();
        let mut answered = Vec::with_capacity(names.len());
        let mut missing = Vec::new();
        for name in names {
            match broker.topics.by_name(name) {
                Some(topic) => answered.push(self.found(&topic)),
                None => missing.push(name),
            }
        }
        let made = if create && fresh { make(broker, &missing).await } else { BTreeSet::new() };
        for name in missing {
            let topic = broker.topics.by_name(name);
            answered.push(match topic {
                Some(topic) => self.found(&topic),
                None => self.missing(name, fresh && !made.contains(name.as_str())),
            });
        }
        answered
    }

    /// `known` says that the topic is known not to be there, else the client is to try again.
    fn missing(&self, name: &TopicName, known: bool) -> MetadataResponseTopic {
        let error = match validate_name(name) {
            Err(_) => ResponseError::InvalidTopicException,
            Ok(()) if known => ResponseError::UnknownTopicOrPartition,
            Ok(()) => ResponseError::LeaderNotAvailable,
        };
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(Some(name.clone()))
            .with_topic_authorized_operations(self.operations)
    }

    fn found(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = (0..topic.partitions).map(|index| {
            let placement = self.placements.of(topic.id, index as i32);
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_leader_id(placement.leader)
                .with_leader_epoch(placement.leader_epoch)
                .with_replica_nodes(placement.replicas.clone())
                .with_isr_nodes(placement.replicas)
        });
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(topic.id.get())
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(self.operations)
    }
}

/// Makes the topics with the broker's defaults and brings the catalog up to date; answers which ones may be there all
/// the same, though the catalog doesn't show them.
async fn make<'a>(broker: &Broker, names: &[&'a TopicName]) -> BTreeSet<&'a str> {
    let options = broker.topics.broker();
    let brokers = live::broker_ids(broker);
    let terms = Terms { broker: &options, brokers: &brokers };
    let mut plans = Vec::new();
    let mut planned = Vec::new();
    for name in names.iter().take(CREATIONS) {
        let new = NewTopic {
            name: name.to_string(),
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        };
        match broker.topic_admin.plan_topic(&new, terms) {
            Ok(plan) => {
                plans.push(plan);
                planned.push(name.as_str());
            }
            Err(refused) => tracing::debug!(topic = name.as_str(), %refused, "the topic can't be made"),
        }
    }
    if plans.is_empty() {
        return BTreeSet::new();
    }
    let results = broker.topic_admin.create_topics(plans, Request::new(false, CREATION_MS)).await;
    let shown = broker.topics.refresh().await.is_ok();
    let mut unclear = BTreeSet::new();
    for (name, result) in planned.into_iter().zip(results) {
        match result {
            Ok(made) => {
                tracing::info!(topic = name, id = %made.id, "topic made because a client asked for it");
                if !shown {
                    unclear.insert(name);
                }
            }
            Err(CreateTopicError::Failed(failed)) => {
                tracing::warn!(topic = name, %failed, "the topic could not be made");
                unclear.insert(name);
            }
            Err(refused) => tracing::debug!(topic = name, %refused, "the topic can't be made"),
        }
    }
    unclear
}
