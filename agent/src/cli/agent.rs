//! `penstock dev` and `penstock agent`: reads the configuration, runs an agent until a signal.

use std::path::PathBuf;

use clap::Args;
use penstock_config::{AgentConfig, Conflict, DEV_PROFILE, Inputs, LoadError, Loaded, load};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CommandError;
use super::banner;
use super::error::Outcome;
use crate::logging;
use crate::start::{Interruption, Parts, RunningAgent, start};

/// Where an agent's configuration comes from.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// The configuration file (TOML); flags and PENSTOCK_… variables win over it
    #[arg(long, value_name = "FILE", env = "PENSTOCK_CONFIG")]
    config: Option<PathBuf>,
    /// The directory of everything kept on local disk [default: ./penstock-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where Kafka clients connect [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The address that clients are told, if it is not that of --listen; needed with 0.0.0.0
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where metrics and health are served [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Where data objects are kept: file:///PATH, s3://BUCKET/PREFIX (with the usual AWS_… variables) or, with
    /// --metadata memory, memory:/// [default: objects/ in the data directory]
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    /// The metadata store: embedded (durable, one agent), fdb:CLUSTER_FILE (a FoundationDB, any number of agents) or
    /// memory (gone at exit) [default: embedded]
    #[arg(long, value_name = "STORE")]
    metadata: Option<String>,
    /// Set any option of docs/configuration.md; can be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// The arguments of `dev` and `agent`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock dev
  penstock dev --data-dir /tmp/p --listen 127.0.0.1:19092 --http 127.0.0.1:19644
  penstock dev --listen 0.0.0.0:9092 --advertise 192.168.1.7:9092
  penstock dev --metadata memory --object-store memory:///
  penstock agent --metadata fdb:/etc/foundationdb/fdb.cluster --object-store s3://bucket/prefix
  penstock agent --config penstock.toml --set cache.bytes=1GiB")]
pub(super) struct AgentArguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// The arguments of `dev`.
#[derive(Debug, Args)]
pub(super) struct DevArguments {
    #[command(flatten)]
    agent: AgentArguments,
    /// Run so many agents, on successive ports over one metadata store: a cluster in one process. Each can be drained or
    /// ended by POST /admin/drain and /admin/abort at its HTTP address
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    agents: u16,
}

/// `penstock dev`.
pub(super) fn dev(arguments: &DevArguments) -> Outcome {
    let profile = Some(("dev", DEV_PROFILE));
    if arguments.agents == 1 {
        return run(&arguments.agent.config, profile);
    }
    let loaded = prepare(&arguments.agent.config, profile)?;
    super::several::run(&loaded, arguments.agents)
}

/// `penstock agent`.
pub(super) fn agent(arguments: &AgentArguments) -> Outcome {
    run(&arguments.config, None)
}

type Profile = Option<(&'static str, &'static [(&'static str, &'static str)])>;

impl ConfigArguments {
    /// Reads file, environment and flags.
    pub(super) fn load(&self, profile: Profile) -> Result<Loaded, CommandError> {
        let inputs = Inputs {
            profile,
            file: self.read_file()?,
            environment: environment(),
            flags: self.flags().map_err(usage)?,
        };
        let mut loaded = load(&inputs).map_err(usage)?;
        let here = std::env::current_dir()
            .map_err(|error| CommandError::Failed(format!("the working directory is gone: {error}")))?;
        loaded.config.resolve_paths(&here);
        Ok(loaded)
    }

    fn read_file(&self) -> Result<Option<(String, String)>, CommandError> {
        let Some(path) = &self.config else { return Ok(None) };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(error) => Err(CommandError::Usage(format!("{} can't be read: {error}", path.display()))),
        }
    }

    fn flags(&self) -> Result<Vec<(String, String, String)>, LoadError> {
        let mut flags = Vec::new();
        for argument in &self.set {
            let (key, value) = penstock_config::load::split_assignment(argument)?;
            flags.push(("--set".to_owned(), key, value));
        }
        for (flag, key, value) in [
            ("--data-dir", "data.dir", &self.data_dir),
            ("--listen", "listen", &self.listen),
            ("--advertise", "advertise", &self.advertise),
            ("--http", "http", &self.http),
            ("--object-store", "object.store", &self.object_store),
            ("--metadata", "metadata", &self.metadata),
        ] {
            if let Some(value) = value {
                flags.push((flag.to_owned(), key.to_owned(), value.clone()));
            }
        }
        Ok(flags)
    }
}

/// Variables whose name or value is not UTF-8 can't be ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn usage(error: LoadError) -> CommandError {
    let hint = match &error {
        LoadError::Conflict(Conflict::WildcardWithoutAdvertise { listen }) => {
            format!(" (for example --advertise HOSTNAME:{})", listen.port)
        }
        _ => String::new(),
    };
    CommandError::Usage(format!("{error}{hint}"))
}

fn prepare(arguments: &ConfigArguments, profile: Profile) -> Result<Loaded, CommandError> {
    let loaded = arguments.load(profile)?;
    logging::init(&loaded.config.log).map_err(|error| CommandError::Usage(error.to_string()))?;
    logging::abort_on_panic();
    Ok(loaded)
}

/// A runtime for one agent.
pub(super) fn new_runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("penstock")
        .build()
        .map_err(|error| CommandError::Failed(format!("the runtime can't start: {error}")))
}

fn run(arguments: &ConfigArguments, profile: Profile) -> Outcome {
    let loaded = prepare(arguments, profile)?;
    let runtime = new_runtime()?;
    let outcome = runtime.block_on(serve(loaded));
    // Whatever still blocks a thread has had its deadline.
    runtime.shutdown_background();
    outcome
}

async fn serve(loaded: Loaded) -> Outcome {
    let mut signals = Signals::new()?;
    let config = loaded.config.clone();
    let mut agent = tokio::select! {
        started = start(config, Parts::system()) => {
            started.map_err(|error| CommandError::Failed(error.to_string()))?
        }
        () = signals.wait() => return Ok(()),
    };
    log_configuration(&loaded);
    if let Err(error) = banner::print(&loaded, &agent) {
        tracing::warn!(%error, "the banner can't be printed");
    }
    let failure = tokio::select! {
        interruption = agent.interrupted() => match interruption {
            Interruption::Failed(failure) => Some(failure),
            // An agent alone in its process is aborted by killing it.
            Interruption::Asked(_) => None,
        },
        () = signals.wait() => None,
    };
    stop(agent, &mut signals, &loaded.config).await?;
    match failure {
        Some(failure) => Err(CommandError::Failed(failure.to_string())),
        None => Ok(()),
    }
}

/// Finishes what is in flight, unless a second signal comes first.
async fn stop(agent: RunningAgent, signals: &mut Signals, config: &AgentConfig) -> Outcome {
    tracing::info!(deadline = ?config.node.shutdown_deadline, "stopping: finishing what is in flight");
    tokio::select! {
        stopped = agent.shutdown() => stopped.map_err(|error| CommandError::Failed(error.to_string())),
        () = signals.interrupted_again() => exit_at_once(),
    }
}

#[expect(clippy::exit, reason = "a second interrupt asks for exactly this")]
pub(super) fn exit_at_once() -> ! {
    eprintln!("interrupted twice: exiting without waiting for what is in flight");
    crate::start::stop_foundationdb();
    std::process::exit(INTERRUPTED)
}

/// 128 and SIGINT's number, as shells count.
const INTERRUPTED: i32 = 130;

/// What was set, and where. Secrets are redacted by their type. Only once the agent runs: what keeps it from starting
/// is to be one line.
fn log_configuration(loaded: &Loaded) {
    for (key, value, source) in loaded.effective() {
        tracing::info!("option {key} = {value} ({source})");
    }
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, CommandError> {
        let of = |kind| {
            signal(kind).map_err(|error| CommandError::Failed(format!("signals can't be handled: {error}")))
        };
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    /// The first SIGINT or SIGTERM.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Another SIGINT; SIGTERM may be repeated without effect.
    async fn interrupted_again(&mut self) {
        self.interrupt.recv().await;
    }
}
