//! The services of one agent.

use std::sync::Arc;

use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;
use penstock_types::{Clock, Randomness};

/// Who this agent is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The cluster's id: 22 characters of URL-safe base64, made at the cluster's first start.
    pub cluster_id: Arc<str>,
    /// The agent's id, as a Kafka broker id.
    pub node_id: i32,
    /// The host that clients are told.
    pub advertised_host: Arc<str>,
    /// The port that clients are told.
    pub advertised_port: u16,
}

/// The services of one agent, shared by its connections.
#[derive(Debug)]
pub struct Broker {
    /// Who this agent is.
    pub identity: Identity,
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
}
