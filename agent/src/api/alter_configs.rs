//! AlterConfigs (key 33): replaces all options of a resource. Deprecated in favour of IncrementalAlterConfigs.

use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};
use penstock_metadata::topics::Alteration;

use super::alter_resources::{Wanted, alter, check_keys};
use super::config_resource::ResourceType;
use super::context::RequestContext;
use super::topic_error::Refusal;
use crate::broker::Broker;

/// Changes the options, or only checks.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: AlterConfigsRequest,
    _context: &RequestContext,
) -> AlterConfigsResponse {
    let wanted = request.resources.iter().map(wanted).collect();
    let refusals = alter(broker, wanted, request.validate_only).await;
    let responses = request.resources.into_iter().zip(&refusals).map(|(resource, refusal)| {
        AlterConfigsResourceResponse::default()
            .with_error_code(refusal.as_ref().map_or(0, Refusal::code))
            .with_error_message(refusal.as_ref().and_then(Refusal::text))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

fn wanted(resource: &AlterConfigsResource) -> Wanted {
    let keys = resource.configs.iter().map(|config| (&*config.name, config.value.is_none()));
    let alteration = check_keys(keys, "Null value not supported for : ").map(|()| {
        let configs = resource
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
        Alteration::Replace(configs.collect())
    });
    // Kafka never let loggers be replaced whole.
    let replaceable = resource.resource_type != ResourceType::BrokerLogger.wire();
    Wanted {
        resource_type: resource.resource_type,
        name: resource.resource_name.to_string(),
        alteration: if replaceable {
            alteration
        } else {
            let message = format!("Unknown resource type {}", resource.resource_type);
            Err(Refusal::new(kafka_protocol::error::ResponseError::InvalidRequest, message))
        },
    }
}
