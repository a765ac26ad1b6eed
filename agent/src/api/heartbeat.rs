//! Heartbeat (key 12): a member's sign of life; the answer says whether to join again.

use std::sync::Arc;

use kafka_protocol::messages::heartbeat_request::HeartbeatRequest;
use kafka_protocol::messages::heartbeat_response::HeartbeatResponse;

use super::context::RequestContext;
use super::group_error::{outcome_code, owned};
use crate::broker::Broker;

/// Answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: HeartbeatRequest,
    _context: &RequestContext,
) -> HeartbeatResponse {
    let instance_id = owned(request.group_instance_id.as_ref());
    let member_id = request.member_id.to_string();
    let outcome =
        broker.groups.heartbeat(&request.group_id, request.generation_id, member_id, instance_id).await;
    HeartbeatResponse::default().with_error_code(outcome_code(outcome))
}
