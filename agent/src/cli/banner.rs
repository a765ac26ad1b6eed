//! What a started agent prints: where it listens, where data lies, and lines to paste.

use std::io::{self, Write};

use penstock_config::{Loaded, MetadataKind};

use crate::start::RunningAgent;

/// Prints the banner to standard output.
pub(super) fn print(loaded: &Loaded, agent: &RunningAgent) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text(loaded, agent).as_bytes())?;
    output.flush()
}

fn text(loaded: &Loaded, agent: &RunningAgent) -> String {
    let config = &loaded.config;
    let identity = &agent.broker.identity;
    let bootstrap = penstock_config::HostPort::new(&*identity.advertised_host, identity.advertised_port);
    let metadata = match &config.node.metadata {
        MetadataKind::Embedded => config.metadata_directory().display().to_string(),
        MetadataKind::Memory => "in memory, gone at exit".to_owned(),
        MetadataKind::FoundationDb(cluster_file) => format!("FoundationDB, {}", cluster_file.display()),
    };
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
