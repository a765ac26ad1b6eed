//! Objects that nothing refers to any more: counted by what takes entries out of the log, buried once all of their
//! appended batches are gone, and queued for the collector.
//!
//! Invariants: an entry is taken out in one transaction that counts its batches, so no count is ever above what was
//! appended. A burial reads the object's row and its count serializably: an object is buried once. The row of a buried
//! object stays, as a tombstone with everything that it said: whoever committed the object may still ask.

use std::collections::BTreeMap;

use penstock_types::{Incarnation, ObjectId};

use crate::keys::dead::{self, DeadCount};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::keys::{Family, Keyspace, garbage};
use crate::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, prefixed,
    single_key,
};
use crate::visible;

/// Objects of one transaction.
const AT_ONCE: usize = 200;

/// Batches that leave the log, by the object that holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dead(BTreeMap<ObjectId, u64>);

impl Dead {
    /// So many batches of `object` leave the log.
    pub fn count(&mut self, object: ObjectId, batches: usize) {
        *self.0.entry(object).or_default() += batches as u64;
    }

    /// The objects.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.0.keys().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what others count.
    pub fn extend(&mut self, other: Self) {
        for (object, batches) in other.0 {
            *self.0.entry(object).or_default() += batches;
        }
    }

    /// Writes the counts, in the transaction that takes the entries out.
    pub(crate) fn write(&self, transaction: &mut dyn Transaction, keyspace: &Keyspace) {
        self.add(transaction, keyspace, false);
    }

    /// The same, in the transaction that makes the entries refer to copies.
    pub(crate) fn write_copied(&self, transaction: &mut dyn Transaction, keyspace: &Keyspace) {
        self.add(transaction, keyspace, true);
    }

    fn add(&self, transaction: &mut dyn Transaction, keyspace: &Keyspace, were_copied: bool) {
        for (object, batches) in &self.0 {
            let amount = dead::amount(*batches, were_copied);
            transaction.atomic_add(&dead::key(keyspace, *object), amount, WriteConflict::No);
        }
    }
}

/// What a burial did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buried {
    /// Objects buried.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects of which more is dead than was ever appended: left as they are, for somebody to look at.
    pub contradictions: u64,
}

/// Buries those of `objects` that are all dead. Run again after an unknown outcome it does the rest.
pub async fn bury(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    objects: &[ObjectId],
) -> Result<Buried, StoreError> {
    let mut buried = Buried::default();
    for objects in objects.chunks(AT_ONCE) {
        let mut transaction = store.begin(Priority::Batch);
        let some = bury_in(&mut *transaction, keyspace, incarnation, objects).await?;
        if some.objects > 0 {
            transaction.commit().await?;
        }
        buried.objects += some.objects;
        buried.bytes += some.bytes;
        buried.contradictions += some.contradictions;
    }
    Ok(buried)
}

async fn bury_in(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    objects: &[ObjectId],
) -> Result<Buried, StoreError> {
    let rows: Vec<_> = objects.iter().map(|id| object::key(keyspace, *id)).collect();
    let counts: Vec<_> = objects.iter().map(|id| dead::key(keyspace, *id)).collect();
    // Most are alive: only those that are not are read so that others conflict.
    let keys: Vec<_> = rows.iter().chain(&counts).cloned().collect();
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    visible::fence(transaction, keyspace, incarnation).await?;
    let mut buried = Buried::default();
    for (index, id) in objects.iter().enumerate() {
        let DeadCount { batches: count, was_copied } =
            dead::decode(values[objects.len() + index].as_deref())?;
        let Some(value) = &values[index] else { continue };
        let row = ObjectRow::decode(value)?;
        let alive = if penstock_types::planted!("buried-alive") { count < 1 } else { count < row.appended() };
        if row.state != ObjectState::Committed || alive {
            continue;
        }
        if count > row.appended() {
            tracing::error!(object = %id, dead = count, appended = row.appended(), "more of an object is dead than was appended");
            buried.contradictions += 1;
            continue;
        }
        transaction.add_read_conflict(single_key(&rows[index]));
        transaction.add_read_conflict(single_key(&counts[index]));
        let tombstone = ObjectRow { state: ObjectState::Tombstone, ..row };
        transaction.set(&rows[index], &tombstone.encode(), WriteConflict::Yes);
        transaction.clear(&counts[index], WriteConflict::Yes);
        enqueue(transaction, keyspace, incarnation, *id, tombstone.size, was_copied);
        buried.objects += 1;
        buried.bytes += tombstone.size;
    }
    Ok(buried)
}

/// Puts an object that nothing refers to into the queue: its own one if batches of it were merged.
pub(crate) fn enqueue(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    id: ObjectId,
    size: u64,
    was_merged: bool,
) {
    let prefix = garbage::prefix(keyspace, was_merged, incarnation);
    transaction.set_stamped_key(&prefix, id.as_bytes(), &garbage::encode(size), WriteConflict::No);
}

/// A walk over all dead counts: finds what somebody died before burying.
#[derive(Debug, Default)]
pub struct BurialWalk {
    after: Option<ObjectId>,
}

impl BurialWalk {
    /// Buries what is dead of the next page; `None` at the end.
    pub async fn step(
        &mut self,
        store: &SharedStore,
        keyspace: &Keyspace,
        incarnation: Incarnation,
    ) -> Result<Option<Buried>, StoreError> {
        let mut range = prefixed(&keyspace.family(Family::Dead));
        if let Some(after) = self.after {
            range.start = single_key(&dead::key(keyspace, after)).end;
        }
        let mut transaction = store.begin(Priority::Batch);
        let page = transaction.range(range, RangeOptions::page(AT_ONCE, Isolation::Snapshot)).await?;
        drop(transaction);
        if penstock_types::planted!("burial-walk-blind") {
            return Ok(None);
        }
        let objects =
            page.rows.iter().map(|row| dead::parse_key(keyspace, &row.key)).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = objects.last() else { return Ok(None) };
        let buried = bury(store, keyspace, incarnation, &objects).await?;
        self.after = Some(*last);
        Ok(Some(buried))
    }
}

#[cfg(test)]
mod tests;
