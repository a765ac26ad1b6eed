//! What commands that are Kafka clients share: how to connect, how to wait, what to say when nobody answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode as Code;

use tokio::time::Instant;

use super::CommandError;
use super::error::code_text;

/// How to connect to a cluster.
#[derive(Debug, Args)]
pub(super) struct ConnectArguments {
    /// Brokers to begin with
    #[arg(
        long,
        short = 'b',
        value_name = "HOST:PORT,…",
        env = "PENSTOCK_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub(super) bootstrap: String,
    /// How long to wait for an answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,
    /// Set an option of librdkafka; can be given several times
    #[arg(long = "client-option", short = 'X', value_name = "KEY=VALUE")]
    client_options: Vec<String>,
}

/// Remembers why the client can't connect, which its own errors don't say.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    transport: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

impl ConsumerContext for Context {}

impl Context {
    fn note(&self, error: &KafkaError, reason: &str) {
        let transport = [Code::BrokerTransportFailure, Code::AllBrokersDown, Code::Resolve];
        if error.rdkafka_error_code().is_some_and(|code| transport.contains(&code)) {
            let mut kept = self.transport.lock();
            // The first reason is the most telling: later ones say that all brokers are down.
            kept.get_or_insert_with(|| short_reason(reason));
        }
    }

    /// What is known of why nothing answers.
    pub(super) fn transport_error(&self) -> Option<String> {
        self.transport.lock().clone()
    }
}

/// `127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms …)` without its end.
fn short_reason(reason: &str) -> String {
    reason.split(" (after ").next().unwrap_or(reason).trim().to_owned()
}

impl ConnectArguments {
    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The options of a client.
    pub(super) fn client_config(&self) -> Result<ClientConfig, CommandError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "penstock");
        config.set_log_level(RDKafkaLogLevel::Warning);
        self.apply_client_options(&mut config)?;
        Ok(config)
    }

    /// The user's own options, which win.
    pub(super) fn apply_client_options(&self, config: &mut ClientConfig) -> Result<(), CommandError> {
        for option in &self.client_options {
            let (key, value) = option.split_once('=').ok_or_else(|| {
                CommandError::Usage(format!("--client-option {option} has no =: write KEY=VALUE"))
            })?;
            config.set(key, value);
        }
        Ok(())
    }

    /// Makes a client of any kind.
    pub(super) fn create<T: FromClientConfigAndContext<Context>>(
        &self,
        config: &ClientConfig,
        context: Context,
    ) -> Result<T, CommandError> {
        config.create_with_context(context).map_err(|error| match error {
            KafkaError::ClientConfig(_, description, key, value) => {
                CommandError::Usage(format!("{key}={value}: {description}"))
            }
            other => CommandError::Failed(other.to_string()),
        })
    }

    /// A client for administration.
    pub(super) fn admin(&self) -> Result<Admin, CommandError> {
        let config = self.client_config()?;
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| CommandError::Usage(error.to_string()))?;
        let context = Context::default();
        let observer = self.consumer_of(None, context.clone())?;
        Ok(Admin { admin, observer, context, timeout: self.timeout(), bootstrap: self.bootstrap.clone() })
    }

    /// A consumer that never joins a group unless it subscribes; it commits nothing by itself.
    pub(super) fn consumer_of(
        &self,
        group: Option<&str>,
        context: Context,
    ) -> Result<BaseConsumer<Context>, CommandError> {
        let mut config = self.client_config()?;
        config.set("group.id", group.unwrap_or("penstock-cli")).set("enable.auto.commit", "false");
        self.create(&config, context)
    }
}

/// A client for administration.
pub(super) struct Admin {
    admin: AdminClient<DefaultClientContext>,
    observer: BaseConsumer<Context>,
    context: Context,
    timeout: Duration,
    bootstrap: String,
}

impl Admin {
    /// The client library's administration.
    pub(super) fn client(&self) -> &AdminClient<DefaultClientContext> {
        &self.admin
    }

    /// A consumer without a group, for metadata and offsets.
    pub(super) fn observer(&self) -> &BaseConsumer<Context> {
        &self.observer
    }

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The options of every request.
    pub(super) fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }

    /// Waits for a request.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, KafkaError>>,
    ) -> Result<T, CommandError> {
        self.reachable()?;
        futures::executor::block_on(request).map_err(|error| self.failed(what, error))
    }

    /// The cluster's brokers and topics. Where nobody listens this fails at once, not at the end of the time-out.
    pub(super) fn metadata(&self) -> Result<Metadata, CommandError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.observer.fetch_metadata(None, left.min(Duration::from_secs(1))) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    hear_errors(&self.observer, &self.context);
                    if self.context.transport_error().is_some() || Instant::now() >= deadline {
                        return Err(self.failed("can't list brokers and topics", error));
                    }
                }
            }
        }
    }

    /// An error of the client library, with what is known of its reason.
    pub(super) fn failed(&self, what: &str, source: KafkaError) -> CommandError {
        hear_errors(&self.observer, &self.context);
        failed(&self.bootstrap, &self.context, what, source)
    }

    /// Requests of the administration wait for a broker and then say only that time is up; metadata say why.
    fn reachable(&self) -> Result<(), CommandError> {
        self.metadata().map(drop)
    }
}

/// Errors of the connection are events, which a consumer tells when it is polled, a moment after a request failed.
pub(super) fn hear_errors(consumer: &BaseConsumer<Context>, context: &Context) {
    for _ in 0..5 {
        if context.transport_error().is_some() {
            return;
        }
        let _event = consumer.poll(Duration::from_millis(50));
    }
}

/// An error of the client library, with what is known of its reason.
pub(super) fn failed(bootstrap: &str, context: &Context, what: &str, source: KafkaError) -> CommandError {
    let silent = [
        RDKafkaErrorCode::OperationTimedOut,
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::AllBrokersDown,
        RDKafkaErrorCode::RequestTimedOut,
    ];
    let hint = match source.rdkafka_error_code() {
        Some(code) if silent.contains(&code) => match context.transport_error() {
            Some(reason) => format!(" (nobody answers at {bootstrap}: {reason})"),
            None => format!(" (no answer from {bootstrap})"),
        },
        _ => String::new(),
    };
    CommandError::Kafka { what: what.to_owned(), source, hint }
}

/// What an answer for one of several things says.
pub(super) fn check_each<T>(
    what: &str,
    results: impl IntoIterator<Item = Result<T, (String, RDKafkaErrorCode)>>,
) -> Result<Vec<T>, CommandError> {
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(name) => done.push(name),
            Err((name, code)) => failures.push(format!("{name}: {}", code_text(code))),
        }
    }
    if failures.is_empty() {
        Ok(done)
    } else {
        Err(CommandError::Failed(format!("{what}: {}", failures.join("; "))))
    }
}
