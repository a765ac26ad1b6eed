//! Members of consumer groups: they join, are given partitions, read from where the group is, commit, and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use penstock_types::pause;
use tokio::time::Instant;

use super::codes;
use super::peer::{KnownTopic, Lost, Peer, topic_name};
use super::reader::Reader;
use crate::oracle::Partition;
use crate::{note, trace};

/// How a member is.
#[derive(Debug, Clone)]
pub struct MemberPlan {
    /// Its group.
    pub group: String,
    /// Topics that it subscribes to.
    pub topics: Vec<String>,
    /// Its `group.instance.id`, if it is static.
    pub instance: Option<String>,
    /// The session's time-out.
    pub session: Duration,
    /// How often it leaves and comes back.
    pub leaves: f64,
    /// How long it rests.
    pub rest: Duration,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    plan: MemberPlan,
    peer: Peer,
    reader: Reader,
    member_id: String,
    generation: i32,
    coordinator: Option<SocketAddr>,
    topics: BTreeMap<String, KnownTopic>,
    committed: BTreeMap<Partition, i64>,
    /// Once set, it ends when it has committed the ends.
    ends: Arc<AtomicBool>,
    tries: u32,
}

/// Why a member does not go on.
enum Stop {
    /// It has to join anew.
    Rejoin(&'static str),
    /// Nobody answered.
    Lost(Lost),
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

impl Member {
    /// A member that reads until `ends`, and then until its group is at the ends.
    pub fn new(plan: MemberPlan, peer: Peer, ends: Arc<AtomicBool>) -> Self {
        let reader = Reader::new(false, peer.draw.chance(0.5), &peer.draw);
        Self {
            plan,
            peer,
            reader,
            member_id: String::new(),
            generation: -1,
            coordinator: None,
            topics: BTreeMap::new(),
            committed: BTreeMap::new(),
            ends,
            tries: 0,
        }
    }

    /// Is a member until its group has read everything.
    pub async fn run(mut self) {
        loop {
            match self.generation().await {
                Ok(true) => {
                    note!(self.peer.name, "its group is at the end");
                    return;
                }
                Ok(false) => self.tries = 0,
                Err(Stop::Rejoin(why)) => {
                    note!(self.peer.name, "joins anew: {why}");
                    self.tries = 0;
                }
                Err(Stop::Lost(Lost(why))) => {
                    note!(self.peer.name, "tries again: {why}");
                    trace::count("group calls without an answer");
                    self.coordinator = None;
                    self.tries += 1;
                    self.peer.back_off(self.tries).await;
                }
            }
        }
    }

    async fn at(&mut self) -> Result<SocketAddr, Lost> {
        if let Some(coordinator) = self.coordinator {
            return Ok(coordinator);
        }
        let found = self.peer.coordinator(&self.plan.group).await?;
        self.coordinator = Some(found);
        Ok(found)
    }

    /// What a code says to a member.
    fn check(&mut self, code: i16) -> Result<(), Stop> {
        match code {
            0 => Ok(()),
            codes::ILLEGAL_GENERATION => Err(Stop::Rejoin("another generation")),
            codes::REBALANCE_IN_PROGRESS => Err(Stop::Rejoin("a rebalance")),
            codes::UNKNOWN_MEMBER_ID => {
                self.member_id.clear();
                Err(Stop::Rejoin("unknown to the group"))
            }
            code => Err(Stop::Lost(Lost(format!("code {code}")))),
        }
    }

    /// One generation, from joining it to its end; whether there is nothing more to do.
    async fn generation(&mut self) -> Result<bool, Stop> {
        self.topics = self.peer.metadata(&self.plan.topics).await?;
        let joined = self.join().await?;
        let owned = self.sync(&joined).await?;
        self.begin(&owned).await?;
        let leaves = self.peer.draw.chance(self.plan.leaves);
        let until = Instant::now() + self.peer.draw.around(Duration::from_secs(8));
        let mut heartbeat = Instant::now() + self.plan.session / 3;
        loop {
            if Instant::now() >= heartbeat {
                self.heartbeat().await?;
                heartbeat = Instant::now() + self.plan.session / 3;
            }
            let read = self.read().await;
            if self.peer.draw.chance(0.4) || self.is_ending() {
                self.commit().await?;
            }
            read?;
            if self.is_ending() {
                let oracle = Arc::clone(self.peer.oracle());
                if self.reader.is_at_end(|partition| oracle.end(partition)) && self.all_committed() {
                    return Ok(true);
                }
            } else {
                if leaves && Instant::now() > until {
                    self.leave().await?;
                    return Ok(false);
                }
                pause(self.peer.draw.around(self.plan.rest)).await;
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    fn all_committed(&self) -> bool {
        self.reader
            .positions
            .iter()
            .all(|(partition, position)| *position == 0 || self.committed.get(partition) == Some(position))
    }

    async fn join(&mut self) -> Result<JoinGroupResponse, Stop> {
        let mut metadata = BytesMut::new();
        metadata.put_i16(1);
        let topics = self.plan.topics.iter().map(|topic| text(topic)).collect();
        let subscription = ConsumerProtocolSubscription::default().with_topics(topics);
        subscription.encode(&mut metadata, 1).expect("a subscription can be encoded");
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(metadata.freeze());
        let rebalance = Duration::from_secs(5);
        for _ in 0..2 {
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(text(&self.plan.group)))
                .with_session_timeout_ms(self.plan.session.as_millis() as i32)
                .with_rebalance_timeout_ms(rebalance.as_millis() as i32)
                .with_member_id(text(&self.member_id))
                .with_group_instance_id(self.plan.instance.as_deref().map(text))
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol.clone()]);
            let coordinator = self.at().await?;
            let patience = self.peer.clients.patience() + rebalance + self.plan.session;
            let answer = self.peer.call_within(coordinator, 7, &request, patience).await?;
            if answer.error_code == codes::MEMBER_ID_REQUIRED {
                self.member_id = answer.member_id.to_string();
                continue;
            }
            self.check(answer.error_code)?;
            self.member_id = answer.member_id.to_string();
            self.generation = answer.generation_id;
            // A static leader that comes back leads under another id.
            let is_static = self.plan.instance.is_some();
            let leader = if is_static { "a static member".to_owned() } else { answer.leader.to_string() };
            let (group, generation) = (&self.plan.group, self.generation);
            let _ = self.peer.oracle().groups(|groups, now| groups.joined(now, group, generation, &leader));
            note!(self.peer.name, "is {} in generation {generation}, led by {leader}", self.member_id);
            return Ok(answer);
        }
        Err(Stop::Rejoin("a member id was asked for twice"))
    }

    /// Gives out partitions, where this member leads, and learns which are its own.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<Vec<(String, i32)>, Stop> {
        let mut assignments = Vec::new();
        if joined.leader.as_str() == self.member_id {
            let members: Vec<&StrBytes> = joined.members.iter().map(|member| &member.member_id).collect();
            let mut given: BTreeMap<usize, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
            let all = self
                .topics
                .iter()
                .flat_map(|(name, topic)| topic.leaders.keys().map(move |index| (name.clone(), *index)));
            for (number, (name, index)) in all.enumerate() {
                given.entry(number % members.len()).or_default().entry(name).or_default().push(index);
            }
            for (number, member) in members.into_iter().enumerate() {
                let topics = given.remove(&number).unwrap_or_default();
                let assignment = SyncGroupRequestAssignment::default()
                    .with_member_id(member.clone())
                    .with_assignment(encode_assignment(topics));
                assignments.push(assignment);
            }
        }
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.plan.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.plan.instance.as_deref().map(text))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments);
        let coordinator = self.at().await?;
        let patience = self.peer.clients.patience() + Duration::from_secs(10);
        let answer = self.peer.call_within(coordinator, 5, &request, patience).await?;
        self.check(answer.error_code)?;
        decode_assignment(answer.assignment).ok_or_else(|| {
            self.peer.oracle().violation("an assignment that nobody made");
            Stop::Rejoin("no assignment")
        })
    }

    /// Begins to read where the group is.
    async fn begin(&mut self, owned: &[(String, i32)]) -> Result<(), Stop> {
        let partitions: Vec<(String, Partition)> = owned
            .iter()
            .filter_map(|(name, index)| Some((name.clone(), (self.topics.get(name)?.id, *index))))
            .collect();
        let all: Vec<Partition> = partitions.iter().map(|(_, partition)| *partition).collect();
        // A static member that comes back takes its own place under another id.
        let member = self.plan.instance.as_ref().unwrap_or(&self.member_id);
        let (group, generation) = (&self.plan.group, self.generation);
        let _ = self.peer.oracle().groups(|groups, _| groups.assigned(group, generation, member, &all));
        self.reader.positions.clear();
        self.reader.leave_session();
        self.committed.clear();
        if all.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (name, (_, index)) in &partitions {
            topics.entry(name).or_default().push(*index);
        }
        let topics = topics.into_iter().map(|(name, indexes)| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(indexes)
        });
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(&self.plan.group)))
            .with_require_stable(true)
            .with_topics(Some(topics.collect()));
        let coordinator = self.at().await?;
        let began = self.peer.oracle().tick();
        let answer = self.peer.call(coordinator, 7, &request).await?;
        self.check(answer.error_code)?;
        for topic in &answer.topics {
            let Some(known) = self.topics.get(topic.name.as_str()) else { continue };
            let id = known.id;
            self.reader.names.insert(id, topic.name.to_string());
            for partition in &topic.partitions {
                self.check(partition.error_code)?;
                let (of, offset) = ((id, partition.partition_index), partition.committed_offset);
                let (group, generation) = (&self.plan.group, self.generation);
                let _ = self
                    .peer
                    .oracle()
                    .groups(|groups, now| groups.read((began, now), group, generation, of, offset));
                self.reader.positions.insert(of, offset.max(0));
                if offset >= 0 {
                    self.committed.insert(of, offset);
                }
            }
        }
        note!(self.peer.name, "reads from {:?}", self.reader.positions.values().collect::<Vec<_>>());
        Ok(())
    }

    async fn read(&mut self) -> Result<(), Stop> {
        if self.reader.positions.is_empty() {
            pause(Duration::from_millis(200)).await;
            return Ok(());
        }
        let address = self.peer.anybody();
        let wait = Duration::from_millis(self.peer.draw.within(0..400));
        if self.ends.load(Ordering::Relaxed) {
            self.reader.hurry();
        }
        let polled = self.reader.poll(&mut self.peer, address, wait).await;
        match polled {
            Ok(polled) => {
                let group = &self.plan.group;
                for (partition, offset) in polled.records {
                    let _ = self.peer.oracle().groups(|groups, _| {
                        groups.delivered(group, partition, offset);
                        Ok(())
                    });
                }
                Ok(())
            }
            // Reading is tried again; it is the coordinator that says whether to go on.
            Err(Lost(why)) => {
                note!(self.peer.name, "could not read: {why}");
                self.peer.back_off(1).await;
                Ok(())
            }
        }
    }

    async fn heartbeat(&mut self) -> Result<(), Stop> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.plan.group)))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.plan.instance.as_deref().map(text));
        let coordinator = self.at().await?;
        let answer = self.peer.call(coordinator, 4, &request).await?;
        self.check(answer.error_code)
    }

    async fn commit(&mut self) -> Result<(), Stop> {
        let news: BTreeMap<Partition, i64> = self
            .reader
            .positions
            .iter()
            .filter(|(partition, position)| {
                self.committed.get(*partition) != Some(*position) && **position > 0
            })
            .map(|(partition, position)| (*partition, *position))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((id, index), offset) in &news {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1);
            let name = self.reader.names.get(id).cloned().unwrap_or_default();
            topics.entry(name).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default().with_name(topic_name(&name)).with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.plan.group)))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.plan.instance.as_deref().map(text))
            .with_topics(topics.collect());
        let coordinator = self.at().await?;
        let (group, generation) = (self.plan.group.clone(), self.generation);
        let oracle = Arc::clone(self.peer.oracle());
        for (partition, offset) in &news {
            let _ = oracle.groups(|groups, now| {
                groups.commits(now, &group, generation, (*partition, *offset));
                Ok(())
            });
        }
        let began = oracle.tick();
        let answer = self.peer.call(coordinator, 8, &request).await?;
        let mut worst = 0;
        let mut answered = BTreeSet::new();
        for topic in &answer.topics {
            let Some(known) = self.topics.get(topic.name.as_str()) else { continue };
            for partition in &topic.partitions {
                let of = (known.id, partition.partition_index);
                let Some(offset) = news.get(&of).copied() else { continue };
                answered.insert(of);
                match partition.error_code {
                    0 => {
                        let _ = oracle.groups(|groups, now| {
                            groups.committed((began, now), &group, generation, (of, offset))
                        });
                        self.committed.insert(of, offset);
                        trace::count("offsets committed");
                    }
                    codes::ILLEGAL_GENERATION | codes::UNKNOWN_MEMBER_ID | codes::REBALANCE_IN_PROGRESS => {
                        let _ = oracle.groups(|groups, _| {
                            groups.refused(&group, generation, of, offset);
                            Ok(())
                        });
                        worst = partition.error_code;
                    }
                    code => worst = code,
                }
            }
        }
        if answered.len() != news.len() {
            oracle.violation("an answer to OffsetCommit says nothing of a partition");
        }
        note!(self.peer.name, "commits {:?}: {worst}", news.values().collect::<Vec<_>>());
        self.check(worst)
    }

    async fn leave(&mut self) -> Result<(), Stop> {
        let member = MemberIdentity::default()
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.plan.instance.as_deref().map(text));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&self.plan.group)))
            .with_members(vec![member]);
        let coordinator = self.at().await?;
        let answer = self.peer.call(coordinator, 4, &request).await?;
        self.member_id.clear();
        note!(self.peer.name, "leaves: {}", answer.error_code);
        pause(self.peer.draw.around(Duration::from_secs(1))).await;
        self.check(answer.error_code)
    }
}

fn encode_assignment(topics: BTreeMap<String, Vec<i32>>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    let assigned = topics.into_iter().map(|(name, partitions)| {
        AssignedTopic::default().with_topic(topic_name(&name)).with_partitions(partitions)
    });
    let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.collect());
    assignment.encode(&mut bytes, 1).expect("an assignment can be encoded");
    bytes.freeze()
}

fn decode_assignment(mut bytes: Bytes) -> Option<Vec<(String, i32)>> {
    if bytes.len() < 2 {
        // A member that the leader did not know of is given nothing.
        return bytes.is_empty().then(Vec::new);
    }
    let version = bytes::Buf::get_i16(&mut bytes);
    let assignment = ConsumerProtocolAssignment::decode(&mut bytes, version).ok()?;
    let all = assignment.assigned_partitions.into_iter().flat_map(|topic| {
        let name = topic.topic.to_string();
        topic.partitions.into_iter().map(move |index| (name.clone(), index))
    });
    Some(all.collect())
}
