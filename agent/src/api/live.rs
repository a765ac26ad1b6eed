//! Who serves the cluster, as metadata answers show it: the brokers there are, who controls, and who serves a
//! partition.
//!
//! Any agent serves any partition, so "leader" is a hint and never an election; its epoch is constant. Deliberately
//! absent: other agents. One agent is a cluster; when several register, this is where they are read from.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use penstock_types::LeaderEpoch;

use super::topic_error::text;
use crate::broker::Broker;

/// Everything that is allowed on a topic without an authorizer, as a bit per operation: read, write, create, delete,
/// alter, describe, and describe and alter configs (KIP-430).
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same on a cluster: create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// What stands for operations that weren't asked for.
pub(crate) const NO_OPERATIONS: i32 = i32::MIN;

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

/// A live broker, as clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveBroker {
    /// Its id.
    pub(crate) id: BrokerId,
    /// The host to connect to.
    pub(crate) host: StrBytes,
    /// The port to connect to.
    pub(crate) port: i32,
    /// Its zone, if it has one.
    pub(crate) rack: Option<StrBytes>,
}

/// The live brokers, by id.
pub(crate) fn brokers(broker: &Broker) -> Vec<LiveBroker> {
    let zone = broker.config.node.zone.as_str();
    vec![LiveBroker {
        id: BrokerId(broker.identity.node_id),
        host: text(&broker.identity.advertised_host),
        port: i32::from(broker.identity.advertised_port),
        rack: (!zone.is_empty()).then(|| text(zone)),
    }]
}

/// Their ids.
pub(crate) fn broker_ids(broker: &Broker) -> Vec<i32> {
    brokers(broker).iter().map(|live| live.id.0).collect()
}

/// Whom clients take for the controller: whoever they ask, since any agent makes any change.
pub(crate) fn controller(broker: &Broker) -> BrokerId {
    BrokerId(broker.identity.node_id)
}

/// Who serves a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The leader: a hint.
    pub(crate) leader: BrokerId,
    /// Its epoch: the same for ever.
    pub(crate) leader_epoch: i32,
    /// The replicas, all in sync.
    pub(crate) replicas: Vec<BrokerId>,
}

/// Who serves any partition at this agent.
pub(crate) fn placement(broker: &Broker) -> Placement {
    let leader = BrokerId(broker.identity.node_id);
    Placement { leader, leader_epoch: LeaderEpoch::FIRST.get(), replicas: vec![leader] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_kafkas() {
        assert_eq!(TOPIC_OPERATIONS, 3_576);
        assert_eq!(CLUSTER_OPERATIONS, 8_096);
    }
}
