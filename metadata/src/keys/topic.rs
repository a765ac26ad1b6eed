//! Topics: families 0x02 (by name), 0x03 (by id) and 0x04 (changes).
//!
//! ```text
//! 0x02 name with '_' for '.'            format 1 | topic id (16) | name (text)
//! 0x03 0x01 topic id (16)               format 1 | changed: incarnation (4), stamp (10) | created version: 0 (as
//!                                       changed) or 1, incarnation (4), stamp (10) | created (zigzag ms) | name (text)
//!                                       | partitions (varint) | replication factor (varint) | count of options,
//!                                       each: name (text), value (text)
//! 0x03 0x02 topic id (16)               format 1 | deleted: incarnation (4), stamp (10) | deleted (zigzag ms) | name
//!                                       (text) | partitions (varint)
//! 0x04 0x01                             format 1 | trimmed up to: incarnation (4), stamp (10) | rows trimmed (8)
//! 0x04 0x02                             rows ever written (8, little-endian: the store adds)
//! 0x04 0x03 incarnation (4) stamp (10) number (2)
//!                                       format 1 | 1, topic id (16); or 2 (dynamic configuration)
//! ```
//!
//! | row | written by | read by | cardinality, size |
//! |-----|-----------|---------|-------------------|
//! | name | creation, deletion | creation, deletion | one a topic, below 300 B |
//! | topic | creation, deletion, change | every commit that touches it (a read conflict), catalogs | one a topic; 80 B and its options |
//! | deleted topic | deletion | collection | one a deletion until its data is collected, 60 B |
//! | change | every change, with its stamp in the key | catalogs | a few thousand (see `topics::changes`), 50 B |
//!
//! The name's key lets names that differ only in '.' and '_' meet in one row: Kafka refuses the second of them,
//! since metric names can't tell them apart. A topic's row is the one thing a commit needs to conflict with: it
//! goes when the topic is deleted, so nothing can be written under its id afterwards.

use std::collections::BTreeMap;

use penstock_types::{Incarnation, TimestampMs, TopicId, Versionstamp};

use super::cluster::MetadataVersion;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, prefixed};

const FORMAT: u8 = 1;
const LIVE: u8 = 1;
const DELETED: u8 = 2;
const FLOOR: u8 = 1;
const WRITTEN: u8 = 2;
const CHANGE: u8 = 3;
const OF_TOPIC: u8 = 1;
const OF_CONFIGURATION: u8 = 2;

/// A topic's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    /// The topic's id.
    pub id: TopicId,
    /// When the row was last written.
    pub changed: MetadataVersion,
    /// When the topic was made.
    pub created: MetadataVersion,
    /// When the topic was made, by the maker's clock.
    pub created_ms: TimestampMs,
    /// The topic's name.
    pub name: String,
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// The replication factor that was asked for; data is as durable as the bucket all the same.
    pub replication_factor: u16,
    /// Its own options.
    pub configs: BTreeMap<String, String>,
}

/// A value whose stamp the store fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampedValue {
    /// The value, with zeros where the stamp goes.
    pub value: Vec<u8>,
    /// Where the stamp goes.
    pub stamp_at: usize,
}

/// A deleted topic whose data is not collected yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopicRow {
    /// The topic's id.
    pub id: TopicId,
    /// When it was deleted.
    pub deleted: MetadataVersion,
    /// When it was deleted, by the deleter's clock.
    pub deleted_ms: TimestampMs,
    /// Its name.
    pub name: String,
    /// How many partitions it had.
    pub partitions: u32,
}

/// What a change row says has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A topic was made, changed or deleted.
    Topic(TopicId),
    /// A broker's dynamic configuration, or the cluster's default, was changed.
    Configuration,
}

/// How far the change log was trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The newest change that was trimmed: a reader that stands below it must read everything anew.
    pub trimmed: MetadataVersion,
    /// How many rows were trimmed, ever.
    pub rows: u64,
}

/// The key of the row that a name stands in.
pub fn name_key(keyspace: &Keyspace, name: &str) -> Vec<u8> {
    let mut key = keyspace.family(Family::TopicName);
    key.extend(name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte }));
    key
}

/// The value of a name's row.
pub fn encode_name(id: TopicId, name: &str) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.fixed(id.as_bytes()).string(name);
    writer.finish()
}

/// Reads a name's row: whose it is and how it is spelled exactly.
pub fn decode_name(value: &[u8]) -> Result<(TopicId, String), Corrupt> {
    let mut reader = Reader::with_format("topic name", value, FORMAT)?;
    let id = TopicId::from_bytes(reader.array()?);
    let name = reader.string()?.to_owned();
    reader.finish()?;
    Ok((id, name))
}

fn by_id(keyspace: &Keyspace, which: u8, id: TopicId) -> Vec<u8> {
    let mut key = keyspace.family(Family::Topic);
    key.push(which);
    key.extend_from_slice(id.as_bytes());
    key
}

fn all_of(keyspace: &Keyspace, family: Family, which: u8) -> KeyRange {
    let mut prefix = keyspace.family(family);
    prefix.push(which);
    prefixed(&prefix)
}

/// The key of a topic's row: what a commit under the topic's id conflicts with.
pub fn row_key(keyspace: &Keyspace, id: TopicId) -> Vec<u8> {
    by_id(keyspace, LIVE, id)
}

/// All topics' rows.
pub fn rows(keyspace: &Keyspace) -> KeyRange {
    all_of(keyspace, Family::Topic, LIVE)
}

fn id_behind(keyspace: &Keyspace, which: u8, key: &[u8]) -> Result<TopicId, Corrupt> {
    let mut reader = Reader::new("topic key", keyspace.strip(Family::Topic, key).unwrap_or_default());
    if reader.u8()? != which {
        return Err(reader.corrupt("of another kind"));
    }
    let id = TopicId::from_bytes(reader.array()?);
    reader.finish()?;
    Ok(id)
}

fn write_version(writer: &mut Writer, version: MetadataVersion) {
    writer.fixed(&version.to_bytes());
}

/// A topic's row to be written by a transaction of `incarnation`: `changed` becomes the transaction's stamp, and so
/// does the creation's if `created` is `None`.
pub fn encode_row(
    incarnation: Incarnation,
    row: &TopicRow,
    created: Option<MetadataVersion>,
) -> StampedValue {
    let mut writer = Writer::format(FORMAT);
    writer.u32(incarnation.get());
    let stamp_at = writer.len();
    writer.fixed(Versionstamp::ZERO.as_bytes());
    match created {
        None => {
            writer.u8(0);
        }
        Some(created) => {
            writer.u8(1);
            write_version(&mut writer, created);
        }
    }
    writer
        .zigzag(row.created_ms)
        .string(&row.name)
        .varint(u64::from(row.partitions))
        .varint(u64::from(row.replication_factor));
    write_configs(&mut writer, &row.configs);
    StampedValue { value: writer.finish(), stamp_at }
}

/// Writes a set of options.
pub(super) fn write_configs(writer: &mut Writer, configs: &BTreeMap<String, String>) {
    writer.varint(configs.len() as u64);
    for (name, value) in configs {
        writer.string(name).string(value);
    }
}

/// Reads a set of options.
pub(super) fn read_configs(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>, Corrupt> {
    let count = reader.count(2)?;
    let mut configs = BTreeMap::new();
    for _ in 0..count {
        let name = reader.string()?.to_owned();
        configs.insert(name, reader.string()?.to_owned());
    }
    Ok(configs)
}

/// Reads a topic's row.
pub fn decode_row(id: TopicId, value: &[u8]) -> Result<TopicRow, Corrupt> {
    let mut reader = Reader::with_format("topic", value, FORMAT)?;
    let changed = MetadataVersion::read(&mut reader)?;
    let created = match reader.u8()? {
        0 => changed,
        1 => MetadataVersion::read(&mut reader)?,
        _ => return Err(reader.corrupt("an unknown kind of creation version")),
    };
    let created_ms = reader.zigzag()?;
    let name = reader.string()?.to_owned();
    let partitions = reader.varint_u32()?;
    if partitions == 0 || i32::try_from(partitions).is_err() {
        return Err(reader.corrupt("an impossible number of partitions"));
    }
    let replication_factor =
        u16::try_from(reader.varint()?).map_err(|_| reader.corrupt("an impossible replication factor"))?;
    let configs = read_configs(&mut reader)?;
    reader.finish()?;
    Ok(TopicRow { id, changed, created, created_ms, name, partitions, replication_factor, configs })
}

/// The topic that a row's key names.
pub fn decode_row_key(keyspace: &Keyspace, key: &[u8]) -> Result<TopicId, Corrupt> {
    id_behind(keyspace, LIVE, key)
}

/// The key of a deleted topic's row.
pub fn deleted_key(keyspace: &Keyspace, id: TopicId) -> Vec<u8> {
    by_id(keyspace, DELETED, id)
}

/// All deleted topics' rows.
pub fn deleted_rows(keyspace: &Keyspace) -> KeyRange {
    all_of(keyspace, Family::Topic, DELETED)
}

/// A deleted topic's row, to be written by a transaction of `incarnation`.
pub fn encode_deleted(
    incarnation: Incarnation,
    name: &str,
    partitions: u32,
    deleted_ms: TimestampMs,
) -> StampedValue {
    let mut writer = Writer::format(FORMAT);
    writer.u32(incarnation.get());
    let stamp_at = writer.len();
    writer.fixed(Versionstamp::ZERO.as_bytes());
    writer.zigzag(deleted_ms).string(name).varint(u64::from(partitions));
    StampedValue { value: writer.finish(), stamp_at }
}

/// Reads a deleted topic's row.
pub fn decode_deleted(keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<DeletedTopicRow, Corrupt> {
    let id = id_behind(keyspace, DELETED, key)?;
    let mut reader = Reader::with_format("deleted topic", value, FORMAT)?;
    let deleted = MetadataVersion::read(&mut reader)?;
    let deleted_ms = reader.zigzag()?;
    let name = reader.string()?.to_owned();
    let partitions = reader.varint_u32()?;
    reader.finish()?;
    Ok(DeletedTopicRow { id, deleted, deleted_ms, name, partitions })
}

fn change_key(keyspace: &Keyspace, which: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::TopicChange);
    key.push(which);
    key
}

/// The key of the change log's floor.
pub fn floor_key(keyspace: &Keyspace) -> Vec<u8> {
    change_key(keyspace, FLOOR)
}

/// The floor's value.
pub fn encode_floor(floor: Floor) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    write_version(&mut writer, floor.trimmed);
    writer.u64(floor.rows);
    writer.finish()
}

/// Reads the floor; absent means that nothing was trimmed.
pub fn decode_floor(value: Option<&[u8]>) -> Result<Floor, Corrupt> {
    let Some(value) = value else {
        return Ok(Floor { trimmed: MetadataVersion::ZERO, rows: 0 });
    };
    let mut reader = Reader::with_format("topic change floor", value, FORMAT)?;
    let floor = Floor { trimmed: MetadataVersion::read(&mut reader)?, rows: reader.u64()? };
    reader.finish()?;
    Ok(floor)
}

/// The key of the count of change rows ever written (the store adds to it).
pub fn written_key(keyspace: &Keyspace) -> Vec<u8> {
    change_key(keyspace, WRITTEN)
}

/// Reads the count of change rows ever written.
pub fn decode_written(value: Option<&[u8]>) -> Result<u64, Corrupt> {
    let Some(value) = value else {
        return Ok(0);
    };
    let mut reader = Reader::new("count of topic changes", value);
    let count = u64::from_le_bytes(reader.array()?);
    reader.finish()?;
    Ok(count)
}

/// What stands before the stamp in the key of a change row.
pub fn change_prefix(keyspace: &Keyspace, incarnation: Incarnation) -> Vec<u8> {
    let mut key = change_key(keyspace, CHANGE);
    key.extend_from_slice(&incarnation.get().to_be_bytes());
    key
}

/// What stands behind the stamp in the key of a transaction's change row.
pub fn change_suffix(number: u16) -> [u8; 2] {
    number.to_be_bytes()
}

/// All change rows above `after`.
pub fn changes_after(keyspace: &Keyspace, after: MetadataVersion) -> KeyRange {
    let mut start = change_key(keyspace, CHANGE);
    let end = prefixed(&start).end;
    start.extend_from_slice(&after.to_bytes());
    // Numbers of a transaction's rows stay below: a request is bounded far under 2^16 - 1 topics.
    start.extend_from_slice(&[0xFF; 2]);
    start.push(0);
    start..end
}

/// All change rows.
pub fn changes(keyspace: &Keyspace) -> KeyRange {
    all_of(keyspace, Family::TopicChange, CHANGE)
}

/// A change row's value.
pub fn encode_change(change: Change) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    match change {
        Change::Topic(id) => writer.u8(OF_TOPIC).fixed(id.as_bytes()),
        Change::Configuration => writer.u8(OF_CONFIGURATION),
    };
    writer.finish()
}

/// Reads a change row.
pub fn decode_change(
    keyspace: &Keyspace,
    key: &[u8],
    value: &[u8],
) -> Result<(MetadataVersion, Change), Corrupt> {
    let behind = keyspace.strip(Family::TopicChange, key).unwrap_or_default();
    let mut reader = Reader::new("topic change key", behind);
    if reader.u8()? != CHANGE {
        return Err(reader.corrupt("of another kind"));
    }
    let version = MetadataVersion::read(&mut reader)?;
    reader.u16()?;
    reader.finish()?;
    let mut reader = Reader::with_format("topic change", value, FORMAT)?;
    let change = match reader.u8()? {
        OF_TOPIC => Change::Topic(TopicId::from_bytes(reader.array()?)),
        OF_CONFIGURATION => Change::Configuration,
        _ => return Err(reader.corrupt("of an unknown kind")),
    };
    reader.finish()?;
    Ok((version, change))
}

#[cfg(test)]
mod tests;
