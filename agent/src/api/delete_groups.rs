//! DeleteGroups (key 42): groups without members go, with their offsets (KIP-229).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};

use super::context::RequestContext;
use super::group_error::outcome_code;
use crate::broker::Broker;

/// Answers for each group, once.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DeleteGroupsRequest,
    _context: &RequestContext,
) -> DeleteGroupsResponse {
    let mut seen = BTreeSet::new();
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        if seen.insert(group.to_string()) {
            let outcome = broker.groups.delete(&group).await;
            results.push(
                DeletableGroupResult::default().with_group_id(group).with_error_code(outcome_code(outcome)),
            );
        }
    }
    DeleteGroupsResponse::default().with_results(results)
}
