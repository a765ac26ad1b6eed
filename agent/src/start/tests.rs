use std::path::Path;

use penstock_config::{MetadataKind, ObjectStoreUrl};

use super::*;
use crate::metrics::definitions;

fn volatile() -> AgentConfig {
    let mut config = AgentConfig::default();
    config.node.metadata = MetadataKind::Memory;
    config.node.object_store = Some(ObjectStoreUrl::Memory);
    config.server.listen.port = 0;
    config.http.http.port = 0;
    config
}

fn durable(directory: &Path) -> AgentConfig {
    let mut config = AgentConfig::default();
    config.node.data_dir = directory.to_owned();
    config.server.listen.port = 0;
    config.http.http.port = 0;
    config
}

#[tokio::test]
async fn an_agent_starts_and_stops_and_every_metric_is_registered() {
    let agent = start(volatile(), Parts::system()).await.expect("a volatile agent starts");
    agent.readiness().check().await.expect("a started agent is ready");
    assert_eq!(agent.broker.identity.advertised_port, agent.addresses.kafka.port());
    tokio::net::TcpStream::connect(agent.addresses.kafka).await.expect("Kafka clients are served");

    let missing: Vec<_> = definitions::ALL
        .iter()
        .filter(|definition| {
            !agent.metrics.registered().iter().any(|registered| registered.name == definition.name)
        })
        .map(|definition| definition.name)
        .collect();
    assert!(missing.is_empty(), "these metrics are documented and never registered: {missing:?}");
    let text = agent.metrics.encode().expect("all metrics encode");
    assert!(text.contains("penstock_ready 1.0"), "{text}");

    let address = agent.addresses.kafka;
    agent.shutdown().await.expect("nothing is in flight");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "a stopped agent does not listen");
}

#[tokio::test]
async fn a_cluster_keeps_its_id_and_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = start(durable(directory.path()), Parts::system()).await.expect("an empty directory is fine");
    let id = Arc::clone(&first.broker.identity.cluster_id);

    let second =
        start(durable(directory.path()), Parts::system()).await.expect_err("the directory is in use");
    assert!(second.to_string().contains("in use by another process"), "{second}");

    first.shutdown().await.expect("nothing is in flight");
    let again = start(durable(directory.path()), Parts::system()).await.expect("the directory is free again");
    assert_eq!(again.broker.identity.cluster_id, id);
    again.shutdown().await.expect("nothing is in flight");
}

#[tokio::test]
async fn another_clusters_bucket_is_refused() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    start(durable(one.path()), Parts::system()).await.expect("starts").shutdown().await.expect("stops");
    let mut config = durable(other.path());
    config.node.object_store = Some(ObjectStoreUrl::File(one.path().join("objects")));
    let refused = start(config, Parts::system()).await.expect_err("the bucket is taken");
    assert!(matches!(refused, StartError::Claim(_)), "{refused}");
    assert!(refused.to_string().contains("belongs to cluster"), "{refused}");
}

#[tokio::test]
async fn a_taken_port_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = volatile();
    config.server.listen.port = taken.local_addr().expect("bound").port();
    let refused = start(config, Parts::system()).await.expect_err("the port is taken").to_string();
    assert!(
        refused.starts_with("listen=127.0.0.1:") && refused.ends_with("listens there already"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_directory_that_is_none_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").expect("written");
    let refused = start(durable(&file), Parts::system()).await.expect_err("a file is no directory");
    assert!(refused.to_string().contains("is not a directory"), "{refused}");
}
