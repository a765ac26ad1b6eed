//! Moving the log start: what lies below it is deleted for every reader from the commit on; its entries and objects go
//! later (`trimming`, `burial`).
//!
//! One transaction for many partitions: it reads their topics' rows serializably, so that nothing is written under the
//! id of a topic that was deleted, and the counters at its own version. The log start itself moves by an atomic
//! maximum: it never goes back, whoever moves it where at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use penstock_types::{Incarnation, Offset, TopicId, TopicPartition};

use crate::keys::cluster::{MetadataVersion, decode_metadata_version, metadata_version_key};
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::topic::row_key;
use crate::keys::{Keyspace, log_start};
use crate::kv::{Isolation, SharedStore, StoreError, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};
use crate::visible;

/// Partitions of one transaction.
const AT_ONCE: usize = 500;

/// Where a log start is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewStart {
    /// At this offset.
    At(Offset),
    /// At the log's end: everything goes.
    End,
    /// At this offset, by options that were read at a metadata version.
    Expired {
        /// Where.
        at: Offset,
        /// The version of the topics and options that say so.
        by: MetadataVersion,
    },
}

/// Why a log start was not moved. It did not happen, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The topic is gone.
    #[error("the topic of partition {0} is no more")]
    NoTopic(TopicPartition),
    /// It lies behind the log's end.
    #[error("the log ends at {end}")]
    BehindEnd {
        /// The log's end.
        end: Offset,
    },
    /// Topics or options have changed since it was told what has expired.
    #[error("topics or options have changed meanwhile")]
    OptionsChanged,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Moves log starts; answers in the order asked for, each with where the log starts now. One that lies below the log
/// start already leaves it where it is.
pub async fn move_log_starts(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    policy: Policy,
    wanted: &[(TopicPartition, NewStart)],
) -> Vec<Result<Offset, MoveError>> {
    let mut answers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        // Moving twice is moving.
        let moved = transact!(&**store, policy, OnUnknown::RunAgain, async |transaction| {
            move_in(transaction, keyspace, incarnation, wanted).await
        });
        match moved.await {
            Ok((some, _)) => answers.extend(some),
            Err(TransactError::Refused(never)) => match never {},
            Err(TransactError::Store { error, .. }) => {
                answers.extend(wanted.iter().map(|_| Err(MoveError::Store(error.clone()))));
            }
        }
    }
    answers
}

async fn move_in(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    wanted: &[(TopicPartition, NewStart)],
) -> Result<Vec<Result<Offset, MoveError>>, Abort<Infallible>> {
    visible::fence(transaction, keyspace, incarnation).await?;
    let topics: BTreeSet<TopicId> = wanted.iter().map(|(partition, _)| partition.topic).collect();
    let keys: Vec<_> = topics.iter().map(|topic| row_key(keyspace, *topic)).collect();
    let rows = transaction.get_many(&keys, Isolation::Serializable).await?;
    let live: BTreeSet<TopicId> =
        topics.into_iter().zip(rows).filter_map(|(topic, row)| row.map(|_| topic)).collect();
    let stripes: BTreeSet<Stripe> = wanted.iter().map(|(partition, _)| Stripe::of(*partition)).collect();
    let mut keys: Vec<_> = stripes.iter().map(|stripe| counters::key(keyspace, *stripe)).collect();
    keys.extend(wanted.iter().map(|(partition, _)| log_start::key(keyspace, *partition)));
    keys.push(metadata_version_key(keyspace));
    let mut values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    // A topic's own options are in its row, which conflicts; the brokers' are in this version's.
    let options = decode_metadata_version(values.pop().flatten().as_deref())?;
    let starts = values.split_off(stripes.len());
    let mut ends: BTreeMap<Stripe, Counters> = BTreeMap::new();
    for (stripe, value) in stripes.into_iter().zip(values) {
        ends.insert(stripe, Counters::decode(value.as_deref())?);
    }
    let (mut answers, mut moved) = (Vec::with_capacity(wanted.len()), BTreeSet::new());
    for ((partition, new), start) in wanted.iter().zip(starts) {
        if !live.contains(&partition.topic) {
            answers.push(Err(MoveError::NoTopic(*partition)));
            continue;
        }
        let start = log_start::decode(start.as_deref())?;
        let end = Offset::at(ends.get(&Stripe::of(*partition)).map_or(0, |found| found.of(*partition)));
        let new = match new {
            NewStart::At(offset) if *offset > end => {
                answers.push(Err(MoveError::BehindEnd { end }));
                continue;
            }
            NewStart::Expired { by, .. } if *by != options => {
                answers.push(Err(MoveError::OptionsChanged));
                continue;
            }
            // By what has expired: it was there then, and ends where it did.
            NewStart::At(offset) | NewStart::Expired { at: offset, .. } => *offset,
            NewStart::End => end,
        };
        if new > start {
            let key = log_start::key(keyspace, *partition);
            if penstock_types::planted!("log-start-goes-back") {
                transaction.set(&key, &(new.get() as u64).to_le_bytes(), WriteConflict::No);
            } else {
                transaction.atomic_max(&key, new.get() as u64, WriteConflict::No);
            }
            moved.insert(*partition);
        }
        answers.push(Ok(start.max(new)));
    }
    if !penstock_types::planted!("deletion-untold") {
        visible::changes(transaction, keyspace, incarnation, &moved);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests;
