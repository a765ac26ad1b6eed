//! The command line: one file per command. Commands that are Kafka clients use librdkafka, as most of Penstock's
//! users do, and only what any Kafka client can do.
//!
//! Results go to standard output, everything else to standard error; an error is one line. Exit codes are
//! [`EXIT_CODES`].

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod agent;
mod banner;
mod bench;
mod client;
mod cluster;
mod completions;
mod configs;
mod consume;
mod doctor;
mod error;
mod fsck;
mod groups;
mod http_client;
mod interrupt;
mod jobs;
mod metadata;
mod output;
mod produce;
mod salvage;
mod several;
mod topics;
mod verify;

pub use error::CommandError;

/// What the process's exit code says; the end of `penstock --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0    it went well
  1    it failed; one line on standard error says why
  2    the command line or the configuration is wrong
  130  interrupted for a second time, without waiting for what was in flight

Start a broker on this machine and use it:
  penstock dev
  penstock topics create greetings --partitions 3
  echo hello | penstock produce greetings
  penstock consume greetings --from beginning --until-end";

#[derive(Debug, Parser)]
#[command(name = "penstock", version, about = "A diskless, Kafka-compatible broker", after_help = EXIT_CODES)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker for development: everything in one process and one directory
    Dev(agent::DevArguments),
    /// Run an agent as configured by file, environment and flags
    Agent(agent::AgentArguments),
    /// Show the agents of a cluster: leases, leaders, groups, lag
    Cluster(cluster::ClusterArguments),
    /// Show the jobs of all agents, run one now, pause them
    Jobs(jobs::JobsArguments),
    /// List, create, describe, alter and delete topics
    Topics(topics::TopicsArguments),
    /// List, describe, reset and delete consumer groups
    Groups(groups::GroupsArguments),
    /// Describe and alter the options of topics and brokers
    Configs(configs::ConfigsArguments),
    /// Send lines of standard input as records
    Produce(produce::ProduceArguments),
    /// Print records
    Consume(consume::ConsumeArguments),
    /// Measure throughput and latency of a cluster
    Bench(bench::BenchArguments),
    /// Write and read load of which everything is known, and say what is lost, doubled or out of order
    Verify(verify::VerifyArguments),
    /// Check that an agent with this configuration could work: bucket rights, metadata store, addresses
    Doctor(doctor::DoctorArguments),
    /// Check what is stored, metadata and bucket against one another
    Fsck(fsck::FsckArguments),
    /// Put a cluster's metadata together from its bucket alone, when they are lost
    Salvage(salvage::SalvageArguments),
    /// Read the metadata as it is stored; begin its new life after a restore
    Metadata(metadata::MetadataArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Dev(arguments) => agent::dev(&arguments),
        Command::Agent(arguments) => agent::agent(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Jobs(arguments) => jobs::run(&arguments),
        Command::Topics(arguments) => topics::run(&arguments),
        Command::Groups(arguments) => groups::run(&arguments),
        Command::Configs(arguments) => configs::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Salvage(arguments) => salvage::run(&arguments),
        Command::Metadata(arguments) => metadata::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, &mut CommandLine::command()),
    };
    crate::start::stop_foundationdb();
    error::exit_code(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    /// What configures a command is no unknown option to another, which reads an agent's configuration.
    #[test]
    fn variables_of_commands_are_known_to_the_configuration() {
        fn check(command: &clap::Command) {
            for variable in command.get_arguments().filter_map(|argument| argument.get_env()) {
                let variable = variable.to_str().expect("text");
                assert!(penstock_config::load::OTHER_VARIABLES.contains(&variable), "{variable}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }

    /// Every command that does something shows how.
    #[test]
    fn every_command_has_help_and_an_example() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("penstock "), "{path} shows no example");
            }
            for argument in command
                .get_arguments()
                .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
            {
                assert!(argument.get_help().is_some(), "{path}: {} is not explained", argument.get_id());
            }
            for subcommand in command.get_subcommands() {
                check(subcommand, &format!("{path} {}", subcommand.get_name()));
            }
        }
        check(&CommandLine::command(), "penstock");
    }
}
