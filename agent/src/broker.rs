//! The services of one agent.

use std::sync::Arc;

use parking_lot::Mutex;
use penstock_config::AgentConfig;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::producer_ids::ProducerIds;
use penstock_metadata::topics::{TopicAdmin, TopicCatalog};
use penstock_metadata::views::Views;
use penstock_storage::bucket::Bucket;
use penstock_storage::cache::Cache;
use penstock_types::{Clock, Randomness};

use crate::cluster::{Cluster, Traffic};
use crate::coordinator::GroupCoordinator;
use crate::fetch::Fetch;
use crate::fetch::session::FetchSessions;
use crate::produce::Produce;

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
    /// What it was configured with.
    pub config: Arc<AgentConfig>,
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
    /// Topics and dynamic configuration.
    pub topics: Arc<TopicCatalog>,
    /// Changes of topics and dynamic configuration.
    pub topic_admin: TopicAdmin,
    /// Where data objects are.
    pub bucket: Arc<Bucket>,
    /// What is kept of them in memory.
    pub cache: Arc<Cache>,
    /// The ends of logs.
    pub views: Arc<Views>,
    /// The write path.
    pub produce: Arc<Produce>,
    /// The read path.
    pub fetch: Arc<Fetch>,
    /// Incremental fetch sessions.
    pub sessions: Mutex<FetchSessions>,
    /// Ids of idempotent producers.
    pub producer_ids: ProducerIds,
    /// Consumer groups.
    pub groups: Arc<GroupCoordinator>,
    /// This agent's registration, and the other agents.
    pub cluster: Arc<Cluster>,
    /// When clients last sent records or fetches.
    pub traffic: Traffic,
}
