//! All options of an agent together.

use std::path::{Path, PathBuf};

use crate::address::{HostPort, ObjectStoreUrl};
use crate::agent::{
    CacheOptions, CheckpointOptions, CollectOptions, CompactOptions, FetchOptions, FlushOptions, HttpOptions,
    LogOptions, MergeOptions, NodeOptions, ProduceOptions, SealOptions, ServerOptions, UploadOptions,
};
use crate::broker::Layer;
use crate::metadata::{FoundationDbOptions, MetadataKind};
use crate::options::{Component, Definition};

/// Kafka's broker options that have another name here, and that name.
pub(crate) const RENAMED: &[(&str, &str)] = &[
    ("listeners", "listen"),
    ("advertised.listeners", "advertise"),
    ("broker.id", "node.id"),
    ("broker.rack", "zone"),
    ("log.dir", "data.dir"),
    ("log.dirs", "object.store"),
];

/// Options that are each valid but don't go together, or a default that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Clients would be told to connect to an address that means "any".
    #[error(
        "listen={listen} needs advertise=HOST:PORT: clients are told where to connect, and no client can connect \
         to {host}", host = .listen.host
    )]
    WildcardWithoutAdvertise {
        /// What is listened on.
        listen: HostPort,
    },
    /// The advertised address means "any".
    #[error("advertise={advertise} is not an address that a client can connect to")]
    WildcardAdvertised {
        /// What is advertised.
        advertise: HostPort,
    },
    /// One store would outlive the other: after a restart the log would name objects that are gone, or the bucket
    /// hold objects that nobody knows.
    #[error(
        "metadata={metadata} with object.store={object_store} is refused: one would forget at exit what the other \
         keeps; use both durable, or metadata=memory with object.store=memory:///"
    )]
    MixedDurability {
        /// The metadata store.
        metadata: &'static str,
        /// The object store.
        object_store: String,
    },
    /// FoundationDB's client runs further threads in further copies of its library.
    #[error("foundationdb.client.threads above 1 needs foundationdb.client.library, the path of libfdb_c")]
    ClientThreadsWithoutLibrary,
    /// Nobody could connect.
    #[error(
        "max.connections.per.ip=0 is allowed only beside max.connections.per.ip.overrides: nobody could connect"
    )]
    NoConnections,
    /// A flush would never fit into the memory for unacknowledged data.
    #[error("produce.memory.bytes={memory} is less than two objects of flush.object.max.bytes={object}")]
    ProduceMemoryTooSmall {
        /// The memory.
        memory: String,
        /// The object's size.
        object: String,
    },
}

macro_rules! components {
    ($($(#[$doc:meta])+ $field:ident: $type:ident,)+) => {
        /// All options of an agent. [`Default`] is what an agent runs with when nothing is set.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct AgentConfig {
            $($(#[$doc])+ pub $field: $type,)+
            /// Kafka's broker options that were set, by Kafka's names; see [`AgentConfig::broker_layer`].
            pub kafka: Layer,
        }

        impl AgentConfig {
            /// Every component: title, paragraph, options.
            pub fn components() -> Vec<(&'static str, &'static [&'static str], &'static [Definition])> {
                vec![$(($type::TITLE, $type::ABOUT, $type::DEFINITIONS),)+]
            }

            /// Sets an option from text; `None` if there is no such option. The error is a half-sentence that
            /// stands behind the value.
            pub fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
                None$(.or_else(|| self.$field.set(key, text)))+
            }

            /// An option's value as text (a secret's is redacted); `None` if there is no such option.
            pub fn show(&self, key: &str) -> Option<String> {
                None$(.or_else(|| self.$field.show(key)))+
            }

            fn plain(&self, key: &str) -> Option<String> {
                None$(.or_else(|| self.$field.plain(key)))+
            }
        }
    };
}

components! {
    /// Who this agent is and where its data lies.
    node: NodeOptions,
    /// The metadata store of more than one agent.
    foundationdb: FoundationDbOptions,
    /// Connections of Kafka clients.
    server: ServerOptions,
    /// Metrics and health.
    http: HttpOptions,
    /// When data objects are closed and uploaded.
    flush: FlushOptions,
    /// What producers may have outstanding.
    produce: ProduceOptions,
    /// How data objects are uploaded.
    upload: UploadOptions,
    /// What is kept in memory for fetches.
    cache: CacheOptions,
    /// What consumers may ask for.
    fetch: FetchOptions,
    /// When log rows are folded into the index.
    seal: SealOptions,
    /// When the sealed log's metadata is copied to the bucket.
    checkpoint: CheckpointOptions,
    /// When what has expired, and what nothing refers to, is deleted.
    collect: CollectOptions,
    /// When objects are merged into larger ones.
    merge: MergeOptions,
    /// When compacted topics are compacted.
    compact: CompactOptions,
    /// Log lines.
    log: LogOptions,
}

impl AgentConfig {
    /// Every option's definition.
    pub fn definitions() -> impl Iterator<Item = &'static Definition> {
        Self::components().into_iter().flat_map(|(_, _, definitions)| definitions)
    }

    /// The address that clients are told: `advertise`, else `listen`.
    pub fn advertised(&self) -> &HostPort {
        self.server.advertise.as_ref().unwrap_or(&self.server.listen)
    }

    /// Where the embedded metadata store lies.
    pub fn metadata_directory(&self) -> PathBuf {
        self.node.data_dir.join("metadata")
    }

    /// The object store: `object.store`, else `objects/` in the data directory.
    pub fn object_store(&self) -> ObjectStoreUrl {
        self.node
            .object_store
            .clone()
            .unwrap_or_else(|| ObjectStoreUrl::File(self.node.data_dir.join("objects")))
    }

    /// Whether anything is kept in the data directory.
    pub fn uses_data_directory(&self) -> bool {
        self.node.metadata == MetadataKind::Embedded || self.node.object_store.is_none()
    }

    /// Makes `data.dir` absolute, from `working_directory`.
    pub fn resolve_paths(&mut self, working_directory: &Path) {
        if self.node.data_dir.is_relative() {
            let relative: PathBuf = self.node.data_dir.components().filter(|part| !is_here(part)).collect();
            self.node.data_dir = working_directory.join(relative);
        }
    }

    /// The static layer of Kafka's broker options: those that were set under Kafka's names, and those that follow
    /// from this agent's own options and its id. Clients see them in DescribeConfigs.
    pub fn broker_layer(&self, node_id: i32) -> Layer {
        let mut layer = self.kafka.clone();
        for definition in Self::definitions() {
            if crate::broker::definition(definition.key).is_some()
                && let Some(value) = self.plain(definition.key)
            {
                layer.insert(definition.key.to_owned(), value);
            }
        }
        for key in ["broker.id", "node.id"] {
            layer.insert(key.to_owned(), node_id.to_string());
        }
        layer.insert("listeners".to_owned(), format!("PLAINTEXT://{}", self.server.listen));
        layer.insert("advertised.listeners".to_owned(), format!("PLAINTEXT://{}", self.advertised()));
        layer.insert("log.dirs".to_owned(), self.object_store().to_string());
        if !self.node.zone.is_empty() {
            layer.insert("broker.rack".to_owned(), self.node.zone.clone());
        }
        layer
    }

    /// Checks what no option can check alone.
    pub fn validate(&self) -> Result<(), Conflict> {
        let listen = &self.server.listen;
        match &self.server.advertise {
            None if listen.is_wildcard() => {
                return Err(Conflict::WildcardWithoutAdvertise { listen: listen.clone() });
            }
            Some(advertise) if advertise.is_wildcard() => {
                return Err(Conflict::WildcardAdvertised { advertise: advertise.clone() });
            }
            None | Some(_) => {}
        }
        let object_store = self.object_store();
        let metadata = &self.node.metadata;
        if metadata.is_durable() != object_store.is_durable() {
            let (metadata, object_store) = (metadata.word(), object_store.to_string());
            return Err(Conflict::MixedDurability { metadata, object_store });
        }
        if self.foundationdb.client_threads > 1 && self.foundationdb.client_library.is_none() {
            return Err(Conflict::ClientThreadsWithoutLibrary);
        }
        // As Kafka refuses it.
        if self.server.max_connections_per_ip == 0
            && self.server.max_connections_per_ip_overrides.iter().next().is_none()
        {
            return Err(Conflict::NoConnections);
        }
        if self.produce.memory.get() < 2 * self.flush.object_max.get() {
            return Err(Conflict::ProduceMemoryTooSmall {
                memory: self.produce.memory.to_string(),
                object: self.flush.object_max.to_string(),
            });
        }
        Ok(())
    }
}

fn is_here(part: &std::path::Component<'_>) -> bool {
    matches!(part, std::path::Component::CurDir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_default_is_in_range_and_written_as_it_is_shown() {
        for definition in AgentConfig::definitions() {
            let mut config = AgentConfig::default();
            let set = config.set(definition.key, definition.default).expect("a declared key is known");
            assert_eq!(set, Ok(()), "{}", definition.key);
            assert_eq!(config, AgentConfig::default(), "{}", definition.key);
            if !definition.secret {
                assert_eq!(
                    config.show(definition.key).as_deref(),
                    Some(definition.default),
                    "{}",
                    definition.key
                );
            }
            for bound in definition.range.into_iter().flat_map(|(least, most)| [least, most]) {
                assert_eq!(config.set(definition.key, bound), Some(Ok(())), "{} = {bound}", definition.key);
            }
        }
    }

    #[test]
    fn keys_and_variables_are_unique_and_well_formed() {
        let mut variables = BTreeSet::new();
        for definition in AgentConfig::definitions() {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
            assert!(definition.key.chars().all(allowed), "{}", definition.key);
            assert!(variables.insert(definition.variable()), "{} twice", definition.key);
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let mut config = AgentConfig::default();
        for (key, value) in [("flush.object.max.bytes", "1"), ("upload.concurrency", "0"), ("node.id", "-2")]
        {
            let refused = config.set(key, value).expect("a known key").expect_err("out of range");
            assert!(refused.contains("out of range"), "{key}: {refused}");
        }
        assert_eq!(config, AgentConfig::default());
    }

    #[test]
    fn stores_of_different_durability_are_refused() {
        let with = |metadata: &str, object_store: &str| {
            let mut config = AgentConfig::default();
            config.set("metadata", metadata).expect("known").expect("valid");
            config.set("object.store", object_store).expect("known").expect("valid");
            config.validate()
        };
        assert_eq!(with("embedded", ""), Ok(()));
        assert_eq!(with("embedded", "s3://bucket/prefix"), Ok(()));
        assert_eq!(with("memory", "memory:///"), Ok(()));
        assert!(matches!(with("embedded", "memory:///"), Err(Conflict::MixedDurability { .. })));
        assert!(matches!(with("memory", ""), Err(Conflict::MixedDurability { .. })));
        assert!(matches!(with("memory", "s3://bucket"), Err(Conflict::MixedDurability { .. })));
    }

    #[test]
    fn a_wildcard_needs_an_advertised_address() {
        let mut config = AgentConfig::default();
        config.server.listen = HostPort::new("0.0.0.0", 9092);
        let refused = config.validate().expect_err("no client can connect to 0.0.0.0");
        assert!(refused.to_string().contains("advertise"), "{refused}");
        config.server.advertise = Some(HostPort::new("::", 9092));
        assert!(matches!(config.validate(), Err(Conflict::WildcardAdvertised { .. })));
        config.server.advertise = Some(HostPort::new("kafka.example.com", 9092));
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.advertised().to_string(), "kafka.example.com:9092");
    }

    #[test]
    fn an_agent_that_nobody_may_connect_to_is_refused() {
        let mut config = AgentConfig::default();
        config.server.max_connections_per_ip = 0;
        assert_eq!(config.validate(), Err(Conflict::NoConnections));
        config.set("max.connections.per.ip.overrides", "127.0.0.1:3").expect("known").expect("valid");
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn the_broker_layer_is_valid_and_tells_what_is_in_force() {
        let mut config = AgentConfig::default();
        config.kafka.insert("num.partitions".to_owned(), "3".to_owned());
        let layer = config.broker_layer(7);
        for (name, value) in [
            ("num.partitions", "3"),
            ("node.id", "7"),
            ("broker.id", "7"),
            ("socket.request.max.bytes", "104857600"),
            ("max.connections.per.ip", "2147483647"),
            ("queued.max.request.bytes", "268435456"),
            ("connections.max.idle.ms", "600000"),
            ("listeners", "PLAINTEXT://127.0.0.1:9092"),
        ] {
            assert_eq!(layer.get(name).map(String::as_str), Some(value), "{name}");
        }
        crate::broker::BrokerConfig::new(layer).expect("valid for Kafka's own checks");
        for (name, ours) in RENAMED {
            assert!(crate::broker::definition(name).is_some(), "{name}");
            assert!(config.show(ours).is_some(), "{ours}");
        }
    }

    #[test]
    fn paths_become_absolute() {
        let mut config = AgentConfig::default();
        config.resolve_paths(Path::new("/srv"));
        assert_eq!(config.node.data_dir, Path::new("/srv/penstock-data"));
        assert_eq!(config.object_store().to_string(), "file:///srv/penstock-data/objects");
    }
}
