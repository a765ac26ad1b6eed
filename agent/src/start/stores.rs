//! Opening the metadata store and the bucket, and making sure that they belong together.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use penstock_config::{AgentConfig, MetadataKind, UploadOptions};
use penstock_metadata::cluster;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_storage::bucket::{Bucket, BucketOptions, HedgeOptions, UploadChecksum};

use super::distributed::open_foundationdb;
use super::{Parts, StartError, without_credentials};
use crate::http::Readiness;

/// An open metadata store.
#[derive(Debug)]
pub(super) enum Metadata {
    Embedded(Arc<EmbeddedStore>),
    /// In memory, elsewhere, or given by a test: nothing to close.
    Other(SharedStore),
}

impl Metadata {
    pub(super) fn store(&self) -> SharedStore {
        match self {
            Self::Embedded(store) => Arc::clone(store) as SharedStore,
            Self::Other(store) => Arc::clone(store),
        }
    }

    /// The embedded store, if it is one.
    pub(super) fn embedded(&self) -> Option<&Arc<EmbeddedStore>> {
        match self {
            Self::Embedded(store) => Some(store),
            Self::Other(_) => None,
        }
    }

    /// Closes the store, so that another process can open it at once.
    pub(super) async fn close(self) {
        let Self::Embedded(store) = self else { return };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "the metadata store was not closed");
        }
    }
}

pub(super) async fn open_metadata(config: &AgentConfig, parts: &Parts) -> Result<Metadata, StartError> {
    if let Some(store) = &parts.store {
        return Ok(Metadata::Other(Arc::clone(store)));
    }
    match &config.node.metadata {
        MetadataKind::Memory => Ok(Metadata::Other(MemoryStore::new(Arc::clone(&parts.randomness)))),
        MetadataKind::Embedded => {
            let data_directory = config.node.data_dir.clone();
            let directory = config.metadata_directory();
            let open = move || {
                prepare_directory(&data_directory)?;
                Ok(EmbeddedStore::open(&directory, EmbeddedOptions::default())?)
            };
            match tokio::task::spawn_blocking(open).await {
                Ok(opened) => opened.map(Metadata::Embedded),
                Err(error) => Err(StartError::Interrupted { reason: error.to_string() }),
            }
        }
        MetadataKind::FoundationDb(cluster_file) => {
            let (cluster_file, options) = (cluster_file.clone(), config.foundationdb.clone());
            let open = move || open_foundationdb(&cluster_file, &options);
            match tokio::task::spawn_blocking(open).await {
                Ok(opened) => opened.map(Metadata::Other),
                Err(error) => Err(StartError::Interrupted { reason: error.to_string() }),
            }
        }
    }
}

/// The keys of the cluster in its metadata store.
pub(crate) fn keyspace(config: &AgentConfig) -> Keyspace {
    match config.node.metadata {
        MetadataKind::FoundationDb(_) => Keyspace::new(config.foundationdb.prefix.as_bytes()),
        MetadataKind::Embedded | MetadataKind::Memory => Keyspace::new(b""),
    }
}

/// Makes the data directory, and finds out whether it can be written before anything relies on it.
pub(crate) fn prepare_directory(path: &Path) -> Result<(), StartError> {
    let failed =
        |error: io::Error| StartError::DataDirectory { path: path.to_owned(), reason: reason(&error) };
    fs::create_dir_all(path).map_err(failed)?;
    let probe = path.join(format!(".probe-{}", std::process::id()));
    let written = write_probe(&probe);
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(failed)
}

fn write_probe(path: &Path) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&[0; PROBE_BYTES])?;
    file.sync_all()
}

/// Room for less than this is no room.
const PROBE_BYTES: usize = 256 * 1024;

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "this user may not write there".to_owned(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "it is not a directory".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn open_bucket(config: &AgentConfig, parts: &Parts) -> Result<Arc<Bucket>, StartError> {
    if let Some(bucket) = &parts.bucket {
        return Ok(Arc::clone(bucket));
    }
    if let Some(warning) = without_credentials(&config.object_store(), |name| std::env::var(name).ok()) {
        tracing::warn!("{warning}");
    }
    let url = config.object_store().to_string();
    Ok(Bucket::open(&url, &bucket_options(&config.upload), Arc::clone(&parts.randomness))?)
}

/// Removes what a killed process began to upload. For a bucket that nobody else uploads to.
pub(super) async fn remove_unfinished_uploads(bucket: &Bucket) {
    if let Err(error) = bucket.remove_unfinished_uploads().await {
        tracing::warn!(%error, "unfinished uploads can't be removed");
    }
}

/// How the configuration's words for uploads map to the bucket's.
pub(crate) fn bucket_options(upload: &UploadOptions) -> BucketOptions {
    let defaults = BucketOptions::default();
    BucketOptions {
        checksum: match upload.checksum {
            penstock_config::UploadChecksum::None => UploadChecksum::Off,
            penstock_config::UploadChecksum::Crc64Nvme => UploadChecksum::Crc64Nvme,
            penstock_config::UploadChecksum::Sha256 => UploadChecksum::Sha256,
        },
        attempt_timeout: upload.attempt_timeout,
        hedge: HedgeOptions {
            enabled: upload.hedge_ratio > 0.0,
            budget_percent: upload.hedge_ratio * 100.0,
            ..defaults.hedge
        },
        ..defaults
    }
}

/// The cluster's identity is durable first, then the bucket is claimed for it: two clusters that race for one
/// bucket can't both believe that it is theirs.
pub(super) async fn open_cluster(
    metadata: &Metadata,
    bucket: &Bucket,
    keyspace: &Keyspace,
    parts: &Parts,
    readiness: &Readiness,
) -> Result<ClusterIdentity, StartError> {
    let store = metadata.store();
    let identity = cluster::open_or_create(&store, keyspace, &*parts.randomness, &*parts.clock).await?;
    readiness.starting("claiming the bucket");
    bucket.claim(&identity.cluster_id, identity.incarnation).await?;
    Ok(identity)
}
