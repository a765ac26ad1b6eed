//! DeleteAcls (key 31): there is no authorizer, and the answer is Kafka's for that.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_acls_request::DeleteAclsRequest;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};

use super::context::RequestContext;
use super::topic_error::text;
use crate::broker::Broker;

/// Answers SECURITY_DISABLED to each filter.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    request: DeleteAclsRequest,
    _context: &RequestContext,
) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured.")));
    DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
