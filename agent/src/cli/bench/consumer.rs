//! `penstock bench consume`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::report::{AgentReport, Report};
use super::{CommonArguments, ConsumeBench, agent_metrics, panicked, progress, topic};
use crate::cli::CommandError;
use crate::cli::client::{Context, failed};
use crate::cli::error::Outcome;
use crate::cli::interrupt::Interrupt;

#[derive(Debug, Default)]
struct Read {
    records: AtomicU64,
    bytes: AtomicU64,
}

pub(super) fn run(arguments: &ConsumeBench) -> Outcome {
    let common = &arguments.common;
    let partitions = topic::partitions(common)?;
    let expected = expected_records(common, &partitions)?;
    let stop = Interrupt::take_over()?;
    let before = agent_metrics::read(common.agent_http.as_deref())?;
    let origin = Instant::now();
    let read = Read::default();
    read_in_all(arguments, &partitions, expected, origin, &read, &stop)?;
    let elapsed = origin.elapsed();
    let after = agent_metrics::read(common.agent_http.as_deref())?;
    let bytes = read.bytes.load(Ordering::Relaxed);
    let mut report = Report::new("consume", elapsed, read.records.load(Ordering::Relaxed), bytes);
    report.agent = AgentReport::between(before, after, bytes);
    report.print(common)
}

/// How many records the partitions hold, for the progress bar.
fn expected_records(common: &CommonArguments, partitions: &[i32]) -> Result<u64, CommandError> {
    let admin = common.connect.admin()?;
    let mut expected = 0;
    for partition in partitions {
        let (low, high) = admin
            .observer()
            .fetch_watermarks(&common.topic, *partition, admin.timeout())
            .map_err(|error| admin.failed("can't read a partition's offsets", error))?;
        expected += u64::try_from(high.saturating_sub(low)).unwrap_or(0);
    }
    Ok(expected)
}

fn read_in_all(
    arguments: &ConsumeBench,
    partitions: &[i32],
    expected: u64,
    origin: Instant,
    read: &Read,
    stop: &Interrupt,
) -> Outcome {
    let consumers = (arguments.consumers as usize).min(partitions.len().max(1));
    let bar = progress::bar();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..consumers)
            .map(|consumer| {
                let mine: BTreeSet<i32> =
                    partitions.iter().copied().skip(consumer).step_by(consumers).collect();
                scope.spawn(move || read_one(arguments, mine, origin, read, stop))
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(100));
            let records = read.records.load(Ordering::Relaxed) as f64;
            let share = records / (expected as f64).max(1.0);
            progress::show(&bar, share, read.bytes.load(Ordering::Relaxed), origin.elapsed().as_secs_f64());
        }
        bar.finish_and_clear();
        for thread in threads {
            thread.join().map_err(|_| panicked())??;
        }
        Ok(())
    })
}

/// Reads partitions from their beginning until each one's end was reached.
fn read_one(
    arguments: &ConsumeBench,
    mut unfinished: BTreeSet<i32>,
    origin: Instant,
    read: &Read,
    stop: &Interrupt,
) -> Outcome {
    let common = &arguments.common;
    let context = Context::default();
    let consumer = consumer(arguments, context.clone())?;
    let fail = |what: &str, error| failed(&common.connect.bootstrap, &context, what, error);
    let mut list = TopicPartitionList::new();
    for partition in &unfinished {
        list.add_partition_offset(&common.topic, *partition, Offset::Beginning)
            .map_err(|error| fail("can't begin to read", error))?;
    }
    consumer.assign(&list).map_err(|error| fail("can't begin to read", error))?;
    let deadline = arguments.seconds.map(super::seconds);
    // Not for each record: the clock and shared counters are not free.
    let (mut records, mut bytes) = (0u64, 0u64);
    while !unfinished.is_empty()
        && !stop.is_set()
        && deadline.is_none_or(|deadline| origin.elapsed() < deadline)
    {
        for _ in 0..1000 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += (message.payload_len() + message.key_len()) as u64;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unfinished.remove(&partition);
                    break;
                }
                Some(Err(error)) => return Err(fail("can't read on", error)),
                None => break,
            }
        }
        read.records.fetch_add(std::mem::take(&mut records), Ordering::Relaxed);
        read.bytes.fetch_add(std::mem::take(&mut bytes), Ordering::Relaxed);
    }
    Ok(())
}

fn consumer(arguments: &ConsumeBench, context: Context) -> Result<BaseConsumer<Context>, CommandError> {
    let mut config = arguments.common.connect.client_config()?;
    config
        .set("group.id", "penstock-bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("max.partition.fetch.bytes", arguments.fetch_bytes.to_string())
        .set("fetch.max.bytes", arguments.fetch_bytes.max(52_428_800).to_string())
        .set(
            "receive.message.max.bytes",
            (u64::from(arguments.fetch_bytes.max(52_428_800)) + 100_000_000).to_string(),
        )
        .set("fetch.wait.max.ms", "100");
    arguments.common.connect.apply_client_options(&mut config)?;
    arguments.common.connect.create(&config, context)
}
