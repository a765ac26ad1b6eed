//! CreateAcls (key 30): there is no authorizer, and the answer is Kafka's for that.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_acls_request::CreateAclsRequest;
use kafka_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};

use super::context::RequestContext;
use super::topic_error::text;
use crate::broker::Broker;

/// Answers SECURITY_DISABLED to each creation: librdkafka asserts that there are as many results.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    request: CreateAclsRequest,
    _context: &RequestContext,
) -> CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(ResponseError::SecurityDisabled.code())
        .with_error_message(Some(text("No Authorizer is configured.")));
    CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}
