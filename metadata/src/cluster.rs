//! A cluster's identity: made at its first start, checked at every other.
//!
//! Owns the schema version and the cluster's id. An agent that finds versions that went back (a store restored from a
//! backup without raising the incarnation) refuses to start.
//!
//! # Schema versions
//! The identity says in which schema the rows are written, and the oldest schema whose programs may still write among
//! them. A program opens the rows if
//! - their schema is the program's own, or
//! - it is older, down to [`OLDEST_SCHEMA_READ`]: the program goes on writing that older schema, or
//! - it is newer, and the rows' oldest writer is no newer than the program: what the newer schema added, the program
//!   neither needs to read nor destroys by writing.
//!
//! Everything else is refused. Nothing raises the schema version by itself: a release that brings a new one brings the
//! command that raises it.

use std::ops::RangeInclusive;
use std::time::Duration;

use penstock_types::{Clock, Incarnation, Randomness, StoreVersion};

use crate::keys::cluster::{
    ClusterIdentity, cutoff_key, decode_cutoff, decode_identity, decode_metadata_version, encode_identity,
    identity_key, metadata_version_key,
};
use crate::keys::{Family, Keyspace, feed};
use crate::kv::{Isolation, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, prefixed};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

/// The newest schema that this program reads and writes: that of new clusters. Schema 4 has what
/// log compaction leaves: gaps in the index, its state, bytes gone below zero.
pub const SCHEMA_VERSION: u32 = 4;
/// The oldest schema that this program still reads, and writes for clusters that have it. What programs of schema 3 write
/// of bytes gone reads as another number, and to convert it isn't worth it: no release had it.
pub const OLDEST_SCHEMA_READ: u32 = 4;
/// Feeds that are looked at on opening: all of them.
const FEEDS: usize = feed::SLOTS as usize;

const POLICY: Policy = Policy::interactive(Duration::from_secs(30));

/// Why a cluster can't be opened. Nothing was changed, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows are of a schema that this program doesn't know, and may not write beside.
    #[error(
        "the metadata of cluster {cluster_id} has schema version {found} and takes programs from schema {oldest_writer} \
         on, this program knows {known}: run the version of Penstock that wrote it, or a later one"
    )]
    Schema {
        /// The cluster.
        cluster_id: String,
        /// What the store says.
        found: u32,
        /// The oldest program that the store takes.
        oldest_writer: u32,
        /// What this program knows.
        known: u32,
    },
    /// The rows are of a schema that this program doesn't read any more.
    #[error(
        "the metadata of cluster {cluster_id} has schema version {found}, this program reads {oldest} at the oldest: \
         upgrade by way of a release in between"
    )]
    SchemaTooOld {
        /// The cluster.
        cluster_id: String,
        /// What the store says.
        found: u32,
        /// The oldest that this program reads.
        oldest: u32,
    },
    /// The store is at a lower version than it was before.
    #[error(
        "the metadata store is at version {now}, but {stored} was stored in incarnation {incarnation} before: it was \
         restored or moved without raising the incarnation (see `penstock metadata raise-incarnation --help`)"
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
        oldest_writer: SCHEMA_VERSION,
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
    check_schema(&identity, OLDEST_SCHEMA_READ..=SCHEMA_VERSION).map_err(Abort::Refused)?;
    let stored = newest_stored_version(transaction, keyspace, identity.incarnation).await?;
    if stored > now {
        let incarnation = identity.incarnation.get();
        return Err(Abort::Refused(OpenError::WentBack { now, stored, incarnation }));
    }
    Ok(identity)
}

/// Whether a program that knows these schemas may open the rows: see the module.
pub fn check_schema(identity: &ClusterIdentity, known: RangeInclusive<u32>) -> Result<(), OpenError> {
    let found = identity.schema_version;
    let cluster_id = || identity.cluster_id.clone();
    if found < *known.start() {
        return Err(OpenError::SchemaTooOld { cluster_id: cluster_id(), found, oldest: *known.start() });
    }
    if found > *known.end() && identity.oldest_writer > *known.end() {
        let oldest_writer = identity.oldest_writer;
        return Err(OpenError::Schema {
            cluster_id: cluster_id(),
            found,
            oldest_writer,
            known: *known.end(),
        });
    }
    Ok(())
}

/// The newest version of `incarnation` that a commit of data, a change of topics or the sweeper left behind: no store
/// that holds it can be at a lower one, unless its rows came from elsewhere.
pub(crate) async fn newest_stored_version(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
) -> Result<StoreVersion, StoreError> {
    let keys = [metadata_version_key(keyspace), cutoff_key(keyspace)];
    let mut values = transaction.get_many(&keys, Isolation::Snapshot).await?.into_iter();
    let changed = decode_metadata_version(values.next().flatten().as_deref())?;
    let cutoff = decode_cutoff(values.next().flatten().as_deref())?;
    let mut stored =
        vec![(changed.incarnation, changed.stamp.version()), (cutoff.incarnation, cutoff.version)];
    let options = RangeOptions::page(FEEDS, Isolation::Snapshot);
    for row in transaction.range(prefixed(&keyspace.family(Family::Feed)), options).await?.rows {
        let fed = feed::decode(Some(&row.value))?;
        stored.push((fed.incarnation, fed.stamp.version()));
    }
    let newest = stored.into_iter().filter(|(of, _)| *of == incarnation).map(|(_, version)| version).max();
    Ok(newest.unwrap_or_default())
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
