//! rdkafka (librdkafka).

use std::time::Duration;

use anyhow::{Context, Result, bail};
use penstock_tests::nap;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Runtime;

use crate::flow::{Client, Consumer, DEADLINE, From, Record, Special};

const POLL: Duration = Duration::from_millis(200);

pub struct Rdkafka {
    bootstrap: String,
    runtime: Runtime,
    admin: AdminClient<DefaultClientContext>,
}

impl Rdkafka {
    pub fn connect(bootstrap: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        Ok(Self { bootstrap: bootstrap.to_owned(), runtime, admin })
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "500")
            .set("fetch.wait.max.ms", "100")
            .create()?;
        Ok(consumer)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(DEADLINE))
}

/// The answer about the one thing that was asked for.
fn only<T>(answers: Vec<Result<T, (String, RDKafkaErrorCode)>>) -> Result<()> {
    for answer in answers {
        match answer {
            Ok(_) => {}
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => return Err(Special::Exists.into()),
            Err((_, code)) => return Err(Special::Refused(format!("{code:?}")).into()),
        }
    }
    Ok(())
}

impl Client for Rdkafka {
    fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let topic = config.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        only(self.runtime.block_on(self.admin.create_topics(&[topic], &options()))?)
    }

    fn list_topics(&self) -> Result<Vec<String>> {
        let metadata = self.admin.inner().fetch_metadata(None, DEADLINE)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    fn partition_count(&self, topic: &str) -> Result<usize> {
        let metadata = self.admin.inner().fetch_metadata(Some(topic), DEADLINE)?;
        Ok(metadata.topics().first().context("the topic's metadata")?.partitions().len())
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        only(self.runtime.block_on(self.admin.delete_topics(&[topic], &options()))?)
    }

    fn describe_config(&self, topic: &str, name: &str) -> Result<String> {
        let of = ResourceSpecifier::Topic(topic);
        let mut answers = self.runtime.block_on(self.admin.describe_configs([&of], &options()))?;
        let resource =
            answers.pop().context("an answer")?.map_err(|code| Special::Refused(format!("{code:?}")))?;
        resource
            .get(name)
            .and_then(|entry| entry.value.clone())
            .with_context(|| format!("no value of {name}"))
    }

    fn alter_config(&self, topic: &str, name: &str, value: &str) -> Result<()> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let answers = self.runtime.block_on(self.admin.alter_configs([&change], &options()))?;
        only(answers.into_iter().map(|answer| answer.map_err(|(_, code)| (topic.to_owned(), code))).collect())
    }

    /// It drops the errors of single resources.
    fn tells_refused_configs(&self) -> bool {
        false
    }

    fn create_partitions(&self, topic: &str, total: usize) -> Result<()> {
        let wanted = NewPartitions::new(topic, total);
        only(self.runtime.block_on(self.admin.create_partitions([&wanted], &options()))?)
    }

    fn list_groups(&self) -> Result<Vec<String>> {
        let groups = self.admin.inner().fetch_group_list(None, DEADLINE)?;
        Ok(groups.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    fn describe_group(&self, group: &str) -> Result<(String, usize)> {
        let groups = self.admin.inner().fetch_group_list(Some(group), DEADLINE)?;
        let described = groups.groups().first().context("the group")?;
        Ok((described.state().to_owned(), described.members().len()))
    }

    fn delete_group(&self, group: &str) -> Result<()> {
        only(self.runtime.block_on(self.admin.delete_groups(&[group], &options()))?)
    }

    fn produce(&self, topic: &str, records: &[Record], codec: &str, idempotent: bool) -> Result<Vec<i64>> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("compression.type", codec)
            .set("enable.idempotence", idempotent.to_string())
            .set("linger.ms", "20")
            .create()?;
        let mut sent = Vec::new();
        for record in records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            let mut out = FutureRecord::to(topic)
                .key(&record.key)
                .payload(&record.value)
                .headers(headers)
                .partition(record.partition);
            out.timestamp = record.timestamp;
            sent.push(producer.send_result(out).map_err(|(error, _)| error)?);
        }
        let mut offsets = Vec::new();
        for delivery in sent {
            let delivered = self.runtime.block_on(delivery).context("the producer ended")?;
            offsets.push(delivered.map_err(|(error, _)| error)?.offset);
        }
        Ok(offsets)
    }

    fn assign(&self, topic: &str, partition: i32, from: From) -> Result<Box<dyn Consumer>> {
        let consumer = self.consumer(&format!("{topic}-unused"))?;
        let offset = match from {
            From::Start => Offset::Beginning,
            From::End => Offset::End,
            From::Offset(offset) => Offset::Offset(offset),
        };
        let mut assigned = TopicPartitionList::new();
        assigned.add_partition_offset(topic, partition, offset)?;
        consumer.assign(&assigned)?;
        Ok(Box::new(Reader(consumer)))
    }

    fn join(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>> {
        let consumer = self.consumer(group)?;
        consumer.subscribe(&[topic])?;
        Ok(Box::new(Reader(consumer)))
    }

    fn offset_for_time(&self, topic: &str, partition: i32, milliseconds: i64) -> Result<Option<i64>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, partition, Offset::Offset(milliseconds))?;
        let found = self.consumer(&format!("{topic}-unused"))?.offsets_for_times(asked, DEADLINE)?;
        let found = found.find_partition(topic, partition).context("the partition")?;
        found.error()?;
        match found.offset() {
            Offset::Offset(offset) => Ok(Some(offset)),
            // Past the last record librdkafka gives the logical end.
            Offset::End => Ok(None),
            other => bail!("an offset of {other:?}"),
        }
    }
}

struct Reader(BaseConsumer);

impl Consumer for Reader {
    fn poll(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let mut wait = POLL;
        while let Some(message) = self.0.poll(wait) {
            records.push(record(&message?)?);
            wait = Duration::ZERO;
        }
        Ok(records)
    }

    fn held(&self) -> Result<Vec<i32>> {
        Ok(self.0.assignment()?.elements().iter().map(TopicPartitionListElem::partition).collect())
    }

    fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        // The group may be about to go into its next generation.
        for _ in 0..10 {
            match self.0.commit(&offsets, CommitMode::Sync) {
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress) => {
                    nap(POLL);
                }
                committed => return Ok(committed?),
            }
        }
        bail!("the group does not settle")
    }
}

fn record(message: &BorrowedMessage<'_>) -> Result<Record> {
    let text = |bytes: Option<&[u8]>| {
        Ok::<_, anyhow::Error>(std::str::from_utf8(bytes.context("bytes")?)?.to_owned())
    };
    let mut headers = Vec::new();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        headers.push((header.key.to_owned(), text(header.value)?));
    }
    Ok(Record {
        key: text(message.key())?,
        value: text(message.payload())?,
        headers,
        partition: message.partition(),
        timestamp: message.timestamp().to_millis(),
        offset: message.offset(),
    })
}
