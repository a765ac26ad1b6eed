//! The checks beside the bucket.

use std::path::Path;

use penstock_config::{AgentConfig, MetadataKind};
use penstock_metadata::kv::Store;
use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
use tokio::net::TcpStream;

use super::{Check, STEP, State};
use crate::metrics::process;
use crate::start::prepare_directory;

/// The data directory can be written.
pub(super) fn data_directory(config: &AgentConfig) -> Check {
    const NAME: &str = "data directory";
    if !config.uses_data_directory() {
        return Check::skipped(NAME, "nothing is kept on local disk");
    }
    Check::new(NAME, prepare_directory(&config.node.data_dir))
        .with(config.node.data_dir.display().to_string())
}

/// The metadata store can be opened and read.
pub(super) async fn metadata(config: &AgentConfig) -> Check {
    const NAME: &str = "metadata store";
    match &config.node.metadata {
        MetadataKind::Memory => return Check::skipped(NAME, "it is in memory"),
        MetadataKind::FoundationDb(cluster_file) => return foundationdb(NAME, cluster_file, config).await,
        MetadataKind::Embedded => {}
    }
    let directory = config.metadata_directory();
    let open = tokio::task::spawn_blocking({
        let directory = directory.clone();
        move || EmbeddedStore::open(&directory, EmbeddedOptions::default())
    });
    match open.await {
        Err(error) => Check::new(NAME, Err::<(), _>(error)),
        Ok(Err(OpenError::Locked { .. })) => {
            Check::skipped(NAME, format!("an agent that runs already has {} open", directory.display()))
        }
        Ok(Err(error)) => Check::new(NAME, Err::<(), _>(error)),
        Ok(Ok(store)) => {
            let read = store.begin(penstock_metadata::kv::Priority::Default).read_version().await;
            let check = Check::new(NAME, read).with(directory.display().to_string());
            let closed = tokio::task::spawn_blocking(move || store.close()).await;
            if closed.is_err() { Check::new(NAME, closed) } else { check }
        }
    }
}

/// FoundationDB gives a read version.
async fn foundationdb(name: &'static str, cluster_file: &Path, config: &AgentConfig) -> Check {
    let (file, options) = (cluster_file.to_owned(), config.foundationdb.clone());
    let opened = tokio::task::spawn_blocking(move || crate::start::open_foundationdb(&file, &options)).await;
    let store = match opened {
        Err(error) => return Check::new(name, Err::<(), _>(error)),
        Ok(Err(error)) => return Check::new(name, Err::<(), _>(error)),
        Ok(Ok(store)) => store,
    };
    let read = store.begin(penstock_metadata::kv::Priority::Default).read_version().await;
    Check::new(name, read).with(format!("FoundationDB of {} answers", cluster_file.display()))
}

/// Clients reach the advertised address, if an agent runs.
pub(super) async fn advertised(config: &AgentConfig) -> Check {
    const NAME: &str = "advertised address";
    let advertised = config.advertised();
    let resolved = tokio::net::lookup_host((advertised.host.as_str(), advertised.port)).await;
    let addresses: Vec<_> = match resolved {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Check::new(NAME, Err::<(), _>(format!("{}: {error}", advertised.host))),
    };
    let found = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match tokio::time::timeout(STEP, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => {
            Check { name: NAME, state: State::Ok, detail: format!("{advertised} accepts connections") }
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            Check::skipped(NAME, format!("{advertised} is {found}; no agent runs there now"))
        }
        Ok(Err(error)) => Check::new(NAME, Err::<(), _>(format!("{advertised}: {error}"))),
        Err(_) => Check::new(NAME, Err::<(), _>(format!("{advertised} doesn't answer (a firewall?)"))),
    }
}

/// As many files may be open as connections are allowed.
pub(super) fn open_files(config: &AgentConfig) -> Check {
    const NAME: &str = "open files";
    let limit = process::max_files();
    let wanted = f64::from(config.server.max_connections);
    if limit == 0.0 {
        return Check::skipped(NAME, "this system doesn't tell its limit");
    }
    if limit < wanted {
        let reason = format!(
            "the process may open {limit} files, max.connections is {wanted}: raise the limit (ulimit -n) or lower the \
             option; connections past the limit wait"
        );
        return Check::warning(NAME, reason);
    }
    Check { name: NAME, state: State::Ok, detail: format!("{limit} allowed") }
}
