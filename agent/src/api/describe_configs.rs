//! DescribeConfigs (key 32): options in force, where they come from and what they do (KIP-133, KIP-226, KIP-569).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use penstock_metadata::topics::validate_name;

use super::config_entries::{Entry, broker_entries, cluster_entries, topic_entries};
use super::config_resource::ResourceType;
use super::context::RequestContext;
use super::topic_error::{Refusal, text};
use crate::broker::Broker;

/// Answers for each resource.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeConfigsRequest,
    _context: &RequestContext,
) -> DescribeConfigsResponse {
    if let Err(error) = broker.topics.refresh().await {
        tracing::debug!(%error, "options can't be read; DescribeConfigs goes by what is known");
    }
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(broker, resource) {
            Ok(entries) => {
                let shown = entries.into_iter().map(|entry| shown(entry, &request));
                result.with_error_message(Some(text(""))).with_configs(shown.collect())
            }
            Err(refusal) => {
                // Where Kafka's own error has no words, it answers an empty message here.
                let message = refusal.text().unwrap_or_default();
                result.with_error_code(refusal.code()).with_error_message(Some(message))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    let names: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
    let name: &str = &resource.resource_name;
    let invalid = |message: String| Refusal::new(ResponseError::InvalidRequest, message);
    let own = broker.identity.node_id;
    match ResourceType::from_wire(resource.resource_type) {
        Some(ResourceType::Topic) => {
            validate_name(name)
                .map_err(|error| Refusal::new(ResponseError::InvalidTopicException, error.to_string()))?;
            let topic = broker.topics.by_name(name);
            let topic = topic.ok_or(Refusal::bare(ResponseError::UnknownTopicOrPartition))?;
            Ok(topic_entries(&broker.topics.broker(), &topic.overrides, &names))
        }
        Some(ResourceType::Broker) if name.is_empty() => Ok(cluster_entries(&broker.topics.broker(), &names)),
        Some(ResourceType::Broker) => match broker_id(name)? {
            id if id == own => Ok(broker_entries(&broker.topics.broker(), &names)),
            id => Err(invalid(format!(
                "Unexpected broker id, expected {own} or empty string, but received {id}"
            ))),
        },
        Some(ResourceType::BrokerLogger) if name.is_empty() => {
            Err(invalid("Broker id must not be empty".to_owned()))
        }
        Some(ResourceType::BrokerLogger) => match broker_id(name)? {
            id if id == own => Ok(Vec::new()),
            id => Err(invalid(format!("Unexpected broker id, expected {own} but received {id}"))),
        },
        Some(ResourceType::ClientMetrics) if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty".to_owned()))
        }
        Some(ResourceType::Group) if name.is_empty() => {
            Err(invalid("Group name must not be empty".to_owned()))
        }
        Some(ResourceType::ClientMetrics | ResourceType::Group) => Ok(Vec::new()),
        None => Err(invalid(format!("Unknown resource type {}", resource.resource_type))),
    }
}

fn broker_id(name: &str) -> Result<i32, Refusal> {
    let message = || format!("Broker id must be an integer, but it is: {name}");
    name.parse().map_err(|_| Refusal::new(ResponseError::InvalidRequest, message()))
}

fn shown(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    let synonyms = synonyms.into_iter().map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(&synonym.name))
            .with_value(Some(text(&synonym.value)))
            .with_source(synonym.source.wire())
    });
    let documentation = request.include_documentation.then(|| text(entry.documentation));
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(entry.value.as_deref().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source.wire())
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.kind.wire())
        .with_documentation(documentation)
}
