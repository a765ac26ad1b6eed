//! CreatePartitions (key 37).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use penstock_metadata::topics::{NewPartitions, PARTITIONS_PER_REQUEST, Request, Topic};

use super::context::RequestContext;
use super::live;
use super::topic_error::{Refusal, store_error};
use crate::broker::Broker;

/// Adds the partitions, or only checks.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: CreatePartitionsRequest,
    _context: &RequestContext,
) -> CreatePartitionsResponse {
    let mut times: BTreeMap<&TopicName, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let asked: Vec<_> = request.topics.iter().filter(|topic| times[&topic.name] == 1).collect();
    let results = grow(broker, &request, &asked).await;
    let twice = Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name.");
    let repeated = times.into_iter().filter(|(_, times)| *times > 1);
    let repeated = repeated.map(|(name, _)| result(name, Some(&twice)));
    let results = asked.iter().zip(&results).map(|(topic, refusal)| result(&topic.name, refusal.as_ref()));
    CreatePartitionsResponse::default().with_results(results.chain(repeated).collect())
}

async fn grow(
    broker: &Broker,
    request: &CreatePartitionsRequest,
    asked: &[&CreatePartitionsTopic],
) -> Vec<Option<Refusal>> {
    if let Err(error) = broker.topics.refresh().await {
        let refusal = Refusal::new(store_error(&error), error.to_string());
        return asked.iter().map(|_| Some(refusal.clone())).collect();
    }
    let topics: Vec<Option<Arc<Topic>>> =
        asked.iter().map(|topic| broker.topics.by_name(&topic.name)).collect();
    let new = asked.iter().zip(&topics).map(|(asked, topic)| {
        let have = topic.as_ref().map_or(0, |topic| topic.partitions);
        u64::from(u32::try_from(asked.count).unwrap_or(0).saturating_sub(have))
    });
    if new.sum::<u64>() > PARTITIONS_PER_REQUEST {
        let refusal = Refusal::new(
            ResponseError::PolicyViolation,
            "Excessively large number of partitions per request.",
        );
        return asked.iter().map(|_| Some(refusal.clone())).collect();
    }
    let there = asked.iter().zip(&topics).filter_map(|(asked, topic)| Some(wanted(asked, topic.as_ref()?)));
    let there: Vec<NewPartitions> = there.collect();
    let how = Request::new(request.validate_only, request.timeout_ms);
    let brokers = live::broker_ids(broker);
    let mut grown = broker.topic_admin.create_partitions(&there, &brokers, how).await.into_iter();
    broker.topics.expire();
    let refusals = topics.iter().map(|topic| match topic {
        None => Some(Refusal::bare(ResponseError::UnknownTopicOrPartition)),
        Some(_) => match grown.next() {
            Some(Ok(())) => None,
            Some(Err(refused)) => Some((&refused).into()),
            None => Some(Refusal::bare(ResponseError::UnknownServerError)),
        },
    });
    refusals.collect()
}

fn wanted(asked: &CreatePartitionsTopic, topic: &Topic) -> NewPartitions {
    let assignments = asked.assignments.as_ref().map(|assignments| {
        let brokers = assignments.iter().map(|one| one.broker_ids.iter().map(|broker| broker.0).collect());
        brokers.collect()
    });
    NewPartitions { id: topic.id, count: asked.count, assignments }
}

fn result(name: &TopicName, refusal: Option<&Refusal>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(name.clone())
        .with_error_code(refusal.map_or(0, Refusal::code))
        .with_error_message(refusal.and_then(Refusal::text))
}
