//! Kafka's APIs, one file each, and the one table that says which of them are served.
//!
//! The table drives ApiVersions, the check of a request's bounds, decoding, routing and the reference page
//! (`docs/protocol.md`, whose drift fails a test). An API without a row isn't advertised, and a request for it
//! closes the connection, as in Kafka.
//!
//! # Adding an API
//!
//! 1. Write `api/<name>.rs` with its handler:
//!    - `InOrder`: `pub(crate) async fn handle(broker: &Arc<Broker>, request: XRequest, context: &RequestContext)
//!      -> XResponse`. The next request of the connection is read when it has returned.
//!    - `Admitted`: `pub(crate) async fn admit(..) -> PendingAnswer`. What it does before it returns happens in the
//!      order of arrival, and while it waits the socket isn't read; the answer comes later.
//!    - `Concurrent`: `pub(crate) async fn handle(..) -> Result<Frame, EncodeError>`. Runs beside the requests that
//!      follow it, does its own framing, and is dropped when the client goes away.
//! 2. Add `mod <name>;` and a row, in the order of the keys:
//!    `Mode Key, RequestType => module::function, min..=max;` with the versions that Apache Kafka 4.1 reports
//!    (a test compares; a narrower range needs its reason as a comment on the row).
//! 3. Run `cargo test -p penstock-agent api::` with `UPDATE_DOCS=1` once to renew `docs/protocol.md`.

pub mod api_versions;
pub mod context;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, ApiKey};

use crate::broker::Broker;
use crate::server::Answer;
use context::RequestContext;
use table::{Route, apis};

pub use table::{ApiRow, DecodeError, Mode, Routed};

apis! {
    InOrder ApiVersions, ApiVersionsRequest => api_versions::handle, 0..=4;
}

/// The row of an API; `None` for one that isn't served.
pub fn row(key: ApiKey) -> Option<&'static ApiRow> {
    ROWS.iter().find(|row| row.key == key)
}

/// Decodes the body of a request (already found within bounds) and starts its handler.
///
/// `None` if the API isn't served; the caller has checked the version against the row.
pub fn route(
    broker: &Arc<Broker>,
    key: ApiKey,
    context: RequestContext,
    body: Bytes,
) -> Option<Result<Routed, DecodeError>> {
    route_of(key).map(|route| route(broker, context, body))
}
