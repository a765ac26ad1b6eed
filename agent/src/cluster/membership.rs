//! The live agents, as of one look.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_metadata::keys::agent::{AgentRow, Phase};
use penstock_types::{NodeId, TimestampMs};

use super::placement;

/// A live agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// The name that it was given; empty for none.
    pub name: Arc<str>,
    /// The host that clients are told.
    pub host: Arc<str>,
    /// The port that clients are told.
    pub port: u16,
    /// Where it serves metrics and health.
    pub http: Arc<str>,
    /// Its zone; empty for none.
    pub zone: Arc<str>,
    /// The program's version.
    pub program: Arc<str>,
    /// What it does now.
    pub phase: Phase,
    /// Whether clients are sent to it at all.
    pub takes_clients: bool,
    /// Whether it runs background jobs.
    pub runs_jobs: bool,
    /// When it started, by its own wall clock.
    pub started_ms: TimestampMs,
    /// How long its renewals are good for.
    pub lease_ms: u32,
    /// Its id, hashed.
    pub(super) hash: u64,
}

impl Member {
    pub(super) fn new(node: NodeId, row: &AgentRow) -> Option<Self> {
        let agent = &row.agent;
        let listener = agent.listeners.first()?;
        Some(Self {
            node,
            name: agent.name.as_str().into(),
            host: listener.host.as_str().into(),
            port: listener.port,
            http: format!("{}:{}", agent.http.0, agent.http.1).into(),
            zone: agent.zone.as_str().into(),
            program: agent.program.as_str().into(),
            phase: row.phase,
            takes_clients: agent.roles.clients,
            runs_jobs: agent.roles.jobs,
            started_ms: agent.started_ms,
            lease_ms: row.lease_ms,
            hash: placement::hash(&node.get().to_be_bytes()),
        })
    }

    fn is_serving(&self) -> bool {
        self.takes_clients && self.phase == Phase::Serving
    }
}

/// The live agents of a cluster, as one of them knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The agent whose knowledge this is.
    pub own: NodeId,
    /// Whether it has a lease.
    pub leased: bool,
    /// How often its lease has begun anew behind one that ended: in between somebody else may have done what was its to do.
    pub term: u64,
    /// Everyone alive, by id.
    all: Vec<Member>,
    /// Those that clients are told of, by id: never empty.
    serving: Vec<Member>,
}

impl Membership {
    /// The agents with these rows, all of them alive. `own` is among them.
    pub(super) fn new(own: NodeId, leased: bool, rows: &BTreeMap<NodeId, AgentRow>) -> Self {
        let all: Vec<Member> = rows.iter().filter_map(|(node, row)| Member::new(*node, row)).collect();
        Self::of_all(own, leased, all)
    }

    /// The same, in that term of the lease.
    pub(super) fn in_term(self, term: u64) -> Self {
        Self { term, ..self }
    }

    /// The same agents, and this one without a lease: whatever it is cut off from, the others may not be.
    pub(super) fn lapsed(&self) -> Self {
        Self::of_all(self.own, false, self.all.clone()).in_term(self.term)
    }

    fn of_all(own: NodeId, leased: bool, all: Vec<Member>) -> Self {
        let is_serving = |member: &&Member| member.is_serving() && (leased || member.node != own);
        let mut serving: Vec<Member> = all.iter().filter(is_serving).cloned().collect();
        if serving.is_empty() {
            // The last ones are on their way out: there is nobody else to name.
            let is_there = |member: &&Member| member.takes_clients && member.phase != Phase::Starting;
            serving = all.iter().filter(is_there).cloned().collect();
        }
        if serving.is_empty() {
            serving = all.iter().filter(|member| member.node == own).cloned().collect();
        }
        Self { own, leased, term: 0, all, serving }
    }

    /// For tests: agents `ids` that serve, as `own` knows them.
    #[cfg(test)]
    pub(crate) fn of_ids(own: i32, ids: &[i32]) -> Self {
        let rows = ids.iter().map(|id| (NodeId::new(*id), super::tests::row(*id, "", Phase::Serving)));
        Self::new(NodeId::new(own), true, &rows.collect())
    }

    /// What the agent whose knowledge this is does, as its row says.
    pub fn own_phase(&self) -> Option<Phase> {
        self.all.iter().find(|member| member.node == self.own).map(|member| member.phase)
    }

    /// Everyone alive, by id.
    pub fn all(&self) -> &[Member] {
        &self.all
    }

    /// Those that clients are told of, by id.
    pub fn serving(&self) -> &[Member] {
        &self.serving
    }

    /// Whether clients of this agent can go to another, and should: it drains, or has no lease. One that clients aren't
    /// sent to in the first place serves whoever comes all the same.
    pub fn sends_away(&self) -> bool {
        let should = !self.leased || self.own_phase() == Some(Phase::Draining);
        should && !self.serving.is_empty() && self.serving.iter().all(|member| member.node != self.own)
    }

    /// An agent that clients are told of.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        let at = self.serving.binary_search_by_key(&node, |member| member.node).ok()?;
        self.serving.get(at)
    }
}
