//! Groups in the metadata store: what a coordinator writes and what anybody reads.
//!
//! Invariants:
//! - Whoever changes a group or its offsets reads the group's row serializably in the same transaction and finds its
//!   own coordinator epoch there; else it is fenced and nothing happens. So of two coordinators that both believe in
//!   themselves, the one that claimed last is the only one that can write.
//! - A commit of offsets also finds the generation that it was made in (or, of a consumer outside of group
//!   management, no members), so that no commit lands behind the rebalance that took its partitions away.
//! - No write with an unknown outcome is repeated blindly: the row's revision says whether it happened; offset
//!   commits have their own keys in their read conflict ranges, so that of two attempts either kills the other.
//!
//! - An offset belongs to one life of a topic: it is committed only while the topic's row is there, and read only while
//!   it is.
//!
//! Deliberately absent: the rebalance protocol (the agent's coordinator), names of topics, Kafka's wire messages.

mod offsets;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use offsets::{CommitRefusal, OffsetCommit, OffsetFilter, Removed, StoredOffsets};
pub use read::GroupPage;
pub use write::GroupWrite;

use crate::keys::Keyspace;
use crate::keys::group::{CoordinatorEpoch, GroupHeader, GroupRow, StoredMember};
use crate::kv::{Outcome, SharedStore, StoreError};
use crate::transact::{Policy, TransactError};

/// A group as read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroup {
    /// The group's row, without its fence.
    pub header: GroupHeader,
    /// Members by id.
    pub members: BTreeMap<String, StoredMember>,
}

/// What a coordinator holds of a group's row: the right to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// There was no such group; the first write creates it, unless somebody else has.
    Absent,
    /// The group was claimed or written by the holder.
    Held {
        /// The holder's epoch.
        epoch: CoordinatorEpoch,
        /// Writes since the claim.
        revision: u64,
    },
}

/// Why something about a group failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Another coordinator has claimed the group (or deleted it). Nothing happened; what the caller holds in memory
    /// is void.
    #[error("another coordinator has taken group {group:?}")]
    Fenced {
        /// The group.
        group: String,
    },
    /// The store failed.
    #[error("the metadata store failed on group {group:?}: {error}")]
    Store {
        /// The group, empty where several are concerned.
        group: String,
        /// What it said last.
        error: StoreError,
        /// Whether it may have happened nevertheless.
        outcome: Outcome,
    },
}

/// Groups in one cluster's metadata.
#[derive(Debug, Clone)]
pub struct Groups {
    store: SharedStore,
    keyspace: Keyspace,
    nonce: u64,
    policy: Policy,
}

impl Groups {
    /// Access for one coordinator, whose claims carry `nonce` (random); each operation gives up after `deadline`.
    pub fn new(store: SharedStore, keyspace: Keyspace, nonce: u64, deadline: Duration) -> Self {
        Self { store, keyspace, nonce, policy: Policy::interactive(deadline) }
    }

    fn failed(group: &str, error: TransactError<Fenced>) -> GroupError {
        match error {
            TransactError::Refused(Fenced) => GroupError::Fenced { group: group.to_owned() },
            TransactError::Store { error, attempts: _, outcome } => {
                GroupError::Store { group: group.to_owned(), error, outcome }
            }
        }
    }
}

/// The row isn't the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fenced;

/// Whether the row is one that `epoch` may write beside.
fn check_epoch(
    row: Option<&[u8]>,
    epoch: CoordinatorEpoch,
) -> Result<GroupRow, crate::transact::Abort<Fenced>> {
    let Some(row) = row else { return Err(crate::transact::Abort::Refused(Fenced)) };
    let row = GroupRow::decode(row)?;
    if row.coordinator_epoch == epoch || penstock_types::planted!("coordinator-not-fenced") {
        Ok(row)
    } else {
        Err(crate::transact::Abort::Refused(Fenced))
    }
}
