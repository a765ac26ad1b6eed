//! Bytes that no client should send, against a running broker: connections are closed or answered with Kafka's error,
//! memory stays under a bound, nothing is logged as an error, and a good client doesn't notice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use penstock_agent::wire::schema;
use penstock_storage::batch::{Attributes, BatchBuilder, BatchHeader, Codec, TimestampType, seal_raw};
use penstock_tests::load::{Load, Plan, create_topic};
use penstock_tests::wire::{Raw, Received, frame};
use penstock_tests::{BrokerProcess, BrokerSpec, bomb, nap, scribe};
use penstock_types::{ProducerEpoch, ProducerId, Randomness, SeededRandomness, Sequence};
use tokio::time::Instant;

const PARTITIONS: i32 = 2;
/// How long an answer, or the end of a connection, may take on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the process may ever have in RAM, beside what it has when it starts: 64 MiB of unacknowledged data and cache (as
/// configured below), 64 of unused frame buffers, a request of 50 MiB, and as much for everything else.
const RESIDENT_MIB_MORE: f64 = 230.0;
const PRODUCE_VERSION: i16 = 9;

/// A broker with a good client at work.
struct Victim {
    spec: BrokerSpec,
    process: BrokerProcess,
    load: Load,
    at_start_mib: f64,
    _directory: tempfile::TempDir,
}

impl Victim {
    fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut set = vec!["--set", "produce.memory.bytes=32MiB", "--set", "cache.bytes=32MiB"];
        more.iter().for_each(|option| set.extend(["--set", *option]));
        let spec = BrokerSpec::new(directory.path(), &set)?;
        let process = spec.start()?;
        create_topic(&spec, "good", PARTITIONS, &[])?;
        create_topic(&spec, "bad", 1, &[])?;
        create_topic(&spec, "large", 1, &[("max.message.bytes", "67108864")])?;
        create_topic(
            &spec,
            "repacked",
            1,
            &[("max.message.bytes", "67108864"), ("compression.type", "lz4")],
        )?;
        let plan = Plan {
            topic: "good".to_owned(),
            partitions: PARTITIONS,
            producers: 1,
            records_per_second: 200,
            value_bytes: 100,
            settings: Vec::new(),
        };
        let load = Load::start(&spec, plan);
        load.wait_for(10, PATIENCE)?;
        let at_start_mib = spec.metric("process_resident_memory_peak_bytes")? / 1_048_576.0;
        Ok(Self { spec, process, load, at_start_mib, _directory: directory })
    }

    fn connect(&self) -> Result<Raw> {
        Raw::connect(&self.spec, PATIENCE)
    }

    /// A new connection is served, and the good client is, too.
    fn serves(&self) -> Result<()> {
        let mut raw = self.connect()?;
        raw.send(&frame(18, 0, 7, false, b""))?;
        ensure!(matches!(raw.receive()?, Received::Frame(answer) if answer[..4] == [0, 0, 0, 7]));
        self.load.wait_for(50, PATIENCE).context("the good client is served")?;
        Ok(())
    }

    /// Appends `batch` to a topic; gives the error code, `None` where the connection was closed.
    fn produce(&self, topic: &'static str, batch: Bytes) -> Result<Option<i16>> {
        let mut raw = self.connect()?;
        raw.send(&produce_frame(topic, batch)?)?;
        let Received::Frame(answer) = raw.receive()? else { return Ok(None) };
        // Correlation id and tagged fields.
        let mut body = Bytes::from(answer).slice(5..);
        let response = ProduceResponse::decode(&mut body, PRODUCE_VERSION)?;
        let partition = response.responses[0].partition_responses[0].clone();
        ensure!(partition.error_code == 0 || partition.base_offset == -1, "{partition:?}");
        Ok(Some(partition.error_code))
    }

    fn finish(mut self) -> Result<()> {
        self.serves()?;
        let outcome = self.load.finish()?;
        ensure!(outcome.acknowledged == outcome.sent && outcome.found == outcome.sent, "{outcome:?}");
        let peak = self.spec.metric("process_resident_memory_peak_bytes")? / 1_048_576.0;
        println!("RSS {:.0} MiB at the start, {peak:.0} at most", self.at_start_mib);
        ensure!(peak < self.at_start_mib + RESIDENT_MIB_MORE, "{peak} MiB");
        ensure!(
            self.process.is_running() && self.process.complaints().is_empty(),
            "{:?}",
            self.process.complaints()
        );
        ensure!(self.process.terminate()? == Some(0), "SIGTERM ends it with exit code 0");
        Ok(())
    }
}

fn produce_frame(topic: &'static str, batch: Bytes) -> Result<Vec<u8>> {
    produce_frame_to(topic, 0, Some(batch))
}

fn produce_frame_to(topic: &'static str, partition: i32, records: Option<Bytes>) -> Result<Vec<u8>> {
    let data = PartitionProduceData::default().with_index(partition).with_records(records);
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partition_data(vec![data]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let mut body = BytesMut::new();
    request.encode(&mut body, PRODUCE_VERSION)?;
    Ok(frame(0, PRODUCE_VERSION, 1, true, &body))
}

/// A batch with that many records, whose records are `packed`.
fn batch_of(codec: Codec, record_count: i32, packed: &[u8]) -> Bytes {
    let header = BatchHeader {
        base_offset: 0,
        batch_length: 0,
        partition_leader_epoch: -1,
        crc: 0,
        attributes: Attributes::new(codec, TimestampType::CreateTime, false),
        last_offset_delta: record_count - 1,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_000,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count,
    };
    seal_raw(header, packed).bytes
}

/// CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, INVALID_RECORD, and UNKNOWN_SERVER_ERROR where Kafka's own broker has nothing
/// better to say (docs/record-batch.md).
fn is_refusal(code: i16) -> bool {
    matches!(code, 2 | 10 | 87 | -1)
}

#[test]
fn frames_that_are_none() -> Result<()> {
    let victim = Victim::start()?;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let random = SeededRandomness::new(seed);
    let lengths = [i32::MIN, -1, 0, (100 << 20) + 1, i32::MAX];
    for bytes in lengths.map(|length| [&length.to_be_bytes()[..], b"anything"].concat()) {
        let mut raw = victim.connect()?;
        raw.send(&bytes)?;
        raw.closed().with_context(|| format!("{bytes:?}"))?;
    }
    // A request of another protocol.
    let others: [&[u8]; 2] =
        [b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"];
    for bytes in others {
        let mut raw = victim.connect()?;
        raw.send(bytes)?;
        raw.end()?;
        raw.closed()?;
    }
    for _ in 0..500 {
        let length = 1 + random.below(2_000) as usize;
        let mut garbage: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
        // Half of them with a length that holds.
        if random.below(2) == 0 && length > 4 {
            garbage[..4].copy_from_slice(&(length as i32 - 4).to_be_bytes());
        }
        let mut raw = victim.connect()?;
        raw.send(&garbage)?;
        raw.end()?;
        // By chance it is a request that is answered with an error; then the connection ends.
        while raw.receive()? != Received::Closed {}
    }
    let whole = frame(3, 1, 5, false, &[0, 0, 0, 0]);
    for end in 1..whole.len() {
        let mut raw = victim.connect()?;
        raw.send(&whole[..end])?;
        raw.end()?;
        raw.closed().with_context(|| format!("{end} bytes of {}", whole.len()))?;
    }
    victim.finish()
}

#[test]
fn requests_that_lie_about_their_lengths() -> Result<()> {
    let victim = Victim::start()?;
    let mut lies = Vec::new();
    for (key, lowest, highest) in served(&victim)? {
        let layout = schema::request(key).context("a layout")?;
        // Versions of Produce are reported that nobody serves any more, as by Kafka.
        for version in (lowest..=highest).filter(|version| layout.valid.contains(*version)) {
            let written = scribe::write(layout, version);
            let flexible = layout.flexible.contains(version);
            for length in &written.lengths {
                for body in written.lies(*length) {
                    let name = format!("{} version {version} {:?}", layout.name, length.field);
                    lies.push((name, frame(key, version, 1, flexible, &body)));
                }
            }
        }
    }
    println!("{} lies", lies.len());
    ensure!(lies.len() > 2_000, "{} lies", lies.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = lies
            .chunks(lies.len().div_ceil(4))
            .map(|lies| {
                let victim = &victim;
                scope.spawn(move || -> Result<()> {
                    for (name, frame) in lies {
                        let mut raw = victim.connect()?;
                        raw.send(frame)?;
                        raw.closed().with_context(|| name.clone())?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    unknown_requests(&victim)?;
    victim.finish()
}

/// What the broker says that it serves: keys, lowest and highest versions.
fn served(victim: &Victim) -> Result<Vec<(i16, i16, i16)>> {
    let mut raw = victim.connect()?;
    raw.send(&frame(18, 0, 1, false, b""))?;
    let Received::Frame(answer) = raw.receive()? else { anyhow::bail!("ApiVersions is answered") };
    let number = |row: &[u8], at: usize| i16::from_be_bytes([row[at], row[at + 1]]);
    // Correlation id, error code, the number of rows.
    let rows = answer[10..].chunks_exact(6);
    let rows: Vec<_> = rows.map(|row| (number(row, 0), number(row, 2), number(row, 4))).collect();
    ensure!(rows.len() > 30, "{} APIs", rows.len());
    Ok(rows)
}

/// APIs and versions that aren't served close the connection; only ApiVersions says which ones are.
fn unknown_requests(victim: &Victim) -> Result<()> {
    let rows = served(victim)?;
    let is_served = |key: i16| rows.iter().any(|row| row.0 == key);
    let unknown = (-1..=120).chain([1000, i16::MIN, i16::MAX]).filter(|key| !is_served(*key));
    let versions = rows.iter().flat_map(|(key, lowest, highest)| {
        [-1, lowest - 1, highest + 1, i16::MAX].map(|version| (*key, version))
    });
    for (key, version) in unknown.map(|key| (key, 0)).chain(versions) {
        let mut raw = victim.connect()?;
        raw.send(&frame(key, version, 9, false, &[0; 8]))?;
        if key == 18 {
            let Received::Frame(answer) = raw.receive()? else { anyhow::bail!("ApiVersions {version}") };
            ensure!(answer[..6] == [0, 0, 0, 9, 0, 35], "UNSUPPORTED_VERSION: {answer:?}");
        } else {
            raw.closed().with_context(|| format!("API {key} version {version}"))?;
        }
    }
    Ok(())
}

#[test]
fn batches_that_are_wrong() -> Result<()> {
    let victim = Victim::start()?;
    let mut builder = BatchBuilder::new(Codec::None);
    builder.record(1_700_000_000_000, Some(b"key"), Some(b"value"));
    let good = builder.bytes();
    ensure!(victim.produce("bad", good.clone())? == Some(0), "a good batch is taken");
    // Every byte that the CRC covers, and the CRC itself: CORRUPT_MESSAGE.
    for at in 17..good.len() {
        let mut wrong = good.to_vec();
        wrong[at] ^= 1;
        let code = victim.produce("bad", wrong.into())?;
        ensure!(code == Some(2), "byte {at}: {code:?}");
    }
    for end in 0..good.len() {
        let code = victim.produce("bad", good.slice(..end))?;
        ensure!(code.is_none_or(|code| code != 0), "{end} bytes: {code:?}");
    }
    // Records that aren't what the header says, under a CRC that holds.
    let garbage: &[&[u8]] = &[&[], &[0xFF; 20], &[2], &[0x80; 30], &[0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0]];
    for codec in Codec::ALL {
        for packed in garbage {
            for count in [1, 2, i32::MAX] {
                let code = victim.produce("bad", batch_of(codec, count, packed))?;
                ensure!(code.is_some_and(is_refusal), "{codec:?}, {count} records, {packed:?}: {code:?}");
            }
        }
    }
    victim.finish()
}

/// Null instead of records is answered at once, as no batch is, and the connection is served on. (Apache Kafka 4.1 never
/// answers, and reads the connection no more.) What Kafka finds before it looks at the records comes first.
#[test]
fn null_records() -> Result<()> {
    let victim = Victim::start()?;
    let mut raw = victim.connect()?;
    for (partition, records, expected) in
        [(0, None, 87), (0, Some(Bytes::new()), 87), (9, None, 3), (9, Some(Bytes::new()), 3)]
    {
        raw.send(&produce_frame_to("bad", partition, records.clone())?)?;
        let Received::Frame(answer) = raw.receive()? else {
            anyhow::bail!("{records:?} closes the connection")
        };
        let response = ProduceResponse::decode(&mut Bytes::from(answer).slice(5..), PRODUCE_VERSION)?;
        let found = response.responses[0].partition_responses[0].error_code;
        ensure!(found == expected, "{records:?} to partition {partition}: {found}");
    }
    victim.finish()
}

#[test]
fn batches_that_unpack_to_gigabytes() -> Result<()> {
    const GIB: u32 = 1 << 30;
    let victim = Victim::start()?;
    let bombs = [
        ("gzip", Codec::Gzip, bomb::gzip(GIB)?),
        ("zstd", Codec::Zstd, bomb::zstd(2_000_000_000)?),
        ("lz4", Codec::Lz4, bomb::lz4(GIB)?),
        ("snappy", Codec::Snappy, bomb::snappy_framed(GIB)),
        ("snappy, one block", Codec::Snappy, bomb::snappy_raw(20 << 20)),
        ("snappy that lies", Codec::Snappy, bomb::snappy_liar()),
    ];
    for (name, codec, packed) in &bombs {
        for count in [1, i32::MAX] {
            let batch = batch_of(*codec, count, packed);
            for topic in ["bad", "large", "repacked"] {
                let begun = Instant::now();
                let code = victim.produce(topic, batch.clone())?;
                println!("{name}, {} bytes to {topic}: {code:?} in {:?}", batch.len(), begun.elapsed());
                let fits = *name == "snappy, one block" && count == 1;
                ensure!(
                    match code {
                        // It unpacks to 20 MiB, which is no bomb.
                        Some(0) => fits,
                        Some(code) => is_refusal(code),
                        None => false,
                    },
                    "{name} to {topic}: {code:?}"
                );
            }
        }
        victim.serves()?;
    }
    // Many of them at once.
    let zstd = batch_of(Codec::Zstd, 1, &bombs[1].2);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| victim.produce("large", zstd.clone()))).collect();
        threads.into_iter().try_for_each(|thread| {
            let code = thread.join().expect("no panic")?;
            ensure!(code.is_some_and(is_refusal), "{code:?}");
            Ok(())
        })
    })?;
    victim.finish()
}

#[test]
fn connections_that_take_their_time() -> Result<()> {
    let victim = Victim::start()?;
    let idle = (0..200).map(|_| victim.connect()).collect::<Result<Vec<_>>>()?;
    let mut slow = Vec::new();
    // Announced are 100 MiB, 1 MiB and 100 bytes.
    for (count, length) in [(100, 100_i32 << 20), (50, 1 << 20), (20, 100)] {
        for _ in 0..count {
            let mut raw = victim.connect()?;
            raw.send(&length.to_be_bytes())?;
            slow.push(raw);
        }
    }
    let begun = Instant::now();
    let closed = r#"penstock_connections_closed_total{reason="slow_frame"}"#;
    // Each of them has 30 s, and a little for what it sends.
    while victim.spec.metric(closed)? < slow.len() as f64 {
        ensure!(begun.elapsed() < Duration::from_secs(60), "slow clients are closed");
        for raw in &mut slow {
            raw.send(b"x")?;
        }
        victim.serves().context("while others dribble")?;
        large_batch(&victim).context("while others dribble")?;
        nap(Duration::from_millis(200));
    }
    println!("slow clients were closed after {:?}", begun.elapsed());
    ensure!(victim.spec.metric("penstock_connections")? >= idle.len() as f64, "idle clients stay");
    drop((idle, slow));
    while victim.spec.metric("penstock_connections")? > 10.0 {
        ensure!(begun.elapsed() < Duration::from_secs(80), "clients that went away are forgotten");
        nap(Duration::from_millis(50));
    }
    victim.finish()
}

/// A good client with large batches is served, too.
fn large_batch(victim: &Victim) -> Result<()> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.record(1_700_000_000_000, None, Some(&vec![7; 900 << 10]));
    let code = victim.produce("bad", builder.bytes())?;
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}

/// Clients that send part of a large request and then nothing hold memory only until somebody else needs it.
#[test]
fn stalled_requests_give_way() -> Result<()> {
    const STALLED: usize = 150;
    let victim = Victim::start_with(&["queued.max.request.bytes=16MiB"])?;
    let part = vec![1; 200 << 10];
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut raw = victim.connect()?;
        raw.send(&(900_i32 << 10).to_be_bytes())?;
        // Past the bound the broker reads no more of it than fits the socket.
        raw.send(&part)?;
        stalled.push(raw);
    }
    for _ in 0..3 {
        let begun = Instant::now();
        large_batch(&victim).context("while others stall")?;
        println!("a good request took {:?}", begun.elapsed());
        ensure!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    let closed = victim.spec.metric(r#"penstock_connections_closed_total{reason="slow_frame"}"#)?;
    ensure!(closed >= 10.0, "{closed} stalled clients were closed");
    drop(stalled);
    victim.finish()
}

/// Connections from one address past `max.connections.per.ip` are closed at once.
#[test]
fn more_connections_than_an_address_may_have() -> Result<()> {
    let victim =
        Victim::start_with(&["max.connections.per.ip=1", "max.connections.per.ip.overrides=localhost:40"])?;
    let mut clients = Vec::new();
    let refused = r#"penstock_connections_closed_total{reason="too_many_of_address"}"#;
    while victim.spec.metric(refused)? < 5.0 {
        ensure!(clients.len() < 50, "the limit holds");
        clients.push(victim.connect()?);
    }
    let open = victim.spec.metric("penstock_connections")?;
    ensure!(open == 40.0, "{open} connections");
    clients.last_mut().context("there are some")?.closed()?;
    drop(clients);
    let begun = Instant::now();
    while victim.spec.metric("penstock_connections")? > 20.0 {
        ensure!(begun.elapsed() < PATIENCE, "clients that went away are forgotten");
        nap(Duration::from_millis(50));
    }
    victim.finish()
}
