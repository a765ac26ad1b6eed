//! This agent among the others: its registration and lease, and the membership that everything shown to clients goes by.
//!
//! [`Cluster`] owns the registration: it renews the lease, looks at the others' rows, and publishes a [`Membership`]
//! whenever it differs. [`placement`] says, of a membership, who coordinates what and whom clients are pointed at.
//!
//! Invariants:
//! - Without a lease ([`Cluster::holds_lease`]) this agent coordinates nothing. The lease counts from the begin of a
//!   renewal that succeeded, on this machine's monotonic clock: it ends here before it can end for anybody else.
//! - Membership decides whom clients are told and nothing else: Produce and Fetch are served lease or no lease, groups
//!   are fenced by their rows.
//!
//! Deliberately absent: talking to other agents.

mod membership;
mod patience;
pub mod placement;
mod service;
mod traffic;

#[cfg(test)]
mod tests;

pub use membership::{Member, Membership};
pub(crate) use patience::Patience;
pub use service::{Cluster, ClusterParts, JoinError};
pub use traffic::Traffic;

impl penstock_compaction::share::Share for Cluster {
    fn is_mine(&self, what: &str) -> bool {
        placement::worker(&self.membership(), what).is_some_and(|worker| worker.node == self.node())
    }
}

impl penstock_compaction::retention::Clocks for Cluster {
    fn clocks(&self) -> Vec<penstock_types::TimestampMs> {
        Cluster::clocks(self)
    }
}
