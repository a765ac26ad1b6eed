//! `penstock verify`: writes and reads load of which everything is known, and says what is not as it should be.
//!
//! It is a client like any other, of any Kafka-compatible cluster: idempotent producers that know what was acknowledged
//! at which offset, readers that follow while it is written, and at the end one that reads it all from the beginning. What
//! was not acknowledged may be there once or not at all; everything else has one right answer.
//!
//! Deliberately absent: consumer groups and transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use penstock_types::{OsRandomness, Randomness};
use rdkafka::admin::{NewTopic, TopicReplication};
use tokio::time::Instant;

use super::CommandError;
use super::bench::progress;
use super::client::{ConnectArguments, check_each};
use super::error::Outcome;
use super::interrupt::Interrupt;
use super::output::OutputArguments;

mod ledger;
mod reader;
mod record;
mod report;
#[cfg(test)]
mod tests;
mod writer;

use ledger::Ledger;
use report::Report;

/// The arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0: everything acknowledged is there once, in order, at its offset, as it was written; 1: something is not, \
or nothing could be acknowledged.

It makes a topic of its own and deletes it in the end. It remembers about 50 bytes a record.

Examples:
  penstock verify --bootstrap broker:9092 --duration 10m
  penstock verify --duration 1h --rate 20000 --output json > report.json")]
pub(super) struct VerifyArguments {
    /// How long to write: seconds, or with a unit (90s, 10m, 2h)
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    duration: Duration,
    /// Records per second of all producers together
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// Producers, each with connections and threads of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=256))]
    producers: u32,
    /// Readers that follow all partitions while they are written
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=64))]
    readers: u32,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    record_bytes: u32,
    /// Copies that the cluster keeps of the topic; its own default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100))]
    replication_factor: Option<i32>,
    /// How long after the writing everything may take to be acknowledged, and then to be readable
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    settle: Duration,
    /// The topic, which must not exist; a name of its own if not given
    #[arg(long, short = 't')]
    topic: Option<String>,
    /// Keep the topic
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Seconds, or a number with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().find(|(_, letter)| letter.is_ascii_alphabetic()) {
        Some((at, _)) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("units are ms, s, m, h and d".to_owned()),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number * seconds <= 3e7 => {
            Ok(Duration::from_secs_f64(number * seconds))
        }
        Ok(_) | Err(_) => Err("a time above 0 is needed, for example 90s or 10m".to_owned()),
    }
}

/// What all threads of a run share.
struct Run<'a> {
    arguments: &'a VerifyArguments,
    topic: String,
    /// Tells this run's records from all others.
    id: u64,
    ledger: Ledger,
    begun: Instant,
    stop: Interrupt,
    /// Nothing more is written.
    written: AtomicBool,
}

pub(super) fn run(arguments: &VerifyArguments) -> Outcome {
    let id = OsRandomness::default().next_u64();
    let topic = arguments.topic.clone().unwrap_or_else(|| format!("penstock-verify-{id:016x}"));
    make_topic(arguments, &topic)?;
    let run = Run {
        arguments,
        topic,
        id,
        ledger: Ledger::new(arguments.partitions as usize, arguments.producers as usize),
        begun: Instant::now(),
        stop: Interrupt::take_over()?,
        written: AtomicBool::new(false),
    };
    let mut latency = super::bench::report::histogram();
    let outcome = run.verify(&mut latency);
    let report = Report::of(&run, &latency);
    if !arguments.keep {
        delete_topic(&run);
    }
    // Whatever ended the run early: what was found until then is told.
    let printed = report.print(&arguments.output);
    outcome.and(printed)
}

impl Run<'_> {
    fn verify(&self, latency: &mut Histogram<u64>) -> Outcome {
        let bar = progress::bar();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..self.arguments.producers)
                .map(|of| scope.spawn(move || writer::write(self, of)))
                .collect();
            let readers: Vec<_> =
                (0..self.arguments.readers).map(|_| scope.spawn(|| reader::follow(self))).collect();
            let ends = scope.spawn(|| reader::watch_ends(self));
            while writers.iter().any(|thread| !thread.is_finished()) {
                std::thread::park_timeout(Duration::from_millis(100));
                self.show(&bar);
            }
            let mut outcome = Ok(());
            for thread in writers {
                match thread.join().map_err(|_| panicked()).flatten() {
                    Ok(of_one) => {
                        latency.add(&of_one).map_err(|error| CommandError::Failed(error.to_string()))?;
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            // The readers end by it, whatever became of the writers.
            self.written.store(true, Ordering::Release);
            for thread in readers.into_iter().chain([ends]) {
                while !thread.is_finished() {
                    std::thread::park_timeout(Duration::from_millis(100));
                    self.show(&bar);
                }
                outcome = outcome.and(thread.join().map_err(|_| panicked()).flatten());
            }
            outcome
        })?;
        bar.set_message("reading everything once more");
        reader::read_all(self)?;
        bar.finish_and_clear();
        Ok(())
    }

    fn show(&self, bar: &indicatif::ProgressBar) {
        let share = self.begun.elapsed().as_secs_f64() / self.arguments.duration.as_secs_f64();
        bar.set_position((share.clamp(0.0, 1.0) * progress::STEPS as f64) as u64);
        let counts = self.ledger.counts();
        bar.set_message(format!(
            "{} acknowledged, {} failed, {} violations",
            counts.acknowledged, counts.failed, counts.violations
        ));
    }

    /// Until when what is written has to be acknowledged, or readable, from now on.
    fn deadline(&self) -> Instant {
        Instant::now() + self.arguments.settle
    }
}

fn make_topic(arguments: &VerifyArguments, topic: &str) -> Outcome {
    let admin = arguments.connect.admin()?;
    let replication = TopicReplication::Fixed(arguments.replication_factor.unwrap_or(-1));
    let new = NewTopic::new(topic, arguments.partitions, replication);
    let results =
        admin.wait("can't make the topic", admin.client().create_topics([&new], &admin.options()))?;
    check_each("can't make the topic", results).map(drop)
}

/// Whatever happens to it, the verdict stands.
fn delete_topic(run: &Run<'_>) {
    let deleted = run.arguments.connect.admin().and_then(|admin| {
        let request = admin.client().delete_topics(&[&run.topic], &admin.options());
        check_each("can't delete it", admin.wait("can't delete it", request)?)
    });
    if let Err(error) = deleted {
        eprintln!("warning: topic {} is left: {error}", run.topic);
    }
}

/// A thread of the run has panicked.
fn panicked() -> CommandError {
    CommandError::Failed("a thread of the verification panicked".into())
}
