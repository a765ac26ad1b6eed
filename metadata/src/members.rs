//! Who is alive, as one observer sees it: a pure fold of what it read of the agents' rows.
//!
//! Invariants:
//! - An agent whose row changed between two looks is alive, whatever any clock or version says.
//! - An agent is dead only after a whole lease of *watched* time without a change: a gap between two looks counts as
//!   [`GAP`] of a lease at most, since whoever didn't look can't know (it was paused, or the store was away).
//! - At the first look a row counts as alive if its last renewal is less than a lease of store versions old. Versions
//!   that jump make it look older: then it is back at the next look.
//!
//! Nothing depends on being right: clients that are sent to a dead agent come back, groups are fenced by their rows.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_types::{Incarnation, NodeId, StoreVersion};

use crate::keys::agent::AgentRow;
use crate::kv::limits;

/// The part of a lease that one gap between two looks counts for at most: one over this.
pub const GAP: u32 = 3;

/// What an observer remembers of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    session: u64,
    renewals: u64,
    /// Watched time since it changed last.
    unchanged: Duration,
    /// Whether it was alive at the last look.
    alive: bool,
}

/// All agents that are registered, at one store version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The version at which the rows were read.
    pub version: StoreVersion,
    /// The rows.
    pub rows: BTreeMap<NodeId, AgentRow>,
}

/// An observer's memory.
#[derive(Debug, Default)]
pub struct Observer {
    seen: BTreeMap<NodeId, Seen>,
    looked_at: Option<Duration>,
}

impl Observer {
    /// Takes in what was read at `now` (monotonic, from any start); the rows of the agents that are alive.
    pub fn observe(&mut self, now: Duration, look: &Look) -> BTreeMap<NodeId, AgentRow> {
        let gap = self.looked_at.map_or(Duration::ZERO, |before| now.saturating_sub(before));
        self.looked_at = Some(now);
        self.seen.retain(|node, _| look.rows.contains_key(node));
        for (node, row) in &look.rows {
            let lease = row.lease();
            let seen = match self.seen.get(node) {
                None => Seen {
                    session: row.session,
                    renewals: row.renewals,
                    unchanged: Duration::ZERO,
                    alive: age(row, look).is_some_and(|age| age < lease),
                },
                Some(seen) if (seen.session, seen.renewals) != (row.session, row.renewals) => Seen {
                    session: row.session,
                    renewals: row.renewals,
                    unchanged: Duration::ZERO,
                    alive: true,
                },
                Some(seen) => {
                    let unchanged = seen.unchanged + gap.min(lease / GAP);
                    Seen { unchanged, alive: seen.alive && unchanged < lease, ..*seen }
                }
            };
            self.seen.insert(*node, seen);
        }
        let alive = |node: &NodeId| self.seen.get(node).is_some_and(|seen| seen.alive);
        look.rows.iter().filter(|(node, _)| alive(node)).map(|(node, row)| (*node, row.clone())).collect()
    }

    /// For how long each row did not change while this observer looked.
    pub fn silent_for(&self) -> BTreeMap<NodeId, Duration> {
        self.seen.iter().map(|(node, seen)| (*node, seen.unchanged)).collect()
    }

    /// Whether this very row was watched for a whole lease and did not change.
    pub fn is_dead(&self, node: NodeId, row: &AgentRow) -> bool {
        self.seen.get(&node).is_some_and(|seen| {
            (seen.session, seen.renewals) == (row.session, row.renewals) && seen.unchanged >= row.lease()
        })
    }
}

/// How long ago a row was renewed, by the store's versions; `None` if it is of another incarnation.
pub fn age(row: &AgentRow, look: &Look) -> Option<Duration> {
    let (incarnation, version) = row.renewed_at;
    let versions = look.version.get().saturating_sub(version.get());
    (incarnation == look.incarnation).then(|| limits::time_of(versions))
}

#[cfg(test)]
mod tests;
