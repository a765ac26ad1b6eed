//! CreateTopics (key 19).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use penstock_config::broker::BrokerConfig;
use penstock_metadata::topics::{NewTopic, PARTITIONS_PER_REQUEST, PlannedTopic, Request, Terms};

use super::config_entries::topic_entries;
use super::context::RequestContext;
use super::live;
use super::topic_error::{Refusal, text};
use crate::broker::Broker;

/// From this version on, an answer shows the topic that was made.
const SHOWS_TOPIC: i16 = 5;

/// Makes the topics, or only checks them.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: CreateTopicsRequest,
    context: &RequestContext,
) -> CreateTopicsResponse {
    if let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "options can't be read; CreateTopics goes by what is known");
    }
    let options = broker.topics.broker();
    let mut times: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let asked: Vec<&CreatableTopic> = request.topics.iter().filter(|topic| times[&topic.name] == 1).collect();
    let results = match too_many(&asked, &options) {
        Some(refusal) => asked.iter().map(|_| Err(refusal.clone())).collect(),
        None => create(broker, &request, &asked, &options).await,
    };
    broker.topics.expire();
    let mut response = CreateTopicsResponse::default();
    for (topic, result) in asked.into_iter().zip(results) {
        response.topics.push(match result {
            Ok(made) => created(&made, &options, context.api_version),
            Err(refusal) => refused(&topic.name, &refusal),
        });
    }
    let twice = Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name.");
    let repeated = times.into_iter().filter(|(_, times)| *times > 1);
    response.topics.extend(repeated.map(|(name, _)| refused(name, &twice)));
    response
}

/// Kafka's bound of one request.
fn too_many(asked: &[&CreatableTopic], options: &BrokerConfig) -> Option<Refusal> {
    let default = options.integer("num.partitions");
    let partitions = asked.iter().map(|topic| {
        if !topic.assignments.is_empty() {
            topic.assignments.len() as u64
        } else if topic.num_partitions == -1 {
            u64::try_from(default).unwrap_or(1)
        } else {
            u64::try_from(topic.num_partitions).unwrap_or(0)
        }
    });
    (partitions.sum::<u64>() > PARTITIONS_PER_REQUEST).then(|| {
        Refusal::new(ResponseError::PolicyViolation, "Excessively large number of partitions per request.")
    })
}

async fn create(
    broker: &Broker,
    request: &CreateTopicsRequest,
    asked: &[&CreatableTopic],
    options: &BrokerConfig,
) -> Vec<Result<PlannedTopic, Refusal>> {
    let brokers = live::broker_ids(broker);
    let terms = Terms { broker: options, brokers: &brokers };
    let plans: Vec<Result<PlannedTopic, Refusal>> = asked
        .iter()
        .map(|topic| {
            broker.topic_admin.plan_topic(&wanted(topic), terms).map_err(|refused| (&refused).into())
        })
        .collect();
    let good = plans.iter().flatten().cloned().collect();
    let how = Request::new(request.validate_only, request.timeout_ms);
    let mut made = broker.topic_admin.create_topics(good, how).await.into_iter();
    let results = plans.into_iter().map(|plan| {
        plan?;
        match made.next() {
            Some(Ok(made)) => Ok(made),
            Some(Err(refused)) => Err((&refused).into()),
            None => Err(Refusal::bare(ResponseError::UnknownServerError)),
        }
    });
    let results: Vec<_> = results.collect();
    if !request.validate_only {
        for made in results.iter().flatten() {
            tracing::info!(topic = made.name, id = %made.id, partitions = made.partitions, "topic made");
        }
    }
    results
}

fn wanted(topic: &CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| {
        let brokers = assignment.broker_ids.iter().map(|broker| broker.0).collect();
        (assignment.partition_index, brokers)
    });
    let configs = topic
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)));
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn created(made: &PlannedTopic, options: &BrokerConfig, version: i16) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default()
        .with_name(TopicName(text(&made.name)))
        .with_topic_id(made.id.get())
        .with_error_message(None)
        .with_num_partitions(made.partitions as i32)
        .with_replication_factor(i16::try_from(made.replication_factor).unwrap_or(i16::MAX));
    if version >= SHOWS_TOPIC {
        let entries = topic_entries(options, &made.configs, &BTreeSet::new());
        let configs = entries.into_iter().map(|entry| {
            CreatableTopicConfigs::default()
                .with_name(text(entry.name))
                .with_value(entry.value.as_deref().map(text))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source.wire())
        });
        result.configs = Some(configs.collect());
    }
    result
}

/// The list of options is empty, never null: Java's admin client can't read null.
fn refused(name: &TopicName, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name.clone())
        .with_error_code(refusal.code())
        .with_error_message(refusal.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}
