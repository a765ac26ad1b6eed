//! The cluster as this agent sees it, for `penstock cluster` and other programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use penstock_types::{NodeId, PartitionIndex, TopicPartition};
use serde::{Deserialize, Serialize};

use super::HttpState;
use crate::broker::Broker;
use crate::cluster::{Membership, placement};
use crate::coordinator::Refusal;
use crate::fetch::{IsolationLevel, OffsetQuery};

/// Groups whose lag is added up at most.
const GROUPS: usize = 1_000;

/// The cluster as one agent sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    /// The cluster's id.
    pub cluster: String,
    /// The agent that was asked.
    pub node: i32,
    /// How much of its own lease is left, in milliseconds; 0: it has none, and coordinates no groups.
    pub lease_left_ms: u64,
    /// The agent that clients take for the controller.
    pub controller: i32,
    /// The agents that are alive.
    pub agents: Vec<AgentReport>,
    /// Whether there are more groups than lag was added up for.
    pub lag_is_partial: bool,
}

/// An agent as another sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct AgentReport {
    /// Its id.
    pub node: i32,
    /// Its name; empty for none.
    pub name: String,
    /// Where clients are told to connect.
    pub kafka: String,
    /// Where it serves metrics and health.
    pub http: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// Its program's version.
    pub version: String,
    /// `starting`, `serving` or `draining`.
    pub phase: String,
    /// When it started, in milliseconds since 1970 by its own clock.
    pub started_ms: i64,
    /// How long its lease is, in milliseconds.
    pub lease_ms: u32,
    /// For how long it gave no sign of life, as the agent that was asked saw it, in milliseconds.
    pub silent_ms: u64,
    /// Partitions whose leader clients are told it is (clients without a zone).
    pub leaders: u64,
    /// Groups that it coordinates.
    pub groups: u64,
    /// Records that these groups have not consumed yet, of partitions that they have committed offsets of.
    pub lag: i64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    leaders: u64,
    groups: u64,
    lag: i64,
}

pub(super) async fn show(State(state): State<HttpState>) -> Response {
    let Some(broker) = state.broker.upgrade() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response();
    };
    match report(&broker).await {
        Ok(report) => Json(report).into_response(),
        Err(refusal) => {
            let reason = format!("groups can't be read from the metadata store now: {refusal:?}\n");
            (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
    }
}

async fn report(broker: &Arc<Broker>) -> Result<ClusterReport, Refusal> {
    let membership = broker.cluster.membership();
    let mut shares: BTreeMap<NodeId, Share> = BTreeMap::new();
    let placements = placement::Placements::new(&membership, "");
    for topic in broker.topics.all() {
        for index in 0..topic.partitions {
            let partition = PartitionIndex::new(index as i32);
            let placed = placements.of(TopicPartition { topic: topic.id, partition });
            shares.entry(placed.leader).or_default().leaders += 1;
        }
    }
    let lag_is_partial = add_groups(broker, &membership, &mut shares).await?;
    let silent = broker.cluster.silent_for();
    let agents = membership.all().iter().map(|member| {
        let share = shares.get(&member.node).copied().unwrap_or_default();
        let silent = silent.get(&member.node).copied().unwrap_or_default();
        AgentReport {
            node: member.node.get(),
            name: member.name.to_string(),
            kafka: format!("{}:{}", member.host, member.port),
            http: member.http.to_string(),
            zone: member.zone.to_string(),
            version: member.program.to_string(),
            phase: member.phase.word().to_owned(),
            started_ms: member.started_ms,
            lease_ms: member.lease_ms,
            silent_ms: u64::try_from(silent.as_millis()).unwrap_or(u64::MAX),
            leaders: share.leaders,
            groups: share.groups,
            lag: share.lag,
        }
    });
    Ok(ClusterReport {
        cluster: broker.identity.cluster_id.to_string(),
        node: membership.own.get(),
        lease_left_ms: u64::try_from(broker.cluster.lease_left().as_millis()).unwrap_or(u64::MAX),
        controller: placement::controller(&membership).get(),
        agents: agents.collect(),
        lag_is_partial,
    })
}

/// Adds the groups to the shares of their coordinators; whether some were left out of the lag.
async fn add_groups(
    broker: &Arc<Broker>,
    membership: &Membership,
    shares: &mut BTreeMap<NodeId, Share>,
) -> Result<bool, Refusal> {
    let groups = broker.groups.all().await?;
    for (number, group) in groups.iter().enumerate() {
        let Some(coordinator) = placement::coordinator(membership, group) else { continue };
        let lag = if number < GROUPS { lag_of(broker, group).await? } else { 0 };
        let share = shares.entry(coordinator.node).or_default();
        share.groups += 1;
        share.lag = share.lag.saturating_add(lag);
    }
    Ok(groups.len() > GROUPS)
}

/// Of partitions that can't be read now: nothing.
async fn lag_of(broker: &Arc<Broker>, group: &str) -> Result<i64, Refusal> {
    let mut lag = 0_i64;
    for (topic, offsets) in broker.groups.fetch_offsets(group, None).await? {
        let Some(topic) = broker.topics.by_name(&topic) else { continue };
        for (partition, committed) in offsets {
            let partition = TopicPartition { topic: topic.id, partition };
            let latest = OffsetQuery::Latest;
            let end =
                broker.fetch.list_offset(partition, latest, IsolationLevel::ReadUncommitted, None).await;
            if let Ok(end) = end {
                lag = lag.saturating_add((end.offset - committed.offset).max(0));
            }
        }
    }
    Ok(lag)
}
