//! Offsets that groups committed.
//!
//! ```text
//! key      0x42 | length of the group id (2) | group id | length of the topic name (2) | topic name | partition (4)
//! value    format = 1 (1) | offset (8) | leader epoch (zigzag, -1 for none) | topic id (16)
//!          | committed at, ms (zigzag) | expires at (0, or 1 and ms (zigzag)) | metadata (text)
//! ```
//! The topic id is that of the name at the commit: a topic that was deleted and created anew doesn't inherit the
//! offsets of its namesake (Kafka deletes them with the topic).
//!
//! - **Writers**: the group's coordinator, in transactions that read the group's row serializably (fence, generation)
//!   and have the key itself in their read conflict range, so that a commit that was given up can't land after a later
//!   one. The expiry job and Offset- and DeleteGroups clear.
//! - **Readers**: OffsetFetch, at a fresh read version, without the coordinator's memory.
//! - **Cardinality**: one a group and partition that it reads.
//! - **Size**: some 40 bytes and the metadata ([`METADATA_BYTES_MAX`] at most).

use penstock_types::{PartitionIndex, TimestampMs, TopicId};

use super::group::push_text;
use super::{Family, Keyspace, push_partition};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, prefixed};

/// The format of the value.
pub const FORMAT: u8 = 1;
/// Bytes of a commit's metadata at most.
pub const METADATA_BYTES_MAX: usize = 90_000;

const FAMILY: &str = "committed offset";

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read, as the client said: Kafka takes any number, and -1 reads as none.
    pub offset: i64,
    /// The leader epoch of the record before it, -1 for none.
    pub leader_epoch: i32,
    /// The topic's id at the commit.
    pub topic_id: TopicId,
    /// When it was committed, by the coordinator's clock.
    pub committed_at_ms: TimestampMs,
    /// When it expires, where the client said so (OffsetCommit v2 to v4).
    pub expires_at_ms: Option<TimestampMs>,
    /// What the client keeps with it.
    pub metadata: String,
}

impl CommittedOffset {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer
            .u64(self.offset as u64)
            .zigzag(i64::from(self.leader_epoch))
            .fixed(self.topic_id.as_bytes())
            .zigzag(self.committed_at_ms);
        match self.expires_at_ms {
            None => writer.u8(0),
            Some(at) => writer.u8(1).zigzag(at),
        };
        writer.string(&self.metadata);
        writer.finish()
    }

    /// Reads the stored form.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format(FAMILY, value, FORMAT)?;
        let offset = reader.u64()? as i64;
        let leader_epoch =
            i32::try_from(reader.zigzag()?).map_err(|_| reader.corrupt("a leader epoch is out of range"))?;
        let topic_id = TopicId::from_bytes(reader.array()?);
        let committed_at_ms = reader.zigzag()?;
        let expires_at_ms = match reader.u8()? {
            0 => None,
            1 => Some(reader.zigzag()?),
            _ => return Err(reader.corrupt("an option is neither there nor not")),
        };
        let metadata = reader.string()?.to_owned();
        reader.finish()?;
        Ok(Self { offset, leader_epoch, topic_id, committed_at_ms, expires_at_ms, metadata })
    }
}

/// The key of one offset.
pub fn offset_key(keyspace: &Keyspace, group: &str, topic: &str, partition: PartitionIndex) -> Vec<u8> {
    let mut key = keyspace.family(Family::GroupOffset);
    push_text(&mut key, group);
    push_text(&mut key, topic);
    push_partition(&mut key, partition);
    key
}

/// All offsets of a group.
pub fn group_offsets(keyspace: &Keyspace, group: &str) -> KeyRange {
    let mut key = keyspace.family(Family::GroupOffset);
    push_text(&mut key, group);
    prefixed(&key)
}

/// The topic and partition that a key of `group` names.
pub fn decode_offset_key(
    keyspace: &Keyspace,
    group: &str,
    key: &[u8],
) -> Result<(String, PartitionIndex), Corrupt> {
    let corrupt = |reason| Corrupt { family: FAMILY, reason };
    let mut prefix = keyspace.family(Family::GroupOffset);
    push_text(&mut prefix, group);
    let rest = key.strip_prefix(&*prefix).ok_or_else(|| corrupt("a key of another group"))?;
    let mut reader = Reader::new(FAMILY, rest);
    let length = usize::from(reader.u16()?);
    let topic = std::str::from_utf8(reader.take(length)?).map_err(|_| corrupt("a topic is not UTF-8"))?;
    let partition = i32::try_from(reader.u32()?).map_err(|_| corrupt("a partition is out of range"))?;
    reader.finish()?;
    Ok((topic.to_owned(), PartitionIndex::new(partition)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_offset_has_its_golden_bytes() {
        let keyspace = Keyspace::new(b"p");
        let key = offset_key(&keyspace, "g", "t", PartitionIndex::new(3));
        assert_eq!(hex(&key), "7042000167000174 00000003".replace(' ', ""));
        assert_eq!(decode_offset_key(&keyspace, "g", &key), Ok(("t".to_owned(), PartitionIndex::new(3))));
        let value = CommittedOffset {
            offset: 258,
            leader_epoch: -1,
            topic_id: TopicId::from_bytes([7; 16]),
            committed_at_ms: 2,
            expires_at_ms: Some(3),
            metadata: "x".to_owned(),
        };
        let golden = format!("01 0000000000000102 01 {} 04 01 06 01 78", "07".repeat(16));
        assert_eq!(hex(&value.encode()), golden.replace(' ', ""));
        assert_eq!(CommittedOffset::decode(&value.encode()), Ok(value));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = CommittedOffset::decode(&bytes);
            let _ = decode_offset_key(&Keyspace::new(b""), "", &bytes);
        }
    }
}
