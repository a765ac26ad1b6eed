//! The shape of the table of APIs, and the macro that turns its rows into routing.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use kafka_protocol::messages::ApiKey;

use super::context::RequestContext;
use crate::broker::Broker;
use crate::server::{Answer, PendingAnswer};

/// How the requests of an API are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One after the other: the next request of the connection is read when this one is answered, as in Kafka.
    InOrder,
    /// Admitted one after the other, answered later: many at once are under way (Produce).
    Admitted,
    /// Beside the requests that follow it (Fetch).
    Concurrent,
}

/// One API that is served.
#[derive(Debug, Clone)]
pub struct ApiRow {
    /// Its key.
    pub key: ApiKey,
    /// Its name on Kafka's protocol page.
    pub name: &'static str,
    /// The versions that are served.
    pub versions: RangeInclusive<i16>,
    /// The lowest version that ApiVersions reports: below the served ones for Produce only.
    pub reported_min: i16,
    /// How its requests are run.
    pub mode: Mode,
}

/// A request on its way to its handler.
pub enum Routed {
    /// To be awaited before the next request is read.
    InOrder(BoxFuture<'static, Answer>),
    /// To be awaited before the next request is read; gives the promise of an answer.
    Admit(BoxFuture<'static, PendingAnswer>),
    /// To be run beside the requests that follow it.
    Concurrent(BoxFuture<'static, Answer>),
}

/// A body that is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version} can't be decoded: {reason}")]
pub struct DecodeError {
    /// The API's name.
    pub api: &'static str,
    /// The request's version.
    pub version: i16,
    /// The codec's reason.
    pub reason: String,
}

/// What the macro gives for each row: decodes a body that was found within bounds, and starts the handler.
pub(super) type Route = fn(&Arc<Broker>, RequestContext, Bytes) -> Result<Routed, DecodeError>;

/// Decodes a request's body.
pub(super) fn decode<M: kafka_protocol::protocol::Decodable>(
    api: &'static str,
    version: i16,
    mut body: Bytes,
) -> Result<M, DecodeError> {
    M::decode(&mut body, version).map_err(|error| DecodeError { api, version, reason: format!("{error:#}") })
}

/// Turns the rows of the table into `ROWS` (for ApiVersions, bounds and the reference page) and `route`.
macro_rules! apis {
    (@run InOrder, $request:ident, $handler:path, $row:expr) => {
        |broker, context, body| {
            let request = table::decode::<messages::$request>($row, context.api_version, body)?;
            let broker = Arc::clone(broker);
            Ok(Routed::InOrder(Box::pin(async move {
                let response = $handler(&broker, request, &context).await;
                Answer::message(&context, &response)
            })))
        }
    };
    (@run Admitted, $request:ident, $handler:path, $row:expr) => {
        |broker, context, body| {
            let request = table::decode::<messages::$request>($row, context.api_version, body)?;
            let broker = Arc::clone(broker);
            Ok(Routed::Admit(Box::pin(async move { $handler(&broker, request, &context).await })))
        }
    };
    (@run Concurrent, $request:ident, $handler:path, $row:expr) => {
        |broker, context, body| {
            let request = table::decode::<messages::$request>($row, context.api_version, body)?;
            let broker = Arc::clone(broker);
            Ok(Routed::Concurrent(Box::pin(async move {
                let frame = $handler(&broker, request, &context).await;
                Answer::from_frame(&context, frame)
            })))
        }
    };
    (@reported $min:literal) => { $min };
    (@reported $min:literal $reported:literal) => { $reported };
    ($($mode:ident $key:ident, $request:ident => $handler:path, $min:literal ..= $max:literal
        $(, reported from $reported:literal)?;)*) => {
        /// The APIs that are served, by key.
        pub(crate) static ROWS: &[ApiRow] = &[
            $(ApiRow {
                key: ApiKey::$key,
                name: stringify!($key),
                versions: $min ..= $max,
                reported_min: apis!(@reported $min $($reported)?),
                mode: Mode::$mode,
            },)*
        ];

        /// Decodes the body of a request, found within bounds, without running it: for fuzzing. `None` if the API
        /// isn't served.
        pub fn decode_only(key: ApiKey, version: i16, body: Bytes) -> Option<Result<(), DecodeError>> {
            match key {
                $(ApiKey::$key => {
                    Some(table::decode::<messages::$request>(stringify!($key), version, body).map(drop))
                })*
                _ => None,
            }
        }

        fn route_of(key: ApiKey) -> Option<Route> {
            match key {
                $(ApiKey::$key => Some(apis!(@run $mode, $request, $handler, stringify!($key))),)*
                _ => None,
            }
        }
    };
}
pub(super) use apis;

#[cfg(test)]
mod tests;
