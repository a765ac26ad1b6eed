//! `penstock doctor`: tries what an agent with this configuration will rely on, and says what is wrong.

use std::time::Duration;

use clap::Args;
use penstock_config::Loaded;
use serde::Serialize;

use super::CommandError;
use super::agent::ConfigArguments;
use super::error::Outcome;
use super::output::{OutputArguments, Table};

mod bucket;
mod checks;
mod lifecycle;

/// The arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock doctor --config penstock.toml
  penstock doctor --object-store s3://my-bucket/kafka --output json
  penstock doctor --object-store s3://my-bucket/kafka --set-lifecycle
The bucket is tried with objects of the doctor's own under the configured prefix; they are removed.")]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Put the lifecycle rules that the bucket lacks: old versions, expired delete markers and
    /// unfinished uploads under the prefix go after a day. Other rules stay as they are
    #[arg(long)]
    set_lifecycle: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Failed,
    /// It may work, but not as one would expect.
    Warning,
    /// Could not be tried, for a reason that is no fault.
    Skipped,
}

/// A check.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) state: State,
    /// What was found, or what to do.
    pub(super) detail: String,
}

impl Check {
    pub(super) fn new<T, E: std::fmt::Display>(name: &'static str, result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self { name, state: State::Ok, detail: String::new() },
            Err(error) => Self { name, state: State::Failed, detail: error.to_string() },
        }
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, state: State::Skipped, detail: why.into() }
    }

    pub(super) fn warning(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: State::Warning, detail: what.into() }
    }

    fn with(mut self, detail: impl Into<String>) -> Self {
        if self.state == State::Ok {
            self.detail = detail.into();
        }
        self
    }
}

/// How long one step may take.
pub(super) const STEP: Duration = Duration::from_secs(15);
/// How long the first request to the bucket may take where nobody gave credentials: a metadata service that is there
/// answers in far less.
pub(super) const STEP_WITHOUT_CREDENTIALS: Duration = Duration::from_secs(5);

pub(super) fn run(arguments: &DoctorArguments) -> Outcome {
    let loaded = arguments.config.load(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::Failed(format!("the runtime can't start: {error}")))?;
    let checks = runtime.block_on(all(&loaded, arguments.set_lifecycle));
    runtime.shutdown_background();
    arguments.output.print(&checks, || {
        let mut table = Table::new(["CHECK", "RESULT", "DETAIL"]);
        for check in &checks {
            let state = match check.state {
                State::Ok => "ok",
                State::Failed => "FAILED",
                State::Warning => "WARNING",
                State::Skipped => "skipped",
            };
            table.row([check.name.to_owned(), state.to_owned(), check.detail.clone()]);
        }
        table
    })?;
    let failed = checks.iter().filter(|check| check.state == State::Failed).count();
    if failed == 0 { Ok(()) } else { Err(CommandError::Failed(format!("{failed} checks failed"))) }
}

async fn all(loaded: &Loaded, set_lifecycle: bool) -> Vec<Check> {
    let config = &loaded.config;
    let set = format!("{} options set", loaded.effective().len());
    let mut checks = vec![Check::new("configuration", config.validate()).with(set)];
    checks.push(checks::data_directory(config));
    checks.push(checks::metadata(config).await);
    let (bucket, is_fit) = bucket::check(config).await;
    checks.extend(bucket);
    if is_fit {
        checks.extend(lifecycle::check(config, set_lifecycle).await);
    }
    checks.push(checks::advertised(config).await);
    checks.push(checks::open_files(config));
    checks
}
