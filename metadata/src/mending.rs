//! Repairs of what is kept about objects, each one transaction, asked for by an operator after a check.
//!
//! # Invariants
//! - Nothing is repaired that has changed since it was looked at: each reads serializably what it goes by.
//! - Counts are put right by adding what they are short of: whoever counts at the same time adds, too.
//! - Run again after an unknown outcome, nothing is done twice: [`MendError::Changed`] says that it was done, or that
//!   somebody else changed it. Only [`count_dead`] can't tell, and isn't run again blindly.
//!
//! Deliberately absent: logs and counters. What is lost of them is not made up.

use penstock_types::{Incarnation, ObjectId};

use crate::burial;
use crate::codec::Corrupt;
use crate::keys::Keyspace;
use crate::keys::feed::Slot;
use crate::keys::garbage::{self, Garbage};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::keys::{checkpoint, dead};
use crate::kv::{Isolation, Priority, SharedStore, StoreError, Transaction, WriteConflict};
use crate::visible;

/// Why something isn't repaired. Nothing was changed, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MendError {
    /// It isn't as it was any more.
    #[error("it has changed since: check again")]
    Changed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for MendError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// What is kept about the objects of one life of the metadata.
#[derive(Debug, Clone)]
pub struct Mending {
    /// The store.
    pub store: SharedStore,
    /// The cluster's keys in it.
    pub keyspace: Keyspace,
    /// The metadata's incarnation.
    pub incarnation: Incarnation,
}

impl Mending {
    /// Adds `by` to the dead count of an object that is in use, of which `dead` were counted.
    pub async fn count_dead(&self, id: ObjectId, dead: u64, by: i64) -> Result<(), MendError> {
        let mut transaction = self.begin().await?;
        self.expect(&mut *transaction, id, |row| row == Some(ObjectState::Committed)).await?;
        let key = dead::key(&self.keyspace, id);
        let counted = transaction.get(&key, Isolation::Serializable).await?;
        if dead::decode(counted.as_deref())?.batches != dead {
            return Err(MendError::Changed);
        }
        transaction.atomic_add(&key, by, WriteConflict::Yes);
        Ok(transaction.commit().await.map(|_| ())?)
    }

    /// Takes back the burial of an object that is referred to: of its batches so many are dead. It leaves the queue.
    pub async fn revive(&self, id: ObjectId, dead: u64, queued: Option<&Garbage>) -> Result<(), MendError> {
        let mut transaction = self.begin().await?;
        let row = self.expect(&mut *transaction, id, |row| row == Some(ObjectState::Tombstone)).await?;
        let Some(row) = row else { return Err(MendError::Changed) };
        let row = ObjectRow { state: ObjectState::Committed, ..row };
        transaction.set(&object::key(&self.keyspace, id), &row.encode(), WriteConflict::Yes);
        // Whether some were copied isn't known any more: as if, it is kept for longer.
        let dead_too = dead::amount(dead, dead > 0);
        transaction.atomic_add(&dead::key(&self.keyspace, id), dead_too, WriteConflict::Yes);
        if let Some(queued) = queued {
            transaction.clear(&garbage::key(&self.keyspace, queued), WriteConflict::Yes);
        }
        Ok(transaction.commit().await.map(|_| ())?)
    }

    /// Puts an object that is dead and waits in no queue into that of what was merged, where it waits longer.
    pub async fn queue(&self, id: ObjectId) -> Result<(), MendError> {
        let mut transaction = self.begin().await?;
        let row = self.expect(&mut *transaction, id, |row| row == Some(ObjectState::Tombstone)).await?;
        let Some(row) = row else { return Err(MendError::Changed) };
        // Written as it is: of two that queue it one succeeds.
        transaction.set(&object::key(&self.keyspace, id), &row.encode(), WriteConflict::Yes);
        burial::enqueue(&mut *transaction, &self.keyspace, self.incarnation, id, row.size, true);
        Ok(transaction.commit().await.map(|_| ())?)
    }

    /// Takes an object that is in use out of the queue.
    pub async fn unqueue(&self, queued: &Garbage) -> Result<(), MendError> {
        let mut transaction = self.begin().await?;
        let in_use = |row| matches!(row, Some(ObjectState::Committed | ObjectState::Intent));
        self.expect(&mut *transaction, queued.object, in_use).await?;
        transaction.clear(&garbage::key(&self.keyspace, queued), WriteConflict::Yes);
        Ok(transaction.commit().await.map(|_| ())?)
    }

    /// Clears the dead count of an object that has no row and, being below the cutoff, never will have one.
    pub async fn clear_dead(&self, id: ObjectId) -> Result<(), MendError> {
        let mut transaction = self.store.begin(Priority::Batch);
        let cutoff = visible::fence(&mut *transaction, &self.keyspace, self.incarnation).await?;
        if !cutoff.refuses(&id) {
            return Err(MendError::Changed);
        }
        self.expect(&mut *transaction, id, |row| row.is_none()).await?;
        transaction.clear(&dead::key(&self.keyspace, id), WriteConflict::Yes);
        Ok(transaction.commit().await.map(|_| ())?)
    }

    /// Makes a slot's checkpoint count as older than the log: the job writes it anew.
    pub async fn outdate_checkpoint(&self, slot: Slot) -> Result<(), MendError> {
        let mut transaction = self.begin().await?;
        transaction.atomic_add(&checkpoint::seals_key(&self.keyspace, slot), 1, WriteConflict::No);
        Ok(transaction.commit().await.map(|_| ())?)
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        let mut transaction = self.store.begin(Priority::Batch);
        visible::fence(&mut *transaction, &self.keyspace, self.incarnation).await?;
        Ok(transaction)
    }

    /// An object's row, if its state is as it should be.
    async fn expect(
        &self,
        transaction: &mut dyn Transaction,
        id: ObjectId,
        is_so: impl Fn(Option<ObjectState>) -> bool,
    ) -> Result<Option<ObjectRow>, MendError> {
        let row = transaction.get(&object::key(&self.keyspace, id), Isolation::Serializable).await?;
        let row = row.as_deref().map(ObjectRow::decode).transpose()?;
        if is_so(row.as_ref().map(|row| row.state)) { Ok(row) } else { Err(MendError::Changed) }
    }
}
