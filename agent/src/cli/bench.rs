//! `penstock bench`: load with honest clocks.
//!
//! At a given rate the load is open: each record has a time at which it should be sent, fixed beforehand, and its
//! latency counts from then, so that a slow cluster can't slow the measurement down and look fast (coordinated
//! omission). Without a rate the load is as much as the clients can send, and latency counts from sending.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::CommandError;
use super::client::ConnectArguments;
use super::error::Outcome;
use super::output::OutputArguments;
use super::produce::{Acks, Compression};

mod agent_metrics;
mod consumer;
mod end_to_end;
mod load;
pub(super) mod progress;
pub(super) mod report;
mod topic;

/// The arguments of `bench`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measure producing: throughput, and latency from the intended send time to the acknowledgement
    #[command(after_help = "\
Examples:
  penstock bench produce --seconds 30 --agent-http 127.0.0.1:9644
  penstock bench produce --rate 1000 --record-bytes 100 --linger-ms 0 --seconds 60")]
    Produce(ProduceBench),
    /// Measure consuming a topic from its beginning
    #[command(
        after_help = "Example:\n  penstock bench consume --topic bench --consumers 2 --agent-http 127.0.0.1:9644"
    )]
    Consume(ConsumeBench),
    /// Measure latency from the intended send time to the acknowledgement and to a waiting consumer
    #[command(after_help = "Example:\n  penstock bench latency --rate 100 --seconds 30")]
    Latency(LatencyBench),
}

/// Which topic, and whom to ask for the agent's own numbers.
#[derive(Debug, Args)]
struct CommonArguments {
    /// The topic; made if it doesn't exist
    #[arg(long, short = 't', default_value = "bench")]
    topic: String,
    /// Partitions of the topic, if it is made
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// The agent's HTTP address, to report its CPU time, memory and object store requests
    #[arg(long, value_name = "HOST:PORT")]
    agent_http: Option<String>,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is sent, and how.
#[derive(Debug, Args)]
struct RecordArguments {
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=64 << 20))]
    record_bytes: u32,
    /// The largest batch of records, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(64..=64 << 20))]
    batch_bytes: u32,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger_ms: u64,
    /// How many acknowledgements to wait for
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,
    /// Compress batches; values are random, so this costs time and saves nothing
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: Compression,
    /// Don't number records against duplicates
    #[arg(long)]
    no_idempotence: bool,
    /// Seed of the values
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct ProduceBench {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    records: RecordArguments,
    /// Producers, each with connections and a thread of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    producers: u32,
    /// Records per second of all producers together; without it as many as possible
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// How long to send
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    /// Stop after so many records, if that is sooner
    #[arg(long, value_name = "N")]
    records_max: Option<u64>,
    /// Stop when the time is over, though records that were due by the rate are not sent yet (overload)
    #[arg(long)]
    leave_out_late: bool,
    /// Bytes that a producer holds unacknowledged before it waits
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(256 << 10..=2 << 30))]
    queue_bytes: u64,
}

#[derive(Debug, Args)]
struct ConsumeBench {
    #[command(flatten)]
    common: CommonArguments,
    /// Consumers, each with connections and a thread of its own; they share the partitions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    consumers: u32,
    /// Stop after so many seconds, if the end isn't reached sooner
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// The largest answer to a fetch of one partition, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1024..=1_000_000_000))]
    fetch_bytes: u32,
}

#[derive(Debug, Args)]
struct LatencyBench {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    records: RecordArguments,
    /// Records per second
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = positive)]
    rate: f64,
    /// How long to send
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number <= 1e9 => Ok(number),
        Ok(_) | Err(_) => Err("a number above 0 is needed".into()),
    }
}

pub(super) fn run(arguments: &BenchArguments) -> Outcome {
    match &arguments.command {
        BenchCommand::Produce(arguments) => load::run(arguments),
        BenchCommand::Consume(arguments) => consumer::run(arguments),
        BenchCommand::Latency(arguments) => end_to_end::run(arguments),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A thread of a benchmark has panicked.
fn panicked() -> CommandError {
    CommandError::Failed("a thread of the benchmark panicked".into())
}
