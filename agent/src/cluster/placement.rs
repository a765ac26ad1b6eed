//! Who is asked for what: rendezvous hashing over the agents that clients are told of. Pure.
//!
//! Every agent computes the same from the same membership, and one agent more or less moves only what it gets or had.
//! Nothing here is a promise: any agent serves any partition, and a group is fenced by its row.

use std::collections::BTreeMap;

use penstock_metadata::keys::agent::Phase;
use penstock_types::{NodeId, TopicPartition};

use super::membership::{Member, Membership};

/// Who serves a partition, as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The leader: a hint.
    pub leader: NodeId,
    /// The leader, and one agent of each other zone.
    pub replicas: Vec<NodeId>,
}

/// Partitions' places for clients of one zone, or of none that is known.
#[derive(Debug)]
pub struct Placements<'a> {
    /// Among whom leaders are chosen.
    leaders: Vec<&'a Member>,
    /// The agents of every other zone.
    others: BTreeMap<&'a str, Vec<&'a Member>>,
    own: NodeId,
    zone_of: BTreeMap<NodeId, &'a str>,
}

impl<'a> Placements<'a> {
    /// Of `membership`, for clients of `zone` (empty: not known).
    pub fn new(membership: &'a Membership, zone: &str) -> Self {
        let serving = membership.serving();
        let in_zone: Vec<&Member> = serving.iter().filter(|member| &*member.zone == zone).collect();
        let leaders = if zone.is_empty() || in_zone.is_empty() { serving.iter().collect() } else { in_zone };
        let mut others: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
        for member in serving {
            others.entry(&member.zone).or_default().push(member);
        }
        let zone_of = serving.iter().map(|member| (member.node, &*member.zone)).collect();
        Self { leaders, others, own: membership.own, zone_of }
    }

    /// Where a partition is.
    pub fn of(&self, partition: TopicPartition) -> Placement {
        let key = partition_hash(partition);
        let leader = choose(&self.leaders, key).unwrap_or(self.own);
        let mut replicas = vec![leader];
        if self.others.len() > 1 {
            let home = self.zone_of.get(&leader);
            let away = self.others.iter().filter(|(zone, _)| Some(*zone) != home);
            replicas.extend(away.filter_map(|(_, members)| choose(members, key)));
        }
        Placement { leader, replicas }
    }
}

/// The coordinator of a group, of those that clients are told of.
pub fn coordinator<'a>(membership: &'a Membership, group: &str) -> Option<&'a Member> {
    let key = hash(group.as_bytes());
    membership.serving().iter().max_by_key(|member| (mix(member.hash ^ key), member.node))
}

/// The agent that does a piece of the background jobs, of those that run them.
pub fn worker<'a>(membership: &'a Membership, what: &str) -> Option<&'a Member> {
    let key = hash(what.as_bytes());
    let workers =
        membership.all().iter().filter(|member| member.runs_jobs && member.phase != Phase::Draining);
    workers.max_by_key(|member| (mix(member.hash ^ key), member.node))
}

/// The agent that clients take for the controller: any would do, but all name the same.
pub fn controller(membership: &Membership) -> NodeId {
    coordinator(membership, "controller").map_or(membership.own, |member| member.node)
}

fn choose(members: &[&Member], key: u64) -> Option<NodeId> {
    let chosen = members.iter().max_by_key(|member| (mix(member.hash ^ key), member.node));
    chosen.map(|member| member.node)
}

fn partition_hash(partition: TopicPartition) -> u64 {
    mix(hash(partition.topic.as_bytes()) ^ u64::from(partition.partition.get() as u32))
}

/// A hash that is the same on every machine and in every version: FNV-1a, mixed at the end since FNV's upper bits
/// hardly move for short keys.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    mix(bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// SplitMix64's finalizer: every bit of the input moves every bit of the output.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The zone that a client says it is in: `zone=NAME` anywhere in its client.id, up to a comma, semicolon, ampersand,
/// slash or white space. Empty for none.
pub fn zone_of_client(client_id: &str) -> &str {
    const KEY: &str = "zone=";
    let ends = |c: char| matches!(c, ',' | ';' | '&' | '/') || c.is_whitespace();
    let found = client_id
        .match_indices(KEY)
        .find(|(at, _)| client_id[..*at].chars().next_back().is_none_or(|before| !before.is_alphanumeric()));
    found.map_or("", |(at, _)| client_id[at + KEY.len()..].split(ends).next().unwrap_or_default())
}
