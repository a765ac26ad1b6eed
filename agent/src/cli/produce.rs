//! `penstock produce`: lines of standard input become records.

use std::io::{self, BufRead};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Serialize;

use super::CommandError;
use super::client::{ConnectArguments, Context, failed};
use super::error::{Outcome, code_text};
use super::output::{Format, OutputArguments};

/// A compression codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    /// The codec's name in the client library's options.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// How many acknowledgements a producer waits for. On a Penstock cluster 1 and all mean the same: the record is in
/// the object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    /// None: records can be lost
    #[value(name = "0")]
    None,
    /// The leader's
    #[value(name = "1")]
    One,
    /// All replicas'
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// The value of the client library's option.
    pub(super) fn value(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::One => "1",
            Self::All => "all",
        }
    }
}

/// The arguments of `produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | penstock produce greetings
  printf 'k1:v1\\nk2:v2\\n' | penstock produce greetings --key-separator : --header source=shell
  penstock produce greetings --compression zstd --idempotent < lines.txt")]
pub(super) struct ProduceArguments {
    /// The topic
    topic: String,
    /// What stands between key and value in a line; a line without it has no key
    #[arg(long, short = 'k', value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; can be given several times
    #[arg(long = "header", short = 'H', value_name = "KEY=VALUE")]
    headers: Vec<String>,
    /// Send everything to this partition; without it the key decides
    #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A line that is exactly this text becomes a record without a value (a tombstone in compacted topics)
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// How many acknowledgements to wait for
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,
    /// Compress batches
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: Compression,
    /// Number the records so that a retry never makes a duplicate; needs --acks all
    #[arg(long)]
    idempotent: bool,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Counts what was acknowledged.
#[derive(Debug, Default)]
struct Deliveries {
    context: Context,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let code = error.rdkafka_error_code().map_or_else(|| error.to_string(), code_text);
                self.first_error.lock().get_or_insert(code);
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    acknowledged: u64,
    refused: u64,
    first_error: Option<String>,
}

pub(super) fn run(arguments: &ProduceArguments) -> Outcome {
    if arguments.idempotent && arguments.acks != Acks::All {
        return Err(CommandError::Usage("--idempotent needs --acks all".into()));
    }
    let headers = headers(&arguments.headers)?;
    let producer = producer(arguments)?;
    for line in io::stdin().lock().split(b'\n') {
        let line = line.map_err(|source| CommandError::Io { what: "can't read standard input", source })?;
        let (key, value) = split(&line, arguments);
        send(arguments, &producer, key, value, headers.as_ref())?;
    }
    let deadline = arguments.connect.timeout().max(Duration::from_secs(30));
    let flushed = producer.flush(deadline);
    let context = &producer.context().context;
    if let Err(error) = flushed {
        return Err(failed(&arguments.connect.bootstrap, context, "not everything was acknowledged", error));
    }
    summarize(arguments, &producer)
}

fn producer(arguments: &ProduceArguments) -> Result<BaseProducer<Deliveries>, CommandError> {
    let mut config = arguments.connect.client_config()?;
    config
        .set("acks", arguments.acks.value())
        .set("compression.type", arguments.compression.name())
        .set("enable.idempotence", arguments.idempotent.to_string())
        .set("linger.ms", "5");
    arguments.connect.apply_client_options(&mut config)?;
    config.create_with_context(Deliveries::default()).map_err(|error| CommandError::Usage(error.to_string()))
}

fn headers(arguments: &[String]) -> Result<Option<OwnedHeaders>, CommandError> {
    let mut headers = OwnedHeaders::new_with_capacity(arguments.len());
    for argument in arguments {
        let (key, value) = argument
            .split_once('=')
            .ok_or_else(|| CommandError::Usage(format!("--header {argument} has no =: write KEY=VALUE")))?;
        headers = headers.insert(Header { key, value: Some(value) });
    }
    Ok((!arguments.is_empty()).then_some(headers))
}

/// Key and value of a line.
fn split<'a>(line: &'a [u8], arguments: &ProduceArguments) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let separator = arguments.key_separator.as_deref().filter(|separator| !separator.is_empty());
    let found = separator.and_then(|separator| {
        let separator = separator.as_bytes();
        let at = line.windows(separator.len()).position(|window| window == separator)?;
        Some((&line[..at], &line[at + separator.len()..]))
    });
    let (key, value) = found.map_or((None, line), |(key, value)| (Some(key), value));
    let is_null = arguments.null_value.as_deref().is_some_and(|null| null.as_bytes() == value);
    (key, (!is_null).then_some(value))
}

/// Hands a record to the client; waits while its queue is full.
fn send(
    arguments: &ProduceArguments,
    producer: &BaseProducer<Deliveries>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: Option<&OwnedHeaders>,
) -> Outcome {
    let mut record: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(&arguments.topic);
    record.key = key;
    record.payload = value;
    record.partition = arguments.partition;
    record.headers = headers.cloned();
    loop {
        record = match producer.send(record) {
            Ok(()) => break,
            Err((error, record)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(Duration::from_millis(10));
                record
            }
            Err((error, _)) => {
                let context = &producer.context().context;
                return Err(failed(&arguments.connect.bootstrap, context, "a record can't be sent", error));
            }
        };
    }
    producer.poll(Duration::ZERO);
    Ok(())
}

fn summarize(arguments: &ProduceArguments, producer: &BaseProducer<Deliveries>) -> Outcome {
    let deliveries = producer.context();
    let summary = Summary {
        acknowledged: deliveries.acknowledged.load(Ordering::Relaxed),
        refused: deliveries.refused.load(Ordering::Relaxed),
        first_error: deliveries.first_error.lock().clone(),
    };
    match arguments.output.output {
        Format::Json => arguments.output.print_line(&summary, "")?,
        Format::Text => eprintln!("{} acknowledged, {} refused", summary.acknowledged, summary.refused),
    }
    match summary.first_error {
        None => Ok(()),
        Some(error) => {
            let silent = deliveries.context.transport_error().map(|reason| format!(" ({reason})"));
            let reason = format!("{} records were not acknowledged: {error}", summary.refused);
            Err(CommandError::Failed(reason + &silent.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ProduceArguments,
    }

    fn arguments(line: &[&str]) -> ProduceArguments {
        Line::try_parse_from([&["produce", "t"], line].concat()).expect("a valid command line").arguments
    }

    #[test]
    fn lines_are_split_at_the_first_separator() {
        let plain = arguments(&[]);
        assert_eq!(split(b"a:b\r", &plain), (None, Some(&b"a:b"[..])));
        let keyed = arguments(&["--key-separator", "::", "--null-value", "NULL"]);
        assert_eq!(split(b"a::b::c", &keyed), (Some(&b"a"[..]), Some(&b"b::c"[..])));
        assert_eq!(split(b"a:b", &keyed), (None, Some(&b"a:b"[..])));
        assert_eq!(split(b"a::NULL", &keyed), (Some(&b"a"[..]), None));
        assert_eq!(split(b"::b", &keyed), (Some(&b""[..]), Some(&b"b"[..])));
        assert_eq!(split(b"", &keyed), (None, Some(&b""[..])));
    }

    #[test]
    fn idempotence_needs_all_acknowledgements() {
        let wrong = arguments(&["--idempotent", "--acks", "1"]);
        assert!(matches!(run(&wrong), Err(CommandError::Usage(_))));
    }
}
