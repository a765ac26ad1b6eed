//! `penstock bench produce`, and the producer that the latency benchmark shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use penstock_types::{Randomness, SeededRandomness};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::time::Instant;

use super::report::{self, AgentReport, Latency, Report};
use super::{CommonArguments, ProduceBench, RecordArguments, agent_metrics, panicked, progress, topic};
use crate::cli::CommandError;
use crate::cli::client::{Context, failed};
use crate::cli::error::Outcome;
use crate::cli::interrupt::Interrupt;

/// How long the last acknowledgements may take.
const FLUSH: Duration = Duration::from_secs(120);
/// How long callbacks are waited for at a time.
const CALLBACKS: Duration = Duration::from_millis(100);
/// How long a full queue is left alone.
const FULL: Duration = Duration::from_millis(1);
/// Values are taken from a buffer of random bytes, each from another place.
const RANDOM_BYTES: usize = 4 << 20;
/// Bytes at a value's start that say when it should have been sent.
pub(super) const STAMP_BYTES: usize = 8;

/// What the producers of a benchmark count together.
#[derive(Debug)]
pub(super) struct Counts {
    /// From which times are counted.
    pub(super) origin: Instant,
    pub(super) acknowledged: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) first_error: Mutex<Option<String>>,
}

/// A producer's callbacks: each acknowledgement comes with its record's intended time.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    context: Context,
    counts: Arc<Counts>,
    latency: Mutex<Histogram<u64>>,
}

impl ClientContext for Acknowledgements {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Acknowledgements {
    /// The intended time in nanoseconds since the origin.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, intended: usize) {
        match result {
            Ok(_) => {
                let now = self.counts.origin.elapsed();
                let latency = now.saturating_sub(Duration::from_nanos(intended as u64));
                report::record(&mut self.latency.lock(), latency);
                self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.counts.first_error.lock().get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// When records are to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Records per second of one producer; `None` for as many as possible.
    pub(super) rate: Option<f64>,
    /// How long.
    pub(super) duration: Duration,
    /// How many at most.
    pub(super) most: u64,
    /// Whether what was due and couldn't be sent in time is left out in the end: overload would never end otherwise.
    pub(super) leaves_out: bool,
}

impl Schedule {
    /// When record number `number` should be sent; `None` for the first that should not.
    fn intended(&self, number: u64, now: Duration) -> Option<Duration> {
        let intended = self.rate.map_or(now, |rate| Duration::from_secs_f64(number as f64 / rate));
        let is_over = intended >= self.duration || self.leaves_out && now >= self.duration;
        (number < self.most && !is_over).then_some(intended)
    }
}

impl Counts {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_error: Mutex::new(None),
        })
    }
}

/// A producer of a benchmark.
pub(super) fn producer(
    common: &CommonArguments,
    records: &RecordArguments,
    queue_bytes: u64,
    counts: &Arc<Counts>,
) -> Result<BaseProducer<Acknowledgements>, CommandError> {
    let mut config = common.connect.client_config()?;
    let largest = records.batch_bytes.max(records.record_bytes + 1024);
    config
        .set("acks", records.acks.value())
        .set("compression.type", records.compression.name())
        .set(
            "enable.idempotence",
            (!records.no_idempotence && records.acks == crate::cli::produce::Acks::All).to_string(),
        )
        .set("linger.ms", records.linger_ms.to_string())
        .set("batch.size", records.batch_bytes.to_string())
        .set("batch.num.messages", "1000000")
        .set("message.max.bytes", largest.max(1_000_000).to_string())
        .set("queue.buffering.max.messages", "2000000")
        .set("queue.buffering.max.kbytes", (queue_bytes / 1024).to_string());
    common.connect.apply_client_options(&mut config)?;
    let context = Acknowledgements {
        context: Context::default(),
        counts: Arc::clone(counts),
        latency: Mutex::new(report::histogram()),
    };
    config.create_with_context(context).map_err(|error| CommandError::Usage(error.to_string()))
}

/// Sends on schedule, waits for the acknowledgements, returns their latencies.
///
/// Callbacks are served by a thread of their own, which blocks until there are some: a wait for the next record's time
/// neither delays them nor turns round and round on a processor that the broker may need.
pub(super) fn send_all(
    producer: &BaseProducer<Acknowledgements>,
    common: &CommonArguments,
    records: &RecordArguments,
    schedule: Schedule,
    seed: u64,
    stop: &Interrupt,
) -> Result<Histogram<u64>, CommandError> {
    let done = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                producer.poll(CALLBACKS);
            }
        });
        let outcome = send_each(producer, common, records, schedule, seed, stop);
        done.store(true, Ordering::Release);
        outcome
    });
    outcome.map(|()| producer.context().latency.lock().clone())
}

fn send_each(
    producer: &BaseProducer<Acknowledgements>,
    common: &CommonArguments,
    records: &RecordArguments,
    schedule: Schedule,
    seed: u64,
    stop: &Interrupt,
) -> Result<(), CommandError> {
    let source = random_bytes(seed);
    let length = records.record_bytes as usize;
    let origin = producer.context().counts.origin;
    let fail =
        |what: &str, error| failed(&common.connect.bootstrap, &producer.context().context, what, error);
    let mut value = vec![0; length];
    let mut number = 0;
    while let Some(intended) = schedule.intended(number, origin.elapsed()) {
        if stop.is_set() {
            break;
        }
        wait_until(origin, intended);
        let from = (number as usize).wrapping_mul(7919) % RANDOM_BYTES;
        fill(&mut value, &source, from);
        value[..STAMP_BYTES].copy_from_slice(&(intended.as_nanos() as u64).to_be_bytes());
        let record: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(&common.topic, intended.as_nanos() as usize).payload(&value);
        send_one(producer, record).map_err(|error| fail("a record can't be sent", error))?;
        number += 1;
    }
    producer.flush(FLUSH).map_err(|error| fail("not everything was acknowledged", error))
}

fn wait_until(origin: Instant, intended: Duration) {
    loop {
        let left = intended.saturating_sub(origin.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Hands a record over; waits for room while the client's queue is full.
fn send_one(
    producer: &BaseProducer<Acknowledgements>,
    mut record: BaseRecord<'_, (), [u8], usize>,
) -> Result<(), KafkaError> {
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, record)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                std::thread::park_timeout(FULL);
                record
            }
            Err((error, _)) => return Err(error),
        };
    }
}

fn random_bytes(seed: u64) -> Vec<u8> {
    let randomness = SeededRandomness::new(seed);
    (0..RANDOM_BYTES / 8).flat_map(|_| randomness.next_u64().to_le_bytes()).collect()
}

/// Copies from a place in `source`, going round.
fn fill(value: &mut [u8], source: &[u8], from: usize) {
    let mut done = 0;
    let mut at = from;
    while done < value.len() {
        let count = (value.len() - done).min(source.len() - at);
        value[done..done + count].copy_from_slice(&source[at..at + count]);
        done += count;
        at = 0;
    }
}

pub(super) fn run(arguments: &ProduceBench) -> Outcome {
    let common = &arguments.common;
    topic::ensure(common)?;
    let stop = Interrupt::take_over()?;
    let before = agent_metrics::read(common.agent_http.as_deref())?;
    let counts = Counts::new();
    let latency = send_from_all(arguments, &counts, &stop)?;
    let elapsed = counts.origin.elapsed();
    let after = agent_metrics::read(common.agent_http.as_deref())?;

    let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
    let bytes = acknowledged * u64::from(arguments.records.record_bytes);
    let mut report = Report::new("produce", elapsed, acknowledged, bytes);
    report.failed = counts.failed.load(Ordering::Relaxed);
    report.first_error = counts.first_error.lock().clone();
    report.intended_records_per_second = arguments.rate;
    report.latencies = vec![Latency::of("produce", &latency)];
    report.agent = AgentReport::between(before, after, bytes);
    report.print(common)?;
    match report.failed {
        0 => Ok(()),
        failed => Err(CommandError::Failed(format!("{failed} records were not acknowledged"))),
    }
}

/// Runs every producer in a thread and shows progress meanwhile.
fn send_from_all(
    arguments: &ProduceBench,
    counts: &Arc<Counts>,
    stop: &Interrupt,
) -> Result<Histogram<u64>, CommandError> {
    let producers = u64::from(arguments.producers);
    let schedule = Schedule {
        rate: arguments.rate.map(|rate| rate / producers as f64),
        duration: super::seconds(arguments.seconds),
        most: arguments.records_max.map_or(u64::MAX, |most| most.div_ceil(producers)),
        leaves_out: arguments.leave_out_late,
    };
    let (common, records) = (&arguments.common, &arguments.records);
    let made: Vec<BaseProducer<Acknowledgements>> = (0..producers)
        .map(|_| producer(common, records, arguments.queue_bytes, counts))
        .collect::<Result<_, _>>()?;
    let bar = progress::bar();
    let mut all = report::histogram();
    std::thread::scope(|scope| {
        let threads: Vec<_> = made
            .iter()
            .zip(records.seed..)
            .map(|(producer, seed)| {
                scope.spawn(move || send_all(producer, common, records, schedule, seed, stop))
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(100));
            let elapsed = counts.origin.elapsed().as_secs_f64();
            let bytes = counts.acknowledged.load(Ordering::Relaxed) * u64::from(records.record_bytes);
            progress::show(&bar, elapsed / arguments.seconds, bytes, elapsed);
        }
        bar.finish_and_clear();
        for thread in threads {
            let latency = thread.join().map_err(|_| panicked())??;
            all.add(&latency).map_err(|error| CommandError::Failed(error.to_string()))?;
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_fixed_beforehand() {
        let schedule = Schedule {
            rate: Some(10.0),
            duration: Duration::from_secs(1),
            most: u64::MAX,
            leaves_out: false,
        };
        let late = Duration::from_secs(100);
        assert_eq!(schedule.intended(0, late), Some(Duration::ZERO));
        assert_eq!(schedule.intended(5, late), Some(Duration::from_millis(500)));
        assert_eq!(schedule.intended(10, Duration::ZERO), None);
        assert_eq!(Schedule { leaves_out: true, ..schedule }.intended(5, late), None);
        let unbound = Schedule { rate: None, most: 3, ..schedule };
        assert_eq!(unbound.intended(2, Duration::from_millis(7)), Some(Duration::from_millis(7)));
        assert_eq!(unbound.intended(3, Duration::from_millis(7)), None);
        assert_eq!(unbound.intended(0, late), None);
    }

    #[test]
    fn values_go_round_the_random_bytes() {
        let mut value = [0; 5];
        fill(&mut value, &[1, 2, 3], 2);
        assert_eq!(value, [3, 1, 2, 3, 1]);
    }
}
