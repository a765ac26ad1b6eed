//! What commits appended (family 0x19): how many records of which partitions, a few rows a commit.
//!
//! ```text
//! key    0x19 | incarnation 4 | versionstamp 10 | number 2
//! value  01 | of each topic: topic id 16 | partition count varint | (partition varint | records varint)…
//! ```
//!
//! The counters at a commit's version hold everything up to and including that version. These rows say what the commits
//! behind it appended at the same version, so that a commit knows its own offsets from a few reads.
//!
//! - **Written** blindly by every commit, under stamped keys. **Read** by the same commit, at its own version: one
//!   range from behind its own rows to the version's end.
//! - **Cleared** by the same agent's next commit; those of agents that died, by whoever sweeps them (an hour later at most). At an
//!   older version they can still be read.
//! - **Cardinality**: about one per agent. **Size**: 17-byte keys; 17 bytes a topic and 3 to 6 a partition.

use std::collections::BTreeMap;

use penstock_types::{Incarnation, PartitionIndex, StoreVersion, TopicId, TopicPartition, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::KeyRange;

const NAME: &str = "order row";
const FORMAT: u8 = 1;
/// When a row is full: far below the store's 100 kB.
const ROW_BYTES: usize = 60_000;

/// What stands before the versionstamp in a row's key.
pub fn prefix(keyspace: &Keyspace, incarnation: Incarnation) -> Vec<u8> {
    let mut key = keyspace.family(Family::Order);
    key.extend_from_slice(&incarnation.get().to_be_bytes());
    key
}

/// What stands behind it, of the row of that number.
pub fn suffix(number: usize) -> [u8; 2] {
    (number as u16).to_be_bytes()
}

/// The key of a commit's row.
pub fn key(keyspace: &Keyspace, incarnation: Incarnation, stamp: Versionstamp, number: usize) -> Vec<u8> {
    let mut key = prefix(keyspace, incarnation);
    key.extend_from_slice(stamp.as_bytes());
    key.extend_from_slice(&suffix(number));
    key
}

/// The rows of commits behind `stamp` at the same version.
pub fn behind(keyspace: &Keyspace, incarnation: Incarnation, stamp: Versionstamp) -> KeyRange {
    let mut start = key(keyspace, incarnation, stamp, usize::from(u16::MAX));
    start.push(0);
    start..from_version(keyspace, incarnation, StoreVersion::new(stamp.version().get() + 1))
}

/// All rows below a version of `incarnation`.
pub fn below(keyspace: &Keyspace, incarnation: Incarnation, version: StoreVersion) -> KeyRange {
    keyspace.family(Family::Order)..from_version(keyspace, incarnation, version)
}

fn from_version(keyspace: &Keyspace, incarnation: Incarnation, version: StoreVersion) -> Vec<u8> {
    let mut key = prefix(keyspace, incarnation);
    key.extend_from_slice(&version.get().to_be_bytes());
    key
}

/// The values of a commit's rows.
pub fn encode(counts: &BTreeMap<TopicPartition, i64>) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut writer = Writer::format(FORMAT);
    let counts: Vec<(TopicPartition, i64)> = counts.iter().map(|(of, count)| (*of, *count)).collect();
    // So many partitions take 16 bytes each at most: a row is never much larger than it should be.
    for of_topic in counts.chunk_by(|one, other| one.0.topic == other.0.topic) {
        for some in of_topic.chunks(1_000) {
            if writer.len() >= ROW_BYTES {
                values.push(std::mem::replace(&mut writer, Writer::format(FORMAT)).finish());
            }
            writer.fixed(some[0].0.topic.as_bytes()).varint(some.len() as u64);
            for (of, count) in some {
                writer.varint(of.partition.get() as u64).varint(*count as u64);
            }
        }
    }
    values.push(writer.finish());
    values
}

/// Reads a row's value.
pub fn decode(value: &[u8]) -> Result<Vec<(TopicPartition, i64)>, Corrupt> {
    let mut reader = Reader::with_format(NAME, value, FORMAT)?;
    let mut counts = Vec::new();
    while reader.remaining() > 0 {
        let topic = TopicId::from_bytes(reader.array()?);
        for _ in 0..reader.count(2)? {
            let partition =
                i32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a partition is out of range"))?;
            let count =
                i64::try_from(reader.varint()?).map_err(|_| reader.corrupt("a count is out of range"))?;
            counts.push((TopicPartition { topic, partition: PartitionIndex::new(partition) }, count));
        }
    }
    Ok(counts)
}

/// Reads a key of this family back: whose row, and which.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<(Incarnation, Versionstamp, u16), Corrupt> {
    let rest = keyspace
        .strip(Family::Order, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let found = (Incarnation::new(reader.u32()?), Versionstamp::from_bytes(reader.array()?), reader.u16()?);
    reader.finish()?;
    Ok(found)
}
