//! FindCoordinator (key 10): which broker coordinates a group (KIP-699 asks for several at once, from version 4).
//!
//! Every agent names the same one for a group, by the membership that it knows. Whoever looks for a transaction
//! coordinator is sent to an agent too, where InitProducerId refuses for good: told that there is none now, clients
//! would look for it until they time out. There is no share coordinator: Kafka without one answers INVALID_REQUEST.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::text;
use crate::broker::Broker;
use crate::cluster::{Membership, placement};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// From this version on several keys are asked for at once.
const BATCHED: i16 = 4;
const UNAVAILABLE: &str = "The coordinator is not available.";
const REFUSAL: &str = "The request is not one that this broker can serve.";

/// Answers for each key.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: FindCoordinatorRequest,
    context: &RequestContext,
) -> FindCoordinatorResponse {
    answer(&broker.cluster.membership(), &request, context.api_version)
}

fn answer(
    membership: &Membership,
    request: &FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    let error = match request.key_type {
        GROUP | TRANSACTION => None,
        _ => Some(ResponseError::InvalidRequest),
    };
    if version < BATCHED {
        let found = coordinator(membership, &request.key, error);
        let message = match found.error_code {
            // Kafka's word.
            0 => "NONE",
            code if code == ResponseError::CoordinatorNotAvailable.code() => UNAVAILABLE,
            _ => REFUSAL,
        };
        return FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
    }
    let coordinators =
        request.coordinator_keys.iter().map(|key| coordinator(membership, key, error)).collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

fn coordinator(membership: &Membership, key: &StrBytes, error: Option<ResponseError>) -> Coordinator {
    let answer = Coordinator::default().with_key(key.clone());
    let found = match error {
        Some(error) => Err((error, REFUSAL)),
        None => match placement::coordinator(membership, key) {
            // It would refuse: without a lease it coordinates nothing.
            Some(found) if found.node == membership.own && !membership.leased => {
                Err((ResponseError::CoordinatorNotAvailable, UNAVAILABLE))
            }
            Some(found) => Ok(found),
            None => Err((ResponseError::CoordinatorNotAvailable, UNAVAILABLE)),
        },
    };
    match found {
        Ok(found) => answer
            .with_node_id(BrokerId(found.node.get()))
            .with_host(text(&found.host))
            .with_port(i32::from(found.port)),
        Err((error, message)) => answer
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
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
        let membership = Membership::of_ids(7, &[7]);
        for version in 0..=6 {
            for key_type in 0..4 {
                let request = FindCoordinatorRequest::default()
                    .with_key("g".into())
                    .with_key_type(key_type)
                    .with_coordinator_keys(vec!["a".into(), "b".into()]);
                let answer = answer(&membership, &request, version);
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
