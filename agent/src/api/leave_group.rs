//! LeaveGroup (key 13): members leave, or an operator removes them (KIP-345, several at once from version 3).

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};

use super::context::RequestContext;
use super::group_error::{code, outcome_code, owned};
use crate::broker::Broker;
use crate::coordinator::classic::{LeaveCall, LeaveOutcome};

/// From this version on several members leave at once.
const BATCHED: i16 = 3;

/// Answers for each member.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: LeaveGroupRequest,
    context: &RequestContext,
) -> LeaveGroupResponse {
    let members = if context.api_version < BATCHED {
        vec![MemberIdentity::default().with_member_id(request.member_id)]
    } else {
        request.members
    };
    let call = |member: &MemberIdentity| LeaveCall {
        member_id: member.member_id.to_string(),
        instance_id: owned(member.group_instance_id.as_ref()),
    };
    let leaving = members.iter().map(call).collect();
    match broker.groups.leave(&request.group_id, leaving).await {
        Ok(outcomes) => encode(&members, outcomes, context.api_version),
        Err(refusal) => LeaveGroupResponse::default().with_error_code(code(refusal)),
    }
}

fn encode(members: &[MemberIdentity], outcomes: Vec<LeaveOutcome>, version: i16) -> LeaveGroupResponse {
    let mut outcomes = outcomes.into_iter().map(outcome_code);
    if version < BATCHED {
        return LeaveGroupResponse::default().with_error_code(outcomes.next().unwrap_or(0));
    }
    let answers = members.iter().zip(outcomes).map(|(member, error_code)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(error_code)
    });
    LeaveGroupResponse::default().with_members(answers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::group_error::assert_encodes;
    use crate::coordinator::Refusal;

    #[test]
    fn every_version_can_say_everything() {
        let members = [MemberIdentity::default().with_member_id("m".into())];
        for version in 0..=5 {
            for outcome in [Ok(()), Err(Refusal::UnknownMemberId)] {
                let answer = encode(&members, vec![outcome], version);
                assert_encodes(&answer, version);
                let code = answer.members.first().map_or(answer.error_code, |member| member.error_code);
                assert_eq!(code, outcome_code(outcome));
            }
        }
    }
}
