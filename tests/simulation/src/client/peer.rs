//! A Kafka client's ways to the cluster: connections, the requests on them, and what it knows of brokers and topics.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use penstock_agent::server::listener::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::keys::KeyPlan;
use crate::draw::Draw;
use crate::net::{Net, SimRead, SimWrite, agent_address, client_address};
use crate::oracle::{Expiry, Oracle};
use crate::trace;

/// Why a request has no answer: it may have been carried out all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost(pub String);

/// What clients share.
#[derive(Debug)]
pub struct Clients {
    /// The network.
    pub net: Arc<Net>,
    /// What must not be.
    pub oracle: Arc<Oracle>,
    /// How many agents there are.
    pub agents: usize,
    /// How long a client waits for an answer, in milliseconds.
    pub patience_ms: AtomicU64,
    /// How often a client goes to another agent than it is told.
    pub strays: f64,
    /// Topics whose records expire, by name.
    pub expiring: BTreeMap<String, Expiry>,
    /// Topics that are compacted, by name.
    pub compacted: BTreeMap<String, KeyPlan>,
}

impl Clients {
    /// How long a client waits for an answer.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms.load(Ordering::Relaxed))
    }
}

/// A topic as a client was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its id.
    pub id: Uuid,
    /// The leaders of its partitions, by index.
    pub leaders: BTreeMap<i32, i32>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    read: SimRead,
    write: SimWrite,
    next: i32,
    waiting: VecDeque<i32>,
    client_id: String,
    /// Whose order it keeps, if its client gave it a number.
    pub session: u32,
}

impl Connection {
    /// Sends a request, and does not wait for its answer, if it has one.
    pub async fn send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        is_answered: bool,
    ) -> Result<(), Lost> {
        let correlation = self.next;
        self.next += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(StrBytes::from_string(self.client_id.clone())));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version)).expect("a header can be encoded");
        request.encode(&mut frame, version).expect("a request of ours can be encoded");
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        trace::count("requests");
        if is_answered {
            self.waiting.push_back(correlation);
        }
        self.write.write_all(&frame).await.map_err(|error| Lost(error.to_string()))
    }

    /// The answer to the oldest request that has none yet.
    pub async fn receive<R: Request>(&mut self, version: i16, oracle: &Oracle) -> Result<R::Response, Lost> {
        let lost = |error: std::io::Error| Lost(error.to_string());
        let mut length = [0; 4];
        self.read.read_exact(&mut length).await.map_err(lost)?;
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.read.read_exact(&mut frame).await.map_err(lost)?;
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version));
        let Ok(header) = header else {
            oracle.violation("an answer's header can't be decoded");
            return Err(Lost("no header".to_owned()));
        };
        let expected = self.waiting.pop_front();
        if Some(header.correlation_id) != expected {
            let given = header.correlation_id;
            oracle.violation(&format!("an answer to request {given} where {expected:?} was next"));
        }
        match R::Response::decode(&mut frame, version) {
            Ok(response) if !frame.has_remaining() => Ok(response),
            Ok(_) => {
                oracle.violation(&format!("an answer to API {} version {version} is too long", R::KEY));
                Err(Lost("too long".to_owned()))
            }
            Err(error) => {
                oracle.violation(&format!("an answer to API {} version {version}: {error:#}", R::KEY));
                Err(Lost("can't be decoded".to_owned()))
            }
        }
    }
}

/// A client's view of the cluster and its connections.
#[derive(Debug)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What it shares with the others.
    pub clients: Arc<Clients>,
    /// Its chance.
    pub draw: Draw,
    address: IpAddr,
    brokers: BTreeMap<i32, SocketAddr>,
    connections: BTreeMap<SocketAddr, Connection>,
}

impl Peer {
    /// A client that knows nobody yet.
    pub fn new(name: &str, number: usize, clients: &Arc<Clients>, draw: &Draw) -> Self {
        Self {
            name: name.to_owned(),
            clients: Arc::clone(clients),
            draw: draw.stream(&format!("client {name}")),
            address: client_address(number),
            brokers: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// What must not be.
    pub fn oracle(&self) -> &Arc<Oracle> {
        &self.clients.oracle
    }

    /// Some agent's address.
    pub fn anybody(&self) -> SocketAddr {
        let known: Vec<SocketAddr> = self.brokers.values().copied().collect();
        if known.is_empty() || self.draw.chance(0.3) {
            agent_address(self.draw.index(self.clients.agents))
        } else {
            *self.draw.pick(&known)
        }
    }

    /// The address of a broker, or of another where the client strays.
    pub fn broker(&self, id: i32) -> SocketAddr {
        match self.brokers.get(&id) {
            Some(address) if !self.draw.chance(self.clients.strays) => *address,
            _ => self.anybody(),
        }
    }

    /// Takes the open connection to `address`, or opens one.
    pub async fn take(&mut self, address: SocketAddr) -> Result<Connection, Lost> {
        if let Some(connection) = self.connections.remove(&address)
            && connection.waiting.is_empty()
        {
            return Ok(connection);
        }
        let opened = self.clients.net.connect(self.address, address);
        let stream = tokio::time::timeout(self.clients.patience(), opened)
            .await
            .map_err(|_| Lost("connecting took too long".to_owned()))?
            .map_err(|error| Lost(error.to_string()))?;
        let (read, write) = stream.split();
        let next = self.draw.within(0..1_000) as i32;
        let (waiting, client_id) = (VecDeque::new(), self.name.clone());
        Ok(Connection { read, write, next, waiting, client_id, session: 0 })
    }

    /// Keeps a connection for the next request.
    pub fn keep(&mut self, address: SocketAddr, connection: Connection) {
        self.connections.insert(address, connection);
    }

    /// Closes all connections.
    pub fn disconnect(&mut self) {
        self.connections.clear();
    }

    /// Sends a request to `address` and waits for its answer.
    pub async fn call<R: Request>(
        &mut self,
        address: SocketAddr,
        version: i16,
        request: &R,
    ) -> Result<R::Response, Lost> {
        self.call_within(address, version, request, self.clients.patience()).await
    }

    /// The same with another patience.
    pub async fn call_within<R: Request>(
        &mut self,
        address: SocketAddr,
        version: i16,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, Lost> {
        let mut connection = self.take(address).await?;
        let oracle = Arc::clone(self.oracle());
        let answered = async {
            connection.send(version, request, true).await?;
            connection.receive::<R>(version, &oracle).await
        };
        let answer = tokio::time::timeout(patience, answered)
            .await
            .unwrap_or_else(|_| Err(Lost("no answer in time".to_owned())))?;
        self.keep(address, connection);
        Ok(answer)
    }

    /// Asks somebody who there is, and about topics.
    pub async fn metadata(&mut self, topics: &[String]) -> Result<BTreeMap<String, KnownTopic>, Lost> {
        let asked =
            topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(asked.collect()))
            .with_allow_auto_topic_creation(false);
        let address = self.anybody();
        let version = self.draw.within(10..14) as i16;
        let answer: MetadataResponse = self.call(address, version, &request).await?;
        self.brokers.clear();
        for broker in &answer.brokers {
            if let Ok(ip) = broker.host.parse::<IpAddr>() {
                self.brokers.insert(broker.node_id.0, SocketAddr::new(ip, broker.port as u16));
            }
        }
        let mut known = BTreeMap::new();
        for topic in answer.topics {
            let Some(name) = topic.name.filter(|_| topic.error_code == 0) else { continue };
            let partitions = topic.partitions.iter().filter(|partition| partition.error_code == 0);
            let leaders = partitions.map(|partition| (partition.partition_index, partition.leader_id.0));
            if let Some(expiry) = self.clients.expiring.get(name.as_str()) {
                self.oracle().expires(topic.topic_id, *expiry);
            }
            if let Some(plan) = self.clients.compacted.get(name.as_str()) {
                self.oracle().compacts(topic.topic_id, plan.compacting);
            }
            known.insert(name.to_string(), KnownTopic { id: topic.topic_id, leaders: leaders.collect() });
        }
        Ok(known)
    }

    /// Asks somebody who coordinates a group.
    pub async fn coordinator(&mut self, group: &str) -> Result<SocketAddr, Lost> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let address = self.anybody();
        let answer = self.call(address, 4, &request).await?;
        let found = answer.coordinators.first().ok_or_else(|| Lost("no coordinator".to_owned()))?;
        if found.error_code != 0 {
            return Err(Lost(format!("no coordinator: {}", found.error_code)));
        }
        let ip = found.host.parse::<IpAddr>().map_err(|error| Lost(error.to_string()))?;
        Ok(SocketAddr::new(ip, found.port as u16))
    }

    /// Waits a moment before the next try.
    pub async fn back_off(&self, tries: u32) {
        let most = Duration::from_millis(20 << tries.min(5));
        penstock_types::pause(self.draw.duration(most / 4..most)).await;
    }
}

/// A topic's name on the wire.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Whether an API's key is what a request says; for lines of the history.
pub fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| key.to_string(), |key| format!("{key:?}"))
}
