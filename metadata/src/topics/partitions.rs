//! Adding partitions to topics.

use std::collections::BTreeMap;
use std::convert::Infallible;

use penstock_types::TopicId;

use super::admin::{ChangeFailed, Request, TOPICS_AT_ONCE, TopicAdmin, changed};
use super::create::{AssignmentError, check_replicas};
use super::{changes, read_rows};
use crate::keys::topic::{Change, TopicRow, encode_row, row_key};
use crate::kv::{Isolation, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, transact};

#[cfg(test)]
mod tests;

/// What a client wants of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub id: TopicId,
    /// How many partitions it is to have.
    pub count: i32,
    /// The brokers of each new partition, if the client chooses them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Why a topic got no partitions. It did not happen, but for [`CreatePartitionsError::Failed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    /// There is no such topic.
    #[error("topic {id} does not exist")]
    NotFound {
        /// The id asked for.
        id: TopicId,
    },
    /// It has as many.
    #[error("Topic already has {count} partition(s).")]
    AlreadyHas {
        /// How many.
        count: u32,
    },
    /// It has more.
    #[error("The topic {name} currently has {current} partition(s); {count} would not be an increase.")]
    NotAnIncrease {
        /// The topic.
        name: String,
        /// How many it has.
        current: u32,
        /// How many were asked for.
        count: i32,
    },
    /// The assignment makes no sense.
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] ChangeFailed),
}

impl TopicAdmin {
    /// Adds partitions, in transactions of up to 500 topics; answers for each in order. A topic must not stand twice.
    ///
    /// `brokers` are those there are. Dropping the future leaves it unknown which topics have grown.
    pub async fn create_partitions(
        &self,
        wanted: &[NewPartitions],
        brokers: &[i32],
        request: Request,
    ) -> Vec<Result<(), CreatePartitionsError>> {
        let mut results = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(TOPICS_AT_ONCE) {
            // Topics that a run of this change wrote, which may be as wanted through it.
            let mut written = BTreeMap::new();
            let grown = transact!(&*self.store, request.policy(), OnUnknown::RunAgain, async |transaction| {
                self.grow_in(transaction, wanted, brokers, request.validate_only, &mut written).await
            });
            match changed(grown.await) {
                Ok(verdicts) => results.extend(verdicts),
                Err(failed) => results.extend(wanted.iter().map(|_| Err(failed.clone().into()))),
            }
        }
        results
    }

    async fn grow_in(
        &self,
        transaction: &mut dyn Transaction,
        wanted: &[NewPartitions],
        brokers: &[i32],
        validate_only: bool,
        written: &mut BTreeMap<TopicId, u32>,
    ) -> Result<Vec<Result<(), CreatePartitionsError>>, Abort<Infallible>> {
        let ids: Vec<TopicId> = wanted.iter().map(|wanted| wanted.id).collect();
        let rows = read_rows(transaction, &self.keyspace, &ids, Isolation::Serializable).await?;
        let mut verdicts = Vec::with_capacity(wanted.len());
        let mut grown = Vec::new();
        for (wanted, row) in wanted.iter().zip(rows) {
            let Some(mut row) = row else {
                verdicts.push(Err(CreatePartitionsError::NotFound { id: wanted.id }));
                continue;
            };
            if written.get(&row.id) == Some(&row.partitions) {
                verdicts.push(Ok(()));
                continue;
            }
            match check(&row, wanted, brokers) {
                Err(refused) => verdicts.push(Err(refused)),
                Ok(count) => {
                    verdicts.push(Ok(()));
                    if !validate_only {
                        row.partitions = count;
                        self.write_row(transaction, &row);
                        written.insert(row.id, count);
                        grown.push(Change::Topic(row.id));
                    }
                }
            }
        }
        changes::record(transaction, &self.keyspace, self.incarnation, &grown).await?;
        Ok(verdicts)
    }

    /// Writes a changed topic's row.
    pub(super) fn write_row(&self, transaction: &mut dyn Transaction, row: &TopicRow) {
        let stamped = encode_row(self.incarnation, row, Some(row.created));
        let key = row_key(&self.keyspace, row.id);
        transaction.set_stamped_value(&key, &stamped.value, stamped.stamp_at, WriteConflict::Yes);
    }
}

/// How many partitions the topic is to have.
fn check(row: &TopicRow, wanted: &NewPartitions, brokers: &[i32]) -> Result<u32, CreatePartitionsError> {
    let not_an_increase = || CreatePartitionsError::NotAnIncrease {
        name: row.name.clone(),
        current: row.partitions,
        count: wanted.count,
    };
    let count = u32::try_from(wanted.count).map_err(|_| not_an_increase())?;
    if count == row.partitions {
        return Err(CreatePartitionsError::AlreadyHas { count });
    }
    if count < row.partitions {
        return Err(not_an_increase());
    }
    if let Some(assignments) = &wanted.assignments {
        let new = count - row.partitions;
        if assignments.len() != new as usize {
            let given = assignments.len();
            return Err(AssignmentError::TooFew { wanted: i64::from(new), given }.into());
        }
        let mut expected = None;
        for replicas in assignments {
            check_replicas(replicas, brokers, &mut expected)?;
        }
    }
    Ok(count)
}
