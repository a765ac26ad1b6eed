//! The distributed store: a FoundationDB cluster, version 7.3 or one that its client library speaks to.
//!
//! This module is the only place that knows the `foundationdb` crate. The native transaction runs with FoundationDB's
//! read-your-writes layer off: reads see the read version alone, as the seam demands, and mutations go out in the
//! order in which they were made. Watches need that layer; each has a small transaction of its own, at the same read
//! version ([`watch`](self::watch)).
//!
//! # What this store does beyond the seam's contract, and how
//! - **Errors** are mapped by what they mean, in one table ([`errors`](self::errors)).
//! - **Time-outs**: FoundationDB's client waits for a lost cluster for ever. Here a read or a commit that has no answer
//!   within [`FoundationDbOptions::timeout`] fails: the read did not happen, the commit may have. Nothing has to be
//!   opened again when the cluster is back.
//! - **Sizes** are checked before anything is sent ([`super::admission`]).
//! - **Throttling**: [`Priority::Batch`] is FoundationDB's batch priority, with low priority for its reads; every
//!   transaction may carry a tag, by which operators limit a cluster that shares the database.
//! - **Network threads**: the client library runs one thread for all its work. Several need the library to be loaded
//!   again as an external client ([`NetworkOptions::client_threads`]); transactions then take turns between as many
//!   connections.
//!
//! Deliberately absent: a key prefix (keys come with their cluster's, [`crate::keys::Keyspace`]), tenants, retries
//! (the business of whoever runs transactions), a clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::foundationdb::Database;
use ::foundationdb::options::{DatabaseOption, TransactionOption};

use super::{Durability, Priority, Store, Transaction};

mod errors;
mod network;
mod transaction;
mod watch;

pub use network::{NetworkOptions, TlsOptions, TlsPassword, stop_network};
use transaction::FoundationDbTransaction;

/// The most tags that FoundationDB takes is 5, the longest has so many bytes.
const TAG_BYTES: usize = 16;

/// How the store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundationDbOptions {
    /// The cluster file. FoundationDB's client rewrites it when the coordinators change: it should be writable.
    pub cluster_file: PathBuf,
    /// How long a read or a commit may take. A cluster that recovers from the loss of a process needs a few seconds.
    pub timeout: Duration,
    /// A tag on every transaction, for throttling by operators and by FoundationDB itself: at most 16 bytes.
    pub tag: Option<String>,
    /// Watches that may be armed on one connection; past it, arming one fails. FoundationDB allows a million.
    pub max_watches: u32,
    /// What is set once in a process.
    pub network: NetworkOptions,
}

impl FoundationDbOptions {
    /// The defaults, for a cluster.
    pub fn new(cluster_file: PathBuf) -> Self {
        Self {
            cluster_file,
            timeout: Duration::from_secs(5),
            tag: None,
            max_watches: 100_000,
            network: NetworkOptions::default(),
        }
    }
}

/// Why the store can't be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such cluster file, or it can't be read, or it holds no connection string.
    #[error("the FoundationDB cluster file {} can't be used: {reason}", path.display())]
    ClusterFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An option has a value that FoundationDB refuses.
    #[error("FoundationDB's client refuses {option}: {reason}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What it says.
        reason: String,
    },
    /// The client library's network doesn't run.
    #[error("FoundationDB's client can't start: {reason}")]
    Network {
        /// Why.
        reason: String,
    },
    /// One process has one network: another store was opened with other options for it.
    #[error("FoundationDB's client runs in this process already, with other network options")]
    NetworkDiffers,
}

/// A FoundationDB cluster. Opening it contacts nobody: whether the cluster answers, the first transaction tells.
#[derive(Debug)]
pub struct FoundationDbStore {
    shared: Arc<Shared>,
}

impl FoundationDbStore {
    /// Starts the client's network if it doesn't run yet, and opens the cluster.
    pub fn open(options: &FoundationDbOptions) -> Result<Arc<Self>, OpenError> {
        if let Some(tag) = &options.tag
            && (tag.is_empty() || tag.len() > TAG_BYTES)
        {
            let reason = format!("{tag} is not a tag of 1 to {TAG_BYTES} bytes");
            return Err(OpenError::Option { option: "the transaction tag", reason });
        }
        let (path, hint) = cluster_file(options)?;
        network::boot(&options.network)?;
        let connections = (0..options.network.client_threads.max(1))
            .map(|_| connect(&path, options))
            .collect::<Result<_, _>>()?;
        let shared = Shared {
            connections,
            next: AtomicUsize::new(0),
            timeout: options.timeout,
            tag: options.tag.clone(),
            hint,
            _closed: Closed,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }
}

impl Store for FoundationDbStore {
    fn name(&self) -> &'static str {
        "foundationdb"
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        Box::new(FoundationDbTransaction::begin(Arc::clone(&self.shared), priority))
    }
}

/// What a store's transactions share.
struct Shared {
    /// One for each network thread of the client.
    connections: Vec<Database>,
    next: AtomicUsize,
    timeout: Duration,
    tag: Option<String>,
    /// What else to tell of a cluster that doesn't answer.
    hint: &'static str,
    /// Dropped last.
    _closed: Closed,
}

/// Notes that a store was closed.
struct Closed;

impl Drop for Closed {
    fn drop(&mut self) {
        network::stop_at_exit();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("connections", &self.connections.len())
            .field("timeout", &self.timeout)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The connection of the next transaction.
    fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len()
    }

    /// A native transaction that reads no writes of its own.
    fn create(
        &self,
        connection: usize,
        priority: Priority,
    ) -> Result<::foundationdb::Transaction, super::StoreError> {
        let native = self.connections[connection].create_trx().map_err(errors::of_read)?;
        let set = |option| native.set_option(option).map_err(errors::of_read);
        set(TransactionOption::ReadYourWritesDisable)?;
        if priority == Priority::Batch {
            set(TransactionOption::PriorityBatch)?;
            set(TransactionOption::ReadPriorityLow)?;
        }
        if let Some(tag) = &self.tag {
            set(TransactionOption::AutoThrottleTag(tag.clone()))?;
        }
        Ok(native)
    }
}

/// FoundationDB's client tries a connection that TLS refuses again and again, and doesn't tell its callers.
const TLS_HINT: &str = " (it is reached by TLS: if it runs, its certificate or this client's is not one that the other side's \
                        authorities have signed, or the verification pattern refuses it; foundationdb.trace.dir tells which)";

/// The cluster file's absolute path, after a look at it: FoundationDB tells what is wrong with it only at the first
/// transaction, by a number. Also what to tell if the cluster doesn't answer.
fn cluster_file(options: &FoundationDbOptions) -> Result<(String, &'static str), OpenError> {
    let failed = |reason: String| OpenError::ClusterFile { path: options.cluster_file.clone(), reason };
    let text = std::fs::read_to_string(&options.cluster_file).map_err(|error| failed(error.to_string()))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let connection = lines.next().ok_or_else(|| failed("it is empty".to_owned()))?;
    if lines.next().is_some() || !is_connection_string(connection) {
        let expected = "it doesn't hold one line of the form DESCRIPTION:ID@HOST:PORT,...";
        return Err(failed(expected.to_owned()));
    }
    let path = std::path::absolute(&options.cluster_file).map_err(|error| failed(error.to_string()))?;
    let path = path.into_os_string().into_string();
    let hint = if connection.contains(":tls") { TLS_HINT } else { "" };
    Ok((path.map_err(|_| failed("its path is not UTF-8".to_owned()))?, hint))
}

/// `description:id@host:port,...`; what stands behind the `@` is FoundationDB's to judge.
fn is_connection_string(text: &str) -> bool {
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split_once('@').is_some_and(|(key, coordinators)| {
        let named = key.split_once(':').is_some_and(|(description, id)| word(description) && word(id));
        named && coordinators.split(',').all(|address| address.contains(':'))
    })
}

fn connect(path: &str, options: &FoundationDbOptions) -> Result<Database, OpenError> {
    let database = Database::from_path(path).map_err(|error| OpenError::ClusterFile {
        path: options.cluster_file.clone(),
        reason: error.to_string(),
    })?;
    let watches = i32::try_from(options.max_watches).unwrap_or(i32::MAX);
    database
        .set_option(DatabaseOption::MaxWatches(watches))
        .map_err(|error| OpenError::Option { option: "max_watches", reason: error.to_string() })?;
    Ok(database)
}

#[cfg(test)]
mod tests;
