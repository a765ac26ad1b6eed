//! Stores that several agents of one process share.

use std::sync::Arc;
use std::time::Duration;

use penstock_config::{AgentConfig, MetadataKind, ObjectStoreUrl};
use penstock_metadata::agents::Agents;
use penstock_storage::bucket::Bucket;
use penstock_types::Incarnation;

use super::stores::{self, Metadata};
use super::{Parts, StartError};

/// How long clearing the registrations of former agents may take.
const VOIDS_WITHIN: Duration = Duration::from_secs(10);

/// An open metadata store and, where it can't be opened twice, the bucket.
#[derive(Debug)]
pub(crate) struct SharedStores {
    metadata: Metadata,
    bucket: Option<Arc<Bucket>>,
}

impl SharedStores {
    /// Opens what `config` says. Nobody else has it open, unless it is a FoundationDB: so former agents' leases are void.
    pub(crate) async fn open(config: &AgentConfig) -> Result<Self, StartError> {
        config.validate()?;
        let parts = Parts::system();
        let metadata = stores::open_metadata(config, &parts).await?;
        let bucket = stores::open_bucket(config, &parts)?;
        if !matches!(config.node.metadata, MetadataKind::FoundationDb(_)) {
            // The incarnation is of no matter to rows that are cleared.
            let keyspace = stores::keyspace(config);
            Agents::new(metadata.store(), keyspace, Incarnation::FIRST, VOIDS_WITHIN).void().await?;
            stores::remove_unfinished_uploads(&bucket).await;
        }
        let is_memory = config.object_store() == ObjectStoreUrl::Memory;
        Ok(Self { metadata, bucket: is_memory.then_some(bucket) })
    }

    /// What an agent is made of over these stores. Its connections to the bucket are its own.
    pub(crate) fn parts(&self) -> Parts {
        let (store, bucket) = (Some(self.metadata.store()), self.bucket.clone());
        Parts { store, bucket, can_abort: true, ..Parts::system() }
    }

    /// Closes the stores. All agents have ended.
    pub(crate) async fn close(self) {
        self.metadata.close().await;
    }
}
