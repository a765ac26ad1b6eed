//! Producers: idempotent ones, which send again until they are answered, and plain ones.
//!
//! As Kafka's clients do: up to five batches of a partition under way, sent again in their order, wherever the
//! partition's leader is said to be then; a batch that takes too long is given up, and the producer goes on with a new
//! epoch (KIP-360) or another id.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, MetadataRequest, ProduceRequest, ProduceResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use penstock_types::pause;
use tokio::time::Instant;

use super::codes;
use super::keys::{ID_HEADER, key_bytes};
use super::peer::{Connection, KnownTopic, Lost, Peer, topic_name};
use crate::ambient::EPOCH_MS;
use crate::oracle::{Keyed, Partition, RecordId};
use crate::{note, trace};

/// Batches of a partition under way.
const DEPTH: usize = 5;
/// The same where nobody waits for answers.
const UNANSWERED_DEPTH: usize = 2;
/// How often a producer that wants no answers wants one all the same: it comes behind requests that have none.
const ANSWER_WANTED: f64 = 0.3;
/// How often a plain producer asks something else behind its batches, on their connection.
const ASKS_BEHIND: f64 = 0.15;
/// The version of Metadata that it asks in.
const METADATA_VERSION: i16 = 12;

/// How a producer is.
#[derive(Debug, Clone)]
pub struct ProducerPlan {
    /// Its number.
    pub number: u32,
    /// Topics that it writes to.
    pub topics: Vec<String>,
    /// Whether it is idempotent.
    pub idempotent: bool,
    /// The acknowledgement that it asks for: -1, 1, or 0 for none.
    pub acks: i16,
    /// Whether a topic may be deleted under it: then topics go by their ids.
    pub by_id: bool,
    /// How long it rests between two rounds.
    pub rest: Duration,
    /// Most records of a batch.
    pub records: u64,
    /// Most bytes of filling of a record.
    pub filling: u64,
    /// After how long a batch is given up.
    pub gives_up: Duration,
}

/// A producer.
#[derive(Debug)]
pub struct Producer {
    plan: ProducerPlan,
    peer: Peer,
    topics: BTreeMap<String, KnownTopic>,
    lineages: BTreeMap<Partition, Lineage>,
    id: i64,
    epoch: i16,
    /// A producer id is a session; without one, a connection is.
    session: u32,
    sessions: u32,
    next_record: u64,
    sends_new: Arc<AtomicBool>,
    tries: u32,
}

#[derive(Debug)]
struct Lineage {
    topic: String,
    next_sequence: i32,
    pending: VecDeque<Batch>,
}

#[derive(Debug, Clone)]
struct Batch {
    sequence: i32,
    ids: Vec<RecordId>,
    bytes: Bytes,
    since: Instant,
    tries: u32,
}

impl Producer {
    /// A producer that makes new records as long as `sends_new`.
    pub fn new(plan: ProducerPlan, peer: Peer, sends_new: Arc<AtomicBool>) -> Self {
        Self {
            plan,
            peer,
            topics: BTreeMap::new(),
            lineages: BTreeMap::new(),
            id: -1,
            epoch: -1,
            session: 0,
            sessions: 0,
            next_record: 0,
            sends_new,
            tries: 0,
        }
    }

    /// Produces until there is nothing more to be sent and everything is answered.
    pub async fn run(mut self) {
        loop {
            let more = self.sends_new.load(Ordering::Relaxed);
            if !more && self.lineages.values().all(|lineage| lineage.pending.is_empty()) {
                note!(self.peer.name, "has sent everything");
                return;
            }
            match self.round(more).await {
                Ok(()) => self.tries = 0,
                Err(Lost(why)) => {
                    note!(self.peer.name, "tries again: {why}");
                    trace::count("produce rounds without an answer");
                    self.tries += 1;
                    self.topics.clear();
                    if self.peer.draw.chance(0.5) {
                        self.peer.disconnect();
                    }
                    self.peer.back_off(self.tries).await;
                }
            }
            self.give_up().await;
            pause(self.peer.draw.around(self.plan.rest)).await;
        }
    }

    async fn round(&mut self, more: bool) -> Result<(), Lost> {
        if self.topics.is_empty() || self.peer.draw.chance(0.02) {
            self.topics = self.peer.metadata(&self.plan.topics).await?;
            if self.topics.is_empty() {
                return Err(Lost("no topic".to_owned()));
            }
            self.drop_deleted();
        }
        if self.plan.idempotent && self.id < 0 {
            self.initialize().await?;
        }
        let Some((leader, partitions)) = self.choose() else { return Err(Lost("no leader".to_owned())) };
        let most = if self.plan.acks == 0 { UNANSWERED_DEPTH } else { DEPTH };
        let depth = 1 + self.peer.draw.index(most);
        if more {
            for (partition, topic) in &partitions {
                self.fill(*partition, topic, depth);
            }
        }
        let mut requests: Vec<Vec<(Partition, Batch)>> = Vec::new();
        for (partition, _) in &partitions {
            let Some(lineage) = self.lineages.get_mut(partition) else { continue };
            for (index, batch) in lineage.pending.iter_mut().enumerate() {
                if requests.len() <= index {
                    requests.push(Vec::new());
                }
                batch.tries += 1;
                requests[index].push((*partition, batch.clone()));
            }
        }
        if requests.is_empty() {
            // Others lead what is still to be sent.
            return if more { Ok(()) } else { Err(Lost("nothing to send there".to_owned())) };
        }
        self.exchange(leader, requests).await
    }

    /// A leader, and partitions of its.
    fn choose(&mut self) -> Option<(i32, Vec<(Partition, String)>)> {
        let mut by_leader: BTreeMap<i32, Vec<(Partition, String)>> = BTreeMap::new();
        for (name, topic) in &self.topics {
            for (index, leader) in &topic.leaders {
                by_leader.entry(*leader).or_default().push(((topic.id, *index), name.clone()));
            }
        }
        let has_pending = |partitions: &[(Partition, String)]| {
            partitions
                .iter()
                .any(|(partition, _)| self.lineages.get(partition).is_some_and(|it| !it.pending.is_empty()))
        };
        let leaders: Vec<i32> = by_leader.keys().copied().collect();
        let urgent: Vec<i32> = leaders.iter().copied().filter(|id| has_pending(&by_leader[id])).collect();
        let among = if urgent.is_empty() { &leaders } else { &urgent };
        if among.is_empty() {
            return None;
        }
        let leader = *self.peer.draw.pick(among);
        let mut partitions = by_leader.remove(&leader).unwrap_or_default();
        let has = |partition: &Partition| {
            self.lineages.get(partition).is_some_and(|lineage| !lineage.pending.is_empty())
        };
        let draw = &self.peer.draw;
        partitions.retain(|(partition, _)| has(partition) || draw.chance(0.6));
        Some((leader, partitions))
    }

    /// Makes new batches.
    fn fill(&mut self, partition: Partition, topic: &str, depth: usize) {
        let lineage = self.lineages.entry(partition).or_insert_with(|| Lineage {
            topic: topic.to_owned(),
            next_sequence: 0,
            pending: VecDeque::new(),
        });
        while lineage.pending.len() < depth {
            let draw = &self.peer.draw;
            let count = 1 + draw.within(0..self.plan.records);
            let sequence = lineage.next_sequence;
            let mut ids = Vec::new();
            let mut records = Vec::new();
            for offset in 0..count as i32 {
                let id = RecordId { producer: self.plan.number, number: self.next_record };
                self.next_record += 1;
                ids.push(id);
                let filling = draw.within(0..self.plan.filling + 1) as usize;
                let mut record = record(id, filling, offset, (self.id, self.epoch), sequence);
                if let Some(keys) = self.peer.clients.compacted.get(topic) {
                    let keyed = keys.draw(draw);
                    self.peer.oracle().keyed(id, keyed);
                    give_key(&mut record, id, keyed);
                }
                self.peer.oracle().made(id, record.timestamp);
                records.push(record);
            }
            let mut bytes = BytesMut::new();
            let options = RecordEncodeOptions { version: 2, compression: Compression::None };
            RecordBatchEncoder::encode(&mut bytes, records.iter(), &options).expect("a batch can be encoded");
            if self.plan.idempotent {
                lineage.next_sequence += count as i32;
            }
            let bytes = bytes.freeze();
            lineage.pending.push_back(Batch { sequence, ids, bytes, since: Instant::now(), tries: 0 });
        }
    }

    /// The connection to `address`: for a producer without an id, what is sent on it is in order.
    async fn connect(&mut self, address: SocketAddr) -> Result<Connection, Lost> {
        let mut connection = self.peer.take(address).await?;
        if !self.plan.idempotent {
            if connection.session == 0 {
                self.sessions += 1;
                connection.session = self.sessions;
            }
            self.session = connection.session;
        }
        Ok(connection)
    }

    /// Sends requests one behind the other, then reads the answers of those that have one.
    async fn exchange(&mut self, leader: i32, requests: Vec<Vec<(Partition, Batch)>>) -> Result<(), Lost> {
        let address = self.peer.broker(leader);
        let mut connection = self.connect(address).await?;
        let version = if self.plan.by_id { 13 } else { self.peer.draw.within(9..14) as i16 };
        let oracle = Arc::clone(self.peer.oracle());
        let patience = self.peer.clients.patience();
        let mut answered = Vec::new();
        for request in &requests {
            let draw = &self.peer.draw;
            let acks = if self.plan.acks == 0 && draw.chance(ANSWER_WANTED) { 1 } else { self.plan.acks };
            answered.push(acks != 0);
            for (partition, batch) in request {
                for id in &batch.ids {
                    oracle.sends(*id, *partition, self.session, self.plan.idempotent);
                }
                let Batch { sequence, tries, .. } = batch;
                let first = batch.ids[0];
                let (name, count) = (&self.peer.name, batch.ids.len());
                note!(
                    name,
                    "sends {first} and {} more to {address}, sequence {sequence}, try {tries}, acks {acks}",
                    count - 1
                );
            }
            let message = self.request(request, version, acks);
            if acks == 0 {
                self.gone(request);
            }
            let sent = tokio::time::timeout(patience, connection.send(version, &message, acks != 0)).await;
            sent.unwrap_or_else(|_| Err(Lost("sending took too long".to_owned())))?;
        }
        let asks = !self.plan.idempotent && self.peer.draw.chance(ASKS_BEHIND);
        if asks {
            let request = MetadataRequest::default().with_topics(None);
            let sent = tokio::time::timeout(patience, connection.send(METADATA_VERSION, &request, true));
            sent.await.unwrap_or_else(|_| Err(Lost("sending took too long".to_owned())))?;
        }
        let mut failed = None;
        for (request, _) in requests.iter().zip(answered).filter(|(_, answered)| *answered) {
            let received = connection.receive::<ProduceRequest>(version, &oracle);
            let answer = tokio::time::timeout(patience, received)
                .await
                .unwrap_or_else(|_| Err(Lost("no answer in time".to_owned())))?;
            failed = failed.or(self.answered(request, &answer, version));
        }
        if asks {
            let received = connection.receive::<MetadataRequest>(METADATA_VERSION, &oracle);
            tokio::time::timeout(patience, received)
                .await
                .unwrap_or_else(|_| Err(Lost("no answer in time".to_owned())))?;
            trace::count("requests behind batches on their connection");
        }
        self.peer.keep(address, connection);
        failed.map_or(Ok(()), |code| Err(Lost(format!("{code}: {:?}", ResponseError::try_from_code(code)))))
    }

    /// Nobody will be told what becomes of these batches.
    fn gone(&mut self, request: &[(Partition, Batch)]) {
        for (partition, batch) in request {
            trace::count_by("records without an answer", batch.ids.len() as u64);
            self.forget(*partition, batch);
        }
    }

    fn request(&self, batches: &[(Partition, Batch)], version: i16, acks: i16) -> ProduceRequest {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for ((id, index), batch) in batches {
            let data =
                PartitionProduceData::default().with_index(*index).with_records(Some(batch.bytes.clone()));
            let name = &self.lineages[&(*id, *index)].topic;
            let same = topics.iter_mut().find(|topic| {
                if version >= 13 { topic.topic_id == *id } else { topic.name == topic_name(name) }
            });
            if let Some(topic) = same {
                topic.partition_data.push(data);
                continue;
            }
            let topic = TopicProduceData::default().with_partition_data(vec![data]);
            topics.push(if version >= 13 {
                topic.with_topic_id(*id)
            } else {
                topic.with_name(topic_name(name))
            });
        }
        ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(topics)
    }

    /// Takes an answer; the first error in it, if there is one.
    fn answered(
        &mut self,
        request: &[(Partition, Batch)],
        answer: &ProduceResponse,
        version: i16,
    ) -> Option<i16> {
        let mut failed = None;
        for (partition, batch) in request {
            let topic = self.lineages.get(partition).map(|lineage| topic_name(&lineage.topic));
            let answer = answer
                .responses
                .iter()
                .find(|it| {
                    if version >= 13 { it.topic_id == partition.0 } else { Some(&it.name) == topic.as_ref() }
                })
                .and_then(|topic| topic.partition_responses.iter().find(|it| it.index == partition.1));
            let Some(answer) = answer else {
                self.peer.oracle().violation("an answer to Produce says nothing of a partition");
                continue;
            };
            let first = batch.ids[0];
            let (code, offset) = (answer.error_code, answer.base_offset);
            note!(self.peer.name, "{first}: {code} at {offset}");
            match code {
                0 | codes::DUPLICATE_SEQUENCE_NUMBER => {
                    for (index, id) in batch.ids.iter().enumerate() {
                        let at = (code == 0 && offset >= 0).then_some(offset + index as i64);
                        self.peer.oracle().acknowledged(*id, at);
                    }
                    if code != 0 {
                        trace::count("duplicates without an offset");
                    }
                    self.settled(*partition, batch);
                }
                _ => {
                    self.refused(*partition, batch, code);
                    failed = failed.or(Some(code));
                }
            }
        }
        failed
    }

    fn settled(&mut self, partition: Partition, batch: &Batch) {
        if let Some(lineage) = self.lineages.get_mut(&partition) {
            lineage.pending.retain(|pending| pending.ids[0] != batch.ids[0]);
        }
    }

    fn refused(&mut self, partition: Partition, batch: &Batch, code: i16) {
        if codes::DID_NOT_HAPPEN.contains(&code) {
            batch.ids.iter().for_each(|id| self.peer.oracle().refused(*id));
        }
        let is_doomed = self.peer.oracle().is_doomed(partition.0);
        let is_next = self
            .lineages
            .get(&partition)
            .and_then(|lineage| lineage.pending.front())
            .is_some_and(|next| next.ids[0] == batch.ids[0]);
        let what = match code {
            _ if is_doomed => return,
            codes::OUT_OF_ORDER_SEQUENCE_NUMBER if is_next => "the sequence that follows is out of order",
            codes::OUT_OF_ORDER_SEQUENCE_NUMBER => return,
            codes::INVALID_PRODUCER_EPOCH => "the producer's newest epoch is refused",
            code if ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable()) => {
                if !self.plan.idempotent && self.peer.draw.chance(0.5) {
                    self.forget(partition, batch);
                }
                return;
            }
            _ => "a record is refused",
        };
        let first = batch.ids[0];
        self.peer.oracle().violation(&format!("{what}: {first}, sequence {}, code {code}", batch.sequence));
    }

    fn forget(&mut self, partition: Partition, batch: &Batch) {
        batch.ids.iter().for_each(|id| self.peer.oracle().unknown(*id));
        self.settled(partition, batch);
    }

    /// What goes to topics that are no more, goes nowhere.
    fn drop_deleted(&mut self) {
        let oracle = Arc::clone(self.peer.oracle());
        let topics = &self.topics;
        self.lineages.retain(|(id, _), lineage| {
            let is_current = topics.get(&lineage.topic).is_some_and(|topic| topic.id == *id);
            if !is_current && oracle.is_doomed(*id) {
                lineage.pending.iter().flat_map(|batch| &batch.ids).for_each(|id| oracle.unknown(*id));
                return false;
            }
            true
        });
    }

    /// Gives up what takes too long.
    async fn give_up(&mut self) {
        if !self.plan.idempotent {
            let lost: Vec<(Partition, Batch)> = self
                .lineages
                .iter()
                .flat_map(|(partition, lineage)| {
                    lineage.pending.iter().map(|batch| (*partition, batch.clone()))
                })
                .filter(|(_, batch)| batch.tries > 0)
                .collect();
            for (partition, batch) in lost {
                // Whether a plain producer sends again is its own decision.
                if batch.tries > 3 || self.peer.draw.chance(0.4) {
                    self.forget(partition, &batch);
                }
            }
            return;
        }
        let limit = self.plan.gives_up;
        let is_old = |batch: &Batch| batch.since.elapsed() > limit;
        if !self.lineages.values().any(|lineage| lineage.pending.iter().any(is_old)) {
            return;
        }
        trace::count("producers that gave batches up");
        note!(self.peer.name, "gives up what is under way");
        let oracle = Arc::clone(self.peer.oracle());
        for lineage in self.lineages.values_mut() {
            lineage.pending.drain(..).flat_map(|batch| batch.ids).for_each(|id| oracle.unknown(id));
            lineage.next_sequence = 0;
        }
        if self.peer.draw.chance(0.5) {
            // As Kafka's clients without transactions do it: nobody is asked, and what is still under way is fenced.
            self.epoch += 1;
            trace::count("producer epochs raised");
            note!(self.peer.name, "goes on in epoch {}", self.epoch);
        } else {
            // Another id: nothing fences what is still under way.
            self.id = -1;
        }
    }

    /// Gets an id.
    async fn initialize(&mut self) -> Result<(), Lost> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let address = self.peer.anybody();
        let answer = self.peer.call(address, 4, &request).await?;
        if answer.error_code != 0 {
            return Err(Lost(format!("no producer id: {}", answer.error_code)));
        }
        (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
        self.session += 1;
        self.peer.clients.oracle.took_id(self.plan.number, self.id);
        note!(self.peer.name, "is producer {} in epoch {}", self.id, self.epoch);
        Ok(())
    }
}

fn record(id: RecordId, filling: usize, offset: i32, (producer, epoch): (i64, i16), sequence: i32) -> Record {
    // Without an id, too, a batch's sequences run along: from -1.
    let first = if producer >= 0 { sequence } else { -1 };
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer,
        producer_epoch: epoch,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(offset),
        sequence: first + offset,
        timestamp: EPOCH_MS + trace::elapsed().as_millis() as i64,
        key: None,
        value: Some(id.value(filling)),
        headers: IndexMap::new(),
    }
}

/// What a tombstone has instead of a value stands among its headers.
fn give_key(record: &mut Record, id: RecordId, keyed: Keyed) {
    record.key = Some(key_bytes(keyed.key));
    if keyed.is_tombstone {
        record.value = None;
        record.headers.insert(StrBytes::from_static_str(ID_HEADER), Some(id.value(0)));
    }
}
