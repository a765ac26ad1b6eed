//! The configured metadata store, opened by a command.

use std::path::Path;
use std::sync::Arc;

use penstock_config::{AgentConfig, MetadataKind};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
use penstock_storage::bucket::Bucket;
use penstock_types::OsRandomness;

use crate::cli::CommandError;
use crate::start::{bucket_options, keyspace, prepare_directory};

/// What a command wants of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Access {
    Read,
    Write,
    /// To write, and to make it if it isn't there.
    Create,
}

/// An open store.
#[derive(Debug)]
pub(in crate::cli) struct Opened {
    pub(in crate::cli) store: SharedStore,
    pub(in crate::cli) keyspace: Keyspace,
    /// The embedded one, which no other process can have open.
    pub(in crate::cli) exclusive: Option<Arc<EmbeddedStore>>,
}

/// Opens the store that `config` names. Makes none, but for [`Access::Create`].
pub(in crate::cli) async fn open(config: &AgentConfig, access: Access) -> Result<Opened, CommandError> {
    match &config.node.metadata {
        MetadataKind::Memory => {
            Err(CommandError::Usage("metadata=memory is in the memory of an agent: nothing to open".into()))
        }
        MetadataKind::Embedded => {
            let directory = config.metadata_directory();
            let data = config.node.data_dir.clone();
            let open = move || {
                if access == Access::Create {
                    prepare_directory(&data).map_err(|error| CommandError::Failed(error.to_string()))?;
                }
                embedded(&directory, access)
            };
            let store = blocking(open).await?;
            let shared = Arc::clone(&store) as SharedStore;
            Ok(Opened { store: shared, keyspace: keyspace(config), exclusive: Some(store) })
        }
        MetadataKind::FoundationDb(cluster_file) => {
            let (file, options) = (cluster_file.clone(), config.foundationdb.clone());
            let open = move || {
                crate::start::open_foundationdb(&file, &options)
                    .map_err(|error| CommandError::Failed(error.to_string()))
            };
            Ok(Opened { store: blocking(open).await?, keyspace: keyspace(config), exclusive: None })
        }
    }
}

/// Opens the bucket that `config` names.
pub(in crate::cli) fn open_bucket(config: &AgentConfig) -> Result<Arc<Bucket>, CommandError> {
    let url = config.object_store().to_string();
    Bucket::open(&url, &bucket_options(&config.upload), Arc::new(OsRandomness::default()))
        .map_err(|error| CommandError::Failed(error.to_string()))
}

fn embedded(directory: &Path, access: Access) -> Result<Arc<EmbeddedStore>, CommandError> {
    let opened = match access {
        Access::Read => EmbeddedStore::open_to_read(directory, EmbeddedOptions::default()),
        // Opening to write would make one.
        Access::Write if !directory.join("store").exists() => {
            Err(OpenError::Missing { path: directory.to_owned() })
        }
        Access::Write | Access::Create => EmbeddedStore::open(directory, EmbeddedOptions::default()),
    };
    opened.map_err(|error| {
        let hint = match &error {
            OpenError::Locked { .. } => ": stop the agent that runs there first",
            OpenError::Missing { .. } => ": is --data-dir the agent's?",
            _ => "",
        };
        CommandError::Failed(format!("{error}{hint}"))
    })
}

async fn blocking<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| CommandError::Failed(error.to_string()))?
}

impl Opened {
    /// Closes it, so that another process can open it at once.
    pub(in crate::cli) async fn close(self) {
        drop(self.store);
        if let Some(store) = self.exclusive {
            // A panic in there was told already.
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
        }
    }
}
