//! ListGroups (key 16): all groups, or those of some states (KIP-518) and types (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::list_groups_request::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::group_error::{code, text};
use crate::broker::Broker;

/// The type of every group that there is.
const CLASSIC: &str = "classic";

/// Answers for each group.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: ListGroupsRequest,
    _context: &RequestContext,
) -> ListGroupsResponse {
    let listed = match broker.groups.list().await {
        Ok(listed) => listed,
        Err(refusal) => return ListGroupsResponse::default().with_error_code(code(refusal)),
    };
    let groups = listed
        .into_iter()
        .filter(|group| {
            chosen(&request.states_filter, group.state.name()) && chosen(&request.types_filter, CLASSIC)
        })
        .map(|group| {
            ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(group.group)))
                .with_protocol_type(StrBytes::from_string(group.protocol_type))
                .with_group_state(text(group.state.name()))
                .with_group_type(text(CLASSIC))
        });
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// Whether a filter lets a name pass: an empty one everything, in any case.
fn chosen(filter: &[StrBytes], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_know_no_case() {
        assert!(chosen(&[], "Stable"));
        assert!(chosen(&[text("empty"), text(" STABLE ")], "Stable"));
        assert!(!chosen(&[text("Empty")], "Stable"));
    }
}
