//! Agents (family 0x50).
//!
//! ```text
//! agent       0x50 | 01 | node id (4)
//! value       format = 1 (1) | session (8) | renewals (8) | renewed at: incarnation (4), store version (8) | lease, ms (4)
//!             | phase (1) | wall clock, ms (zigzag) | started, ms (zigzag) | name (text) | zone (text)
//!             | program's version (text) | roles (1: bit 0 serves clients, bit 1 runs jobs)
//!             | newest schema that it knows (4) | HTTP host (text), port (2)
//!             | listeners (count, then of each: name (text), host (text), port (2))
//! name        0x50 | 02 | name (the rest)
//! value       format = 1 (1) | node id (4) | last seen: incarnation (4), store version (8)
//! membership  0x50 | 03
//! value       format = 1 (1) | versionstamp (10)
//! ```
//!
//! - **Written** by the agent whose row it is, in transactions that find their own session in it (or take an id that
//!   nobody has). The membership's stamp changes with every registration, change of phase and end of one, not with
//!   renewals: it is what agents watch. A row that was not renewed for long is cleared by whoever registers next.
//! - **Read** by every agent, several times in a lease.
//! - **Cardinality**: one row an agent, one a name. **Size**: some 200 bytes, written some times in a lease.
//!
//! The store version at the renewal only tells whoever looks for the first time how old a row is; whoever looks on
//! goes by `renewals`. The wall clock is one voice of the median that retention takes for now.

use std::time::Duration;

use penstock_types::{Incarnation, NodeId, StoreVersion, TimestampMs, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, Transaction, WriteConflict, prefixed};

const FORMAT: u8 = 1;
const AGENT: u8 = 1;
const AGENT_NAME: u8 = 2;
const MEMBERSHIP: u8 = 3;
const NAME: &str = "agent";
/// Bytes of a name, zone or host at most.
pub const TEXT_BYTES_MAX: usize = 255;

/// What an agent does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is not ready yet; clients are not told of it.
    Starting,
    /// It serves clients.
    Serving,
    /// It finishes what it has; clients are sent elsewhere.
    Draining,
}

impl Phase {
    const fn code(self) -> u8 {
        match self {
            Self::Serving => 1,
            Self::Draining => 2,
            Self::Starting => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Serving),
            2 => Some(Self::Draining),
            3 => Some(Self::Starting),
            _ => None,
        }
    }

    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// What an agent is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Kafka clients are sent to it, and groups coordinated by it.
    pub clients: bool,
    /// It runs background jobs.
    pub jobs: bool,
}

/// An address that Kafka clients of a listener are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedListener {
    /// The listener's name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The name that it was given; empty for none.
    pub name: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// The program's version.
    pub program: String,
    /// What it is there for.
    pub roles: Roles,
    /// The newest schema that it can read and write.
    pub schema: u32,
    /// Where it serves metrics and health.
    pub http: (String, u16),
    /// Where Kafka clients reach it; at least one.
    pub listeners: Vec<AdvertisedListener>,
    /// When it started, by its own wall clock.
    pub started_ms: TimestampMs,
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// The registration's number, random: of two agents with one id, the row is one's.
    pub session: u64,
    /// How often it was renewed.
    pub renewals: u64,
    /// The read version of the last renewal.
    pub renewed_at: (Incarnation, StoreVersion),
    /// How long a renewal is good for, in milliseconds.
    pub lease_ms: u32,
    /// What it does.
    pub phase: Phase,
    /// Its wall clock at the last renewal.
    pub clock_ms: TimestampMs,
    /// What it says of itself.
    pub agent: Agent,
}

impl AgentRow {
    /// How long a renewal is good for.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms))
    }

    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let agent = &self.agent;
        let roles = u8::from(agent.roles.clients) | (u8::from(agent.roles.jobs) << 1);
        let mut writer = Writer::format(FORMAT);
        writer
            .u64(self.session)
            .u64(self.renewals)
            .u32(self.renewed_at.0.get())
            .u64(self.renewed_at.1.get())
            .u32(self.lease_ms)
            .u8(self.phase.code())
            .zigzag(self.clock_ms)
            .zigzag(agent.started_ms)
            .string(&agent.name)
            .string(&agent.zone)
            .string(&agent.program)
            .u8(roles)
            .u32(agent.schema)
            .string(&agent.http.0)
            .u16(agent.http.1)
            .varint(agent.listeners.len() as u64);
        for listener in &agent.listeners {
            writer.string(&listener.name).string(&listener.host).u16(listener.port);
        }
        writer.finish()
    }

    /// Reads a row. What a later program wrote behind is not looked at, so that agents of two versions see each other.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format(NAME, value, FORMAT)?;
        let session = reader.u64()?;
        let renewals = reader.u64()?;
        let renewed_at = (Incarnation::new(reader.u32()?), StoreVersion::new(reader.u64()?));
        let lease_ms = reader.u32()?;
        let phase = Phase::from_code(reader.u8()?).ok_or_else(|| reader.corrupt("an unknown phase"))?;
        let clock_ms = reader.zigzag()?;
        let started_ms = reader.zigzag()?;
        let name = reader.string()?.to_owned();
        let zone = reader.string()?.to_owned();
        let program = reader.string()?.to_owned();
        let roles = reader.u8()?;
        let schema = reader.u32()?;
        let http = (reader.string()?.to_owned(), reader.u16()?);
        // A listener takes four bytes at least.
        let count = reader.count(4)?;
        let mut listeners = Vec::with_capacity(count);
        for _ in 0..count {
            listeners.push(AdvertisedListener {
                name: reader.string()?.to_owned(),
                host: reader.string()?.to_owned(),
                port: reader.u16()?,
            });
        }
        let roles = Roles { clients: roles & 1 != 0, jobs: roles & 2 != 0 };
        let agent = Agent { name, zone, program, roles, schema, http, listeners, started_ms };
        Ok(Self { session, renewals, renewed_at, lease_ms, phase, clock_ms, agent })
    }
}

/// Who a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRow {
    /// The id.
    pub node: NodeId,
    /// When it was last registered or given up.
    pub seen_at: (Incarnation, StoreVersion),
}

impl NameRow {
    /// The row's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.u32(self.node.get() as u32).u32(self.seen_at.0.get()).u64(self.seen_at.1.get());
        writer.finish()
    }

    /// Reads a row.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format("agent's name", value, FORMAT)?;
        let node = read_node(&mut reader)?;
        let seen_at = (Incarnation::new(reader.u32()?), StoreVersion::new(reader.u64()?));
        reader.finish()?;
        Ok(Self { node, seen_at })
    }
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, Corrupt> {
    let node = i32::try_from(reader.u32()?).map_err(|_| reader.corrupt("a node id is out of range"))?;
    Ok(NodeId::new(node))
}

fn start(keyspace: &Keyspace, which: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::Agent);
    key.push(which);
    key
}

/// The key of an agent. Node ids are never negative.
pub fn agent_key(keyspace: &Keyspace, node: NodeId) -> Vec<u8> {
    let mut key = start(keyspace, AGENT);
    key.extend_from_slice(&(node.get() as u32).to_be_bytes());
    key
}

/// All agents.
pub fn agents(keyspace: &Keyspace) -> KeyRange {
    prefixed(&start(keyspace, AGENT))
}

/// The agent of a key out of [`agents`].
pub fn parse_agent_key(keyspace: &Keyspace, key: &[u8]) -> Result<NodeId, Corrupt> {
    let wrong = Corrupt { family: NAME, reason: "its key is not one" };
    let rest = keyspace.strip(Family::Agent, key).and_then(|rest| rest.strip_prefix(&[AGENT]));
    let mut reader = Reader::new(NAME, rest.ok_or(wrong)?);
    let node = read_node(&mut reader)?;
    reader.finish()?;
    Ok(node)
}

/// The key of a name.
pub fn name_key(keyspace: &Keyspace, name: &str) -> Vec<u8> {
    let mut key = start(keyspace, AGENT_NAME);
    key.extend_from_slice(name.as_bytes());
    key
}

/// All names.
pub fn names(keyspace: &Keyspace) -> KeyRange {
    prefixed(&start(keyspace, AGENT_NAME))
}

/// The key that changes whenever clients are to be told of other agents.
pub fn membership_key(keyspace: &Keyspace) -> Vec<u8> {
    start(keyspace, MEMBERSHIP)
}

/// Says that membership changes, disturbing nobody.
pub fn bump_membership(transaction: &mut dyn Transaction, keyspace: &Keyspace) {
    let mut writer = Writer::format(FORMAT);
    let stamp_at = writer.len();
    writer.fixed(Versionstamp::ZERO.as_bytes());
    let value = writer.finish();
    transaction.set_stamped_value(&membership_key(keyspace), &value, stamp_at, WriteConflict::No);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> AgentRow {
        AgentRow {
            session: 0x0102_0304_0506_0708,
            renewals: 3,
            renewed_at: (Incarnation::FIRST, StoreVersion::new(9)),
            lease_ms: 6_000,
            phase: Phase::Draining,
            clock_ms: 1_000,
            agent: Agent {
                name: "a1".to_owned(),
                zone: "z".to_owned(),
                program: "0.1.0".to_owned(),
                roles: Roles { clients: true, jobs: true },
                schema: 1,
                http: ("h".to_owned(), 9_644),
                listeners: vec![AdvertisedListener {
                    name: "PLAINTEXT".to_owned(),
                    host: "h".to_owned(),
                    port: 9_092,
                }],
                started_ms: 500,
            },
        }
    }

    #[test]
    fn stored_bytes_are_pinned() {
        let hex: String = row().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0101020304050607080000000000000003000000010000000000000009000017\
             7002d00fe807026131017a05302e312e300300000001016825ac0109504c4149\
             4e5445585401682384"
        );
        assert_eq!(AgentRow::decode(&row().encode()).expect("a row"), row());
        let name = NameRow { node: NodeId::new(7), seen_at: row().renewed_at };
        assert_eq!(NameRow::decode(&name.encode()).expect("a name"), name);
        let keyspace = Keyspace::new(b"p");
        let key = agent_key(&keyspace, NodeId::new(258));
        assert_eq!(key, b"p\x50\x01\x00\x00\x01\x02");
        assert_eq!(parse_agent_key(&keyspace, &key).expect("a key"), NodeId::new(258));
    }

    #[test]
    fn what_a_later_program_adds_is_skipped() {
        let mut value = row().encode();
        value.extend_from_slice(b"more");
        assert_eq!(AgentRow::decode(&value).expect("a row"), row());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = AgentRow::decode(&bytes);
            let _ = NameRow::decode(&bytes);
            let _ = parse_agent_key(&Keyspace::new(b""), &bytes);
        }
    }
}
