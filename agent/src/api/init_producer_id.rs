//! InitProducerId (key 22): an id for an idempotent producer (KIP-98, KIP-360).
//!
//! Transactional ids are refused: no transaction API is served, and a producer that were given an id here could begin
//! a transaction that nobody ends.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use super::context::RequestContext;
use crate::broker::Broker;

/// Gives an id with epoch 0.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: InitProducerIdRequest,
    _context: &RequestContext,
) -> InitProducerIdResponse {
    match request.transactional_id.as_ref().map(|id| id.is_empty()) {
        Some(true) => return refusal(ResponseError::InvalidRequest),
        // For good: a retriable error would have the producer try until it times out.
        Some(false) => return refusal(ResponseError::UnsupportedVersion),
        None => {}
    }
    // KIP-360: an id and its epoch come together. Before version 3 neither is on the wire and both are -1.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return refusal(ResponseError::InvalidRequest);
    }
    match broker.producer_ids.next().await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(kafka_protocol::messages::ProducerId(id.get()))
            .with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "no producer id can be allocated now");
            refusal(ResponseError::CoordinatorLoadInProgress)
        }
    }
}

fn refusal(error: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(kafka_protocol::messages::ProducerId(-1))
        .with_producer_epoch(-1)
}
