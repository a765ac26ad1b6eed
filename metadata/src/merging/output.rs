//! Outputs: announced before they are put into the bucket.

use penstock_types::{Incarnation, ObjectId, Versionstamp};

use crate::burial::enqueue;
use crate::codec::Corrupt;
use crate::keys::Keyspace;
use crate::keys::cluster::{cutoff_key, decode_cutoff};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::kv::{Isolation, Priority, SharedStore, StoreError, WriteConflict};
use crate::visible;

/// An object that a merge writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Its id, made of a version that was read before.
    pub id: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// Its level, 1 or above.
    pub level: u8,
    /// How many partitions it has batches of.
    pub sections: u32,
    /// Whether it is to be merged again, at the next level.
    pub queues: bool,
}

impl Output {
    /// Its row before anything refers to it.
    pub(super) fn intent(&self, incarnation: Incarnation) -> ObjectRow {
        ObjectRow {
            state: ObjectState::Intent,
            stamp: Versionstamp::ZERO,
            incarnation,
            first_n: 0,
            size: self.size,
            batches: 0,
            verdicts: Vec::new(),
            level: self.level,
        }
    }
}

/// Why an output can't be written. Nothing was changed, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// Its id is below the sweeper's cutoff: it took too long, and has to be made again under a new id.
    #[error("the output's id is below the sweeper's cutoff")]
    BelowCutoff,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for AnnounceError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// Gives up an output that nothing refers to, whether it is in the bucket or not: it is garbage at once, rather than when the
/// sweeper's cutoff has passed it. `false` if something does refer to it, or if it was given up before. What isn't swapped yet
/// can't be swapped into it any more.
pub async fn give_up(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    output: ObjectId,
) -> Result<bool, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let key = object::key(keyspace, output);
    let row = transaction.get(&key, Isolation::Serializable).await?;
    let row = row.map(|row| ObjectRow::decode(&row)).transpose()?;
    let anything = penstock_types::planted!("gives-up-what-is-used");
    let unused = |row: &ObjectRow| row.state == ObjectState::Intent || anything;
    let Some(row) = row.filter(unused) else { return Ok(false) };
    let tombstone = ObjectRow { state: ObjectState::Tombstone, ..row };
    transaction.set(&key, &tombstone.encode(), WriteConflict::Yes);
    enqueue(&mut *transaction, keyspace, incarnation, output, tombstone.size, false);
    transaction.commit().await?;
    Ok(true)
}

/// Announces an output, before anything of it is in the bucket: from here on the sweeper leaves it alone until its cutoff has
/// passed the id. Run again after an unknown outcome it finds what became of it.
pub async fn announce(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    output: &Output,
) -> Result<(), AnnounceError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let key = object::key(keyspace, output.id);
    let keys = [cutoff_key(keyspace), key.clone()];
    let values = transaction.get_many(&keys, Isolation::Serializable).await?;
    if decode_cutoff(values[0].as_deref())?.refuses(&output.id) {
        return Err(AnnounceError::BelowCutoff);
    }
    let row = output.intent(incarnation);
    match values[1].as_deref().map(ObjectRow::decode).transpose()? {
        None => {}
        Some(found) if found == row => return Ok(()),
        Some(_) => {
            let reason = format!("object {} is known, but is not the output announced", output.id);
            return Err(StoreError::Failed { reason }.into());
        }
    }
    transaction.set(&key, &row.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(())
}
