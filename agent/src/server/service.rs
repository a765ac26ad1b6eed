//! What stands behind the connections: which requests are taken, and who answers them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::api::context::RequestContext;
use crate::api::{self, DecodeError, Routed, api_versions};
use crate::broker::Broker;
use crate::wire::bounds::{self, BoundsError, Limit};
use crate::wire::{EncodeError, Frame, RequestHeader};

/// Takes requests off connections.
pub trait Service: Send + Sync + 'static {
    /// Is this a request that is served, and safe to be decoded? Decides without taking memory.
    fn examine(&self, header: &RequestHeader<'_>, body: &[u8]) -> Result<Examined, Refusal>;

    /// Decodes the body of a request that [`Service::examine`] found fit, and starts its handler.
    fn route(&self, api_key: i16, context: RequestContext, body: Bytes) -> Result<Routed, Refusal>;
}

/// A request that is served.
#[derive(Debug)]
pub enum Examined {
    /// It is to be routed.
    Fit {
        /// An upper bound for the memory that it takes once it is decoded, beside its frame.
        decoded_bytes: usize,
    },
    /// This is the answer, without more ado.
    Answered(Frame),
}

/// Why a connection is closed instead of an answer: what Kafka does too.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The API isn't served.
    #[error("API {key} is not served")]
    UnknownApi {
        /// Its key.
        key: i16,
    },
    /// The version isn't served.
    #[error("{api} version {version} is not served")]
    UnsupportedVersion {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
    },
    /// The body is not that request.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// The body is not that request.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A bug of ours.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The agent's service: the table of APIs.
#[derive(Debug)]
pub struct BrokerService {
    broker: Arc<Broker>,
    limit: Limit,
}

impl BrokerService {
    /// Serves requests with `broker`; `limit` bounds what each may take when it is decoded.
    pub fn new(broker: Arc<Broker>, limit: Limit) -> Self {
        Self { broker, limit }
    }
}

impl Service for BrokerService {
    fn examine(&self, header: &RequestHeader<'_>, body: &[u8]) -> Result<Examined, Refusal> {
        examine(header, body, self.limit)
    }

    fn route(&self, api_key: i16, context: RequestContext, body: Bytes) -> Result<Routed, Refusal> {
        let unknown = Refusal::UnknownApi { key: api_key };
        let Ok(key) = ApiKey::try_from(api_key) else { return Err(unknown) };
        Ok(api::route(&self.broker, key, context, body).ok_or(unknown)??)
    }
}

/// Holds a request against the table of APIs and against its layout.
pub(crate) fn examine(header: &RequestHeader<'_>, body: &[u8], limit: Limit) -> Result<Examined, Refusal> {
    let key = header.api_key;
    let row = ApiKey::try_from(key).ok().and_then(api::row).ok_or(Refusal::UnknownApi { key })?;
    let version = header.api_version;
    if !row.versions.contains(&version) {
        if row.key == ApiKey::ApiVersions {
            let answer = api_versions::unsupported_version(header.correlation_id)?;
            return Ok(Examined::Answered(answer));
        }
        return Err(Refusal::UnsupportedVersion { api: row.name, version });
    }
    let walked = bounds::check(key, version, body, limit)?;
    Ok(Examined::Fit { decoded_bytes: walked.decoded_bytes })
}

/// Where a connection comes from, for logs and handlers.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    id: Arc<str>,
}

impl Client {
    pub(super) fn new(peer: SocketAddr) -> Self {
        Self { peer, id: Arc::from("") }
    }

    /// The context of a request. Almost all requests of a connection have the same `client.id`, which is shared.
    pub(super) fn context(&mut self, header: &RequestHeader<'_>) -> RequestContext {
        let id = header.client_id.unwrap_or_default();
        if id != self.id.as_bytes() {
            self.id = String::from_utf8_lossy(id).into();
        }
        RequestContext {
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: Arc::clone(&self.id),
            peer: self.peer,
        }
    }
}
