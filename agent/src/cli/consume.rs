//! `penstock consume`: prints records.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::CommandError;
use super::client::{ConnectArguments, Context, failed, hear_errors};
use super::error::Outcome;
use super::interrupt::Interrupt;
use super::output::{Format, OutputArguments};

mod format;
mod from;

use format::Template;
use from::From;

/// The arguments of `consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock consume greetings --from beginning --until-end
  penstock consume greetings --from -10 --format '{partition}/{offset} {key}: {value}\\n'
  penstock consume greetings --from @1767225600000 --output json
  penstock consume greetings --group printers --from beginning")]
pub(super) struct ConsumeArguments {
    /// The topic
    topic: String,
    /// Where to begin: beginning, end, an offset, -N for the last N records of each partition, or @MS for the first
    /// record with this timestamp (milliseconds since 1970) or a later one. With --group: where a group without
    /// committed offsets begins (beginning or end)
    #[arg(long, short = 'f', default_value = "end", allow_hyphen_values = true)]
    from: From,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "N", conflicts_with = "group")]
    partition: Option<i32>,
    /// Join this consumer group: begin where it is, commit how far this got
    #[arg(long, short = 'g')]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "N")]
    max_messages: Option<u64>,
    /// Stop at what is the end of every partition when it is reached, instead of waiting for more
    #[arg(long, short = 'e')]
    until_end: bool,
    /// How to print a record: {topic} {partition} {offset} {timestamp} {key} {value} {headers}, \n and \t; --output
    /// json prints one object a line
    #[arg(long, value_name = "TEMPLATE", default_value = "{value}\\n")]
    format: Template,
    /// Read aborted transactions too
    #[arg(long)]
    read_uncommitted: bool,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &ConsumeArguments) -> Outcome {
    if arguments.group.is_some() && !matches!(arguments.from, From::Beginning | From::End) {
        return Err(CommandError::Usage("with --group, --from is beginning or end".into()));
    }
    let interrupt = Interrupt::take_over()?;
    let context = Context::default();
    let consumer = consumer(arguments, context.clone())?;
    let fail = |what: &str, error| failed(&arguments.connect.bootstrap, &context, what, error);
    let expected = match &arguments.group {
        Some(_) => {
            consumer.subscribe(&[&arguments.topic]).map_err(|error| fail("can't subscribe", error))?;
            None
        }
        None => Some(assign(arguments, &consumer, &context)?),
    };
    let outcome = print_records(arguments, &consumer, &context, &interrupt, expected);
    if arguments.group.is_some() {
        commit(&consumer).map_err(|error| fail("can't commit how far this got", error))?;
        consumer.unsubscribe();
    }
    outcome
}

fn consumer(arguments: &ConsumeArguments, context: Context) -> Result<BaseConsumer<Context>, CommandError> {
    let mut config = arguments.connect.client_config()?;
    config
        .set("group.id", arguments.group.as_deref().unwrap_or("penstock-consume"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set(
            "isolation.level",
            if arguments.read_uncommitted { "read_uncommitted" } else { "read_committed" },
        )
        .set(
            "auto.offset.reset",
            if matches!(arguments.from, From::Beginning) { "earliest" } else { "latest" },
        );
    arguments.connect.apply_client_options(&mut config)?;
    arguments.connect.create(&config, context)
}

/// Assigns the partitions at where to begin, and returns them.
fn assign(
    arguments: &ConsumeArguments,
    consumer: &BaseConsumer<Context>,
    context: &Context,
) -> Result<BTreeSet<i32>, CommandError> {
    let timeout = arguments.connect.timeout();
    let fail = |what: &str, error| {
        hear_errors(consumer, context);
        failed(&arguments.connect.bootstrap, context, what, error)
    };
    let metadata =
        consumer.fetch_metadata(None, timeout).map_err(|error| fail("can't list topics", error))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == arguments.topic);
    let topic =
        topic.ok_or_else(|| CommandError::Failed(format!("there is no topic {}", arguments.topic)))?;
    let mut partitions: BTreeSet<i32> = topic.partitions().iter().map(MetadataPartition::id).collect();
    if let Some(only) = arguments.partition {
        partitions.retain(|partition| *partition == only);
        if partitions.is_empty() {
            return Err(CommandError::Failed(format!("{} has no partition {only}", arguments.topic)));
        }
    }
    let mut list = TopicPartitionList::new();
    for partition in &partitions {
        let offset = match arguments.from {
            From::Beginning => Offset::Beginning,
            From::End => Offset::End,
            From::Offset(offset) => Offset::Offset(offset),
            From::Last(count) => Offset::OffsetTail(count),
            From::Timestamp(timestamp) => Offset::Offset(timestamp),
        };
        list.add_partition_offset(&arguments.topic, *partition, offset)
            .map_err(|error| fail("can't begin there", error))?;
    }
    if matches!(arguments.from, From::Timestamp(_)) {
        list = consumer
            .offsets_for_times(list, timeout)
            .map_err(|error| fail("can't look a timestamp up", error))?;
    }
    consumer.assign(&list).map_err(|error| fail("can't begin to read", error))?;
    Ok(partitions)
}

/// Prints until it is time to stop.
fn print_records(
    arguments: &ConsumeArguments,
    consumer: &BaseConsumer<Context>,
    context: &Context,
    interrupt: &Interrupt,
    mut expected: Option<BTreeSet<i32>>,
) -> Outcome {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut printed = 0u64;
    let mut reached: BTreeSet<i32> = BTreeSet::new();
    while !interrupt.is_set() && arguments.max_messages.is_none_or(|most| printed < most) {
        match consumer.poll(Duration::from_millis(100)) {
            None => output.flush()?,
            Some(Ok(message)) => {
                reached.remove(&message.partition());
                write(arguments, &mut output, &message)?;
                note(arguments, consumer, &message);
                printed += 1;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                reached.insert(partition);
                if expected.is_none() {
                    expected = assigned(consumer);
                }
                if arguments.until_end && expected.as_ref().is_some_and(|all| all.is_subset(&reached)) {
                    break;
                }
                // The assignment of a group changes.
                if arguments.group.is_some() {
                    expected = None;
                }
            }
            Some(Err(error)) if is_fatal(&error) => {
                output.flush()?;
                return Err(failed(&arguments.connect.bootstrap, context, "can't read on", error));
            }
            Some(Err(error)) => tracing::debug!(%error, "the client retries"),
        }
    }
    output.flush()?;
    Ok(())
}

/// Marks a record to be committed. A partition that was just taken away is its new owner's to commit.
fn note(arguments: &ConsumeArguments, consumer: &BaseConsumer<Context>, message: &BorrowedMessage<'_>) {
    if arguments.group.is_some()
        && let Err(error) = consumer.store_offset_from_message(message)
    {
        tracing::debug!(%error, "an offset is not noted");
    }
}

fn assigned(consumer: &BaseConsumer<Context>) -> Option<BTreeSet<i32>> {
    let assignment = consumer.assignment().ok()?;
    Some(assignment.elements().iter().map(TopicPartitionListElem::partition).collect())
}

/// The client goes on by itself after errors of the connection; not after a refusal.
fn is_fatal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let passing = [
        Code::BrokerTransportFailure,
        Code::AllBrokersDown,
        Code::Resolve,
        Code::OperationTimedOut,
        Code::RequestTimedOut,
        Code::NotCoordinator,
        Code::CoordinatorLoadInProgress,
        Code::CoordinatorNotAvailable,
        Code::NotLeaderForPartition,
        Code::LeaderNotAvailable,
        Code::RebalanceInProgress,
        Code::PollExceeded,
    ];
    !error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

fn write(
    arguments: &ConsumeArguments,
    output: &mut impl Write,
    message: &BorrowedMessage<'_>,
) -> io::Result<()> {
    match arguments.output.output {
        Format::Text => arguments.format.write(output, message),
        Format::Json => format::write_json(output, message),
    }
}

/// Commits what was stored, if anything was.
fn commit(consumer: &BaseConsumer<Context>) -> Result<(), KafkaError> {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) => Ok(()),
        outcome => outcome,
    }
}
