//! FindCoordinator (key 10): which broker coordinates a group (KIP-699 asks for several at once, from version 4).
//!
//! This agent coordinates every group. Whoever looks for a transaction coordinator is sent here too, where
//! InitProducerId refuses for good: told that there is none now, clients would look for it until they time out. There
//! is no share coordinator: Kafka without one answers INVALID_REQUEST.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::text;
use crate::broker::{Broker, Identity};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From this version on several keys are asked for at once.
const BATCHED: i16 = 4;
const REFUSAL: &str = "The request is not one that this broker can serve.";

/// Answers for each key.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: FindCoordinatorRequest,
    context: &RequestContext,
) -> FindCoordinatorResponse {
    answer(&broker.identity, &request, context.api_version)
}

fn answer(identity: &Identity, request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    let error = match request.key_type {
        GROUP | TRANSACTION => None,
        _ => Some(ResponseError::InvalidRequest),
    };
    if version < BATCHED {
        let found = coordinator(identity, &StrBytes::default(), error);
        // Kafka's word.
        let message = if error.is_none() { "NONE" } else { REFUSAL };
        return FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
    }
    let coordinators = request.coordinator_keys.iter().map(|key| coordinator(identity, key, error)).collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

fn coordinator(identity: &Identity, key: &StrBytes, error: Option<ResponseError>) -> Coordinator {
    let found = Coordinator::default().with_key(key.clone());
    match error {
        None => found
            .with_node_id(BrokerId(identity.node_id))
            .with_host(text(&identity.advertised_host))
            .with_port(i32::from(identity.advertised_port)),
        Some(error) => found
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(REFUSAL)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::group_error::assert_encodes;

    #[test]
    fn every_version_names_this_broker_or_refuses() {
        let identity = Identity {
            cluster_id: "c".into(),
            node_id: 7,
            advertised_host: "broker".into(),
            advertised_port: 9_092,
        };
        for version in 0..=6 {
            for key_type in 0..4 {
                let request = FindCoordinatorRequest::default()
                    .with_key("g".into())
                    .with_key_type(key_type)
                    .with_coordinator_keys(vec!["a".into(), "b".into()]);
                let answer = answer(&identity, &request, version);
                assert_encodes(&answer, version);
                let (node, code) = match answer.coordinators.first() {
                    Some(found) => (found.node_id, found.error_code),
                    None => (answer.node_id, answer.error_code),
                };
                assert_eq!(answer.coordinators.len(), if version < BATCHED { 0 } else { 2 });
                assert_eq!((node.0 == 7, code == 0), (key_type < 2, key_type < 2));
            }
        }
    }
}
