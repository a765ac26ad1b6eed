//! rskafka (pure Rust; topics and partitions, no groups).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rskafka::chrono::DateTime;
use rskafka::client::controller::ControllerClient;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{self, ClientBuilder};
use rskafka::record::{Record as RskafkaRecord, RecordAndOffset};
use tokio::runtime::Handle;
use tokio::runtime::Runtime;

use crate::flow::{Client, Consumer, From, Record, Special};

const TIMEOUT_MS: i32 = 20_000;
const WAIT_MS: i32 = 200;
const FETCH_BYTES: i32 = 1 << 20;

pub struct Rskafka {
    runtime: Runtime,
    client: client::Client,
    controller: ControllerClient,
}

impl Rskafka {
    pub fn connect(bootstrap: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(ClientBuilder::new(vec![bootstrap.to_owned()]).build())?;
        let controller = client.controller_client()?;
        Ok(Self { runtime, client, controller })
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<PartitionClient> {
        let made = self.client.partition_client(topic, partition, UnknownTopicHandling::Retry);
        Ok(self.runtime.block_on(made)?)
    }
}

fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. } => {
            Special::Exists.into()
        }
        Error::ServerError { protocol_error, .. } => Special::Refused(format!("{protocol_error:?}")).into(),
        other => other.into(),
    }
}

impl Client for Rskafka {
    fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        if !config.is_empty() {
            return Err(Special::Cannot("gives no configs to a new topic").into());
        }
        let created = self.controller.create_topic(topic, partitions, 1, TIMEOUT_MS);
        self.runtime.block_on(created).map_err(refused)
    }

    fn list_topics(&self) -> Result<Vec<String>> {
        Ok(self.runtime.block_on(self.client.list_topics())?.into_iter().map(|topic| topic.name).collect())
    }

    fn partition_count(&self, topic: &str) -> Result<usize> {
        let topics = self.runtime.block_on(self.client.list_topics())?;
        Ok(topics.iter().find(|listed| listed.name == topic).context("the topic")?.partitions.len())
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.runtime.block_on(self.controller.delete_topic(topic, TIMEOUT_MS)).map_err(refused)
    }

    fn produce(&self, topic: &str, records: &[Record], codec: &str, idempotent: bool) -> Result<Vec<i64>> {
        if idempotent {
            return Err(Special::Cannot("has no idempotent producer").into());
        }
        let codec = match codec {
            "none" => Compression::NoCompression,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => bail!("no codec {codec}"),
        };
        let mut places: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (place, record) in records.iter().enumerate() {
            places.entry(record.partition).or_default().push(place);
        }
        let mut offsets = vec![-1; records.len()];
        for (partition, places) in places {
            let batch = places.iter().map(|place| outgoing(&records[*place])).collect::<Result<Vec<_>>>()?;
            let partition = self.partition(topic, partition)?;
            let answered = self.runtime.block_on(partition.produce(batch, codec))?;
            for (place, offset) in places.into_iter().zip(answered) {
                offsets[place] = offset;
            }
        }
        Ok(offsets)
    }

    fn assign(&self, topic: &str, partition: i32, from: From) -> Result<Box<dyn Consumer>> {
        let partition = self.partition(topic, partition)?;
        let next = match from {
            From::Start => self.runtime.block_on(partition.get_offset(OffsetAt::Earliest))?,
            From::End => self.runtime.block_on(partition.get_offset(OffsetAt::Latest))?,
            From::Offset(offset) => offset,
        };
        Ok(Box::new(Reader { partition, next, runtime: self.runtime.handle().clone() }))
    }

    fn offset_for_time(&self, topic: &str, partition: i32, milliseconds: i64) -> Result<Option<i64>> {
        let partition = self.partition(topic, partition)?;
        let time = DateTime::from_timestamp_millis(milliseconds).context("a time")?;
        let found = self.runtime.block_on(partition.get_offset(OffsetAt::Timestamp(time)))?;
        Ok((found >= 0).then_some(found))
    }
}

fn outgoing(record: &Record) -> Result<RskafkaRecord> {
    let headers =
        record.headers.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
    let timestamp = record.timestamp.unwrap_or(1_700_000_000_000);
    Ok(RskafkaRecord {
        key: Some(record.key.clone().into_bytes()),
        value: Some(record.value.clone().into_bytes()),
        headers,
        timestamp: DateTime::from_timestamp_millis(timestamp).context("a time")?,
    })
}

struct Reader {
    partition: PartitionClient,
    next: i64,
    runtime: Handle,
}

impl Consumer for Reader {
    fn poll(&mut self) -> Result<Vec<Record>> {
        let fetched = self.partition.fetch_records(self.next, 1..FETCH_BYTES, WAIT_MS);
        let (records, _) = self.runtime.block_on(fetched)?;
        if let Some(last) = records.last() {
            self.next = last.offset + 1;
        }
        records.into_iter().map(|record| incoming(record, self.partition.partition())).collect()
    }

    fn held(&self) -> Result<Vec<i32>> {
        Ok(vec![self.partition.partition()])
    }

    fn commit(&mut self, _topic: &str, _partition: i32, _offset: i64) -> Result<()> {
        Err(Special::Cannot("has no OffsetCommit").into())
    }
}

fn incoming(read: RecordAndOffset, partition: i32) -> Result<Record> {
    let RecordAndOffset { record, offset } = read;
    let mut headers = Vec::new();
    for (key, value) in record.headers {
        headers.push((key, String::from_utf8(value)?));
    }
    Ok(Record {
        key: String::from_utf8(record.key.context("a key")?)?,
        value: String::from_utf8(record.value.context("a value")?)?,
        headers,
        partition,
        timestamp: Some(record.timestamp.timestamp_millis()),
        offset,
    })
}
