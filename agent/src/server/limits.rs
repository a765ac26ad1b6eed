//! The bounds of the server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use penstock_config::ServerOptions;

use crate::wire::FrameDeadline;
use crate::wire::bounds::Limit;

/// How many connections an address may have at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressLimits {
    /// Of most addresses (Kafka's `max.connections.per.ip`).
    pub each: usize,
    /// Of some (`max.connections.per.ip.overrides`), by their canonical form.
    pub overrides: BTreeMap<IpAddr, usize>,
}

impl AddressLimits {
    /// The limit of a canonical address.
    pub fn of(&self, address: IpAddr) -> usize {
        self.overrides.get(&address).copied().unwrap_or(self.each)
    }
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self { each: usize::MAX, overrides: BTreeMap::new() }
    }
}

/// What connections may take. Nothing that a client does makes the server hold more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones are closed at once (Kafka's `max.connections`).
    pub connections: usize,
    /// Connections of each address; further ones are closed at once.
    pub per_address: AddressLimits,
    /// Bytes of one request (`socket.request.max.bytes`).
    pub request_bytes: usize,
    /// Bytes of all requests that were received, or begun, and not yet taken over by their handlers (Kafka's
    /// `queued.max.request.bytes`). Past it sockets aren't read, but for one request more.
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
    /// How long open requests may take when their connection is about to be closed, or the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: AddressLimits::default(),
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
    /// All but the overrides of `max.connections.per.ip`, whose hosts are still to be looked up.
    fn from(options: &ServerOptions) -> Self {
        let base_bytes = options.request_decoded_max.as_usize();
        Self {
            connections: options.max_connections as usize,
            per_address: AddressLimits {
                each: options.max_connections_per_ip as usize,
                overrides: BTreeMap::new(),
            },
            request_bytes: options.socket_request_max.as_usize(),
            frame_bytes: options.queued_max_request.as_usize(),
            retained_bytes: options.request_buffers_retained.as_usize(),
            decoded_bytes: options.queued_max_decoded.as_usize(),
            decoded: Limit { base_bytes, ..Limit::default() },
            in_flight: options.connection_requests_max as usize,
            idle: options.connections_max_idle,
            frame: FrameDeadline {
                base: options.request_receive_timeout,
                slowest_bytes_per_second: options.request_receive_min_rate,
                contended: options.request_receive_contended,
            },
            drain: options.connection_drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_defaults_are_the_limits_defaults() {
        let each = 2_147_483_647;
        let per_address = AddressLimits { each, ..AddressLimits::default() };
        let expected = Limits { per_address, ..Limits::default() };
        assert_eq!(Limits::from(&ServerOptions::default()), expected);
    }
}
