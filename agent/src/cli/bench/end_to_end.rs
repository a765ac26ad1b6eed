//! `penstock bench latency`: from the time at which a record should be sent to its acknowledgement, and to a consumer
//! that waits for it. Both ends are in this process, so that one clock measures both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::load::{Counts, STAMP_BYTES, Schedule, producer, send_all};
use super::report::{self, AgentReport, Latency, Report};
use super::{LatencyBench, agent_metrics, panicked, progress, topic};
use crate::cli::CommandError;
use crate::cli::client::{Context, failed};
use crate::cli::error::Outcome;
use crate::cli::interrupt::Interrupt;

/// How long the consumer waits for what was acknowledged.
const STRAGGLERS: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &LatencyBench) -> Outcome {
    let common = &arguments.common;
    let partitions = topic::ensure(common)?;
    let stop = Interrupt::take_over()?;
    let context = Context::default();
    let consumer = waiting_consumer(arguments, &partitions, context)?;
    let before = agent_metrics::read(common.agent_http.as_deref())?;

    let counts = Counts::new();
    let sender = producer(common, &arguments.records, 64 << 20, &counts)?;
    let schedule = Schedule {
        rate: Some(arguments.rate),
        duration: super::seconds(arguments.seconds),
        most: u64::MAX,
        leaves_out: false,
    };
    let sent = AtomicBool::new(false);
    let bar = progress::bar();
    let (produce, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&consumer, &counts, &sent));
        let producing = scope.spawn(|| {
            let outcome =
                send_all(&sender, common, &arguments.records, schedule, arguments.records.seed, &stop);
            sent.store(true, Ordering::Release);
            outcome
        });
        while !receiver.is_finished() {
            std::thread::park_timeout(Duration::from_millis(100));
            let elapsed = counts.origin.elapsed().as_secs_f64();
            let bytes =
                counts.acknowledged.load(Ordering::Relaxed) * u64::from(arguments.records.record_bytes);
            progress::show(&bar, elapsed / arguments.seconds, bytes, elapsed);
        }
        bar.finish_and_clear();
        let received = receiver.join().map_err(|_| panicked())?;
        let produce = producing.join().map_err(|_| panicked())??;
        Ok::<_, CommandError>((produce, received))
    })?;

    let elapsed = counts.origin.elapsed();
    let after = agent_metrics::read(common.agent_http.as_deref())?;
    let acknowledged = counts.acknowledged.load(Ordering::Relaxed);
    let bytes = acknowledged * u64::from(arguments.records.record_bytes);
    let mut report = Report::new("latency", elapsed, acknowledged, bytes);
    report.failed = counts.failed.load(Ordering::Relaxed);
    report.first_error = counts.first_error.lock().clone();
    report.intended_records_per_second = Some(arguments.rate);
    report.latencies = vec![Latency::of("produce", &produce), Latency::of("end-to-end", &received)];
    report.agent = AgentReport::between(before, after, bytes);
    report.print(common)?;
    let missing = acknowledged.saturating_sub(received.len());
    match (report.failed, missing) {
        (0, 0) => Ok(()),
        (0, missing) => {
            Err(CommandError::Failed(format!("{missing} acknowledged records were not received")))
        }
        (failed, _) => Err(CommandError::Failed(format!("{failed} records were not acknowledged"))),
    }
}

/// A consumer that stands at the end of every partition already.
fn waiting_consumer(
    arguments: &LatencyBench,
    partitions: &[i32],
    context: Context,
) -> Result<BaseConsumer<Context>, CommandError> {
    let common = &arguments.common;
    let mut config = common.connect.client_config()?;
    config
        .set("group.id", "penstock-bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.min.bytes", "1");
    common.connect.apply_client_options(&mut config)?;
    let consumer: BaseConsumer<Context> = common.connect.create(&config, context.clone())?;
    let fail = |what: &str, error| failed(&common.connect.bootstrap, &context, what, error);
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let (_, end) = consumer
            .fetch_watermarks(&common.topic, *partition, common.connect.timeout())
            .map_err(|error| fail("can't read a partition's end", error))?;
        list.add_partition_offset(&common.topic, *partition, Offset::Offset(end))
            .map_err(|error| fail("can't begin to read", error))?;
    }
    consumer.assign(&list).map_err(|error| fail("can't begin to read", error))?;
    Ok(consumer)
}

/// Reads until everything that was acknowledged has come, or too long after the last was sent.
fn receive(consumer: &BaseConsumer<Context>, counts: &Arc<Counts>, sent: &AtomicBool) -> Histogram<u64> {
    let mut histogram = report::histogram();
    let mut give_up: Option<Instant> = None;
    loop {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                if let Some(intended) = message.payload().and_then(stamp) {
                    report::record(&mut histogram, counts.origin.elapsed().saturating_sub(intended));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "the consumer retries"),
        }
        if sent.load(Ordering::Acquire) {
            let limit = *give_up.get_or_insert_with(|| Instant::now() + STRAGGLERS);
            let all = histogram.len() >= counts.acknowledged.load(Ordering::Relaxed);
            if all || Instant::now() >= limit {
                return histogram;
            }
        }
    }
}

fn stamp(value: &[u8]) -> Option<Duration> {
    let bytes = value.first_chunk::<STAMP_BYTES>()?;
    Some(Duration::from_nanos(u64::from_be_bytes(*bytes)))
}
