//! IncrementalAlterConfigs (key 44): changes single options of a resource (KIP-339).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use penstock_metadata::topics::{Alteration, Operation};

use super::alter_resources::{Wanted, alter, check_keys};
use super::context::RequestContext;
use super::topic_error::Refusal;
use crate::broker::Broker;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Changes the options, or only checks.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
    _context: &RequestContext,
) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.iter().map(wanted).collect();
    let refusals = alter(broker, wanted, request.validate_only).await;
    let responses = request.resources.into_iter().zip(&refusals).map(|(resource, refusal)| {
        AlterConfigsResourceResponse::default()
            .with_error_code(refusal.as_ref().map_or(0, Refusal::code))
            .with_error_message(refusal.as_ref().and_then(Refusal::text))
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn wanted(resource: &AlterConfigsResource) -> Wanted {
    Wanted {
        resource_type: resource.resource_type,
        name: resource.resource_name.to_string(),
        alteration: alteration(&resource.configs),
    }
}

fn alteration(configs: &[AlterableConfig]) -> Result<Alteration, Refusal> {
    let keys = configs
        .iter()
        .map(|config| (&*config.name, config.value.is_none() && config.config_operation != DELETE));
    check_keys(keys, "Null value not supported for : ")?;
    let operations = configs.iter().map(|config| {
        let value = || config.value.as_ref().map(ToString::to_string).unwrap_or_default();
        let operation = match config.config_operation {
            SET => Operation::Set(value()),
            DELETE => Operation::Delete,
            APPEND => Operation::Append(value()),
            SUBTRACT => Operation::Subtract(value()),
            other => {
                let message = format!("Unknown config operation type {other}");
                return Err(Refusal::new(ResponseError::InvalidRequest, message));
            }
        };
        Ok((config.name.to_string(), operation))
    });
    Ok(Alteration::Increment(operations.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::super::topic_error::text;
    use super::*;

    fn config(name: &str, operation: i8, value: Option<&str>) -> AlterableConfig {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text))
    }

    #[test]
    fn operations_are_kafkas() {
        let configs = [
            config("a", SET, Some("1")),
            config("b", DELETE, None),
            config("c", APPEND, Some("x")),
            config("d", SUBTRACT, Some("y")),
        ];
        let expected = vec![
            ("a".to_owned(), Operation::Set("1".to_owned())),
            ("b".to_owned(), Operation::Delete),
            ("c".to_owned(), Operation::Append("x".to_owned())),
            ("d".to_owned(), Operation::Subtract("y".to_owned())),
        ];
        assert_eq!(alteration(&configs), Ok(Alteration::Increment(expected)));
        let refused = alteration(&[config("a", 9, Some("1"))]).expect_err("no such operation");
        assert_eq!(refused.error, ResponseError::InvalidRequest);
        let refused = alteration(&[config("a", SET, None)]).expect_err("no value");
        assert_eq!(refused.message.as_deref(), Some("Null value not supported for : a"));
    }
}
