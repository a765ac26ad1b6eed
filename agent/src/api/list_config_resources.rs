//! ListConfigResources (key 74): what has options (KIP-1142); in version 0 subscriptions of client metrics only
//! (KIP-714), of which there are none.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use kafka_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

use super::config_resource::ResourceType;
use super::context::RequestContext;
use super::live;
use super::topic_error::{store_error, text};
use crate::broker::Broker;

/// Answers with the resources of the kinds asked for, or of all.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: ListConfigResourcesRequest,
    context: &RequestContext,
) -> ListConfigResourcesResponse {
    let Some(kinds) = kinds(&request.resource_types, context.api_version) else {
        return ListConfigResourcesResponse::default()
            .with_error_code(ResponseError::UnsupportedVersion.code());
    };
    if let Err(error) = broker.topics.refresh().await {
        return ListConfigResourcesResponse::default().with_error_code(store_error(&error).code());
    }
    let mut resources = Vec::new();
    for kind in ResourceType::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let names = match kind {
            ResourceType::Topic => broker.topics.all().iter().map(|topic| topic.name.to_string()).collect(),
            ResourceType::Broker | ResourceType::BrokerLogger => {
                live::broker_ids(broker).iter().map(ToString::to_string).collect()
            }
            ResourceType::ClientMetrics | ResourceType::Group => Vec::new(),
        };
        resources.extend(names.iter().map(|name| {
            ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind.wire())
        }));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

/// The kinds asked for; `None` if one isn't known.
fn kinds(asked: &[i8], version: i16) -> Option<BTreeSet<ResourceType>> {
    if version == 0 {
        return Some(BTreeSet::from([ResourceType::ClientMetrics]));
    }
    if asked.is_empty() {
        return Some(ResourceType::ALL.into());
    }
    asked.iter().map(|number| ResourceType::from_wire(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_kafkas() {
        assert_eq!(kinds(&[], 0), Some(BTreeSet::from([ResourceType::ClientMetrics])));
        assert_eq!(kinds(&[], 1).map(|kinds| kinds.len()), Some(5));
        assert_eq!(kinds(&[2, 4], 1), Some(BTreeSet::from([ResourceType::Topic, ResourceType::Broker])));
        assert_eq!(kinds(&[2, 1], 1), None);
    }
}
