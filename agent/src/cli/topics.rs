//! `penstock topics`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use rdkafka::admin::{NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use serde::Serialize;

use super::CommandError;
use super::client::{Admin, ConnectArguments, check_each};
use super::configs;
use super::error::Outcome;
use super::output::{OutputArguments, Table};

/// The arguments of `topics`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct TopicsArguments {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// List all topics
    #[command(after_help = "Example:\n  penstock topics list --output json")]
    List {
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show a topic's partitions, offsets and own options
    #[command(after_help = "Example:\n  penstock topics describe orders")]
    Describe {
        /// The topics
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Create a topic
    #[command(
        after_help = "Example:\n  penstock topics create orders --partitions 6 --config retention.ms=86400000"
    )]
    Create(CreateArguments),
    /// Add partitions to a topic, or change its options
    #[command(
        after_help = "Example:\n  penstock topics alter orders --partitions 12 --config retention.ms=3600000"
    )]
    Alter(AlterArguments),
    /// Delete topics and all their records
    #[command(after_help = "Example:\n  penstock topics delete orders")]
    Delete {
        /// The topics
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// Count topics that don't exist as deleted
        #[arg(long)]
        if_exists: bool,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// The topic
    topic: String,
    /// How many partitions; without it the broker's num.partitions
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set an option of the topic; can be given several times
    #[arg(long = "config", short = 'c', value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Succeed if the topic exists already, whatever its partitions and options
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
struct AlterArguments {
    /// The topic
    topic: String,
    /// The new number of partitions: more than there are
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    partitions: Option<u32>,
    /// Set an option of the topic; can be given several times
    #[arg(long = "config", short = 'c', value_name = "KEY=VALUE")]
    configs: Vec<String>,
    /// Set an option back to the broker's default; can be given several times
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted: Vec<String>,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Serialize)]
struct ListedTopic {
    name: String,
    partitions: usize,
}

#[derive(Debug, Serialize)]
struct DescribedTopic {
    name: String,
    partitions: Vec<DescribedPartition>,
    /// The options that the topic sets itself.
    configs: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: i32,
    log_start_offset: i64,
    high_watermark: i64,
}

/// What was done to which topics.
#[derive(Debug, Serialize)]
struct Done<'a> {
    done: &'static str,
    topics: &'a [String],
}

pub(super) fn run(arguments: &TopicsArguments) -> Outcome {
    match &arguments.command {
        TopicsCommand::List { connect, output } => list(connect, output),
        TopicsCommand::Describe { topics, connect, output } => describe(topics, connect, output),
        TopicsCommand::Create(arguments) => create(arguments),
        TopicsCommand::Alter(arguments) => alter(arguments),
        TopicsCommand::Delete { topics, if_exists, connect, output } => {
            delete(topics, *if_exists, connect, output)
        }
    }
}

fn list(connect: &ConnectArguments, output: &OutputArguments) -> Outcome {
    let metadata = connect.admin()?.metadata()?;
    let mut topics: Vec<ListedTopic> = metadata
        .topics()
        .iter()
        .map(|topic| ListedTopic { name: topic.name().to_owned(), partitions: topic.partitions().len() })
        .collect();
    topics.sort_by(|left, right| left.name.cmp(&right.name));
    output.print(&topics, || {
        let mut table = Table::new(["TOPIC", "PARTITIONS"]);
        for topic in &topics {
            table.row([topic.name.clone(), topic.partitions.to_string()]);
        }
        table
    })
}

fn describe(names: &[String], connect: &ConnectArguments, output: &OutputArguments) -> Outcome {
    let admin = connect.admin()?;
    let metadata = admin.metadata()?;
    let mut described = Vec::new();
    for name in names {
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == name)
            .ok_or_else(|| CommandError::Failed(format!("there is no topic {name}")))?;
        described.push(describe_one(&admin, topic)?);
    }
    output.print(&described, || {
        let mut table =
            Table::new(["TOPIC", "PARTITION", "LEADER", "LOG START", "HIGH WATERMARK", "OPTIONS"]);
        for topic in &described {
            let configs: Vec<String> =
                topic.configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            for partition in &topic.partitions {
                table.row([
                    topic.name.clone(),
                    partition.partition.to_string(),
                    partition.leader.to_string(),
                    partition.log_start_offset.to_string(),
                    partition.high_watermark.to_string(),
                    configs.join(","),
                ]);
            }
        }
        table
    })
}

fn describe_one(admin: &Admin, topic: &MetadataTopic) -> Result<DescribedTopic, CommandError> {
    let mut partitions = Vec::new();
    for partition in topic.partitions() {
        let (low, high) = admin
            .observer()
            .fetch_watermarks(topic.name(), partition.id(), admin.timeout())
            .map_err(|error| {
                admin.failed(&format!("can't read the offsets of {}-{}", topic.name(), partition.id()), error)
            })?;
        partitions.push(DescribedPartition {
            partition: partition.id(),
            leader: partition.leader(),
            log_start_offset: low,
            high_watermark: high,
        });
    }
    partitions.sort_by_key(|partition| partition.partition);
    let configs = configs::own_configs(admin, ResourceSpecifier::Topic(topic.name()))?;
    Ok(DescribedTopic { name: topic.name().to_owned(), partitions, configs })
}

fn create(arguments: &CreateArguments) -> Outcome {
    let configs = configs::assignments(&arguments.configs)?;
    let admin = arguments.connect.admin()?;
    // -1: the broker's own default, for partitions (KIP-464) as for the replication factor.
    let mut topic =
        NewTopic::new(&arguments.topic, arguments.partitions.unwrap_or(-1), TopicReplication::Fixed(-1));
    for (key, value) in &configs {
        topic = topic.set(key, value);
    }
    let results =
        admin.wait("can't create topics", admin.client().create_topics([&topic], &admin.options()))?;
    let done = check_each(
        "can't create",
        results.into_iter().map(|result| match result {
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) if arguments.if_not_exists => Ok(name),
            other => other,
        }),
    )?;
    let line = format!("created {}", done.join(", "));
    arguments.output.print_line(&Done { done: "created", topics: &done }, &line)
}

fn alter(arguments: &AlterArguments) -> Outcome {
    if arguments.partitions.is_none() && arguments.configs.is_empty() && arguments.deleted.is_empty() {
        return Err(CommandError::Usage(
            "nothing to alter: give --partitions, --config or --delete-config".into(),
        ));
    }
    let changes = configs::Changes::new(&arguments.configs, &arguments.deleted)?;
    let admin = arguments.connect.admin()?;
    // Options first: they are checked as a whole, and partitions can't be taken back.
    if !changes.is_empty() {
        configs::alter(&admin, ResourceSpecifier::Topic(&arguments.topic), &changes)?;
    }
    if let Some(partitions) = arguments.partitions {
        let new = NewPartitions::new(&arguments.topic, partitions as usize);
        let request = admin.client().create_partitions([&new], &admin.options());
        check_each("can't add partitions", admin.wait("can't add partitions", request)?)?;
    }
    let topics = [arguments.topic.clone()];
    arguments
        .output
        .print_line(&Done { done: "altered", topics: &topics }, &format!("altered {}", arguments.topic))
}

fn delete(
    topics: &[String],
    if_exists: bool,
    connect: &ConnectArguments,
    output: &OutputArguments,
) -> Outcome {
    let admin = connect.admin()?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let results =
        admin.wait("can't delete topics", admin.client().delete_topics(&names, &admin.options()))?;
    let done = check_each(
        "can't delete",
        results.into_iter().map(|result| match result {
            Err((name, RDKafkaErrorCode::UnknownTopicOrPartition)) if if_exists => Ok(name),
            other => other,
        }),
    )?;
    output.print_line(&Done { done: "deleted", topics: &done }, &format!("deleted {}", done.join(", ")))
}
