//! `penstock completions`.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use super::error::Outcome;

/// The arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  penstock completions bash > ~/.local/share/bash-completion/completions/penstock")]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments, command: &mut clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "penstock", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(())
}
