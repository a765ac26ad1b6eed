//! Writing the rows of a cluster that was salvaged from its bucket into a store that is empty.
//!
//! # Invariants
//! - Nothing is written into a store that holds anything.
//! - The identity comes last, in one transaction with what begins the new incarnation: until then no agent takes the rows for a
//!   cluster's (it would make an identity of its own, and the bucket's claim would refuse it).
//!
//! Deliberately absent: what the rows should be; the bucket.

use penstock_types::{Incarnation, StoreVersion, TimestampMs};

use crate::cluster::SCHEMA_VERSION;
use crate::codec::Corrupt;
use crate::keys::cluster::{
    ClusterIdentity, Cutoff, begin_key, bump_metadata_version, cutoff_key, encode_begin, encode_cutoff,
    encode_identity, identity_key,
};
use crate::keys::{Keyspace, allocation};
use crate::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, WriteConflict};

/// Bytes of one transaction: far below the store's limit.
const TRANSACTION_BYTES: usize = 1 << 20;

/// Why nothing can be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SalvagingError {
    /// There are rows.
    #[error("the metadata store holds rows already: salvage needs an empty one")]
    NotEmpty,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for SalvagingError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// A store that is being filled by one process; or nothing, to see what would be written.
#[derive(Debug)]
pub struct Salvaging {
    store: Option<SharedStore>,
    keyspace: Keyspace,
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Salvaging {
    /// Begins to fill a store.
    ///
    /// # Errors
    /// If it holds anything of `keyspace`.
    pub async fn begin(store: SharedStore, keyspace: Keyspace) -> Result<Self, SalvagingError> {
        let options = RangeOptions::page(1, Isolation::Snapshot);
        let page = store.begin(Priority::Default).range(keyspace.all(), options).await?;
        if !page.rows.is_empty() {
            return Err(SalvagingError::NotEmpty);
        }
        Ok(Self { store: Some(store), keyspace, waiting: Vec::new(), bytes: 0 })
    }

    /// Writes nothing.
    pub fn into_nothing(keyspace: Keyspace) -> Self {
        Self { store: None, keyspace, waiting: Vec::new(), bytes: 0 }
    }

    /// The keys that are written.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Writes a row, at once or with the next ones.
    pub async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), SalvagingError> {
        if self.store.is_none() {
            return Ok(());
        }
        self.bytes += key.len() + value.len();
        self.waiting.push((key, value));
        if self.bytes >= TRANSACTION_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Writes what waits. A transaction whose outcome isn't known is run again: the rows are the same.
    async fn flush(&mut self) -> Result<(), SalvagingError> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut attempts = 0;
        while !self.waiting.is_empty() {
            let mut transaction = store.begin(Priority::Default);
            for (key, value) in &self.waiting {
                transaction.set(key, value, WriteConflict::Yes);
            }
            match transaction.commit().await {
                Ok(_) => self.waiting.clear(),
                Err(error) if error.is_retryable() && attempts < 20 => {
                    attempts += 1;
                    penstock_types::pause(std::time::Duration::from_millis(10 * attempts)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes = 0;
        Ok(())
    }

    /// Writes the rest, and then what makes the rows a cluster of `incarnation`, in which producer ids begin at `producer`.
    pub async fn finish(
        mut self,
        cluster_id: &str,
        incarnation: Incarnation,
        created_ms: TimestampMs,
        producer: i64,
    ) -> Result<(), SalvagingError> {
        self.flush().await?;
        let identity = ClusterIdentity {
            cluster_id: cluster_id.to_owned(),
            incarnation,
            schema_version: SCHEMA_VERSION,
            oldest_writer: SCHEMA_VERSION,
            created_ms,
        };
        let Some(store) = &self.store else { return Ok(()) };
        let mut transaction = store.begin(Priority::Default);
        let key = identity_key(&self.keyspace);
        let now = transaction.read_version().await?;
        if transaction.get(&key, Isolation::Serializable).await?.is_some() {
            return Err(SalvagingError::NotEmpty);
        }
        transaction.set(&key, &encode_identity(&identity), WriteConflict::Yes);
        // Nothing of an older life is committed any more.
        let cutoff = Cutoff { incarnation, version: StoreVersion::ZERO };
        transaction.set(&cutoff_key(&self.keyspace), &encode_cutoff(cutoff), WriteConflict::Yes);
        let begin = encode_begin(incarnation, now);
        transaction.set(&begin_key(&self.keyspace), &begin, WriteConflict::Yes);
        let next = allocation::next_producer_id_key(&self.keyspace);
        transaction.set(&next, &allocation::encode_next(producer), WriteConflict::Yes);
        bump_metadata_version(&mut *transaction, &self.keyspace, incarnation);
        transaction.commit().await?;
        Ok(())
    }
}
