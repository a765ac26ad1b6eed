//! Groups that come and go with the cluster's membership.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use penstock_types::pause;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::actor::Command;
use super::service::GroupCoordinator;
use crate::cluster::{Cluster, Membership};

/// The pause before groups are looked for again after a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);

/// Says which groups are this agent's.
pub trait Ownership: Debug + Send + Sync + 'static {
    /// Whether this agent coordinates the group now.
    fn is_mine(&self, group: &str) -> bool;

    /// Raised when this agent could not coordinate for a while, and can again: what it has in memory of its groups may
    /// have been overtaken.
    fn term(&self) -> u64 {
        0
    }
}

impl Ownership for Cluster {
    fn is_mine(&self, group: &str) -> bool {
        self.coordinates(group)
    }

    fn term(&self) -> u64 {
        Self::term(self)
    }
}

impl GroupCoordinator {
    /// Follows the membership until `stop`: ends the tasks of groups that have moved away, takes up those with members
    /// that are this agent's now.
    pub async fn follow(
        self: Arc<Self>,
        mut memberships: watch::Receiver<Arc<Membership>>,
        stop: CancellationToken,
    ) {
        let following = async {
            loop {
                self.let_go();
                if let Err(error) = self.take_up().await {
                    tracing::warn!(%error, "groups with members were not searched for");
                    tokio::select! {
                        biased;
                        () = pause(AGAIN) => continue,
                        changed = memberships.changed() => if changed.is_err() { return },
                    }
                } else if memberships.changed().await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(following).await.unwrap_or(());
    }

    /// Ends the tasks of groups that are not this agent's (any more).
    pub fn let_go(&self) {
        for (group, term, commands) in self.shared().loaded() {
            if !self.shared().is_mine_since(&group, term) {
                // A task whose mailbox is full finds out by itself, at its next call.
                let _ = commands.try_send(Command::Moved);
            }
        }
    }
}
