//! What the server counts: plain atomics, read when somebody asks for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::api;

/// Upper bounds of the latency buckets, in microseconds; a last bucket counts what is above.
pub const LATENCY_BOUNDS_MICROSECONDS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// Why the server closed a connection, or didn't take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// There were as many connections as allowed.
    TooMany,
    /// Its address had as many as allowed.
    TooManyOfAddress,
    /// The client went away.
    ByClient,
    /// The socket failed.
    SocketError,
    /// Nothing happened on it for too long.
    Idle,
    /// A frame took too long.
    SlowFrame,
    /// What came is no request that is served.
    Refused,
    /// A handler asked for it.
    ByHandler,
    /// The server stops.
    Shutdown,
}

impl Closed {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::TooMany,
        Self::TooManyOfAddress,
        Self::ByClient,
        Self::SocketError,
        Self::Idle,
        Self::SlowFrame,
        Self::Refused,
        Self::ByHandler,
        Self::Shutdown,
    ];

    /// The value of the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyOfAddress => "too_many_of_address",
            Self::ByClient => "client",
            Self::SocketError => "socket_error",
            Self::Idle => "idle",
            Self::SlowFrame => "slow_frame",
            Self::Refused => "refused",
            Self::ByHandler => "handler",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The server's counters. All but the gauges only grow.
#[derive(Debug)]
pub struct ServerStats {
    connections: AtomicU64,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    closed: [AtomicU64; Closed::ALL.len()],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    apis: Vec<ApiStats>,
}

#[derive(Debug, Default)]
struct ApiStats {
    requests: AtomicU64,
    latency_sum_microseconds: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_MICROSECONDS.len() + 1],
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSnapshot {
    /// Open connections.
    pub connections: u64,
    /// Connections accepted, refused ones included.
    pub accepted: u64,
    /// Failures to accept.
    pub accept_errors: u64,
    /// Connections closed, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Requests by API, for those that are served.
    pub apis: Vec<ApiSnapshot>,
}

/// The requests of one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSnapshot {
    /// Its name.
    pub api: &'static str,
    /// Requests received.
    pub requests: u64,
    /// Time from the request's receipt to the moment its answer was ready to be sent, summed up.
    pub latency_sum_microseconds: u64,
    /// Answers by [`LATENCY_BOUNDS_MICROSECONDS`], and those above.
    pub latency: Vec<u64>,
}

impl Default for ServerStats {
    fn default() -> Self {
        let highest = api::ROWS.iter().map(|row| row.key as usize).max().unwrap_or(0);
        Self {
            connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            closed: Default::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            apis: (0..=highest).map(|_| ApiStats::default()).collect(),
        }
    }
}

impl ServerStats {
    pub(super) fn opened(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self, reason: Closed) {
        self.connections.fetch_sub(1, Relaxed);
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn request(&self, api_key: i16) {
        if let Some(api) = self.api(api_key) {
            api.requests.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn answered(&self, api_key: i16, after: Duration) {
        if let Some(api) = self.api(api_key) {
            let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            let bucket = LATENCY_BOUNDS_MICROSECONDS.partition_point(|bound| *bound < microseconds);
            api.latency_sum_microseconds.fetch_add(microseconds, Relaxed);
            api.latency[bucket].fetch_add(1, Relaxed);
        }
    }

    fn api(&self, api_key: i16) -> Option<&ApiStats> {
        self.apis.get(usize::try_from(api_key).ok()?)
    }

    /// The counters now.
    pub fn snapshot(&self) -> ServerSnapshot {
        let closed =
            Closed::ALL.into_iter().map(|why| (why.label(), self.closed[why as usize].load(Relaxed)));
        let apis = api::ROWS.iter().filter_map(|row| {
            let stats = self.api(row.key as i16)?;
            Some(ApiSnapshot {
                api: row.name,
                requests: stats.requests.load(Relaxed),
                latency_sum_microseconds: stats.latency_sum_microseconds.load(Relaxed),
                latency: stats.latency.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            })
        });
        ServerSnapshot {
            connections: self.connections.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
            closed: closed.collect(),
            received_bytes: self.received_bytes.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            apis: apis.collect(),
        }
    }
}
