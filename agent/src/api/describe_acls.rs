//! DescribeAcls (key 29): there is no authorizer, and the answer is Kafka's for that.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_acls_request::DescribeAclsRequest;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResponse;

use super::context::RequestContext;
use super::topic_error::text;
use crate::broker::Broker;

/// Answers SECURITY_DISABLED.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _request: DescribeAclsRequest,
    _context: &RequestContext,
) -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured on the broker")))
}
