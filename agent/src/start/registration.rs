//! What an agent says of itself when it joins its cluster.

use std::sync::Arc;

use penstock_config::{AgentConfig, HostPort, Roles as Configured};
use penstock_metadata::agents::{Agents, Wanted};
use penstock_metadata::cluster::SCHEMA_VERSION;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::agent::{AdvertisedListener, Agent, Roles, TEXT_BYTES_MAX};
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_types::NodeId;

use super::stores::Metadata;
use super::{Addresses, Parts, StartError, is_exclusive};
use crate::cluster::{Cluster, ClusterParts};

/// The one listener's name, as Kafka's default.
const LISTENER: &str = "PLAINTEXT";

/// Registers the agent.
pub(super) async fn join(
    config: &AgentConfig,
    parts: &Parts,
    metadata: &Metadata,
    keyspace: &Keyspace,
    cluster: &ClusterIdentity,
    addresses: Addresses,
) -> Result<Arc<Cluster>, StartError> {
    let node = &config.node;
    let advertised = config.advertised();
    let port = if advertised.port == 0 { addresses.kafka.port() } else { advertised.port };
    let listener = AdvertisedListener { name: LISTENER.to_owned(), host: advertised.host.clone(), port };
    let http = (http_host(&config.http.http, advertised), addresses.http.port());
    for (option, text) in [
        ("node.name", &node.node_name),
        ("zone", &node.zone),
        ("the advertised host", &listener.host),
        ("the host of http", &http.0),
    ] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(StartError::TooLong { option });
        }
    }
    let wanted = Wanted {
        node: (node.node_id >= 0).then(|| NodeId::new(node.node_id)),
        agent: Agent {
            name: node.node_name.clone(),
            zone: node.zone.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            roles: Roles { clients: node.roles != Configured::Jobs, jobs: node.roles != Configured::Clients },
            schema: SCHEMA_VERSION,
            http,
            listeners: vec![listener],
            started_ms: parts.clock.now_ms(),
        },
        lease: node.lease,
    };
    // An attempt that hangs must leave time for another in the same lease.
    let agents = Agents::new(metadata.store(), keyspace.clone(), cluster.incarnation, node.lease / 2);
    // Nobody else can have a lease in a store that this process just opened for itself.
    if is_exclusive(config, parts) {
        agents.void().await?;
    }
    let (clock, randomness) = (Arc::clone(&parts.clock), Arc::clone(&parts.randomness));
    Ok(Cluster::join(ClusterParts { agents, wanted, clock, randomness }).await?)
}

/// The host at which others reach the HTTP side: a wildcard address says nothing, the advertised host does.
fn http_host(listen: &HostPort, advertised: &HostPort) -> String {
    if listen.is_wildcard() { advertised.host.clone() } else { listen.host.clone() }
}
