//! What the collector and the sweeper may delete from the bucket, and what becomes of the rows.
//!
//! # Invariants
//! - An object leaves the queue only when it is deleted; its row then says so, or goes if nothing can be committed under
//!   its id any more.
//! - The cutoff only rises, and is below every id that is made: whoever commits reads it serializably, so that what is
//!   below it and has no row at a later version never will have one.
//! - An intent below the cutoff is nobody's: the swap that would use it reads it serializably.

use std::time::Duration;

use penstock_types::{Incarnation, ObjectId, StoreVersion};

use crate::keys::Keyspace;
use crate::keys::cluster::{Cutoff, cutoff_key, decode_cutoff, encode_cutoff};
use crate::keys::garbage::{self, Garbage};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::kv::{
    Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, WriteConflict, limits, single_key,
};
use crate::present::Present;
use crate::visible;

/// Rows of one transaction: a row has verdicts of 80 kB at most.
const PAGE: usize = 64;

/// The front of the garbage queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    /// What has waited long enough, oldest first.
    pub due: Vec<Garbage>,
    /// What has waited, too, and is not garbage by its row: a contradiction, left for somebody to look at.
    pub wrong: Vec<Garbage>,
    /// How long the first of the others has waited, if there is one.
    pub waits: Option<Duration>,
    /// The last of what has waited long enough, where there may be more behind it.
    pub last: Option<Garbage>,
}

/// Reads what may be deleted of the queue of what was merged, or the other, behind `after`: what has been in it for `delay` by
/// the store's versions. What was buried in an earlier incarnation waits from the beginning of this one.
pub async fn due(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    was_merged: bool,
    delay: Duration,
    after: Option<&Garbage>,
) -> Result<Queue, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let present = Present::read(&mut *transaction, keyspace, incarnation).await?;
    let mut range = garbage::queue(keyspace, was_merged);
    if let Some(after) = after {
        range.start = single_key(&garbage::key(keyspace, after)).end;
    }
    let page = transaction.range(range, RangeOptions::page(PAGE, Isolation::Snapshot)).await?;
    let mut queue = Queue::default();
    for row in &page.rows {
        let found = garbage::decode(keyspace, row)?;
        let waited = present.age(found.incarnation, found.stamp.version());
        if waited < delay && !penstock_types::planted!("delete-without-delay") {
            queue.waits = Some(waited);
            break;
        }
        queue.due.push(found);
    }
    queue.last = if queue.waits.is_none() && page.more { queue.due.last().copied() } else { None };
    let keys: Vec<_> = queue.due.iter().map(|garbage| object::key(keyspace, garbage.object)).collect();
    let rows = transaction.get_many(&keys, Isolation::Snapshot).await?;
    for (garbage, row) in std::mem::take(&mut queue.due).into_iter().zip(rows) {
        let is_garbage = match row {
            None => true,
            Some(row) => {
                let state = ObjectRow::decode(&row)?.state;
                matches!(state, ObjectState::Tombstone | ObjectState::Collected)
            }
        };
        if is_garbage { queue.due.push(garbage) } else { queue.wrong.push(garbage) }
    }
    Ok(queue)
}

/// Objects have been deleted from the bucket: they leave the queue. Run again it does what is left.
pub async fn collected(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    deleted: &[Garbage],
) -> Result<(), StoreError> {
    for deleted in deleted.chunks(PAGE) {
        let mut transaction = store.begin(Priority::Batch);
        let cutoff = visible::fence(&mut *transaction, keyspace, incarnation).await?;
        let keys: Vec<_> = deleted.iter().map(|gone| object::key(keyspace, gone.object)).collect();
        let values = transaction.get_many(&keys, Isolation::Serializable).await?;
        for ((gone, key), value) in deleted.iter().zip(&keys).zip(values) {
            let row = value.map(|value| ObjectRow::decode(&value)).transpose()?;
            match row {
                Some(row)
                    if row.state == ObjectState::Tombstone
                        && (cutoff.refuses(&gone.object)
                            || penstock_types::planted!("collected-row-goes-at-once")) =>
                {
                    transaction.clear(key, WriteConflict::Yes);
                }
                Some(row) if row.state == ObjectState::Tombstone => {
                    let row = ObjectRow { state: ObjectState::Collected, ..row };
                    transaction.set(key, &row.encode(), WriteConflict::Yes);
                }
                // Never garbage: it stays in the queue, for somebody to see.
                Some(row) if row.state != ObjectState::Collected => continue,
                // Somebody else was faster.
                Some(_) | None => {}
            }
            transaction.clear(&garbage::key(keyspace, gone), WriteConflict::Yes);
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// Raises the cutoff to `lag` ago, by the store's versions: gives what it is then.
pub async fn raise_cutoff(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    lag: Duration,
) -> Result<Cutoff, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let stored = visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let now = transaction.read_version().await?;
    let version = StoreVersion::new(now.get().saturating_sub(limits::versions_of(lag)));
    let wanted = Cutoff { incarnation, version };
    if wanted <= stored {
        return Ok(stored);
    }
    if penstock_types::planted!("cutoff-not-committed") {
        return Ok(wanted);
    }
    transaction.set(&cutoff_key(keyspace), &encode_cutoff(wanted), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(wanted)
}

/// Which of `listed`, objects in the bucket whose ids are below the cutoff, may be deleted: no row, or one that says that
/// the object was deleted before (a late upload has brought it back). To be asked after the cutoff was committed.
pub async fn unreferenced(
    store: &SharedStore,
    keyspace: &Keyspace,
    cutoff: Cutoff,
    listed: &[ObjectId],
) -> Result<Vec<ObjectId>, StoreError> {
    let mut found = Vec::new();
    for listed in listed.chunks(PAGE) {
        let mut transaction = store.begin(Priority::Batch);
        // What the caller believes is below the cutoff is so in this very transaction.
        let stored = transaction.get(&cutoff_key(keyspace), Isolation::Snapshot).await?;
        let stored = decode_cutoff(stored.as_deref())?;
        let keys: Vec<_> = listed.iter().map(|id| object::key(keyspace, *id)).collect();
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        for (id, value) in listed.iter().zip(values) {
            let nobodys = match value {
                None => true,
                Some(value) => ObjectRow::decode(&value)?.state == ObjectState::Collected,
            };
            let committed = if penstock_types::planted!("cutoff-not-committed") { cutoff } else { stored };
            let is_old = committed.refuses(id) && cutoff.refuses(id);
            let is_old = is_old || penstock_types::planted!("sweep-uncommitted");
            if nobodys && is_old {
                found.push(*id);
            }
        }
    }
    Ok(found)
}

/// A walk over the rows of objects below a cutoff: clears those of collected objects and of intents, which nobody
/// needs any more.
#[derive(Debug)]
pub struct RowWalk {
    left: Option<KeyRange>,
}

impl RowWalk {
    /// A walk over the rows below `cutoff`, which is committed.
    pub fn below(keyspace: &Keyspace, cutoff: Cutoff) -> Self {
        Self { left: Some(object::below(keyspace, cutoff)) }
    }

    /// Clears what can go of the next page: how many rows went; `None` at the end. After an error the page is looked at
    /// again.
    pub async fn step(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
        incarnation: Incarnation,
    ) -> Result<Option<u64>, StoreError> {
        let Some(range) = self.left.clone() else { return Ok(None) };
        let mut transaction = store.begin(Priority::Batch);
        let page = transaction.range(range.clone(), RangeOptions::page(PAGE, Isolation::Snapshot)).await?;
        let mut cleared = 0;
        for row in &page.rows {
            let state = ObjectRow::decode(&row.value)?.state;
            if matches!(state, ObjectState::Collected | ObjectState::Intent) {
                // As if it had been read serializably: an intent that is used meanwhile stays.
                transaction.add_read_conflict(single_key(&row.key));
                transaction.clear(&row.key, WriteConflict::Yes);
                cleared += 1;
            }
        }
        if cleared > 0 {
            visible::fence(&mut *transaction, keyspace, incarnation).await?;
            transaction.commit().await?;
        }
        self.left = match page.rows.last() {
            Some(last) if page.more => Some(single_key(&last.key).end..range.end),
            _ => None,
        };
        Ok(Some(cleared))
    }
}

#[cfg(test)]
mod tests;
