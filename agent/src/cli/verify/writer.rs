//! A producer of a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::time::Instant;

use super::Run;
use super::record::{self, Identity};
use crate::cli::CommandError;
use crate::cli::bench::report;
use crate::cli::client::{Context, failed};

/// How long callbacks are waited for at a time.
const CALLBACKS: Duration = Duration::from_millis(100);
/// How long a full queue is left alone.
const FULL: Duration = Duration::from_millis(5);

/// A record on its way.
struct Sent {
    identity: Identity,
    at: Instant,
}

/// A producer's callbacks.
struct Acknowledgements<'a> {
    run: &'a Run<'a>,
    context: Context,
    latency: Mutex<Histogram<u64>>,
    /// By partition: the last offset that was made up.
    made_up: Mutex<BTreeMap<i32, i64>>,
}

impl Acknowledgements<'_> {
    /// The offset that a broker told. Where it told none (-1), librdkafka counts on from that for the rest of the batch.
    fn told(&self, partition: i32, offset: i64) -> Option<u64> {
        let mut made_up = self.made_up.lock();
        let goes_on = made_up.get(&partition).is_some_and(|last| *last + 1 == offset);
        if offset < 0 || goes_on {
            made_up.insert(partition, offset);
            return None;
        }
        made_up.remove(&partition);
        u64::try_from(offset).ok()
    }
}

impl ClientContext for Acknowledgements<'_> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl ProducerContext for Acknowledgements<'_> {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(message) => {
                report::record(&mut self.latency.lock(), sent.at.elapsed());
                let offset = self.told(message.partition(), message.offset());
                self.run.ledger.acknowledged(message.partition(), sent.identity, offset);
            }
            Err((error, message)) => {
                tracing::debug!(%error, partition = message.partition(), "a record was given up");
                self.run.ledger.failed();
            }
        }
    }
}

/// Writes on schedule until the time is over; the latencies of what was acknowledged.
pub(super) fn write(run: &Run<'_>, number: u32) -> Result<Histogram<u64>, CommandError> {
    let connect = &run.arguments.connect;
    let mut config = connect.client_config()?;
    let patience = run.arguments.settle + Duration::from_secs(120);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.max.bytes", (run.arguments.record_bytes + 1_024).max(1_000_000).to_string())
        .set("message.timeout.ms", patience.as_millis().to_string());
    connect.apply_client_options(&mut config)?;
    let context = Acknowledgements {
        run,
        context: Context::default(),
        latency: Mutex::new(report::histogram()),
        made_up: Mutex::default(),
    };
    let producer: BaseProducer<Acknowledgements<'_>> =
        config.create_with_context(context).map_err(|error| CommandError::Usage(error.to_string()))?;
    let done = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                producer.poll(CALLBACKS);
            }
        });
        let outcome = send(run, number, &producer);
        done.store(true, Ordering::Release);
        outcome
    });
    let fail =
        |error| failed(&connect.bootstrap, &producer.context().context, "a record can't be sent", error);
    outcome.map_err(fail)?;
    let latency = producer.context().latency.lock().clone();
    Ok(latency)
}

fn send(
    run: &Run<'_>,
    producer_number: u32,
    producer: &BaseProducer<Acknowledgements<'_>>,
) -> Result<(), KafkaError> {
    let rate = f64::from(run.arguments.rate) / f64::from(run.arguments.producers);
    let mut value = vec![0; run.arguments.record_bytes as usize];
    let key = format!("producer-{producer_number}");
    for number in 0u64.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= run.arguments.duration || run.begun.elapsed() >= run.arguments.duration || run.stop.is_set()
        {
            break;
        }
        while let Some(left) = due.checked_sub(run.begun.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        let partition = (number % run.arguments.partitions as u64) as i32;
        let identity = run.ledger.next(partition, producer_number);
        record::write(&mut value, run.id, partition, identity);
        let sent = Box::new(Sent { identity, at: Instant::now() });
        let record =
            BaseRecord::with_opaque_to(&run.topic, sent).payload(&value).key(&key).partition(partition);
        send_one(producer, record)?;
    }
    match producer.flush(run.arguments.settle) {
        // What is not acknowledged by then may be there or not: it is told in the counts.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut) => Ok(()),
        other => other,
    }
}

/// Hands a record over; waits for room while the client's queue is full.
fn send_one<'a>(
    producer: &BaseProducer<Acknowledgements<'_>>,
    mut record: BaseRecord<'a, String, Vec<u8>, Box<Sent>>,
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
