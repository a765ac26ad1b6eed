//! DescribeGroups (key 15): classic groups with their members.

use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::{code, text};
use crate::broker::Broker;
use crate::coordinator::Refusal;
use crate::coordinator::classic::{DescribedMember, Description};

/// From this version on it is an error that there is no such group (KIP-1043).
const MISSING_IS_AN_ERROR: i16 = 6;
/// From this version on clients may ask what they may do.
const AUTHORIZED_OPERATIONS: i16 = 3;
/// READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS: what there is to do to a group, all of it allowed where
/// there is no authorizer.
const ALL_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

/// Answers for each group.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeGroupsRequest,
    context: &RequestContext,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let described = broker.groups.describe(&group).await;
        let mut answer = encode(group, described, context.api_version);
        let asked = request.include_authorized_operations && context.api_version >= AUTHORIZED_OPERATIONS;
        if asked && answer.error_code == 0 {
            answer.authorized_operations = ALL_OPERATIONS;
        }
        groups.push(answer);
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn encode(group: GroupId, described: Result<Description, Refusal>, version: i16) -> DescribedGroup {
    let answer = DescribedGroup::default().with_group_id(group.clone());
    match described {
        Ok(description) => answer
            .with_group_state(text(description.state.name()))
            .with_protocol_type(StrBytes::from_string(description.protocol_type))
            .with_protocol_data(StrBytes::from_string(description.protocol_name))
            .with_members(description.members.into_iter().map(member).collect()),
        Err(Refusal::GroupIdNotFound) if version < MISSING_IS_AN_ERROR => {
            answer.with_group_state(text("Dead"))
        }
        Err(refusal @ Refusal::GroupIdNotFound) => answer
            .with_error_code(code(refusal))
            .with_error_message(Some(StrBytes::from_string(format!("Group {} not found.", &*group))))
            .with_group_state(text("Dead")),
        Err(refusal) => answer.with_error_code(code(refusal)),
    }
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(member.member_id))
        .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::group_error::assert_encodes;

    #[test]
    fn every_version_can_say_everything() {
        for version in 0..=6 {
            for refusal in [Refusal::GroupIdNotFound, Refusal::CoordinatorNotAvailable] {
                let group = encode(GroupId("g".into()), Err(refusal), version);
                assert_encodes(&DescribeGroupsResponse::default().with_groups(vec![group]), version);
            }
            let missing = encode(GroupId("g".into()), Err(Refusal::GroupIdNotFound), version);
            assert_eq!(missing.error_code != 0, version >= MISSING_IS_AN_ERROR);
            assert_eq!(&*missing.group_state, "Dead");
        }
    }
}
