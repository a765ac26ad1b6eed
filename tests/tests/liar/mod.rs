//! A proxy in front of a broker that breaks its promises, now and then, on purpose.
//!
//! It takes producers' ids out of all batches, so that the broker behind it has nothing to notice by. Requests of a
//! connection are passed on one after the other.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

/// What it does to every seventh produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Acknowledges it and drops it.
    Lose,
    /// Passes it on twice.
    Duplicate,
    /// Passes it on behind the next one.
    Reorder,
    /// Changes a byte of a value, and the batch's checksum with it.
    Damage,
    /// Acknowledges another offset.
    WrongOffset,
}

/// One request in so many.
const EVERY: u64 = 7;
/// How long a request waits for the one that is to come before it.
const NEXT: Duration = Duration::from_secs(2);
/// Where in a batch things stand (record batch, version 2).
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;
const PRODUCER_AT: std::ops::Range<usize> = 43..57;

/// The proxy; ends when it is dropped.
pub struct Liar {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    lie: Lie,
    requests: AtomicU64,
    lies: AtomicU64,
    stop: AtomicBool,
}

impl Liar {
    /// Serves what `listener` accepts, in front of 127.0.0.1:`upstream`.
    pub fn start(listener: TcpListener, upstream: u16, lie: Lie) -> Result<Self> {
        let port = listener.local_addr()?.port();
        let shared = Shared {
            upstream,
            lie,
            requests: AtomicU64::new(0),
            lies: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                if accepting.stop.load(SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // An error is the end of a connection.
                std::thread::spawn(move || shared.serve(client).err());
            }
        });
        Ok(Self { port, shared })
    }

    /// How often it has lied.
    pub fn lies(&self) -> u64 {
        self.shared.lies.load(SeqCst)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _closed = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A produce request, taken apart.
struct Produce {
    header: RequestHeader,
    body: ProduceRequest,
}

impl Produce {
    /// A frame, if it is a produce request.
    fn parse(frame: &Bytes) -> Result<Option<Self>> {
        if frame.len() < 4 || i16::from_be_bytes([frame[0], frame[1]]) != ApiKey::Produce as i16 {
            return Ok(None);
        }
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let mut rest = frame.clone();
        let header = RequestHeader::decode(&mut rest, ApiKey::Produce.request_header_version(version))?;
        let mut body = ProduceRequest::decode(&mut rest, version)?;
        for records in Self::records(&mut body) {
            edit(records, |batch| {
                batch[PRODUCER_AT].copy_from_slice(&[0xFF; 14]);
            });
        }
        Ok(Some(Self { header, body }))
    }

    fn records(body: &mut ProduceRequest) -> impl Iterator<Item = &mut Bytes> {
        body.topic_data
            .iter_mut()
            .flat_map(|topic| &mut topic.partition_data)
            .filter_map(|partition| partition.records.as_mut())
    }

    fn frame(&self) -> Result<Bytes> {
        let version = self.header.request_api_version;
        let mut frame = BytesMut::new();
        self.header.encode(&mut frame, ApiKey::Produce.request_header_version(version))?;
        self.body.encode(&mut frame, version)?;
        Ok(frame.freeze())
    }

    /// An answer that acknowledges all of it, at the offsets given by partition.
    fn acknowledge(&self, next: &BTreeMap<i32, i64>) -> Result<Bytes> {
        let topics = self.body.topic_data.iter().map(|topic| {
            let partitions = topic.partition_data.iter().map(|partition| {
                PartitionProduceResponse::default()
                    .with_index(partition.index)
                    .with_base_offset(next.get(&partition.index).copied().unwrap_or(0))
            });
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partition_responses(partitions.collect())
        });
        let answer = ProduceResponse::default().with_responses(topics.collect());
        self.answer(&answer)
    }

    fn answer(&self, answer: &ProduceResponse) -> Result<Bytes> {
        let version = self.header.request_api_version;
        let mut frame = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(self.header.correlation_id)
            .encode(&mut frame, ApiKey::Produce.response_header_version(version))?;
        answer.encode(&mut frame, version)?;
        Ok(frame.freeze())
    }

    fn read_answer(&self, frame: &Bytes) -> Result<ProduceResponse> {
        let version = self.header.request_api_version;
        let mut rest = frame.clone();
        ResponseHeader::decode(&mut rest, ApiKey::Produce.response_header_version(version))?;
        ProduceResponse::decode(&mut rest, version)
    }
}

/// Changes a batch and mends its checksum.
fn edit(records: &mut Bytes, change: impl FnOnce(&mut [u8])) {
    let mut batch = records.to_vec();
    change(&mut batch);
    let crc = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[CRC_AT..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
    *records = batch.into();
}

impl Shared {
    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let mut broker = TcpStream::connect(("127.0.0.1", self.upstream))?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        // What this connection knows of the partitions' ends, by the answers.
        let mut next = BTreeMap::new();
        while let Some(frame) = receive(&mut client)? {
            match Produce::parse(&frame)? {
                Some(request) => self.produce(&mut client, &mut broker, request, &mut next)?,
                None => send(&mut client, &ask(&mut broker, &frame)?)?,
            }
        }
        Ok(())
    }

    fn produce(
        &self,
        client: &mut TcpStream,
        broker: &mut TcpStream,
        mut request: Produce,
        next: &mut BTreeMap<i32, i64>,
    ) -> Result<()> {
        let due = self.requests.fetch_add(1, SeqCst) % EVERY == EVERY - 1;
        let mut pass = |request: &Produce| {
            let answer = ask(broker, &request.frame()?)?;
            for topic in request.read_answer(&answer)?.responses {
                next.extend(topic.partition_responses.iter().map(|one| (one.index, one.base_offset + 1)));
            }
            anyhow::Ok(answer)
        };
        let answers = match self.lie {
            _ if !due => vec![pass(&request)?],
            Lie::Lose => vec![request.acknowledge(next)?],
            Lie::Duplicate => {
                let answer = pass(&request)?;
                pass(&request)?;
                vec![answer]
            }
            Lie::Reorder => {
                client.set_read_timeout(Some(NEXT))?;
                let following = receive(client);
                client.set_read_timeout(None)?;
                let Ok(Some(frame)) = following else {
                    // Nothing followed in time: the next request will do.
                    self.requests.fetch_sub(1, SeqCst);
                    return send(client, &pass(&request)?);
                };
                let Some(following) = Produce::parse(&frame)? else {
                    self.requests.fetch_sub(1, SeqCst);
                    send(client, &pass(&request)?)?;
                    return send(client, &ask(broker, &frame)?);
                };
                let second = pass(&following)?;
                vec![pass(&request)?, second]
            }
            Lie::Damage => {
                Produce::records(&mut request.body).for_each(|records| {
                    // Before the last record's checksum of its own, and headers' count.
                    edit(records, |batch| batch[batch.len() - 20] ^= 1);
                });
                vec![pass(&request)?]
            }
            Lie::WrongOffset => {
                let mut answer = request.read_answer(&pass(&request)?)?;
                for one in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
                    one.base_offset -= i64::from(one.base_offset > 0);
                }
                vec![request.answer(&answer)?]
            }
        };
        if due {
            self.lies.fetch_add(1, SeqCst);
        }
        answers.iter().try_for_each(|answer| send(client, answer))
    }
}

/// Sends a request and waits for its answer.
fn ask(broker: &mut TcpStream, frame: &Bytes) -> Result<Bytes> {
    send(broker, frame)?;
    receive(broker)?.context("the broker closed the connection")
}

fn send(stream: &mut TcpStream, frame: &Bytes) -> Result<()> {
    let mut whole = BytesMut::with_capacity(frame.len() + 4);
    whole.put_u32(frame.len() as u32);
    whole.put_slice(frame);
    Ok(stream.write_all(&whole)?)
}

/// The next frame; `None` at the connection's end.
fn receive(stream: &mut TcpStream) -> Result<Option<Bytes>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut frame = vec![0; (&length[..]).get_u32() as usize];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame.into()))
}
