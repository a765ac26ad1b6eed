//! `penstock metadata inspect`.

use std::io;

use clap::{Args, Subcommand};
use penstock_metadata::inspect::{InspectError, Inspector};
use penstock_metadata::keys::Family;
use penstock_types::{ObjectId, PartitionIndex};

use super::open::{Access, open};
use super::render::Printer;
use crate::cli::CommandError;
use crate::cli::agent::ConfigArguments;
use crate::cli::error::Outcome;
use crate::cli::output::OutputArguments;

/// What holds for all of them; the end of each one's help.
const NOTES: &str = "

JSON is one object a line. A row that can't be read is shown as corrupt with its bytes, and the exit code is 1.
Nothing is written. A FoundationDB may be in use meanwhile; the embedded store must not be: stop the agent first.";

/// Where the metadata is and how it is shown.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum InspectCommand {
    /// The cluster's identity, and how many rows and bytes each family has; reads every row
    #[command(after_help = example("penstock metadata inspect cluster --data-dir ./penstock-data"))]
    Cluster {
        #[command(flatten)]
        source: SourceArguments,
    },
    /// A topic: its row, and of each partition the log start, seal, counter, tail, index and producers
    #[command(after_help = example("penstock metadata inspect topic orders --metadata fdb:fdb.cluster --limit 5"))]
    Topic {
        /// The topic
        topic: String,
        /// Only this partition
        #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
        partition: Option<i32>,
        /// How many rows to show of each partition's tail, of its index, and of its producers
        #[arg(long, value_name = "ROWS", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=2_000))]
        limit: u32,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// A group: its row, members and committed offsets
    #[command(after_help = example("penstock metadata inspect group readers --output json"))]
    Group {
        /// The group
        group: String,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// A data object's row: when it was committed and which of its batches were not appended
    #[command(after_help = example(
        "penstock metadata inspect object 0000000100000000000000110000000000000022"
    ))]
    Object {
        /// The object's id, 40 hexadecimal digits
        #[arg(value_name = "ID")]
        object: ObjectId,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// What is remembered of idempotent producers, and the blocks of producer ids
    #[command(after_help = example("penstock metadata inspect producers --topic orders"))]
    Producers {
        /// Only those of this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[command(flatten)]
        source: SourceArguments,
    },
    /// The agents' registrations
    #[command(after_help = example("penstock metadata inspect agents --metadata fdb:fdb.cluster"))]
    Agents {
        #[command(flatten)]
        source: SourceArguments,
    },
    /// Every row, or every row of one family, in the order of the keys
    #[command(after_help = example("penstock metadata inspect rows --family feed --output json"))]
    Rows {
        /// Only this family, by the name or number that `inspect cluster` shows
        #[arg(long, value_name = "FAMILY", value_parser = family)]
        family: Option<Family>,
        #[command(flatten)]
        source: SourceArguments,
    },
}

fn example(line: &str) -> String {
    format!("Example:\n  {line}{NOTES}")
}

/// `feed`, `group member` or `0x41`.
fn family(text: &str) -> Result<Family, String> {
    let byte = text.strip_prefix("0x").and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let named = Family::ALL.iter().find(|(_, name)| *name == text).map(|(family, _)| *family);
    named.or_else(|| byte.and_then(Family::from_byte)).ok_or_else(|| {
        let names: Vec<&str> = Family::ALL.iter().map(|(_, name)| *name).collect();
        format!("is none of: {}", names.join(", "))
    })
}

impl InspectCommand {
    fn source(&self) -> &SourceArguments {
        match self {
            Self::Cluster { source }
            | Self::Topic { source, .. }
            | Self::Group { source, .. }
            | Self::Object { source, .. }
            | Self::Producers { source, .. }
            | Self::Agents { source }
            | Self::Rows { source, .. } => source,
        }
    }

    fn limit(&self) -> usize {
        match self {
            Self::Topic { limit, .. } => *limit as usize,
            _ => usize::MAX,
        }
    }
}

pub(super) async fn run(what: &InspectCommand) -> Outcome {
    let source = what.source();
    let loaded = source.config.load(None)?;
    let opened = open(&loaded.config, Access::Read).await?;
    let inspector = Inspector::new(opened.store.clone(), opened.keyspace.clone(), what.limit());
    let mut printer = Printer::new(io::BufWriter::new(io::stdout()), source.output.output);
    let inspected = match what {
        InspectCommand::Cluster { .. } => inspector.cluster(&mut printer).await,
        InspectCommand::Topic { topic, partition, .. } => {
            inspector.topic(topic, partition.map(PartitionIndex::new), &mut printer).await
        }
        InspectCommand::Group { group, .. } => inspector.group(group, &mut printer).await,
        InspectCommand::Object { object, .. } => inspector.object(*object, &mut printer).await,
        InspectCommand::Producers { topic, .. } => inspector.producers(topic.as_deref(), &mut printer).await,
        InspectCommand::Agents { .. } => inspector.agents(&mut printer).await,
        InspectCommand::Rows { family, .. } => inspector.rows(*family, &mut printer).await,
    };
    // What was found is printed whatever came of the rest.
    let corrupt = printer.finish();
    drop(inspector);
    opened.close().await;
    let corrupt = corrupt?;
    match inspected {
        // A printer that stops has failed, and said so.
        Ok(()) | Err(InspectError::Stopped) => {}
        Err(error @ (InspectError::Store(_) | InspectError::NotFound { .. })) => {
            return Err(CommandError::Failed(error.to_string()));
        }
    }
    if corrupt > 0 {
        return Err(CommandError::Failed(format!("{corrupt} rows are corrupt")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_found_by_name_and_number() {
        assert_eq!(family("group member"), Ok(Family::GroupMember));
        assert_eq!(family("0x15"), Ok(Family::Feed));
        for wrong in ["feeds", "0xff", "21", ""] {
            family(wrong).expect_err(wrong);
        }
    }
}
