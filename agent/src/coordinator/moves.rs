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
}

impl Ownership for Cluster {
    fn is_mine(&self, group: &str) -> bool {
        self.coordinates(group)
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
        for (group, commands) in self.shared().loaded() {
            if !self.is_mine(&group) {
                // A task whose mailbox is full is asked again by the next call for its group, which is refused.
                let _ = commands.try_send(Command::Moved);
            }
        }
    }
}
