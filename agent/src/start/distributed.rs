//! Opening the metadata store on FoundationDB, in a binary that was built with it.

use std::path::Path;

use penstock_config::FoundationDbOptions as Configured;
use penstock_metadata::kv::SharedStore;

use super::StartError;

/// Opens the cluster of `cluster_file`. Contacts nobody yet. Blocks while files are read.
#[cfg(feature = "foundationdb")]
pub(crate) fn open_foundationdb(
    cluster_file: &Path,
    options: &Configured,
) -> Result<SharedStore, StartError> {
    use penstock_metadata::kv::foundationdb::{
        FoundationDbOptions, FoundationDbStore, NetworkOptions, TlsOptions, TlsPassword,
    };

    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let tls = TlsOptions {
        certificate: options.tls_certificate.clone(),
        key: options.tls_key.clone(),
        key_password: options.tls_key_password.as_ref().map(|secret| TlsPassword(secret.reveal().to_owned())),
        authorities: options.tls_authorities.clone(),
        verify_peers: text(&options.tls_verify_peers),
    };
    let network = NetworkOptions {
        tls,
        trace_directory: options.trace_directory.clone(),
        client_threads: options.client_threads,
        client_library: options.client_library.clone(),
    };
    let options = FoundationDbOptions {
        cluster_file: cluster_file.to_owned(),
        timeout: options.timeout,
        tag: text(&options.tag),
        max_watches: options.watches_max,
        network,
    };
    match FoundationDbStore::open(&options) {
        Ok(store) => Ok(store),
        Err(error) => Err(StartError::FoundationDb { reason: error.to_string() }),
    }
}

/// This binary can't.
#[cfg(not(feature = "foundationdb"))]
pub(crate) fn open_foundationdb(
    cluster_file: &Path,
    _options: &Configured,
) -> Result<SharedStore, StartError> {
    Err(StartError::WithoutFoundationDb { cluster_file: cluster_file.to_owned() })
}

/// Stops FoundationDB's client, if it was started. The last thing that a process does.
pub(crate) fn stop_foundationdb() {
    #[cfg(feature = "foundationdb")]
    penstock_metadata::kv::foundationdb::stop_network();
}
