//! Claiming, writing and deleting a group.

use std::collections::BTreeMap;

use super::read::read_members;
use super::{Fence, Fenced, GroupError, Groups, StoredGroup, check_epoch};
use crate::keys::Keyspace;
use crate::keys::group::{
    CHUNK_BYTES, CoordinatorEpoch, GroupHeader, GroupRow, StoredMember, group_key, group_members,
    member_chunks, member_key,
};
use crate::keys::group_offset::group_offsets;
use crate::kv::{Isolation, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, transact};

/// A change of a group: its row anew, and those of its members that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupWrite {
    /// The row.
    pub header: GroupHeader,
    /// Members that are new or changed, by id.
    pub changed: BTreeMap<String, StoredMember>,
    /// Members that are gone.
    pub removed: Vec<String>,
}

impl Groups {
    /// Takes the group over: whoever held it before is fenced from here on. `None` (and [`Fence::Absent`]) if there is
    /// no such group.
    ///
    /// After an error it may be claimed all the same, which fences the former coordinator and nothing else.
    pub async fn claim(&self, group: &str) -> Result<(Fence, Option<StoredGroup>), GroupError> {
        let key = group_key(&self.keyspace, group);
        // A claim that may have happened is simply followed by another.
        let claimed = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let version = txn.read_version().await?;
            let Some(value) = txn.get(&key, Isolation::Serializable).await? else {
                return Ok((Fence::Absent, None));
            };
            let mut row = GroupRow::decode(&value)?;
            let members = read_members(txn, &self.keyspace, group).await?;
            let epoch = CoordinatorEpoch { version, nonce: self.nonce };
            row.coordinator_epoch = epoch;
            row.revision = 0;
            txn.set(&key, &row.encode(), WriteConflict::Yes);
            let fence = Fence::Held { epoch, revision: 0 };
            Ok::<_, Abort<Fenced>>((fence, Some(StoredGroup { header: row.header, members })))
        })
        .await;
        claimed.map(|(claimed, _)| claimed).map_err(|error| Self::failed(group, error))
    }

    /// Writes a change under `fence`; the answer is the fence for the next write. All of it or nothing.
    ///
    /// After [`GroupError::Store`] it may have happened: the holder must claim the group anew before it goes on.
    pub async fn write(&self, group: &str, fence: Fence, write: &GroupWrite) -> Result<Fence, GroupError> {
        let key = group_key(&self.keyspace, group);
        // Epochs under which an earlier run may have created the group.
        let mut tried = Vec::new();
        let written = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let version = txn.read_version().await?;
            let value = txn.get(&key, Isolation::Serializable).await?;
            let next = match (fence, &value) {
                (Fence::Absent, None) => {
                    let epoch = CoordinatorEpoch { version, nonce: self.nonce };
                    tried.push(epoch);
                    Fence::Held { epoch, revision: 1 }
                }
                (Fence::Absent, Some(value)) => {
                    let row = GroupRow::decode(value)?;
                    if row.revision == 1 && tried.contains(&row.coordinator_epoch) {
                        return Ok(Fence::Held { epoch: row.coordinator_epoch, revision: 1 });
                    }
                    return Err(Abort::Refused(Fenced));
                }
                (Fence::Held { epoch, revision }, value) => {
                    let row = check_epoch(value.as_deref(), epoch)?;
                    let next = Fence::Held { epoch, revision: revision + 1 };
                    if row.revision == revision + 1 {
                        return Ok(next);
                    }
                    if row.revision != revision {
                        return Err(Abort::Refused(Fenced));
                    }
                    next
                }
            };
            let Fence::Held { epoch, revision } = next else { unreachable!("a written group is held") };
            let row = GroupRow { coordinator_epoch: epoch, revision, header: write.header.clone() };
            txn.set(&key, &row.encode(), WriteConflict::Yes);
            put_members(txn, &self.keyspace, group, write);
            Ok(next)
        })
        .await;
        written.map(|(fence, _)| fence).map_err(|error| Self::failed(group, error))
    }

    /// Deletes the group, its members and its offsets.
    ///
    /// After [`GroupError::Store`] it may have happened.
    pub async fn delete(&self, group: &str, fence: Fence) -> Result<(), GroupError> {
        let Fence::Held { epoch, revision: _ } = fence else { return Ok(()) };
        let key = group_key(&self.keyspace, group);
        let deleted = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let value = txn.get(&key, Isolation::Serializable).await?;
            if value.is_none() {
                // An earlier run of this happened, or somebody else deleted it: it is gone.
                return Ok(());
            }
            check_epoch(value.as_deref(), epoch)?;
            txn.clear(&key, WriteConflict::Yes);
            txn.clear_range(group_members(&self.keyspace, group), WriteConflict::Yes);
            txn.clear_range(group_offsets(&self.keyspace, group), WriteConflict::Yes);
            Ok(())
        })
        .await;
        deleted.map(|_| ()).map_err(|error| Self::failed(group, error))
    }
}

fn put_members(txn: &mut dyn Transaction, keyspace: &Keyspace, group: &str, write: &GroupWrite) {
    for member in &write.removed {
        txn.clear_range(member_chunks(keyspace, group, member), WriteConflict::Yes);
    }
    for (id, member) in &write.changed {
        txn.clear_range(member_chunks(keyspace, group, id), WriteConflict::Yes);
        for (chunk, slice) in member.encode().chunks(CHUNK_BYTES).enumerate() {
            let chunk = u16::try_from(chunk).expect("a group's bytes are bounded, far below 65,536 chunks");
            txn.set(&member_key(keyspace, group, id, chunk), slice, WriteConflict::Yes);
        }
    }
}
