//! The capabilities of the matrix, once for both Rust clients. Each makes its own topics, all named after the run.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use penstock_tests::nap;
use tokio::time::Instant;

/// Bounds each wait.
pub const DEADLINE: Duration = Duration::from_secs(45);

/// Errors that a capability tells apart.
#[derive(Debug)]
pub enum Special {
    /// The client library has no such function.
    Cannot(&'static str),
    /// A topic to be created is there.
    Exists,
    /// The broker refused an administrative request; its words.
    Refused(String),
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cannot(what) => write!(f, "cannot: {what}"),
            Self::Exists => f.write_str("the topic exists"),
            Self::Refused(words) => write!(f, "refused: {words}"),
        }
    }
}

impl std::error::Error for Special {}

/// What is sent and received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub key: String,
    pub value: String,
    pub headers: Vec<(String, String)>,
    pub partition: i32,
    /// In milliseconds; `None` leaves it to the client.
    pub timestamp: Option<i64>,
    pub offset: i64,
}

/// Where to begin to read.
#[derive(Debug, Clone, Copy)]
pub enum From {
    Start,
    End,
    Offset(i64),
}

/// Reads: either what it was assigned, or as a member of a group.
pub trait Consumer: Send {
    /// Waits up to a short while for records.
    fn poll(&mut self) -> Result<Vec<Record>>;
    /// The partitions held now.
    fn held(&self) -> Result<Vec<i32>>;
    fn commit(&mut self, topic: &str, partition: i32, offset: i64) -> Result<()>;
}

fn cannot<T>(what: &'static str) -> Result<T> {
    Err(Special::Cannot(what).into())
}

/// A client library as the flow uses it. What is not overridden, the library doesn't have.
pub trait Client: Sync {
    fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()>;
    fn list_topics(&self) -> Result<Vec<String>>;
    fn partition_count(&self, topic: &str) -> Result<usize>;
    fn delete_topic(&self, topic: &str) -> Result<()>;
    fn describe_config(&self, _topic: &str, _name: &str) -> Result<String> {
        cannot("has no DescribeConfigs")
    }
    fn alter_config(&self, _topic: &str, _name: &str, _value: &str) -> Result<()> {
        cannot("has no AlterConfigs")
    }
    /// Whether the library hands on what the broker says of a change.
    fn tells_refused_configs(&self) -> bool {
        true
    }
    fn create_partitions(&self, _topic: &str, _total: usize) -> Result<()> {
        cannot("has no CreatePartitions")
    }
    fn list_groups(&self) -> Result<Vec<String>> {
        cannot("has no ListGroups")
    }
    /// State and number of members.
    fn describe_group(&self, _group: &str) -> Result<(String, usize)> {
        cannot("has no DescribeGroups")
    }
    fn delete_group(&self, _group: &str) -> Result<()> {
        cannot("has no DeleteGroups")
    }
    /// Sends all and waits; the offsets are in the order of the records.
    fn produce(&self, topic: &str, records: &[Record], codec: &str, idempotent: bool) -> Result<Vec<i64>>;
    fn assign(&self, topic: &str, partition: i32, from: From) -> Result<Box<dyn Consumer>>;
    /// Reads as a member of a group, from the start where nothing is committed.
    fn join(&self, _group: &str, _topic: &str) -> Result<Box<dyn Consumer>> {
        cannot("has no consumer groups")
    }
    /// The first offset at or after a time, `None` if there is none.
    fn offset_for_time(&self, topic: &str, partition: i32, milliseconds: i64) -> Result<Option<i64>>;
}

/// Looks until it is so.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !condition()? {
        ensure!(begun.elapsed() < DEADLINE, "not so within {DEADLINE:?}: {what}");
        nap(Duration::from_millis(50));
    }
    Ok(())
}

pub fn collect(consumer: &mut dyn Consumer, count: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let begun = Instant::now();
    while records.len() < count {
        ensure!(begun.elapsed() < DEADLINE, "{count} records, {} came", records.len());
        records.extend(consumer.poll()?);
    }
    Ok(records)
}

pub fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.value.clone()).collect()
}

pub fn numbered(numbers: std::ops::Range<i64>, partition: i32) -> Vec<Record> {
    let record = |number: i64| Record {
        key: format!("k{number}"),
        value: number.to_string(),
        partition,
        ..Record::default()
    };
    numbers.map(record).collect()
}

pub fn fresh(client: &dyn Client, topic: &str, partitions: i32) -> Result<()> {
    client.create_topic(topic, partitions, &[])?;
    wait_until("the topic is in the list", || Ok(client.list_topics()?.iter().any(|name| name == topic)))
}

/// Fails with what was seen where it is not what was expected.
pub fn expect<T: PartialEq + fmt::Debug>(seen: T, expected: T, what: &str) -> Result<()> {
    ensure!(seen == expected, "{what}: {seen:?}, expected {expected:?}");
    Ok(())
}

fn is_refused<T>(outcome: Result<T>) -> Result<bool> {
    match outcome {
        Ok(_) => Ok(false),
        Err(error) if matches!(error.downcast_ref(), Some(Special::Refused(_))) => Ok(true),
        Err(error) => Err(error),
    }
}

pub fn create_topic(client: &dyn Client, run: &str) -> Result<()> {
    let configurable = match client.create_topic(run, 3, &[("retention.ms", "7654321")]) {
        Err(error) if matches!(error.downcast_ref(), Some(Special::Cannot(_))) => {
            client.create_topic(run, 3, &[])?;
            false
        }
        created => created.map(|()| true)?,
    };
    expect(client.partition_count(run)?, 3, "partitions")?;
    if configurable {
        expect(
            client.describe_config(run, "retention.ms")?,
            "7654321".to_owned(),
            "retention.ms given at creation",
        )?;
    }
    match client.create_topic(run, 3, &[]) {
        Err(error) if matches!(error.downcast_ref(), Some(Special::Exists)) => Ok(()),
        other => bail!("creating a topic twice: {other:?}"),
    }
}

pub fn produce(client: &dyn Client, run: &str, codec: &str, idempotent: bool) -> Result<()> {
    fresh(client, run, 2)?;
    let record = |number: i32| Record {
        key: format!("key-{number}"),
        value: format!("value-{number} {}", "penstock ".repeat(30)),
        headers: vec![("codec".to_owned(), codec.to_owned()), ("number".to_owned(), number.to_string())],
        partition: number % 2,
        timestamp: None,
        offset: i64::from(number / 2),
    };
    let sent: Vec<Record> = (0..40).map(record).collect();
    let offsets = client.produce(run, &sent, codec, idempotent)?;
    expect(offsets, sent.iter().map(|record| record.offset).collect(), "the offsets answered")?;
    for partition in 0..2 {
        let mut received = collect(client.assign(run, partition, From::Start)?.as_mut(), 20)?;
        received.iter_mut().for_each(|record| record.timestamp = None);
        let wanted = sent.iter().filter(|record| record.partition == partition).cloned().collect();
        expect(received, wanted, "records")?;
    }
    Ok(())
}

pub fn consume_start(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    client.produce(run, &numbered(0..20, 0), "none", false)?;
    let all = collect(client.assign(run, 0, From::Start)?.as_mut(), 20)?;
    expect(values(&all), values(&numbered(0..20, 0)), "all records in order")?;
    let rest = collect(client.assign(run, 0, From::Offset(15))?.as_mut(), 5)?;
    expect(values(&rest), values(&numbered(15..20, 0)), "from offset 15")
}

pub fn consume_end(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    client.produce(run, &numbered(0..5, 0), "none", false)?;
    let mut consumer = client.assign(run, 0, From::End)?;
    let (mut received, mut sent) = (Vec::new(), 5);
    while received.is_empty() && sent < 200 {
        received.extend(consumer.poll()?);
        client.produce(run, &numbered(sent..sent + 1, 0), "none", false)?;
        sent += 1;
    }
    wait_until("the last record", || {
        received.extend(consumer.poll()?);
        Ok(received.last().is_some_and(|record| record.offset == sent - 1))
    })?;
    let first = received[0].offset;
    ensure!(first >= 5, "from the end, offset {first} was read, which was there before");
    expect(values(&received), values(&numbered(first..sent, 0)), "records after the end")
}

pub fn consume_timestamp(client: &dyn Client, run: &str) -> Result<()> {
    const BASE: i64 = 1_700_000_000_000;
    fresh(client, run, 1)?;
    let mut records = numbered(0..10, 0);
    for (record, number) in records.iter_mut().zip(0..) {
        record.timestamp = Some(BASE + number * 1000);
    }
    client.produce(run, &records, "none", false)?;
    let received = collect(client.assign(run, 0, From::Start)?.as_mut(), 10)?;
    let stamps = |records: &[Record]| records.iter().map(|record| record.timestamp).collect::<Vec<_>>();
    expect(stamps(&received), stamps(&records), "timestamps")?;
    for (after, offset) in [(-1, Some(0)), (4000, Some(4)), (4001, Some(5)), (9000, Some(9)), (9001, None)] {
        let found = client.offset_for_time(run, 0, BASE + after)?;
        expect(found, offset, &format!("the offset for base + {after} ms"))?;
    }
    let from = client.offset_for_time(run, 0, BASE + 6500)?.unwrap_or(-1);
    let rest = collect(client.assign(run, 0, From::Offset(from))?.as_mut(), 3)?;
    expect(values(&rest), values(&records[7..]), "records from a time")
}

pub fn admin_topics(client: &dyn Client, run: &str) -> Result<()> {
    for partitions in [1, 4] {
        let topic = format!("{run}-{partitions}");
        fresh(client, &topic, partitions)?;
        expect(client.partition_count(&topic)?, partitions as usize, "partitions")?;
    }
    Ok(())
}

pub fn admin_configs(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    let is = |expected: &str, what: &str| {
        expect(client.describe_config(run, "retention.ms")?, expected.to_owned(), what)
    };
    is("604800000", "retention.ms by default")?;
    client.alter_config(run, "retention.ms", "123456")?;
    is("123456", "retention.ms after the change")?;
    let refused = is_refused(client.alter_config(run, "retention.ms", "soon"))?;
    ensure!(refused == client.tells_refused_configs(), "`soon` was accepted");
    is("123456", "retention.ms after a refused change")
}

pub fn admin_partitions(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    client.create_partitions(run, 3)?;
    wait_until("three partitions", || Ok(client.partition_count(run)? == 3))?;
    let offsets = client.produce(run, &numbered(0..1, 2), "none", false)?;
    expect(offsets, vec![0], "the offset in the new partition")?;
    ensure!(is_refused(client.create_partitions(run, 2))?, "partitions could be taken away");
    Ok(())
}

pub fn admin_delete(client: &dyn Client, run: &str) -> Result<()> {
    fresh(client, run, 1)?;
    client.delete_topic(run)?;
    wait_until("the topic is gone", || Ok(!client.list_topics()?.iter().any(|name| name == run)))
}
