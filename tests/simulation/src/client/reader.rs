//! Fetching, as all consumers do it: positions by partition, with or without a fetch session (KIP-227).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest};
use kafka_protocol::records::RecordBatchDecoder;
use uuid::Uuid;

use super::codes;
use super::keys::{extents, identify};
use super::peer::{Lost, Peer, topic_name};
use crate::draw::Draw;
use crate::oracle::{Partition, Tick};
use crate::{note, trace};

/// Where a reader is, and its session.
#[derive(Debug, Default)]
pub struct Reader {
    /// The next offset by partition.
    pub positions: BTreeMap<Partition, i64>,
    /// The names of topics.
    pub names: BTreeMap<Uuid, String>,
    /// Where the log ended when it was last read.
    pub ends: BTreeMap<Partition, i64>,
    /// Whether topics go by name.
    by_name: bool,
    /// Whether a session is wanted.
    in_session: bool,
    /// Most bytes of a partition and of an answer.
    limits: (i32, i32),
    /// Fewer bytes than this are waited for.
    min_bytes: i32,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    address: SocketAddr,
    id: i32,
    epoch: i32,
    /// What the agent knows of positions.
    told: BTreeMap<Partition, i64>,
}

/// What a fetch gave.
#[derive(Debug, Default)]
pub struct Polled {
    /// Records, by partition, in order.
    pub records: Vec<(Partition, i64)>,
    /// Partitions that aren't there (any more), or not here.
    pub elsewhere: BTreeSet<Partition>,
    /// Partitions of which the position was deleted.
    pub deleted: BTreeSet<Partition>,
}

impl Reader {
    /// A reader of nothing so far.
    pub fn new(by_name: bool, in_session: bool, draw: &Draw) -> Self {
        // The same for all of its fetches: where a batch is larger, it has to come all the same.
        let limits = (draw.rate(2_000.0..500_000.0) as i32, draw.rate(2_000.0..1_000_000.0) as i32);
        let min_bytes = if draw.chance(0.3) { draw.rate(2.0..20_000.0) as i32 } else { 1 };
        Self { by_name, in_session, limits, min_bytes, ..Self::default() }
    }

    /// From now on waits for no more than a byte: with `fetch.min.bytes` above what a fetch may bring, each would take
    /// the whole of its time.
    pub fn hurry(&mut self) {
        self.min_bytes = 1;
    }

    /// Forgets the session.
    pub fn leave_session(&mut self) {
        self.session = None;
    }

    /// Fetches once.
    pub async fn poll(
        &mut self,
        peer: &mut Peer,
        address: SocketAddr,
        wait: Duration,
    ) -> Result<Polled, Lost> {
        if self.session.as_ref().is_some_and(|session| session.address != address) {
            self.session = None;
        }
        let version = if self.by_name { peer.draw.within(11..13) } else { peer.draw.within(13..19) } as i16;
        let (request, asked) = self.request(peer, version, wait);
        let began = peer.oracle().tick();
        let patience = peer.clients.patience() + wait;
        let answer = match peer.call_within(address, version, &request, patience).await {
            Ok(answer) => answer,
            Err(lost) => {
                self.session = None;
                return Err(lost);
            }
        };
        if answer.error_code != 0 {
            self.session = None;
            let known = [codes::FETCH_SESSION_ID_NOT_FOUND, codes::INVALID_FETCH_SESSION_EPOCH];
            if !known.contains(&answer.error_code) {
                note!(peer.name, "fetch failed: {}", answer.error_code);
            }
            return Err(Lost(format!("fetch: {}", answer.error_code)));
        }
        self.follow_session(address, &answer, asked);
        let polled = self.take(peer, began, &answer, version);
        if !polled.deleted.is_empty() {
            // Without an answer the next fetch is out of range again; what was read is read.
            if let Err(Lost(why)) = self.go_to_the_start(peer, address, &polled.deleted).await {
                note!(peer.name, "where logs begin: {why}");
            }
        }
        Ok(polled)
    }

    /// Goes on where logs begin (`auto.offset.reset=earliest`).
    async fn go_to_the_start(
        &mut self,
        peer: &mut Peer,
        address: SocketAddr,
        partitions: &BTreeSet<Partition>,
    ) -> Result<(), Lost> {
        let topics = partitions.iter().map(|(id, index)| {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_current_leader_epoch(-1)
                .with_timestamp(-2);
            let name = topic_name(self.names.get(id).map_or("", String::as_str));
            ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition])
        });
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.collect());
        let began = peer.oracle().tick();
        let answer = peer.call(address, 5, &request).await?;
        for topic in &answer.topics {
            let id = self.names.iter().find(|(_, name)| topic_name(name) == topic.name).map(|(id, _)| *id);
            for partition in topic.partitions.iter().filter(|partition| partition.error_code == 0) {
                let of = (id.unwrap_or_default(), partition.partition_index);
                peer.oracle().told_start(&peer.name, of, began, partition.offset);
                if let Some(position) = self.positions.get_mut(&of) {
                    note!(peer.name, "goes on at {} of {:.6}-{}", partition.offset, of.0.simple(), of.1);
                    *position = partition.offset.max(*position);
                }
            }
        }
        Ok(())
    }

    fn request(
        &mut self,
        peer: &Peer,
        version: i16,
        wait: Duration,
    ) -> (FetchRequest, BTreeMap<Partition, i64>) {
        let (id, epoch) = match &self.session {
            Some(session) => (session.id, session.epoch),
            None => (0, if self.in_session { 0 } else { -1 }),
        };
        let mut asked = self.positions.clone();
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        if let Some(session) = &self.session {
            asked.retain(|partition, position| session.told.get(partition) != Some(position));
            for (topic, index) in session.told.keys().filter(|it| !self.positions.contains_key(*it)) {
                let mut gone = ForgottenTopic::default().with_partitions(vec![*index]).with_topic_id(*topic);
                if version < 13 {
                    gone = gone.with_topic_id(Uuid::nil()).with_topic(topic_name(&self.names[topic]));
                }
                forgotten.push(gone);
            }
        }
        let mut topics: BTreeMap<Uuid, FetchTopic> = BTreeMap::new();
        for ((topic, index), position) in &asked {
            let entry = topics.entry(*topic).or_insert_with(|| {
                let name = self.names.get(topic).map_or("", String::as_str);
                if version >= 13 {
                    FetchTopic::default().with_topic_id(*topic)
                } else {
                    FetchTopic::default().with_topic(topic_name(name))
                }
            });
            entry.partitions.push(
                FetchPartition::default()
                    .with_partition(*index)
                    .with_fetch_offset(*position)
                    .with_partition_max_bytes(self.limits.0)
                    .with_current_leader_epoch(-1)
                    .with_last_fetched_epoch(-1)
                    .with_log_start_offset(-1),
            );
        }
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait.as_millis() as i32)
            .with_min_bytes(self.min_bytes)
            .with_max_bytes(self.limits.1)
            .with_isolation_level((peer.draw.index(2)) as i8)
            .with_session_id(id)
            .with_session_epoch(epoch)
            .with_topics(topics.into_values().collect())
            .with_forgotten_topics_data(forgotten);
        (request, asked)
    }

    fn follow_session(
        &mut self,
        address: SocketAddr,
        answer: &FetchResponse,
        asked: BTreeMap<Partition, i64>,
    ) {
        match &mut self.session {
            Some(session) => {
                session.epoch = session.epoch.checked_add(1).unwrap_or(1);
                session.told.retain(|partition, _| self.positions.contains_key(partition));
                session.told.extend(asked);
            }
            None if self.in_session && answer.session_id != 0 => {
                self.session = Some(Session { address, id: answer.session_id, epoch: 1, told: asked });
            }
            None => {}
        }
    }

    fn take(&mut self, peer: &Peer, began: Tick, answer: &FetchResponse, version: i16) -> Polled {
        let mut polled = Polled::default();
        for topic in &answer.responses {
            let id = if version >= 13 {
                Some(topic.topic_id)
            } else {
                self.names.iter().find(|(_, name)| topic_name(name) == topic.topic).map(|(id, _)| *id)
            };
            for data in &topic.partitions {
                let partition = (id.unwrap_or_default(), data.partition_index);
                let Some(position) = self.positions.get(&partition).copied() else {
                    peer.oracle()
                        .violation(&format!("{} was given a partition that it did not ask for", peer.name));
                    continue;
                };
                let next = self.partition(peer, began, partition, position, data, &mut polled);
                self.positions.insert(partition, next);
            }
        }
        polled
    }

    /// Takes what an answer says of a partition; gives the next position.
    fn partition(
        &mut self,
        peer: &Peer,
        began: Tick,
        partition: Partition,
        position: i64,
        data: &PartitionData,
        polled: &mut Polled,
    ) -> i64 {
        let oracle = peer.oracle();
        match data.error_code {
            0 => {}
            codes::OFFSET_OUT_OF_RANGE => {
                trace::count("fetches out of range");
                oracle.out_of_range(&peer.name, partition, began, position);
                polled.deleted.insert(partition);
                return position;
            }
            _ => {
                polled.elsewhere.insert(partition);
                return position;
            }
        }
        oracle.told_end(&peer.name, partition, began, data.high_watermark);
        oracle.told_start(&peer.name, partition, began, data.log_start_offset);
        self.ends.insert(partition, data.high_watermark);
        if data.last_stable_offset > data.high_watermark || data.log_start_offset > data.high_watermark {
            oracle.violation(&format!("{}: {data:?} contradicts itself", peer.name));
        }
        let mut next = position;
        let mut records = data.records.clone().unwrap_or_default();
        let extents = extents(&records);
        let batches = match RecordBatchDecoder::decode_all(&mut records) {
            Ok(batches) => batches,
            Err(error) => {
                oracle
                    .violation(&format!("{}: records of {partition:?} at {position}: {error:#}", peer.name));
                return position;
            }
        };
        for (batch, extent) in batches.iter().zip(extents) {
            for record in &batch.records {
                let Some((id, keyed)) = identify(record) else {
                    oracle.violation(&format!(
                        "{}: offset {} of {partition:?} is no record",
                        peer.name, record.offset
                    ));
                    continue;
                };
                oracle.saw(&peer.name, partition, record.offset, id);
                oracle.saw_key(&peer.name, (partition, record.offset), began, id, keyed);
                oracle.saw_time(partition, record.offset, record.timestamp);
                if record.offset < position {
                    continue;
                }
                if record.offset < next {
                    oracle.violation(&format!("{}: offset {} behind {next}", peer.name, record.offset));
                }
                skip(peer, partition, &mut next, record.offset, &mut polled.records);
                if record.offset >= data.high_watermark {
                    oracle.violation(&format!("{}: offset {} behind the end", peer.name, record.offset));
                }
                next = record.offset + 1;
                polled.records.push((partition, record.offset));
            }
            // Of what a batch had, or of a whole one, nothing may be left.
            skip(peer, partition, &mut next, extent.end, &mut polled.records);
        }
        if next > position {
            oracle.in_range(&peer.name, partition, began, position);
            trace::count("fetches with records");
            note!(peer.name, "read {position} to {next} of {:.6}-{}", partition.0.simple(), partition.1);
        } else if data.high_watermark > position && data.records.as_ref().is_some_and(|it| !it.is_empty()) {
            oracle.violation(&format!(
                "{}: a fetch at {position} of {partition:?} makes no progress",
                peer.name
            ));
        }
        next
    }

    /// Whether everything was read that was there.
    pub fn is_at_end(&self, end: impl Fn(Partition) -> i64) -> bool {
        self.positions.iter().all(|(partition, position)| *position >= end(*partition))
    }

    /// Shared: for who asks.
    pub fn known(&self) -> Arc<[Partition]> {
        self.positions.keys().copied().collect()
    }
}

/// Goes on at `to`: nothing is left of what was in between.
fn skip(peer: &Peer, partition: Partition, next: &mut i64, to: i64, given: &mut Vec<(Partition, i64)>) {
    peer.oracle().found_gaps(&peer.name, partition, *next..to);
    given.extend((*next..to).map(|offset| (partition, offset)));
    *next = to.max(*next);
}
