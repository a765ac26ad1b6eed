//! ListPartitionReassignments (key 46): there are never any, since data doesn't belong to agents.

use std::sync::Arc;

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use kafka_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;

use super::context::RequestContext;
use crate::broker::Broker;

/// Answers that nothing is being reassigned; as in Kafka, also for topics that don't exist.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    _request: ListPartitionReassignmentsRequest,
    _context: &RequestContext,
) -> ListPartitionReassignmentsResponse {
    // A message of "null" says that there was no error; the codec's default is the same.
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
