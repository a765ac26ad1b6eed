//! Reading groups without claiming them.

use std::collections::BTreeMap;

use super::{Fenced, GroupError, Groups, StoredGroup};
use crate::codec::Corrupt;
use crate::keys::Keyspace;
use crate::keys::group::{
    GroupHeader, GroupRow, StoredMember, all_groups, decode_group_key, decode_member_key, group_key,
    group_members,
};
use crate::kv::{Isolation, RangeOptions, Row, StoreError, Transaction};
use crate::transact::{Abort, OnUnknown, transact};

/// Rows of one page of a range read.
const PAGE_ROWS: usize = 1_000;

/// Some groups, by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPage {
    /// Group ids and rows, ascending.
    pub groups: Vec<(String, GroupHeader)>,
    /// Whether more follow.
    pub more: bool,
}

impl Groups {
    /// A group as it stands in the store; `None` if there is none.
    pub async fn read(&self, group: &str) -> Result<Option<StoredGroup>, GroupError> {
        let key = group_key(&self.keyspace, group);
        let read = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let Some(value) = txn.get(&key, Isolation::Snapshot).await? else { return Ok(None) };
            let header = GroupRow::decode(&value)?.header;
            let members = read_members(txn, &self.keyspace, group).await?;
            Ok::<_, Abort<Fenced>>(Some(StoredGroup { header, members }))
        })
        .await;
        read.map(|(read, _)| read).map_err(|error| Self::failed(group, error))
    }

    /// The first groups behind `after` (all, if `None`), at most `limit`.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<GroupPage, GroupError> {
        let mut range = all_groups(&self.keyspace);
        if let Some(after) = after {
            range.start = group_key(&self.keyspace, after);
            range.start.push(0);
        }
        let read = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let page = txn.range(range.clone(), RangeOptions::page(limit, Isolation::Snapshot)).await?;
            let mut groups = Vec::with_capacity(page.rows.len());
            for row in &page.rows {
                let id = decode_group_key(&self.keyspace, &row.key)?.to_owned();
                groups.push((id, GroupRow::decode(&row.value)?.header));
            }
            Ok::<_, Abort<Fenced>>(GroupPage { groups, more: page.more })
        })
        .await;
        read.map(|(read, _)| read).map_err(|error| Self::failed("", error))
    }
}

/// The members of a group. At snapshot isolation: they change only together with the group's row.
pub(super) async fn read_members(
    txn: &mut dyn Transaction,
    keyspace: &Keyspace,
    group: &str,
) -> Result<BTreeMap<String, StoredMember>, StoreError> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut range = group_members(keyspace, group);
    loop {
        let page = txn.range(range.clone(), RangeOptions::page(PAGE_ROWS, Isolation::Snapshot)).await?;
        for Row { key, value } in &page.rows {
            let (member, chunk) = decode_member_key(keyspace, group, key)?;
            let blob = blobs.entry(member).or_default();
            if blob.len() != usize::from(chunk) * crate::keys::group::CHUNK_BYTES {
                return Err(Corrupt { family: "group member", reason: "a chunk is missing" }.into());
            }
            blob.extend_from_slice(value);
        }
        match page.rows.last() {
            Some(last) if page.more => {
                range.start = last.key.to_vec();
                range.start.push(0);
            }
            _ => break,
        }
    }
    let mut members = BTreeMap::new();
    for (id, blob) in blobs {
        members.insert(id, StoredMember::decode(&blob)?);
    }
    Ok(members)
}
