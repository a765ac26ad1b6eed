//! Which metadata store an agent uses, and the options of the distributed one.

use std::path::PathBuf;
use std::time::Duration;

use crate::options::options;
use crate::value::{OptionValue, Secret};

/// Which metadata store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataKind {
    /// One process, one machine, durable: the default.
    Embedded,
    /// Gone with the process: for tests.
    Memory,
    /// A FoundationDB cluster, by its cluster file: for any number of agents.
    FoundationDb(PathBuf),
}

/// What the cluster file of a FoundationDB stands behind.
const FOUNDATIONDB: &str = "fdb:";

impl MetadataKind {
    /// The store's word in options and messages, without the place.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::FoundationDb(_) => "fdb",
        }
    }

    /// Whether it keeps anything beyond the process.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::Embedded | Self::FoundationDb(_) => true,
            Self::Memory => false,
        }
    }
}

impl OptionValue for MetadataKind {
    const TYPE: &'static str = "`embedded`, `memory` or `fdb:CLUSTER_FILE`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "embedded" => Ok(Self::Embedded),
            "memory" => Ok(Self::Memory),
            text => match text.strip_prefix(FOUNDATIONDB) {
                Some("") => Err("names no cluster file: write fdb:/etc/foundationdb/fdb.cluster".into()),
                Some(path) => Ok(Self::FoundationDb(path.into())),
                None => Err("is none of: embedded memory fdb:CLUSTER_FILE".into()),
            },
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Embedded | Self::Memory => self.word().to_owned(),
            Self::FoundationDb(path) => format!("{FOUNDATIONDB}{}", path.display()),
        }
    }
}

options! {
    "FoundationDB"
    /// The metadata store of more than one agent: `metadata=fdb:CLUSTER_FILE`. docs/foundationdb.md says how to get
    /// one and how to size it. What is set here about TLS wins over FoundationDB's own variables (`FDB_TLS_...`).
    pub struct FoundationDbOptions {
        /// What every key of this cluster begins with, so that several clusters share one FoundationDB: each a prefix
        /// that none of the others' begins with. All agents of a cluster have the same. With another prefix an agent
        /// sees another, empty cluster, and its bucket refuses it.
        "foundationdb.prefix" => prefix: String = "penstock/";
        /// How long a read or a commit may take. Past it producers and consumers get a retriable error and try again,
        /// until the store answers. Short times make errors of what a recovery of FoundationDB (a few seconds) would
        /// have let through; long ones keep clients waiting that could learn that there is trouble.
        "foundationdb.timeout.ms" => timeout: Duration = "5s", in "100ms" to "10min";
        /// A tag on all transactions of this agent, at most 16 bytes, by which operators limit them and FoundationDB
        /// does so itself under load (its "transaction tagging"). Empty: none.
        "foundationdb.transaction.tag" => tag: String = "";
        /// Watches on one connection, one for each slot of partitions on which consumers wait here. Past it those consumers
        /// wait a second or so longer for new records.
        "foundationdb.watches.max" => watches_max: u32 = "100000", in "1" to "1000000", unit "watches";
        /// Network threads of FoundationDB's client. One is enough for some thousand commits a second; more need
        /// `foundationdb.client.library`, each a copy of the library and a connection of its own.
        "foundationdb.client.threads" => client_threads: u32 = "1", in "1" to "64", unit "threads";
        /// The path of libfdb_c, for more than one of `foundationdb.client.threads`.
        "foundationdb.client.library" => client_library: Option<PathBuf> = "";
        /// A directory for the trace files of FoundationDB's client, 100 MB at most. Empty: none are written.
        "foundationdb.trace.dir" => trace_directory: Option<PathBuf> = "";
        /// The TLS certificate chain (PEM), for a FoundationDB whose addresses end in `:tls`.
        "foundationdb.tls.certificate.file" => tls_certificate: Option<PathBuf> = "";
        /// The private key of the certificate (PEM).
        "foundationdb.tls.key.file" => tls_key: Option<PathBuf> = "";
        /// The passphrase of the private key.
        "foundationdb.tls.key.password" => tls_key_password: Option<Secret> = "";
        /// The authorities that servers' certificates are checked against (PEM).
        "foundationdb.tls.ca.file" => tls_authorities: Option<PathBuf> = "";
        /// What servers' certificates must say, as FoundationDB writes it, for example `Check.Valid=1,S.O=Example`.
        "foundationdb.tls.verify.peers" => tls_verify_peers: String = "";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_written_as_they_are_shown() {
        for text in ["embedded", "memory", "fdb:/etc/foundationdb/fdb.cluster", "fdb:here/fdb.cluster"] {
            assert_eq!(MetadataKind::parse(text).expect("a store").show(), text);
        }
        assert_eq!(
            MetadataKind::parse("fdb:/a/fdb.cluster"),
            Ok(MetadataKind::FoundationDb("/a/fdb.cluster".into()))
        );
        for text in ["", "fdb", "fdb:", "foundationdb:/a", "Embedded"] {
            MetadataKind::parse(text).expect_err(text);
        }
    }
}
