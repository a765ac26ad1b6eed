//! Why an agent doesn't start, doesn't run on, or doesn't stop in time. Each is one line for a person.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use penstock_config::Conflict;
use penstock_config::definition::ConfigError;
use penstock_metadata::cluster;
use penstock_metadata::kv::{StoreError, embedded};
use penstock_storage::bucket;

use crate::cluster::JoinError;

/// Why an agent doesn't start. Nothing was changed but what the variant says.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Options don't go together.
    #[error(transparent)]
    Config(#[from] Conflict),
    /// One of Kafka's broker options is wrong.
    #[error(transparent)]
    BrokerOption(#[from] ConfigError),
    /// An address can't be listened on.
    #[error("{option}={address} can't be listened on: {}", bind_reason(.source))]
    Bind {
        /// The option.
        option: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// A host of `max.connections.per.ip.overrides` is not known.
    #[error("max.connections.per.ip.overrides names {host}, which can't be looked up: {source}")]
    UnknownHost {
        /// The host.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// The data directory can't be used.
    #[error("the data directory {} can't be used: {reason}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The metadata store can't be opened.
    #[error(transparent)]
    Metadata(#[from] embedded::OpenError),
    /// FoundationDB can't be opened.
    #[error("{reason}")]
    FoundationDb {
        /// Why.
        reason: String,
    },
    /// This binary has no client of FoundationDB.
    #[error(
        "metadata=fdb:{} needs a penstock that is built with its cargo feature `foundationdb`, and this one is not",
        cluster_file.display()
    )]
    WithoutFoundationDb {
        /// The cluster file that was asked for.
        cluster_file: PathBuf,
    },
    /// The metadata store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the metadata store holds can't be served. A new cluster may have got its id.
    #[error(transparent)]
    Cluster(#[from] cluster::OpenError),
    /// The object store can't be opened.
    #[error(transparent)]
    Bucket(#[from] bucket::OpenError),
    /// The bucket can't be claimed, or is another cluster's.
    #[error(transparent)]
    Claim(#[from] bucket::ClaimError),
    /// The agent can't be one of its cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A name, zone or host is too long to be kept.
    #[error("{option} has more than {} bytes", penstock_metadata::keys::agent::TEXT_BYTES_MAX)]
    TooLong {
        /// The option.
        option: &'static str,
    },
    /// The options of the cache don't go together.
    #[error("the cache's options don't go together: {reason}")]
    Cache {
        /// Why.
        reason: String,
    },
    /// A task of the start was cancelled, or panicked.
    #[error("the start was interrupted: {reason}")]
    Interrupted {
        /// What the runtime says.
        reason: String,
    },
}

fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there already".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not listen on that port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// What ended although the agent should run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentFailure {
    /// The Kafka listener.
    #[error("the Kafka listener ended: {reason}")]
    Server {
        /// Why.
        reason: String,
    },
    /// The HTTP listener.
    #[error("the HTTP listener ended: {reason}")]
    Http {
        /// Why.
        reason: String,
    },
    /// A background job.
    #[error("the job {name} ended: {reason}")]
    Job {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

/// Why an agent did not stop well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// Requests took longer than the deadline.
    #[error("{connections} connections were closed with requests in flight: shutdown.deadline.ms had passed")]
    CutOff {
        /// How many.
        connections: usize,
    },
    /// Something took longer than the deadline.
    #[error("not everything was finished within shutdown.deadline.ms={}ms", deadline.as_millis())]
    Deadline {
        /// The deadline.
        deadline: Duration,
    },
}
