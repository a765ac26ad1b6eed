//! DescribeCluster (key 60): the cluster's id and its brokers (KIP-700).

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};

use super::context::RequestContext;
use super::live::{self, CLUSTER_OPERATIONS, NO_OPERATIONS};
use super::topic_error::text;
use crate::broker::Broker;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers with the live brokers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeClusterRequest,
    _context: &RequestContext,
) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            return refused(
                ResponseError::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
            );
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return refused(ResponseError::UnsupportedEndpointType, &message);
        }
    }
    let operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { NO_OPERATIONS };
    let membership = broker.cluster.membership();
    let brokers = live::brokers(&membership).into_iter().map(|live| {
        DescribeClusterBroker::default()
            .with_broker_id(live.id)
            .with_host(live.host)
            .with_port(live.port)
            .with_rack(live.rack)
    });
    DescribeClusterResponse::default()
        .with_cluster_id(text(&broker.identity.cluster_id))
        .with_controller_id(live::controller(&membership))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

fn refused(error: ResponseError, message: &str) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
        .with_controller_id((-1).into())
        .with_cluster_authorized_operations(NO_OPERATIONS)
}
