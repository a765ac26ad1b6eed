//! JoinGroup (key 11): a member joins a classic group. The answer waits for the rebalance.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequest;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::{code, owned, text};
use crate::broker::Broker;
use crate::coordinator::classic::{JoinAnswer, JoinCall};

/// From this version on a new member joins twice, the second time with the id that it was given (KIP-394).
const KNOWN_MEMBER_ID: i16 = 4;
/// From this version on the assignor's name may be null.
const NULLABLE_PROTOCOL: i16 = 7;
/// From this version on a leader can be told not to assign (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;

/// Answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: JoinGroupRequest,
    context: &RequestContext,
) -> JoinGroupResponse {
    let session_timeout = ms(request.session_timeout_ms);
    let join = JoinCall {
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        client_id: context.client_id.to_string(),
        // As Java prints an address without a name.
        client_host: format!("/{}", context.peer.ip()),
        session_timeout,
        // Version 0 has only one time-out.
        rebalance_timeout: if context.api_version == 0 {
            session_timeout
        } else {
            ms(request.rebalance_timeout_ms)
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), unshared(&protocol.metadata)))
            .collect(),
        requires_known_member_id: context.api_version >= KNOWN_MEMBER_ID,
        supports_skipping_assignment: context.api_version >= SKIPS_ASSIGNMENT,
        fresh_id: broker.groups.fresh_id(),
    };
    encode(broker.groups.join(&request.group_id, join).await, context.api_version)
}

fn encode(answer: JoinAnswer, version: i16) -> JoinGroupResponse {
    let member = |member: crate::coordinator::classic::JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_metadata(member.metadata)
    };
    let mut protocol_name = answer.protocol_name.map(StrBytes::from_string);
    if version < NULLABLE_PROTOCOL {
        protocol_name.get_or_insert_default();
    }
    JoinGroupResponse::default()
        .with_error_code(answer.error.map_or(0, code))
        .with_generation_id(answer.generation)
        .with_protocol_type(answer.protocol_type.as_deref().map(text))
        .with_protocol_name(protocol_name)
        .with_leader(StrBytes::from_string(answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(StrBytes::from_string(answer.member_id))
        .with_members(answer.members.into_iter().map(member).collect())
}

/// A copy: what a group keeps must not hold the whole request in memory.
pub(super) fn unshared(bytes: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

fn ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::group_error::assert_encodes;
    use crate::coordinator::Refusal;
    use crate::coordinator::classic::JoinedMember;

    #[test]
    fn every_version_can_say_everything() {
        let member = JoinedMember {
            member_id: "m".to_owned(),
            instance_id: Some("i".to_owned()),
            metadata: bytes::Bytes::from_static(b"x"),
        };
        for version in 0..=9 {
            let joined = JoinAnswer {
                error: None,
                generation: 3,
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("range".to_owned()),
                leader: "m".to_owned(),
                skip_assignment: version >= SKIPS_ASSIGNMENT,
                members: vec![member.clone()],
                ..JoinAnswer::refused("m", Refusal::UnknownMemberId)
            };
            assert_encodes(&encode(joined, version), version);
            assert_encodes(&encode(JoinAnswer::refused("m", Refusal::MemberIdRequired), version), version);
        }
    }
}
