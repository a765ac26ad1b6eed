//! What a started agent prints: where it listens, where data lies, and lines to paste.

use std::io::{self, Write};
use std::sync::Arc;

use penstock_config::{AgentConfig, Loaded, MetadataKind};

use crate::start::RunningAgent;

/// Prints the banner to standard output.
pub(super) fn print(loaded: &Loaded, agent: &RunningAgent) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text(loaded, agent).as_bytes())?;
    output.flush()
}

/// An agent that has started, as its banner tells of it.
#[derive(Debug)]
pub(super) struct Started {
    cluster: Arc<str>,
    node: i32,
    kafka: String,
    http: String,
}

impl Started {
    pub(super) fn of(agent: &RunningAgent) -> Self {
        let identity = &agent.broker.identity;
        let kafka = penstock_config::HostPort::new(&*identity.advertised_host, identity.advertised_port);
        Self {
            cluster: Arc::clone(&identity.cluster_id),
            node: identity.node_id,
            kafka: kafka.to_string(),
            http: agent.addresses.http.to_string(),
        }
    }
}

/// Prints a line of one agent of several; before the first what all have in common.
pub(super) fn print_one_of(loaded: &Loaded, started: &Started, number: usize) {
    let config = &loaded.config;
    let Started { cluster, node, kafka, http } = started;
    let mut text = String::new();
    if number == 0 {
        text = format!(
            "Penstock {}, cluster {cluster}\n  metadata  {}\n  objects   {}\n",
            env!("CARGO_PKG_VERSION"),
            metadata(config),
            config.object_store(),
        );
    }
    text.push_str(&format!(
        "  node {node}    Kafka {kafka}   HTTP http://{http} (POST /admin/drain, /admin/abort)\n"
    ));
    let mut output = io::stdout().lock();
    if let Err(error) = output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        tracing::warn!(%error, "the banner can't be printed");
    }
}

fn metadata(config: &AgentConfig) -> String {
    match &config.node.metadata {
        MetadataKind::Embedded => config.metadata_directory().display().to_string(),
        MetadataKind::Memory => "in memory, gone at exit".to_owned(),
        MetadataKind::FoundationDb(cluster_file) => format!("FoundationDB, {}", cluster_file.display()),
    }
}

fn text(loaded: &Loaded, agent: &RunningAgent) -> String {
    let config = &loaded.config;
    let identity = &agent.broker.identity;
    let bootstrap = penstock_config::HostPort::new(&*identity.advertised_host, identity.advertised_port);
    let metadata = metadata(config);
    let server = if bootstrap.to_string() == DEFAULT_BOOTSTRAP {
        String::new()
    } else {
        format!(" --bootstrap {bootstrap}")
    };
    let mut text = format!(
        "Penstock {version}, cluster {cluster}, node {node}\n\
         \x20 Kafka     {kafka}{advertised}\n\
         \x20 HTTP      http://{http} (/metrics, /health/ready)\n\
         \x20 metadata  {metadata}\n\
         \x20 objects   {objects}\n",
        version = env!("CARGO_PKG_VERSION"),
        cluster = identity.cluster_id,
        node = identity.node_id,
        kafka = agent.addresses.kafka,
        advertised = match agent.addresses.kafka.to_string() == bootstrap.to_string() {
            true => String::new(),
            false => format!(", advertised as {bootstrap}"),
        },
        http = agent.addresses.http,
        objects = config.object_store(),
    );
    text.push_str(&format!(
        "Try it:\n\
         \x20 echo hello | kcat -b {bootstrap} -t greetings -P && kcat -b {bootstrap} -t greetings -C -e\n\
         \x20 kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic greetings --from-beginning\n\
         \x20 echo hello | penstock produce greetings{server} && penstock consume greetings --from beginning{server}\n",
    ));
    text
}

const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
