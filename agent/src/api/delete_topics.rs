//! DeleteTopics (key 20): by name, or from version 6 on also by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use penstock_metadata::topics::{Request, TopicCatalog};
use penstock_types::TopicId;

use super::context::RequestContext;
use super::topic_error::{Refusal, store_error, text};
use crate::broker::Broker;

#[cfg(test)]
mod tests;

/// From this version on there is an error of its own for brokers that don't delete topics.
const DELETION_DISABLED: i16 = 3;

/// Deletes the topics that there are.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DeleteTopicsRequest,
    context: &RequestContext,
) -> DeleteTopicsResponse {
    let asked = asked(&request);
    let refuse_all = |refusal: Refusal| {
        let refused = asked.iter().map(|asked| result(asked.name.clone(), asked.id, Some(&refusal)));
        DeleteTopicsResponse::default().with_responses(refused.collect())
    };
    if let Err(error) = broker.topics.refresh().await {
        return refuse_all(Refusal::new(store_error(&error), error.to_string()));
    }
    if !broker.topics.broker().boolean("delete.topic.enable") {
        let error = if context.api_version < DELETION_DISABLED {
            ResponseError::InvalidRequest
        } else {
            ResponseError::TopicDeletionDisabled
        };
        return refuse_all(Refusal::new(error, "Topic deletion is disabled."));
    }
    let resolved = resolve(&broker.topics, &asked);
    let ids: Vec<TopicId> = resolved.iter().flat_map(|(_, id)| id.as_ref().ok().copied()).collect();
    let mut deleted =
        broker.topic_admin.delete_topics(&ids, Request::new(false, request.timeout_ms)).await.into_iter();
    broker.topics.expire();
    let mut response = DeleteTopicsResponse::default();
    for (asked, id) in resolved {
        let by_name = asked.id == TopicId::NIL;
        let refusal = match id {
            Err(refusal) => Some(refusal),
            Ok(id) => match deleted.next() {
                Some(Ok(())) => {
                    tracing::info!(topic = asked.name.as_ref().map_or("", |name| name.as_str()), %id, "topic deleted");
                    response.responses.push(result(asked.name, id, None));
                    continue;
                }
                // It went between the look at the catalog and the deletion.
                Some(Err(refused)) if by_name => match Refusal::from(&refused) {
                    Refusal { error: ResponseError::UnknownTopicId, .. } => Some(unknown_name()),
                    refusal => Some(refusal),
                },
                Some(Err(refused)) => Some((&refused).into()),
                None => Some(Refusal::bare(ResponseError::UnknownServerError)),
            },
        };
        response.responses.push(result(asked.name, asked.id, refusal.as_ref()));
    }
    response
}

/// A topic that is to go: a name or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    name: Option<TopicName>,
    id: TopicId,
}

fn asked(request: &DeleteTopicsRequest) -> Vec<Asked> {
    let by_name = request.topic_names.iter().map(|name| Asked { name: Some(name.clone()), id: TopicId::NIL });
    let states = request
        .topics
        .iter()
        .map(|state: &DeleteTopicState| Asked { name: state.name.clone(), id: TopicId::new(state.topic_id) });
    by_name.chain(states).collect()
}

fn unknown_name() -> Refusal {
    Refusal::new(ResponseError::UnknownTopicOrPartition, "This server does not host this topic-partition.")
}

/// Each topic once, with its id, or what is wrong with it.
fn resolve(topics: &TopicCatalog, asked: &[Asked]) -> Vec<(Asked, Result<TopicId, Refusal>)> {
    let mut times: BTreeMap<(Option<&str>, TopicId), usize> = BTreeMap::new();
    for asked in asked {
        *times.entry((asked.name.as_deref().map(|name| &**name), asked.id)).or_default() += 1;
    }
    let given: BTreeSet<TopicId> =
        asked.iter().filter(|asked| asked.name.is_none()).map(|asked| asked.id).collect();
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidRequest, message);
    let mut seen = BTreeSet::new();
    let mut resolved = Vec::with_capacity(asked.len());
    for one in asked {
        let key = (one.name.as_deref().map(|name| &**name), one.id);
        if !seen.insert(key) {
            continue;
        }
        let twice = times[&key] > 1;
        let mut one = one.clone();
        let id = match (one.name.clone(), one.id) {
            (None, TopicId::NIL) => Err(invalid("Neither topic name nor id were specified.")),
            (Some(_), id) if id != TopicId::NIL => {
                Err(invalid("You may not specify both topic name and topic id."))
            }
            (None, _) if twice => Err(invalid("Duplicate topic id.")),
            (None, id) => {
                let topic = topics.by_id(id);
                one.name = topic.as_ref().map(|topic| TopicName(text(&topic.name)));
                topic.map(|topic| topic.id).ok_or_else(|| {
                    Refusal::new(ResponseError::UnknownTopicId, "This server does not host this topic ID.")
                })
            }
            (Some(_), _) if twice => Err(invalid("Duplicate topic name.")),
            (Some(name), _) => match topics.by_name(&name) {
                None => Err(unknown_name()),
                Some(topic) if given.contains(&topic.id) => {
                    Err(invalid("The provided topic name maps to an ID that was already supplied."))
                }
                Some(topic) => Ok(topic.id),
            },
        };
        resolved.push((one, id));
    }
    resolved
}

fn result(name: Option<TopicName>, id: TopicId, refusal: Option<&Refusal>) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id.get())
        .with_error_code(refusal.map_or(0, Refusal::code))
        .with_error_message(refusal.and_then(Refusal::text))
}
