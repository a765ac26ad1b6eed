//! What a handler knows of its request besides the message.

use std::net::SocketAddr;
use std::sync::Arc;

/// Where a request came from and how it was framed.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The version in the request's header: that of the answer too.
    pub api_version: i16,
    /// The client's number for this request.
    pub correlation_id: i32,
    /// `client.id`, empty where the client sent none.
    pub client_id: Arc<str>,
    /// The client's address.
    pub peer: SocketAddr,
}
