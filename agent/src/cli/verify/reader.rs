//! The readers of a run: those that follow, the one that reads everything at the end, and who asks for the ends.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::Run;
use super::ledger::{Follow, Violation};
use super::record::{self, Content};
use crate::cli::CommandError;
use crate::cli::client::{Context, failed};
use crate::cli::error::Outcome;

/// How long records are waited for at a time.
const POLL: Duration = Duration::from_millis(100);
/// How often the ends are asked for.
const ENDS: Duration = Duration::from_millis(500);
/// How long an answer about ends is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads all partitions from their beginnings.
struct Reader<'a> {
    run: &'a Run<'a>,
    consumer: BaseConsumer<Context>,
    follows: BTreeMap<i32, Follow>,
}

impl<'a> Reader<'a> {
    fn new(run: &'a Run<'a>) -> Result<Self, CommandError> {
        let (consumer, context) = consumer(run)?;
        let mut list = TopicPartitionList::new();
        let fail = |error| failed(&run.arguments.connect.bootstrap, &context, "can't begin to read", error);
        for partition in run.ledger.partitions() {
            list.add_partition_offset(&run.topic, partition, Offset::Offset(0)).map_err(fail)?;
        }
        consumer.assign(&list).map_err(fail)?;
        let follows = run.ledger.partitions().map(|partition| (partition, Follow::default())).collect();
        Ok(Self { run, consumer, follows })
    }

    /// Takes what comes within a moment.
    fn poll(&mut self) {
        for _ in 0..1_000 {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.run.look(&mut self.follows, &message),
                // Connections come and go; whatever can't be read in the end is told.
                Some(Err(error)) => self.run.reading_failed(&error),
                None => return,
            }
        }
    }

    /// Reads to the ends that are known, as long as something comes: until nothing did for the time that everything may
    /// take to settle.
    fn finish(&mut self) {
        let (mut read, mut until) = (0, None);
        loop {
            self.poll();
            let behind = self.behind();
            if behind.is_empty() {
                return;
            }
            let read_now: u64 = self.follows.values().map(|follow| follow.next).sum();
            if read_now != read {
                (read, until) = (read_now, None);
            }
            if Instant::now() >= *until.get_or_insert_with(|| self.run.deadline()) {
                self.run.unreadable(behind);
                return;
            }
        }
    }

    /// The partitions that have not been read to their end.
    fn behind(&self) -> Vec<(i32, u64, u64)> {
        let least_end = |partition| self.run.ledger.least_end(partition);
        let behind = |(partition, follow): (&i32, &Follow)| (*partition, follow.next, least_end(*partition));
        self.follows.iter().map(behind).filter(|(_, next, end)| next < end).collect()
    }
}

impl Run<'_> {
    fn look(&self, follows: &mut BTreeMap<i32, Follow>, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        let (Ok(offset), Some(follow)) = (u64::try_from(message.offset()), follows.get_mut(&partition))
        else {
            return self.ledger.found(Violation::Foreign, format!("partition {partition}: not of the topic"));
        };
        let place = || format!("partition {partition}, offset {offset}");
        let expected = follow.next;
        if let Some(violation) = follow.step(offset) {
            self.ledger.found(violation, format!("{}: {expected} was expected", place()));
        }
        match record::read(message.payload(), self.id, partition) {
            Content::Sound(identity) => {
                if let Some(violation) = follow.record(identity) {
                    self.ledger.found(violation, format!("{}: {identity:?}", place()));
                }
                self.ledger.read(partition, offset, identity);
            }
            Content::Foreign => self.ledger.found(Violation::Foreign, place()),
            Content::Damaged => self.ledger.found(Violation::Damaged, place()),
        }
    }

    fn reading_failed(&self, error: &KafkaError) {
        let refused = [RDKafkaErrorCode::OffsetOutOfRange, RDKafkaErrorCode::AutoOffsetReset];
        if error.rdkafka_error_code().is_some_and(|code| refused.contains(&code)) {
            self.ledger.found(Violation::OutOfRange, error.to_string());
        } else {
            tracing::debug!(%error, "a reader's poll");
        }
    }

    fn unreadable(&self, behind: Vec<(i32, u64, u64)>) {
        for (partition, next, end) in behind {
            self.ledger.found(
                Violation::Unreadable,
                format!("partition {partition}: read up to {next}, and it ends at {end} at least"),
            );
        }
    }
}

fn consumer(run: &Run<'_>) -> Result<(BaseConsumer<Context>, Context), CommandError> {
    let context = Context::default();
    let mut config = run.arguments.connect.client_config()?;
    config
        .set("group.id", "penstock-verify")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_uncommitted")
        .set("fetch.wait.max.ms", "500");
    run.arguments.connect.apply_client_options(&mut config)?;
    Ok((run.arguments.connect.create(&config, context.clone())?, context))
}

/// Follows while it is written, and then to the end.
pub(super) fn follow(run: &Run<'_>) -> Outcome {
    let mut reader = Reader::new(run)?;
    while !run.written.load(Ordering::Acquire) {
        reader.poll();
    }
    reader.finish();
    Ok(())
}

/// Reads everything from the beginning, as a consumer that comes late, and holds it against what was acknowledged.
pub(super) fn read_all(run: &Run<'_>) -> Outcome {
    let mut reader = Reader::new(run)?;
    reader.finish();
    for (partition, follow) in &reader.follows {
        run.ledger.judge(*partition, follow.next);
    }
    Ok(())
}

/// Asks for the partitions' ends while it is written, and once more afterwards.
pub(super) fn watch_ends(run: &Run<'_>) -> Outcome {
    let (consumer, _) = consumer(run)?;
    loop {
        let written = run.written.load(Ordering::Acquire);
        let until = written.then(|| run.deadline());
        for partition in run.ledger.partitions() {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            let least = run.ledger.least_end(partition);
            match consumer.fetch_watermarks(&run.topic, partition, PATIENCE) {
                Ok((_, end)) => run.ledger.end(partition, least, u64::try_from(end).unwrap_or(0)),
                Err(error) => tracing::debug!(%error, partition, "the end wasn't told"),
            }
        }
        if written {
            return Ok(());
        }
        std::thread::park_timeout(ENDS);
    }
}
