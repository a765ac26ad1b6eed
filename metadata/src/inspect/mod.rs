//! The metadata as an operator may read it: every row decoded and named, a topic's, a group's or everybody's.
//!
//! Invariants: nothing is written, and nobody is disturbed: all reads are at snapshot isolation and at batch
//! priority, a page at a time, each page in a transaction of its own, so that ranges of any size fit the store's
//! limits. So a page is one moment, and a long dump several; what is read of one partition is one moment. A row that
//! can't be decoded is told as corrupt with its bytes, and the reading goes on.
//!
//! Deliberately absent: how it is printed; records, which are in the bucket.

mod facts;
mod group;
mod partition;
mod row;
mod topic;
mod walk;

#[cfg(test)]
mod tests;

use std::time::Duration;

use penstock_types::ObjectId;

pub use facts::{Fact, Facts, Inspected};
pub use row::{describe, hex};

use crate::cluster::newest_stored_version;
use crate::keys::{Family, Keyspace, cluster, object};
use crate::kv::{Isolation, KeyRange, Page, RangeOptions, Row, SharedStore, StoreError, prefixed};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

const POLICY: Policy = Policy::background(Duration::from_secs(30));

/// Why the metadata can't be read, or not to its end. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for isn't there.
    #[error("there is no {what} {name} in this metadata")]
    NotFound {
        /// `topic`, `group`, …
        what: &'static str,
        /// Which one.
        name: String,
    },
    /// Whoever reads has enough.
    #[error("stopped")]
    Stopped,
}

/// Whoever reads has enough: the inspection ends with [`InspectError::Stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl From<Stopped> for InspectError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Who reads.
pub trait Sink: Send {
    /// The next thing found.
    fn put(&mut self, found: Inspected) -> Result<(), Stopped>;
    /// So many more rows were read.
    fn read(&mut self, rows: usize);
}

/// Reads a cluster's metadata.
#[derive(Debug, Clone)]
pub struct Inspector {
    store: SharedStore,
    keyspace: Keyspace,
    limit: usize,
}

impl Inspector {
    /// Reads the rows of `keyspace`. Of a partition's tail, index, aborted transactions and producers at most `limit`
    /// rows each are told, and whether there are more.
    pub fn new(store: SharedStore, keyspace: Keyspace, limit: usize) -> Self {
        Self { store, keyspace, limit: limit.max(1) }
    }

    /// The cluster's own rows, the store's version, and how many rows and bytes each family has. Every row is
    /// decoded, so this finds all that is corrupt.
    pub async fn cluster(&self, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let key = cluster::identity_key(&self.keyspace);
        let state = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            let now = transaction.read_version().await?;
            let identity = transaction.get(&key, Isolation::Snapshot).await?;
            let incarnation = identity
                .as_deref()
                .and_then(|value| cluster::decode_identity(value).ok())
                .map(|i| i.incarnation);
            let newest = match incarnation {
                // A row that can't be read is told below.
                Some(incarnation) => {
                    newest_stored_version(transaction, &self.keyspace, incarnation).await.ok()
                }
                None => None,
            };
            Ok::<_, Abort<Stopped>>((identity.is_some(), now, newest))
        });
        let (found, now, newest) = reading(state.await)?;
        if !found {
            return Err(InspectError::NotFound { what: "cluster", name: "identity".to_owned() });
        }
        let mut facts = Facts::default().text("store", self.store.name()).unsigned("version", now.get());
        if let Some(newest) = newest {
            facts = facts.unsigned("newest stored version", newest.get()).flag("went back", newest > now);
        }
        sink.put(Inspected::row("store", facts))?;
        self.describe_all(prefixed(&self.keyspace.family(Family::Cluster)), sink).await?;
        self.count(sink).await
    }

    /// One object's row.
    pub async fn object(&self, id: ObjectId, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let key = object::key(&self.keyspace, id);
        match self.get(&key).await? {
            Some(row) => Ok(sink.put(describe(&self.keyspace, &row))?),
            None => Err(InspectError::NotFound { what: "object", name: id.to_string() }),
        }
    }

    /// All agents' rows.
    pub async fn agents(&self, sink: &mut dyn Sink) -> Result<(), InspectError> {
        self.describe_all(prefixed(&self.keyspace.family(Family::Agent)), sink).await
    }

    /// All rows of a family, or all rows.
    pub async fn rows(&self, family: Option<Family>, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let range = match family {
            Some(family) => prefixed(&self.keyspace.family(family)),
            None => self.keyspace.all(),
        };
        self.describe_all(range, sink).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Row>, InspectError> {
        let read = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            transaction.get(key, Isolation::Snapshot).await.map_err(Abort::<Stopped>::Store)
        });
        let value = reading(read.await)?;
        Ok(value.map(|value| Row { key: bytes::Bytes::copy_from_slice(key), value }))
    }

    async fn page(&self, range: KeyRange, rows: usize) -> Result<Page, InspectError> {
        let options = RangeOptions::page(rows, Isolation::Snapshot);
        let read = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            transaction.range(range.clone(), options).await.map_err(Abort::<Stopped>::Store)
        });
        reading(read.await)
    }
}

/// What a transaction that writes nothing comes to.
fn reading<T, C>(result: Result<(T, C), TransactError<Stopped>>) -> Result<T, InspectError> {
    match result {
        Ok((value, _)) => Ok(value),
        Err(TransactError::Refused(stopped)) => Err(stopped.into()),
        Err(TransactError::Store { error, .. }) => Err(error.into()),
    }
}
