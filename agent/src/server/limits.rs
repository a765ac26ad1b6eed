//! The bounds of the server.

use std::time::Duration;

use penstock_config::ServerOptions;

use crate::wire::FrameDeadline;
use crate::wire::bounds::Limit;

/// What connections may take. Nothing that a client does makes the server hold more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once (Kafka's `max.connections`).
    pub connections: usize,
    /// Bytes of one request (`socket.request.max.bytes`).
    pub request_bytes: usize,
    /// Bytes of all requests that were received, or begun, and not yet taken over by their handlers (Kafka's
    /// `queued.max.request.bytes`). Past it sockets aren't read. No less than one request.
    pub frame_bytes: usize,
    /// Bytes of unused frame buffers that are kept.
    pub retained_bytes: usize,
    /// Bytes that all decoded requests take until they are answered (for Produce: admitted), beside their frames.
    pub decoded_bytes: usize,
    /// What the decoded form of one request may take.
    pub decoded: Limit,
    /// Requests of one connection that are worked on; past it the socket isn't read.
    pub in_flight: usize,
    /// A connection on which nothing happens for so long is closed (`connections.max.idle.ms`); so is one whose
    /// client takes nothing of its answers for so long.
    pub idle: Duration,
    /// How long a frame may take once it is begun.
    pub frame: FrameDeadline,
    /// How long open requests may take when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            request_bytes: 100 << 20,
            frame_bytes: 256 << 20,
            retained_bytes: 64 << 20,
            decoded_bytes: 128 << 20,
            decoded: Limit::default(),
            in_flight: 64,
            idle: Duration::from_secs(600),
            frame: FrameDeadline::default(),
            drain: Duration::from_secs(30),
        }
    }
}

impl From<&ServerOptions> for Limits {
    fn from(options: &ServerOptions) -> Self {
        Self {
            connections: options.max_connections as usize,
            request_bytes: options.socket_request_max.as_usize(),
            in_flight: options.connection_requests_max as usize,
            idle: options.connections_max_idle,
            ..Self::default()
        }
    }
}
