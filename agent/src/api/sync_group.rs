//! SyncGroup (key 14): a member gets what the group's leader assigned to it. The answer waits for the leader.

use std::sync::Arc;

use kafka_protocol::messages::sync_group_request::SyncGroupRequest;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::{code, owned};
use super::join_group::unshared;
use crate::broker::Broker;
use crate::coordinator::classic::SyncCall;

/// From this version on the client says what it believes the group's protocol to be, and must (KIP-559).
const NAMES_PROTOCOL: i16 = 5;

/// Answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: SyncGroupRequest,
    context: &RequestContext,
) -> SyncGroupResponse {
    if context.api_version >= NAMES_PROTOCOL
        && (request.protocol_type.is_none() || request.protocol_name.is_none())
    {
        return SyncGroupResponse::default()
            .with_error_code(code(crate::coordinator::Refusal::InconsistentGroupProtocol));
    }
    let sync = SyncCall {
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol_name: owned(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .into_iter()
            .map(|assignment| (assignment.member_id.to_string(), unshared(&assignment.assignment)))
            .collect(),
    };
    let answer = broker.groups.sync(&request.group_id, sync).await;
    SyncGroupResponse::default()
        .with_error_code(answer.error.map_or(0, code))
        .with_protocol_type(answer.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(answer.protocol_name.map(StrBytes::from_string))
        .with_assignment(answer.assignment)
}
