//! Deleting topics.
//!
//! One small transaction whatever the topic holds: its row and its name go, so nothing can be written or found under
//! its id any more, and a durable row lists it until a job has collected its log, index, producer states and objects.
//! Deliberately absent: that collection.

use std::collections::BTreeSet;
use std::convert::Infallible;

use penstock_types::TopicId;

use super::admin::{ChangeFailed, Request, TOPICS_AT_ONCE, TopicAdmin, changed};
use super::{changes, read_rows};
use crate::keys::Keyspace;
use crate::keys::topic::{
    Change, DeletedTopicRow, decode_deleted, deleted_key, deleted_rows, encode_deleted, name_key, row_key,
};
use crate::kv::{Isolation, RangeOptions, StoreError, Transaction, WriteConflict, single_key};
use crate::transact::{Abort, OnUnknown, transact};

#[cfg(test)]
mod tests;

/// Why a topic wasn't deleted. It did not happen, but for [`DeleteTopicError::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is no such topic.
    #[error("topic {id} does not exist")]
    NotFound {
        /// The id asked for.
        id: TopicId,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] ChangeFailed),
}

impl TopicAdmin {
    /// Deletes topics, in transactions of up to 500; answers for each in order. An id that stands twice is deleted
    /// once, and both times successfully.
    ///
    /// Dropping the future leaves it unknown which ones are gone.
    pub async fn delete_topics(
        &self,
        ids: &[TopicId],
        request: Request,
    ) -> Vec<Result<(), DeleteTopicError>> {
        let mut results = Vec::with_capacity(ids.len());
        for ids in ids.chunks(TOPICS_AT_ONCE) {
            // Topics that a run of this deletion found and that may be gone through it: what runs after an unknown
            // outcome doesn't find is deleted as was asked.
            let mut found = BTreeSet::new();
            let gone = transact!(&*self.store, request.policy(), OnUnknown::RunAgain, async |transaction| {
                self.delete_in(transaction, ids, &mut found).await
            });
            match changed(gone.await) {
                Ok(()) => results.extend(ids.iter().map(|id| {
                    if found.contains(id) { Ok(()) } else { Err(DeleteTopicError::NotFound { id: *id }) }
                })),
                Err(failed) => results.extend(ids.iter().map(|_| Err(failed.clone().into()))),
            }
        }
        results
    }

    async fn delete_in(
        &self,
        transaction: &mut dyn Transaction,
        ids: &[TopicId],
        found: &mut BTreeSet<TopicId>,
    ) -> Result<(), Abort<Infallible>> {
        let rows = read_rows(transaction, &self.keyspace, ids, Isolation::Serializable).await?;
        let mut deleted = BTreeSet::new();
        for row in rows.into_iter().flatten() {
            if !deleted.insert(Change::Topic(row.id)) {
                continue;
            }
            found.insert(row.id);
            let tombstone = encode_deleted(self.incarnation, &row.name, row.partitions, self.clock.now_ms());
            transaction.clear(&name_key(&self.keyspace, &row.name), WriteConflict::Yes);
            transaction.clear(&row_key(&self.keyspace, row.id), WriteConflict::Yes);
            transaction.set_stamped_value(
                &deleted_key(&self.keyspace, row.id),
                &tombstone.value,
                tombstone.stamp_at,
                WriteConflict::Yes,
            );
        }
        let deleted: Vec<Change> = deleted.into_iter().collect();
        changes::record(transaction, &self.keyspace, self.incarnation, &deleted).await?;
        Ok(())
    }
}

/// Deleted topics whose data is not collected yet: at most `limit`, by id, above `after`.
///
/// # Errors
/// The store's.
pub async fn deleted_topics(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    after: Option<TopicId>,
    limit: usize,
) -> Result<Vec<DeletedTopicRow>, StoreError> {
    let mut range = deleted_rows(keyspace);
    if let Some(after) = after {
        range.start = single_key(&deleted_key(keyspace, after)).end;
    }
    let page = transaction.range(range, RangeOptions::page(limit, Isolation::Snapshot)).await?;
    let rows = page.rows.iter().map(|row| decode_deleted(keyspace, &row.key, &row.value));
    Ok(rows.collect::<Result<_, _>>()?)
}
