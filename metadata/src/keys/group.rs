//! Groups and their members.
//!
//! ```text
//! group    0x40 | group id (the rest)
//! value    format = 1 (1) | kind (1) | coordinator epoch: version (8), nonce (8) | revision (8) | generation (4) | state (1)
//!          | state since, ms (zigzag) | protocol type (optional text) | protocol name (optional text)
//!          | leader (optional text)
//! member   0x41 | length of the group id (2) | group id | length of the member id (2) | member id | chunk (2)
//! value    a slice of the member's blob, CHUNK_BYTES of it but the last; the blob:
//!          format = 1 (1) | instance id (optional text) | client id (text) | client host (text)
//!          | session time-out, ms (varint) | rebalance time-out, ms (varint)
//!          | protocols (count, then of each: name (text), metadata (bytes)) | assignment (bytes)
//! ```
//! An optional text is a byte 0, or a byte 1 and the text; a text is a varint length and UTF-8.
//!
//! - **Writers**: the group's coordinator, in transactions that read the group's row serializably and find their own
//!   coordinator epoch in it. The epoch is the read version of the transaction that claimed the group, so no two
//!   claims in a row's life share one, also across a deletion, and a nonce of the claimant, which tells it from
//!   another that tried at the same version. The revision counts the coordinator's writes, so that one with an
//!   unknown outcome is settled by reading the row.
//! - **Readers**: a coordinator that claims the group; List- and DescribeGroups; offset commits (the row).
//! - **Cardinality**: one row a group; a member each; both go with DeleteGroups or the expiry of the last offset.
//! - **Size**: a group's row some 100 bytes, a member's some 300, up to [`GROUP_BYTES_MAX`] for all of a group.

use bytes::Bytes;
use penstock_types::{StoreVersion, TimestampMs};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, prefixed};

/// The format of both values.
pub const FORMAT: u8 = 1;
/// Bytes of a group id at most: with a member id of [`MEMBER_ID_BYTES_MAX`] a key stays far below the store's limit.
pub const GROUP_ID_BYTES_MAX: usize = 1_024;
/// Bytes of a member id at most.
pub const MEMBER_ID_BYTES_MAX: usize = 512;
/// Bytes of a member's blob in one value.
pub const CHUNK_BYTES: usize = 90_000;
/// Bytes of all members' blobs of one group: they are written in one transaction.
pub const GROUP_BYTES_MAX: usize = 6_000_000;

const GROUP: &str = "group";
const MEMBER: &str = "group member";

/// The rebalance protocol that a group uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup (also groups that only hold offsets).
    Classic,
}

impl GroupKind {
    const fn code(self) -> u8 {
        match self {
            Self::Classic => 1,
        }
    }
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Classic),
            _ => None,
        }
    }
}

/// A group's state as stored. A rebalance that is being prepared isn't: a coordinator that takes over finds the
/// generation before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoredState {
    /// No members.
    Empty,
    /// The members of the generation are known, their assignments aren't.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
}

impl StoredState {
    const fn code(self) -> u8 {
        match self {
            Self::Empty => 1,
            Self::CompletingRebalance => 2,
            Self::Stable => 3,
        }
    }
    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Empty),
            2 => Some(Self::CompletingRebalance),
            3 => Some(Self::Stable),
            _ => None,
        }
    }
}

/// A group's row without its fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHeader {
    /// The protocol.
    pub kind: GroupKind,
    /// 0 before the first rebalance; grows with each.
    pub generation: i32,
    /// The state.
    pub state: StoredState,
    /// When it came into this state, by the coordinator's clock.
    pub state_since_ms: TimestampMs,
    /// `consumer`, `connect`, …; `None` for a group that only holds offsets.
    pub protocol_type: Option<String>,
    /// The assignor that the members agreed on.
    pub protocol_name: Option<String>,
    /// The member that assigns.
    pub leader: Option<String>,
}

impl GroupHeader {
    /// A new group.
    pub fn new(now_ms: TimestampMs) -> Self {
        Self {
            kind: GroupKind::Classic,
            generation: 0,
            state: StoredState::Empty,
            state_since_ms: now_ms,
            protocol_type: None,
            protocol_name: None,
            leader: None,
        }
    }
}

/// Who coordinates a group. Compared for equality only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CoordinatorEpoch {
    /// The read version of the claim.
    pub version: StoreVersion,
    /// A random number of the claimant's.
    pub nonce: u64,
}

/// A group's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// Who coordinates it.
    pub coordinator_epoch: CoordinatorEpoch,
    /// The coordinator's writes since its claim.
    pub revision: u64,
    /// The rest.
    pub header: GroupHeader,
}

impl GroupRow {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let header = &self.header;
        let mut writer = Writer::format(FORMAT);
        writer
            .u8(header.kind.code())
            .u64(self.coordinator_epoch.version.get())
            .u64(self.coordinator_epoch.nonce)
            .u64(self.revision)
            .u32(header.generation as u32)
            .u8(header.state.code())
            .zigzag(header.state_since_ms)
            .optional_string(header.protocol_type.as_deref())
            .optional_string(header.protocol_name.as_deref())
            .optional_string(header.leader.as_deref());
        writer.finish()
    }

    /// Reads the stored form.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format(GROUP, value, FORMAT)?;
        let kind = reader.u8()?;
        let kind = GroupKind::from_code(kind).ok_or_else(|| reader.corrupt("unknown kind"))?;
        let coordinator_epoch =
            CoordinatorEpoch { version: StoreVersion::new(reader.u64()?), nonce: reader.u64()? };
        let revision = reader.u64()?;
        let generation = reader.u32()? as i32;
        let state = reader.u8()?;
        let state = StoredState::from_code(state).ok_or_else(|| reader.corrupt("unknown state"))?;
        let header = GroupHeader {
            kind,
            generation,
            state,
            state_since_ms: reader.zigzag()?,
            protocol_type: reader.optional_string()?.map(str::to_owned),
            protocol_name: reader.optional_string()?.map(str::to_owned),
            leader: reader.optional_string()?.map(str::to_owned),
        };
        reader.finish()?;
        Ok(Self { coordinator_epoch, revision, header })
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// How long it may be silent, ms.
    pub session_timeout_ms: u32,
    /// How long it may take to join again, ms.
    pub rebalance_timeout_ms: u32,
    /// The assignors that it knows, in the order of its preference, with its subscription for each.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader assigned to it; empty before.
    pub assignment: Bytes,
}

impl StoredMember {
    /// The blob.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer
            .optional_string(self.instance_id.as_deref())
            .string(&self.client_id)
            .string(&self.client_host)
            .varint(u64::from(self.session_timeout_ms))
            .varint(u64::from(self.rebalance_timeout_ms))
            .varint(self.protocols.len() as u64);
        for (name, metadata) in &self.protocols {
            writer.string(name).bytes(metadata);
        }
        writer.bytes(&self.assignment);
        writer.finish()
    }

    /// Reads the blob.
    pub fn decode(blob: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format(MEMBER, blob, FORMAT)?;
        let instance_id = reader.optional_string()?.map(str::to_owned);
        let client_id = reader.string()?.to_owned();
        let client_host = reader.string()?.to_owned();
        let session_timeout_ms = reader.varint_u32()?;
        let rebalance_timeout_ms = reader.varint_u32()?;
        let count = reader.count(2)?;
        let mut protocols = Vec::with_capacity(count);
        for _ in 0..count {
            protocols.push((reader.string()?.to_owned(), Bytes::copy_from_slice(reader.bytes()?)));
        }
        let assignment = Bytes::copy_from_slice(reader.bytes()?);
        reader.finish()?;
        Ok(Self {
            instance_id,
            client_id,
            client_host,
            session_timeout_ms,
            rebalance_timeout_ms,
            protocols,
            assignment,
        })
    }
}

/// The key of a group's row.
pub fn group_key(keyspace: &Keyspace, group: &str) -> Vec<u8> {
    let mut key = keyspace.family(Family::Group);
    key.extend_from_slice(group.as_bytes());
    key
}

/// All groups' rows.
pub fn all_groups(keyspace: &Keyspace) -> KeyRange {
    prefixed(&keyspace.family(Family::Group))
}

/// The group that a row's key names.
pub fn decode_group_key<'a>(keyspace: &Keyspace, key: &'a [u8]) -> Result<&'a str, Corrupt> {
    let corrupt = |reason| Corrupt { family: GROUP, reason };
    let id = keyspace.strip(Family::Group, key).ok_or_else(|| corrupt("a key of another family"))?;
    std::str::from_utf8(id).map_err(|_| corrupt("a group id is not UTF-8"))
}

/// All members of a group.
pub fn group_members(keyspace: &Keyspace, group: &str) -> KeyRange {
    prefixed(&members_prefix(keyspace, group))
}

/// All chunks of a member.
pub fn member_chunks(keyspace: &Keyspace, group: &str, member: &str) -> KeyRange {
    prefixed(&member_prefix(keyspace, group, member))
}

/// The key of one chunk of a member.
pub fn member_key(keyspace: &Keyspace, group: &str, member: &str, chunk: u16) -> Vec<u8> {
    let mut key = member_prefix(keyspace, group, member);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The member and chunk that a key of `group` names.
pub fn decode_member_key(keyspace: &Keyspace, group: &str, key: &[u8]) -> Result<(String, u16), Corrupt> {
    let corrupt = |reason| Corrupt { family: MEMBER, reason };
    let rest = key
        .strip_prefix(&*members_prefix(keyspace, group))
        .ok_or_else(|| corrupt("a key of another group"))?;
    let mut reader = Reader::new(MEMBER, rest);
    let length = usize::from(reader.u16()?);
    let member =
        std::str::from_utf8(reader.take(length)?).map_err(|_| corrupt("a member id is not UTF-8"))?;
    let chunk = reader.u16()?;
    reader.finish()?;
    Ok((member.to_owned(), chunk))
}

fn members_prefix(keyspace: &Keyspace, group: &str) -> Vec<u8> {
    let mut key = keyspace.family(Family::GroupMember);
    push_text(&mut key, group);
    key
}

fn member_prefix(keyspace: &Keyspace, group: &str, member: &str) -> Vec<u8> {
    let mut key = members_prefix(keyspace, group);
    push_text(&mut key, member);
    key
}

/// Appends a text behind its length (2).
///
/// # Panics
/// On a text beyond 65,535 bytes: callers bound group ids, member ids and topic names.
pub(crate) fn push_text(key: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts in keys are bounded by their callers");
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_have_their_golden_bytes() {
        let keyspace = Keyspace::new(b"p");
        assert_eq!(hex(&group_key(&keyspace, "g1")), "70406731");
        assert_eq!(hex(&member_key(&keyspace, "g1", "m", 2)), "7041000267310001 6d0002".replace(' ', ""));
        let key = member_key(&keyspace, "g1", "m", 2);
        assert_eq!(decode_member_key(&keyspace, "g1", &key), Ok(("m".to_owned(), 2)));
        assert!(decode_member_key(&keyspace, "g", &key).is_err());
        assert_eq!(decode_group_key(&keyspace, &group_key(&keyspace, "g1")), Ok("g1"));
    }

    #[test]
    fn a_group_has_its_golden_bytes() {
        let row = GroupRow {
            coordinator_epoch: CoordinatorEpoch { version: StoreVersion::new(0x0102), nonce: 9 },
            revision: 3,
            header: GroupHeader {
                generation: 7,
                state: StoredState::Stable,
                state_since_ms: 5,
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("range".to_owned()),
                leader: None,
                ..GroupHeader::new(0)
            },
        };
        let golden = "01 01 0000000000000102 0000000000000009 0000000000000003 00000007 03 0a \
                      01 08 636f6e73756d6572 01 05 72616e6765 00";
        assert_eq!(hex(&row.encode()), golden.replace(' ', ""));
        assert_eq!(GroupRow::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn a_member_has_its_golden_bytes() {
        let member = StoredMember {
            instance_id: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 300,
            rebalance_timeout_ms: 1,
            protocols: vec![("range".to_owned(), Bytes::from_static(b"\x00\x01"))],
            assignment: Bytes::from_static(b"\xff"),
        };
        let golden = "01 01 01 69 01 63 0a 2f3132372e302e302e31 ac02 01 01 05 72616e6765 02 0001 01 ff";
        assert_eq!(hex(&member.encode()), golden.replace(' ', ""));
        assert_eq!(StoredMember::decode(&member.encode()), Ok(member));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = GroupRow::decode(&bytes);
            let _ = StoredMember::decode(&bytes);
            let _ = decode_member_key(&Keyspace::new(b""), "", &bytes);
        }

        #[test]
        fn no_group_has_keys_in_another(left: String, right: String, member: String) {
            let keyspace = Keyspace::new(b"");
            let key = member_key(&keyspace, &left, &member, 0);
            let range = group_members(&keyspace, &right);
            prop_assert_eq!(range.contains(&key), left == right);
        }
    }
}
