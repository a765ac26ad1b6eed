//! Puts an agent together from its configuration, and takes it apart again.
//!
//! The order: listeners are bound first (a taken port is found before anything is touched), health is served from
//! then on, stores are opened, the bucket is claimed, services are made, and only then are connections accepted.
//! Stopping goes the other way round, within `shutdown.deadline.ms`.
//!
//! Deliberately absent: signals, the process's exit, and anything global (logging), so that tests run several agents
//! in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use penstock_config::{AgentConfig, HostPort, MetadataKind, Roles};
use penstock_metadata::feed_watch::FeedWatch;
use penstock_metadata::kv::SharedStore;
use penstock_storage::bucket::Bucket;
use penstock_types::{Clock, OsRandomness, Randomness, SystemClock, own, pause};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::http::{self, Control, Controls, HttpState, Readiness};
use crate::metrics::{self, Metrics};
use crate::server::listener::Listener;
use crate::server::{self, BrokerService, Limits, ServerStats, Stopped};

mod credentials;
mod distributed;
mod error;
mod jobs;
mod registration;
mod services;
mod shared;
mod stores;

pub(crate) use credentials::without_credentials;
pub(crate) use distributed::{open_foundationdb, stop_foundationdb};
pub use error::{AgentFailure, ShutdownError, StartError};
use jobs::Jobs;
use registration::join;
use services::{Opened, Services};
pub(crate) use services::{collector_settings, sweeper_settings};
pub(crate) use shared::SharedStores;
use stores::Metadata;
pub(crate) use stores::{bucket_options, keyspace, prepare_directory};

/// Of the shutdown deadline, what is kept for the stores once the connections are closed.
const CLOSING_RESERVE: Duration = Duration::from_secs(2);

/// Clients have moved when none has sent records or fetches for so long: longer than a client takes to try again.
const DRAINED: Duration = Duration::from_millis(1_500);
/// Wishes of an operator that are remembered.
const CONTROLS: usize = 4;
/// How often a draining agent looks.
const DRAIN_LOOKS: Duration = Duration::from_millis(50);

/// What an agent is made of besides its configuration.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
    /// A metadata store instead of the configured one.
    pub store: Option<SharedStore>,
    /// A bucket instead of the configured one.
    pub bucket: Option<Arc<Bucket>>,
    /// Whether whoever runs the agent can end it without its process.
    pub can_abort: bool,
}

impl Parts {
    /// The machine's clock and randomness, and the configured stores.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            randomness: Arc::new(OsRandomness::default()),
            store: None,
            bucket: None,
            can_abort: false,
        }
    }
}

/// Where an agent listens: ports are those it was given where the configuration says 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Kafka clients.
    pub kafka: SocketAddr,
    /// Metrics and health.
    pub http: SocketAddr,
}

/// What an agent listens on.
#[derive(Debug)]
pub struct Listeners<L> {
    /// For Kafka clients.
    pub kafka: L,
    /// For metrics and health; without it they are not served.
    pub http: Option<TcpListener>,
}

/// Why an agent does not just go on.
#[derive(Debug)]
pub enum Interruption {
    /// A part of it has ended that should not.
    Failed(AgentFailure),
    /// An operator asks for something.
    Asked(Control),
}

/// An agent that serves.
#[derive(Debug)]
pub struct RunningAgent {
    /// Where it listens.
    pub addresses: Addresses,
    /// Its services.
    pub broker: Arc<Broker>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    feed: Arc<FeedWatch>,
    readiness: Arc<Readiness>,
    metadata: Metadata,
    server: JoinHandle<Stopped>,
    http: JoinHandle<std::io::Result<()>>,
    registration: Jobs,
    jobs: Jobs,
    controls: mpsc::Receiver<Control>,
    stop_server: CancellationToken,
    stop_http: CancellationToken,
    deadline: Duration,
}

/// Starts an agent. When this returns, Kafka clients are served.
pub async fn start(config: AgentConfig, parts: Parts) -> Result<RunningAgent, StartError> {
    config.validate()?;
    let kafka = bind("listen", &config.server.listen).await?;
    let http = Some(bind("http", &config.http.http).await?);
    start_on(config, parts, Listeners { kafka, http }).await
}

/// Starts an agent that listens where it is told, whatever its configuration says.
pub async fn start_on<L: Listener>(
    config: AgentConfig,
    parts: Parts,
    listeners: Listeners<L>,
) -> Result<RunningAgent, StartError> {
    config.validate()?;
    let Listeners { kafka, http } = listeners;
    let kafka_address = local(kafka.local_addr())?;
    let http_address = http.as_ref().map(|http| local(http.local_addr())).transpose()?;
    let nowhere = SocketAddr::new(kafka_address.ip(), 0);
    let addresses = Addresses { kafka: kafka_address, http: http_address.unwrap_or(nowhere) };

    let readiness = Arc::new(Readiness::default());
    readiness.starting("opening the metadata store");
    let metadata = stores::open_metadata(&config, &parts).await?;
    let bucket = stores::open_bucket(&config, &parts)?;
    let keyspace = stores::keyspace(&config);
    let cluster = stores::open_cluster(&metadata, &bucket, &keyspace, &parts, &readiness).await?;
    readiness.starting("joining the cluster");
    let agents = join(&config, &parts, &metadata, &keyspace, &cluster, addresses).await?;
    // Uploads that a killed process began. The store's lock says that nobody else is uploading here, unless the store is
    // one that agents share.
    if is_exclusive(&config, &parts) {
        stores::remove_unfinished_uploads(&bucket).await;
    }
    let can_abort = parts.can_abort;
    readiness.starting("reading topics");
    let deadline = config.node.shutdown_deadline;
    let (limits, server_stats) = (limits(&config).await?, Arc::new(ServerStats::default()));
    let opened = Opened { store: metadata.store(), bucket, keyspace, cluster };
    let runs_jobs = config.node.roles != Roles::Clients;
    let services = services::start(config, parts, opened, Arc::clone(&agents), addresses.kafka).await?;
    let Services {
        broker,
        feed,
        sealer,
        checkpoints,
        producer_expiry,
        retention,
        collector,
        sweeper,
        merge,
        compaction,
    } = services;
    let mut metrics = gather_metrics(&broker, &server_stats, &readiness);
    metrics::sources::register_seal(&mut metrics, &sealer);
    metrics::sources::register_checkpoints(&mut metrics, &checkpoints);
    metrics::sources::register_producer_expiry(&mut metrics, &producer_expiry);
    metrics::sources::register_retention(&mut metrics, &retention);
    metrics::sources::register_collection(&mut metrics, &collector, &sweeper);
    metrics::sources::register_merge(&mut metrics, &merge);
    metrics::sources::register_compaction(&mut metrics, &compaction);
    metrics::sources::register_store(&mut metrics, metadata.embedded());
    let metrics = Arc::new(metrics);

    let stop_http = CancellationToken::new();
    let (sender, controls) = mpsc::channel(CONTROLS);
    let mut turns = vec![Arc::clone(sealer.turns())];
    if runs_jobs {
        turns.extend([checkpoints.turns(), producer_expiry.turns(), retention.turns()].map(Arc::clone));
        turns.extend([collector.turns(), sweeper.turns(), merge.turns(), compaction.turns()].map(Arc::clone));
    }
    let state = HttpState {
        jobs: turns.into(),
        metrics: Arc::clone(&metrics),
        readiness: Arc::clone(&readiness),
        broker: Arc::downgrade(&broker),
        controls: Controls { sender, can_abort },
    };
    let stopped = stop_http.clone().cancelled_owned();
    let http = match http {
        Some(http) => tokio::spawn(own(http::serve(http, state, stopped))),
        // The state is kept all the same: an operator's wishes have somebody to hear them.
        None => tokio::spawn(own(async move {
            stopped.await;
            drop(state);
            Ok(())
        })),
    };
    let stop_server = CancellationToken::new();
    let service = Arc::new(BrokerService::new(Arc::clone(&broker), limits.decoded));
    let server = tokio::spawn(own(server::run(kafka, service, limits, server_stats, stop_server.clone())));
    let mut jobs = Jobs::default();
    // First of all: whatever else stops, the lease is kept.
    let mut registration = Jobs::default();
    registration.spawn("registration", |stop| Arc::clone(&agents).run(stop));
    // Whoever writes rows seals them; looking for what others left is shared out among those that run jobs.
    jobs.spawn("seal", |stop| sealer.run(stop));
    if runs_jobs {
        jobs.spawn("checkpoint", |stop| checkpoints.run(stop));
        jobs.spawn("producer expiry", |stop| producer_expiry.run(stop));
        jobs.spawn("retention", |stop| retention.run(stop));
        jobs.spawn("collector", |stop| collector.run(stop));
        jobs.spawn("sweeper", |stop| sweeper.run(stop));
        jobs.spawn("merge", |stop| merge.run(stop));
        jobs.spawn("compact", |stop| compaction.run(stop));
    }
    let groups = Arc::clone(&broker.groups);
    let memberships = agents.subscribe();
    jobs.spawn("groups", |stop| groups.follow(memberships, stop));
    agents.serve().await;
    readiness.ready(metadata.store());
    tracing::info!(kafka = %addresses.kafka, http = %addresses.http, cluster = %broker.identity.cluster_id, "serving");

    Ok(RunningAgent {
        addresses,
        broker,
        feed,
        metrics,
        readiness,
        metadata,
        server,
        http,
        registration,
        jobs,
        controls,
        stop_server,
        stop_http,
        deadline,
    })
}

impl RunningAgent {
    /// Whether the agent serves, as `/health/ready` says.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Waits until a part of the agent ends that should not, or an operator asks for something over HTTP. Cancel-safe.
    pub async fn interrupted(&mut self) -> Interruption {
        tokio::select! {
            biased;
            failure = failed(&mut self.server, &mut self.http, &mut self.registration, &mut self.jobs) => {
                Interruption::Failed(failure)
            }
            Some(control) = self.controls.recv() => Interruption::Asked(control),
        }
    }

    /// Stops: no new connections, no new requests; those in flight are finished and answered; stores are closed.
    ///
    /// An error says that the deadline passed: what was not acknowledged by then never will be by this agent.
    pub async fn shutdown(self) -> Result<(), ShutdownError> {
        let deadline = self.deadline;
        match tokio::time::timeout(deadline, self.stop()).await {
            Ok(Stopped { cut_off: 0 }) => Ok(()),
            Ok(Stopped { cut_off }) => Err(ShutdownError::CutOff { connections: cut_off }),
            Err(_) => Err(ShutdownError::Deadline { deadline }),
        }
    }

    /// Tells clients to go elsewhere, if there is anywhere to go, and waits until they have.
    async fn drain(&self) {
        let cluster = &self.broker.cluster;
        cluster.drain().await;
        if !cluster.sends_away() {
            return;
        }
        let grace = self.broker.config.node.drain_grace.min(self.deadline / 2);
        tracing::info!(?grace, "draining: clients are sent to the other agents");
        let begun = Instant::now();
        // The others may be told to drain, too.
        while begun.elapsed() < grace && cluster.sends_away() && !self.broker.traffic.is_quiet_for(DRAINED) {
            pause(DRAIN_LOOKS).await;
        }
    }

    async fn stop(mut self) -> Stopped {
        // Whoever asks for something now is told that it is too late.
        self.controls.close();
        self.readiness.draining();
        self.drain().await;
        self.stop_server.cancel();
        let server = async {
            // A server that has ended already was reported by `failed`.
            let ended = self.server.is_finished();
            if ended { Stopped { cut_off: 0 } } else { self.server.await.unwrap_or(Stopped { cut_off: 0 }) }
        };
        // Fetches that wait for records, and calls that wait for other members of a group, would outlast any deadline.
        self.broker.fetch.shutdown();
        let (stopped, (), ()) =
            tokio::join!(server, self.broker.groups.shutdown(), self.broker.produce.shutdown());
        self.jobs.stop().await;
        self.registration.stop().await;
        self.broker.cluster.leave().await;
        self.feed.shutdown().await;
        self.stop_http.cancel();
        self.http.abort();
        let _ended = self.http.await;
        drop(self.broker);
        self.metadata.close().await;
        tracing::info!("stopped");
        stopped
    }
}

async fn failed(
    server: &mut JoinHandle<Stopped>,
    http: &mut JoinHandle<std::io::Result<()>>,
    registration: &mut Jobs,
    jobs: &mut Jobs,
) -> AgentFailure {
    tokio::select! {
        biased;
        ended = server => AgentFailure::Server {
            reason: ended.err().map_or_else(|| "it stopped".to_owned(), |error| error.to_string()),
        },
        ended = http => AgentFailure::Http {
            reason: match ended {
                Ok(Ok(())) => "it stopped".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            },
        },
        failure = registration.failed() => failure,
        failure = jobs.failed() => failure,
    }
}

async fn limits(config: &AgentConfig) -> Result<Limits, StartError> {
    let mut limits = Limits::from(&config.server);
    limits.drain = limits.drain.min(config.node.shutdown_deadline.saturating_sub(CLOSING_RESERVE));
    for (host, limit) in config.server.max_connections_per_ip_overrides.iter() {
        let failed = |source| StartError::UnknownHost { host: host.to_owned(), source };
        for address in tokio::net::lookup_host((host, 0)).await.map_err(failed)? {
            limits.per_address.overrides.insert(address.ip().to_canonical(), limit as usize);
        }
    }
    Ok(limits)
}

fn gather_metrics(broker: &Arc<Broker>, server: &Arc<ServerStats>, readiness: &Arc<Readiness>) -> Metrics {
    let mut metrics = Metrics::default();
    metrics::process::register(&mut metrics, broker.clock.now_ms());
    metrics::sources::register_agent(&mut metrics, Arc::clone(readiness));
    metrics::sources::register_bucket(&mut metrics, &broker.bucket);
    metrics::sources::register_server(&mut metrics, server);
    metrics::sources::register_topics(&mut metrics, &broker.topics);
    metrics::sources::register_produce(&mut metrics, &broker.produce);
    metrics::sources::register_fetch(&mut metrics, &broker.fetch);
    metrics::sources::register_cache(&mut metrics, &broker.cache);
    metrics::sources::register_sessions(&mut metrics, broker);
    metrics::sources::register_groups(&mut metrics, &broker.groups);
    metrics::sources::register_cluster(&mut metrics, &broker.cluster);
    metrics
}

/// Whether this agent opened its metadata store for itself alone.
fn is_exclusive(config: &AgentConfig, parts: &Parts) -> bool {
    parts.store.is_none() && !matches!(config.node.metadata, MetadataKind::FoundationDb(_))
}

/// Binds `address`, whose host may be a name; `option` is for the error.
async fn bind(option: &'static str, address: &HostPort) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Bind { option, address: address.to_string(), source };
    let mut resolved: Vec<SocketAddr> =
        tokio::net::lookup_host((address.host.as_str(), address.port)).await.map_err(failed)?.collect();
    // A name such as localhost has both: old clients know IPv4 only.
    resolved.sort_by_key(SocketAddr::is_ipv6);
    let first = resolved.first().ok_or_else(|| failed(std::io::ErrorKind::AddrNotAvailable.into()))?;
    server::listener::bind(*first).map_err(failed)
}

fn local(address: std::io::Result<SocketAddr>) -> Result<SocketAddr, StartError> {
    address.map_err(|source| StartError::Bind { option: "listen", address: String::new(), source })
}

#[cfg(test)]
mod tests;
