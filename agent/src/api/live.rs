//! Who serves the cluster, as metadata answers show it: the brokers there are, who controls, and who serves a
//! partition.
//!
//! Any agent serves any partition, so "leader" is a hint and never an election; its epoch is constant. Who there is, is
//! the membership's business ([`crate::cluster`]); this is how clients are told.

use std::collections::BTreeSet;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;
use penstock_types::{LeaderEpoch, PartitionIndex, TopicId, TopicPartition};

use super::context::RequestContext;
use super::topic_error::text;
use crate::broker::Broker;
use crate::cluster::{Member, Membership, placement};

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

impl LiveBroker {
    fn of(member: &Member) -> Self {
        Self {
            id: BrokerId(member.node.get()),
            host: text(&member.host),
            port: i32::from(member.port),
            rack: (!member.zone.is_empty()).then(|| text(&member.zone)),
        }
    }
}

/// The brokers that clients are told of, by id.
pub(crate) fn brokers(membership: &Membership) -> Vec<LiveBroker> {
    membership.serving().iter().map(LiveBroker::of).collect()
}

/// The ids of all that are alive: also of those on their way out.
pub(crate) fn broker_ids(broker: &Broker) -> Vec<i32> {
    broker.cluster.membership().all().iter().map(|member| member.node.get()).collect()
}

/// Whom clients take for the controller: any agent makes any change, but all name the same one.
pub(crate) fn controller(membership: &Membership) -> BrokerId {
    BrokerId(placement::controller(membership).get())
}

/// The zone that a client is in; empty where it isn't known.
pub(crate) struct ClientZone<'a> {
    /// The zone.
    pub(crate) name: &'a str,
    /// Whether its listener says so, for all of its clients: then they are told of that zone's agents only, since those
    /// of other zones would answer otherwise.
    pub(crate) is_listeners: bool,
}

impl<'a> ClientZone<'a> {
    /// As the client says, or else its listener.
    pub(crate) fn of(broker: &'a Broker, context: &'a RequestContext) -> Self {
        let said = placement::zone_of_client(&context.client_id);
        if said.is_empty() {
            Self { name: &broker.config.server.listen_zone, is_listeners: true }
        } else {
            Self { name: said, is_listeners: false }
        }
    }

    /// Whom this client takes for the controller: one that it is told of.
    pub(crate) fn controller(&self, membership: &Membership, told: &[LiveBroker]) -> BrokerId {
        let chosen = controller(membership);
        let is_told = told.iter().any(|broker| broker.id == chosen);
        if is_told { chosen } else { told.first().map_or(chosen, |broker| broker.id) }
    }

    /// The brokers that this client is told of.
    pub(crate) fn brokers(&self, membership: &Membership) -> Vec<LiveBroker> {
        let all = brokers(membership);
        if !self.is_listeners || self.name.is_empty() {
            return all;
        }
        let own = |broker: &LiveBroker| broker.rack.as_ref().is_some_and(|rack| rack.as_str() == self.name);
        let of_zone: Vec<LiveBroker> = all.iter().filter(|broker| own(broker)).cloned().collect();
        if of_zone.is_empty() { all } else { of_zone }
    }
}

/// Who serves partitions, as clients of one zone are told.
pub(crate) struct Placements<'a> {
    inner: placement::Placements<'a>,
    /// Replicas elsewhere are not told of.
    told: Option<BTreeSet<i32>>,
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

impl<'a> Placements<'a> {
    /// For clients of `zone`, who are told of `brokers`.
    pub(crate) fn new(membership: &'a Membership, zone: &ClientZone<'_>, brokers: &[LiveBroker]) -> Self {
        let told = (brokers.len() < membership.serving().len())
            .then(|| brokers.iter().map(|broker| broker.id.0).collect());
        Self { inner: placement::Placements::new(membership, zone.name), told }
    }

    /// For whoever is in no zone that is known.
    pub(crate) fn of_nobody(membership: &'a Membership) -> Self {
        Self { inner: placement::Placements::new(membership, ""), told: None }
    }

    /// Who serves a partition.
    pub(crate) fn of(&self, topic: TopicId, partition: i32) -> Placement {
        let partition = TopicPartition { topic, partition: PartitionIndex::new(partition) };
        let placed = self.inner.of(partition);
        let is_told = |node: &i32| self.told.as_ref().is_none_or(|told| told.contains(node));
        let replicas = placed.replicas.iter().map(|node| node.get()).filter(is_told);
        Placement {
            leader: BrokerId(placed.leader.get()),
            leader_epoch: LeaderEpoch::FIRST.get(),
            replicas: replicas.map(BrokerId).collect(),
        }
    }
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
