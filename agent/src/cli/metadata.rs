//! `penstock metadata`: the metadata store without an agent, for operators.

use clap::{Args, Subcommand};

use super::CommandError;
use super::error::Outcome;

mod inspect;
pub(super) mod open;
mod raise;
mod render;

/// The arguments of `metadata`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct MetadataArguments {
    #[command(subcommand)]
    command: MetadataCommand,
}

#[derive(Debug, Subcommand)]
enum MetadataCommand {
    /// Show what the metadata store holds, decoded; writes nothing
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Inspect {
        #[command(subcommand)]
        what: inspect::InspectCommand,
    },
    /// Begin a new life of the metadata, after it was restored from a backup or moved
    RaiseIncarnation(raise::RaiseArguments),
}

pub(super) fn run(arguments: &MetadataArguments) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::Failed(format!("the runtime can't start: {error}")))?;
    let outcome = match &arguments.command {
        MetadataCommand::Inspect { what } => runtime.block_on(inspect::run(what)),
        MetadataCommand::RaiseIncarnation(arguments) => runtime.block_on(raise::run(arguments)),
    };
    runtime.shutdown_background();
    outcome
}
