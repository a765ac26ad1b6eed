//! A cluster's identity: made at its first start, checked at every other.
//!
//! Owns the schema version and the cluster's id. An agent that finds rows of a newer schema, or versions that went
//! back (a store restored from a backup without raising the incarnation), refuses to start.

use std::time::Duration;

use penstock_types::{Clock, Incarnation, Randomness, StoreVersion};

use crate::keys::Keyspace;
use crate::keys::cluster::{
    ClusterIdentity, decode_identity, decode_metadata_version, encode_identity, identity_key,
    metadata_version_key,
};
use crate::kv::{Isolation, SharedStore, StoreError, Transaction, WriteConflict};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

/// The schema that this program reads and writes.
pub const SCHEMA_VERSION: u32 = 1;

const POLICY: Policy = Policy::interactive(Duration::from_secs(30));

/// Why a cluster can't be opened. Nothing was changed, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows are of a schema that this program doesn't know.
    #[error(
        "the metadata of cluster {cluster_id} has schema version {found}, this program knows {known}: run the \
         version of Penstock that wrote it, or a later one"
    )]
    Schema {
        /// The cluster.
        cluster_id: String,
        /// What the store says.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The store is at a lower version than it was before.
    #[error(
        "the metadata store is at version {now}, but {stored} was stored in incarnation {incarnation} before: it was \
         restored or moved without raising the incarnation"
    )]
    WentBack {
        /// The store's version.
        now: StoreVersion,
        /// The version found.
        stored: StoreVersion,
        /// The incarnation.
        incarnation: u32,
    },
}

/// Reads the identity of the cluster in `keyspace`, or makes one.
///
/// Two agents that start an empty cluster at the same time agree on one identity. Idempotent; safe to cancel.
pub async fn open_or_create(
    store: &SharedStore,
    keyspace: &Keyspace,
    randomness: &dyn Randomness,
    clock: &dyn Clock,
) -> Result<ClusterIdentity, OpenError> {
    let fresh = ClusterIdentity {
        cluster_id: random_cluster_id(randomness),
        incarnation: Incarnation::FIRST,
        schema_version: SCHEMA_VERSION,
        created_ms: clock.now_ms(),
    };
    // Running it again is harmless: it reads the identity serializably, and finds it if an earlier run made it.
    let opened = transact!(&**store, POLICY, OnUnknown::RunAgain, async |transaction| {
        open(transaction, keyspace, &fresh).await
    });
    match opened.await {
        Ok((identity, _)) => Ok(identity),
        Err(TransactError::Refused(error)) => Err(error),
        Err(TransactError::Store { error, .. }) => Err(error.into()),
    }
}

async fn open(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    fresh: &ClusterIdentity,
) -> Result<ClusterIdentity, Abort<OpenError>> {
    let now = transaction.read_version().await?;
    let key = identity_key(keyspace);
    let Some(value) = transaction.get(&key, Isolation::Serializable).await? else {
        transaction.set(&key, &encode_identity(fresh), WriteConflict::Yes);
        return Ok(fresh.clone());
    };
    let identity = decode_identity(&value)?;
    if identity.schema_version != SCHEMA_VERSION {
        return Err(Abort::Refused(OpenError::Schema {
            cluster_id: identity.cluster_id,
            found: identity.schema_version,
            known: SCHEMA_VERSION,
        }));
    }
    let changed = transaction.get(&metadata_version_key(keyspace), Isolation::Snapshot).await?;
    let changed = decode_metadata_version(changed.as_deref())?;
    if changed.incarnation == identity.incarnation && changed.stamp.version() > now {
        return Err(Abort::Refused(OpenError::WentBack {
            now,
            stored: changed.stamp.version(),
            incarnation: identity.incarnation.get(),
        }));
    }
    Ok(identity)
}

/// 22 characters of URL-safe base64 of a random UUID; like Kafka's, never with a dash in front, which command lines
/// would take for a flag.
fn random_cluster_id(randomness: &dyn Randomness) -> String {
    loop {
        let id = base64_url(randomness.uuid().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// URL-safe base64 (RFC 4648, section 5) without padding.
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut bits = 0u32;
        for place in 0..3 {
            bits = (bits << 8) | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for place in 0..=chunk.len() {
            let sextet = (bits >> (18 - 6 * place)) & 0x3F;
            text.push(char::from(ALPHABET[sextet as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests;
