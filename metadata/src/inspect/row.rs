//! One row, of whatever family.

use std::collections::BTreeMap;

use penstock_types::{BatchPosition, Incarnation, NodeId, Offset, TopicPartition, Versionstamp};

use super::facts::{Facts, Inspected};
use crate::codec::{Corrupt, Reader};
use crate::fold::{FoldState, LogEntry};
use crate::keys::agent::{AgentRow, NameRow};
use crate::keys::cluster::MetadataVersion;
use crate::keys::compaction::CompactionState;
use crate::keys::counters::{self, Counters, STRIPE_PARTITIONS};
use crate::keys::group::{CHUNK_BYTES, GroupRow, StoredMember};
use crate::keys::group_offset::CommittedOffset;
use crate::keys::index::PackedIndex;
use crate::keys::log::{self, BatchFacts, LogRow, flags};
use crate::keys::object::{ObjectRow, ObjectState, Verdict};
use crate::keys::producer::{self, RememberedAt, StoredProducerState};
use crate::keys::trim::Trim;
use crate::keys::{
    Family, Keyspace, aborted, agent, allocation, broker_config, checkpoint, cluster, dead, feed, garbage,
    group, index, log_start, merge_queue, merge_unit, object, order, read_partition, seal, topic,
};
use crate::kv::Row;

/// What a row is and says. Never panics, whatever the bytes.
pub fn describe(keyspace: &Keyspace, row: &Row) -> Inspected {
    match decode(keyspace, row) {
        Ok((kind, facts)) => Inspected::Row { kind, facts },
        Err(corrupt) => Inspected::corrupt(row, &corrupt),
    }
}

type Decoded = Result<(&'static str, Facts), Corrupt>;

fn decode(keyspace: &Keyspace, row: &Row) -> Decoded {
    let unknown = |reason| Corrupt { family: "row", reason };
    let byte = keyspace.family_byte(&row.key).ok_or_else(|| unknown("not a key of this cluster"))?;
    let family =
        Family::from_byte(byte).ok_or_else(|| unknown("of a family that this program doesn't know"))?;
    let facts = match family {
        Family::Cluster => return cluster_row(keyspace, row),
        Family::Agent => return agent_row(keyspace, row),
        Family::Topic => return topic_row(keyspace, row),
        Family::TopicChange => return topic_change(keyspace, row),
        Family::Log => return log_row(keyspace, row),
        Family::Checkpoint => return checkpoint_row(keyspace, row),
        Family::Counters => return counters_row(keyspace, row),
        Family::Order => return order_row(keyspace, row),
        Family::Allocation => return allocation_row(keyspace, row),
        Family::TopicName => {
            let (id, name) = topic::decode_name(&row.value)?;
            Facts::default().text("name", name).text("topic id", id)
        }
        Family::BrokerConfig => {
            let scope = broker_config::decode_row_key(keyspace, &row.key)?;
            let scope = match scope {
                broker_config::BrokerScope::ClusterDefault => "cluster default".to_owned(),
                broker_config::BrokerScope::Broker(node) => format!("broker {node}"),
            };
            let decoded = broker_config::decode_row(&row.value)?;
            let configs = configs(&decoded.configs);
            Facts::default()
                .text("scope", scope)
                .text("changed", version(decoded.changed))
                .map("configs", configs)
        }
        Family::Seal => {
            let at = partition_of(keyspace, family, row)?;
            seal_facts(of_partition(at), &seal::decode(Some(&row.value))?)
        }
        Family::Index => {
            let (at, last) = index::parse_key(keyspace, &row.key)?;
            index_facts(of_partition(at), last.get(), &PackedIndex::decode(&row.value)?)?
        }
        Family::LogStart => {
            let at = partition_of(keyspace, family, row)?;
            of_partition(at).signed("log start offset", log_start::decode(Some(&row.value))?.get())
        }
        Family::Producer => {
            let (at, id) = producer::parse_key(keyspace, &row.key)?;
            let stored = StoredProducerState::decode(&row.value)?;
            producer_facts(of_partition(at).signed("producer id", id.get()), &stored)
        }
        Family::Trim => {
            let at = partition_of(keyspace, family, row)?;
            let trim = Trim::decode(Some(&row.value))?;
            of_partition(at).signed("trimmed up to", trim.below.get()).signed("bytes gone", trim.bytes)
        }
        Family::Compaction => {
            let at = partition_of(keyspace, family, row)?;
            let state = CompactionState::decode(Some(&row.value))?;
            of_partition(at)
                .unsigned("run", state.run)
                .signed("cleaned up to", state.cleaned.get())
                .unsigned("clean bytes", state.clean_bytes)
        }
        Family::Dead => {
            let id = dead::parse_key(keyspace, &row.key)?;
            let count = dead::decode(Some(&row.value))?;
            Facts::default()
                .text("object", id)
                .unsigned("dead batches", count.batches)
                .text("merged", if count.was_copied { "yes" } else { "no" })
        }
        Family::Garbage | Family::MergedGarbage => {
            let found = garbage::decode(keyspace, row)?;
            let since = format!("{}/{}", found.incarnation.get(), found.stamp.version());
            Facts::default().text("object", found.object).text("since", since).unsigned("size", found.size)
        }
        Family::MergeQueue => {
            let found = merge_queue::decode(keyspace, row)?;
            Facts::default()
                .unsigned("level", found.level)
                .text("place", stamp(found.place.incarnation, found.place.stamp))
                .text("object", found.object)
                .unsigned("size", found.size)
                .unsigned("sections", found.sections)
                .text("first place", stamp(found.first.incarnation, found.first.stamp))
        }
        Family::MergeUnit => {
            let found = merge_unit::Unit::decode(keyspace, row)?;
            Facts::default()
                .unsigned("level", found.level)
                .text("first place", stamp(found.first.incarnation, found.first.stamp))
                .text("last place", stamp(found.last.incarnation, found.last.stamp))
                .text("begins at", stamp(found.begins.incarnation, found.begins.stamp))
                .unsigned("objects", found.objects)
                .unsigned("bytes", found.bytes)
        }
        Family::Feed => feed_facts(keyspace, row)?,
        Family::Aborted => {
            let at = partition_prefix(keyspace, family, row)?;
            let found = aborted::decode(keyspace, row)?;
            of_partition(at)
                .signed("producer id", found.producer.get())
                .signed("first offset", found.first_offset.get())
                .signed("last offset", found.last_offset.get())
        }
        Family::Object => {
            let id = object::parse_key(keyspace, &row.key)?;
            object_facts(Facts::default().text("object", id), &ObjectRow::decode(&row.value)?)
        }
        Family::Group => {
            let id = group::decode_group_key(keyspace, &row.key)?;
            group_facts(Facts::default().text("group", id), &GroupRow::decode(&row.value)?)
        }
        Family::GroupMember => member_chunk(keyspace, row)?,
        Family::GroupOffset => offset_facts(keyspace, row)?,
    };
    Ok((family.name(), facts))
}

fn agent_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    if *row.key == agent::membership_key(keyspace) {
        let mut reader = Reader::with_format("membership", &row.value, 1)?;
        let changed = Versionstamp::from_bytes(reader.array()?);
        reader.finish()?;
        let changed = format!("{}.{}", changed.version(), changed.order());
        return Ok(("membership", Facts::default().text("changed", changed)));
    }
    if agent::names(keyspace).contains(&row.key.to_vec()) {
        let start = agent::name_key(keyspace, "").len();
        let name = std::str::from_utf8(&row.key[start..])
            .map_err(|_| Corrupt { family: "agent's name", reason: "it is not UTF-8" })?;
        let found = NameRow::decode(&row.value)?;
        let seen = format!("{}/{}", found.seen_at.0.get(), found.seen_at.1);
        let facts = Facts::default().text("name", name).signed("node", found.node.get());
        return Ok(("agent's name", facts.text("seen at", seen)));
    }
    let node = agent::parse_agent_key(keyspace, &row.key)?;
    Ok((Family::Agent.name(), agent_facts(node, &AgentRow::decode(&row.value)?)))
}

fn agent_facts(node: NodeId, row: &AgentRow) -> Facts {
    let said = &row.agent;
    let listeners = said.listeners.iter().map(|listener| {
        let address = format!("{}:{}", listener.host, listener.port);
        Facts::default().text("name", &listener.name).text("address", address)
    });
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Facts::default()
        .signed("node", node.get())
        .maybe("name", text(&said.name))
        .maybe("zone", text(&said.zone))
        .text("phase", row.phase.word())
        .text("program", &said.program)
        .unsigned("schema", said.schema)
        .flag("serves clients", said.roles.clients)
        .flag("runs jobs", said.roles.jobs)
        .list("listeners", listeners.collect())
        .text("http", format!("{}:{}", said.http.0, said.http.1))
        .text("session", format!("{:016x}", row.session))
        .unsigned("renewals", row.renewals)
        .text("renewed at", format!("{}/{}", row.renewed_at.0.get(), row.renewed_at.1))
        .unsigned("lease ms", row.lease_ms)
        .signed("clock ms", row.clock_ms)
        .signed("started ms", said.started_ms)
}

fn cluster_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    if *row.key == cluster::identity_key(keyspace) {
        let identity = cluster::decode_identity(&row.value)?;
        let facts = Facts::default()
            .text("cluster id", identity.cluster_id)
            .unsigned("incarnation", identity.incarnation.get())
            .unsigned("schema version", identity.schema_version)
            .unsigned("oldest schema that may write", identity.oldest_writer)
            .signed("created ms", identity.created_ms);
        Ok(("cluster identity", facts))
    } else if *row.key == cluster::metadata_version_key(keyspace) {
        let found = cluster::decode_metadata_version(Some(&row.value))?;
        Ok(("metadata version", Facts::default().text("changed", version(found))))
    } else if *row.key == cluster::cutoff_key(keyspace) {
        let cutoff = cluster::decode_cutoff(Some(&row.value))?;
        let facts = Facts::default()
            .unsigned("incarnation", cutoff.incarnation.get())
            .unsigned("version", cutoff.version.get());
        Ok(("cutoff", facts))
    } else if *row.key == cluster::time_key(keyspace) {
        let time = cluster::decode_time(Some(&row.value))?;
        let time = time.ok_or(Corrupt { family: "reckoned time", reason: "it is empty" })?;
        let at = format!("{}/{}", time.incarnation.get(), time.version);
        Ok(("reckoned time", Facts::default().signed("now ms", time.now_ms).text("at", at)))
    } else if *row.key == cluster::begin_key(keyspace) {
        let (incarnation, version) = cluster::read_begin(&row.value)?;
        let facts = Facts::default().unsigned("incarnation", incarnation.get());
        Ok(("begin", facts.unsigned("version", version.get())))
    } else {
        Err(Corrupt { family: "cluster", reason: "an unknown row" })
    }
}

fn topic_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    if topic::rows(keyspace).contains(&row.key.to_vec()) {
        let id = topic::decode_row_key(keyspace, &row.key)?;
        let found = topic::decode_row(id, &row.value)?;
        let facts = Facts::default()
            .text("name", &found.name)
            .text("topic id", id)
            .unsigned("partitions", found.partitions)
            .unsigned("replication factor", found.replication_factor)
            .text("created", version(found.created))
            .signed("created ms", found.created_ms)
            .text("changed", version(found.changed))
            .map("configs", configs(&found.configs));
        return Ok((Family::Topic.name(), facts));
    }
    let found = topic::decode_deleted(keyspace, &row.key, &row.value)?;
    let facts = Facts::default()
        .text("name", &found.name)
        .text("topic id", found.id)
        .unsigned("partitions", found.partitions)
        .text("deleted", version(found.deleted))
        .signed("deleted ms", found.deleted_ms);
    Ok(("deleted topic", facts))
}

fn topic_change(keyspace: &Keyspace, row: &Row) -> Decoded {
    if *row.key == topic::floor_key(keyspace) {
        let floor = topic::decode_floor(Some(&row.value))?;
        let facts = Facts::default().text("trimmed", version(floor.trimmed)).unsigned("rows", floor.rows);
        return Ok(("topic change floor", facts));
    }
    if *row.key == topic::written_key(keyspace) {
        let written = topic::decode_written(Some(&row.value))?;
        return Ok(("topic changes written", Facts::default().unsigned("rows", written)));
    }
    let (at, change) = topic::decode_change(keyspace, &row.key, &row.value)?;
    let facts = Facts::default().text("at", version(at));
    let facts = match change {
        topic::Change::Topic(id) => facts.text("topic id", id),
        topic::Change::Configuration => facts.text("of", "dynamic configuration"),
    };
    Ok((Family::TopicChange.name(), facts))
}

fn log_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    let (of, stands) = log::parse_key(keyspace, &row.key)?;
    let facts = of_partition(of).text("at", position(&stands));
    Ok((Family::Log.name(), row_facts(facts, &LogRow::decode(&row.value)?)))
}

fn counters_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    let stripe = counters::parse_key(keyspace, &row.key)?;
    let counters = Counters::decode(Some(&row.value))?;
    let first = stripe.number.saturating_mul(STRIPE_PARTITIONS as u32);
    let records = counters.records().iter().zip(first..).filter(|(records, _)| **records > 0);
    let records = records.map(|(records, partition)| {
        Facts::default().unsigned("partition", partition).signed("records", *records)
    });
    let facts = Facts::default()
        .text("topic id", stripe.topic)
        .unsigned("stripe", stripe.number)
        .signed("other changes", counters.changes())
        .list("counters", records.collect());
    Ok((Family::Counters.name(), facts))
}

fn order_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    let (incarnation, at, number) = order::parse_key(keyspace, &row.key)?;
    let appended = order::decode(&row.value)?;
    let appended = appended.iter().map(|(of, records)| of_partition(*of).signed("records", *records));
    let facts = Facts::default()
        .text("at", stamp(incarnation, at))
        .unsigned("number", number)
        .list("appended", appended.collect());
    Ok((Family::Order.name(), facts))
}

fn checkpoint_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    match checkpoint::decode_row(keyspace, &row.key, &row.value)? {
        checkpoint::CheckpointRow::Seals(slot, seals) => {
            Ok(("seals of a slot", Facts::default().unsigned("slot", slot.get()).signed("seals", seals)))
        }
        checkpoint::CheckpointRow::State(slot, state) => {
            let mut facts = Facts::default().unsigned("slot", slot.get());
            if let Some(current) = state.current {
                facts = facts
                    .text("current", current.id)
                    .signed("seals", current.seals)
                    .unsigned("parts", current.parts)
                    .unsigned("bytes", current.bytes);
            }
            Ok((Family::Checkpoint.name(), facts.maybe("pending", state.pending)))
        }
    }
}

fn allocation_row(keyspace: &Keyspace, row: &Row) -> Decoded {
    if *row.key == allocation::next_producer_id_key(keyspace) {
        let next = allocation::decode_next(Some(&row.value))?;
        return Ok(("next producer id", Facts::default().signed("next", next)));
    }
    let first = allocation::parse_block_key(keyspace, &row.key)?;
    let block = allocation::decode_block(&row.value)?;
    let facts = Facts::default()
        .signed("first", first.get())
        .unsigned("ids", block.ids)
        .unsigned("incarnation", block.incarnation.get())
        .unsigned("allocated", block.allocated.get());
    Ok(("producer ids", facts))
}

fn feed_facts(keyspace: &Keyspace, row: &Row) -> Result<Facts, Corrupt> {
    let rest = keyspace.strip(Family::Feed, &row.key).unwrap_or_default();
    let mut reader = Reader::new("feed", rest);
    let slot = feed::Slot::numbered(reader.u16()?).ok_or(reader.corrupt("there is no such slot"))?;
    reader.finish()?;
    let found = feed::decode(Some(&row.value))?;
    Ok(Facts::default().unsigned("slot", slot.get()).text("changed", stamp(found.incarnation, found.stamp)))
}

fn member_chunk(keyspace: &Keyspace, row: &Row) -> Result<Facts, Corrupt> {
    let mut reader =
        Reader::new("group member", keyspace.strip(Family::GroupMember, &row.key).unwrap_or_default());
    let (group, member) = (key_text(&mut reader)?, key_text(&mut reader)?);
    let chunk = reader.u16()?;
    reader.finish()?;
    let facts = Facts::default().text("group", group).text("member", member).unsigned("chunk", chunk);
    // Only a member of one chunk is whole here.
    if chunk == 0 && row.value.len() < CHUNK_BYTES {
        return Ok(member_facts(facts, &StoredMember::decode(&row.value)?));
    }
    Ok(facts.count("bytes", row.value.len()))
}

fn offset_facts(keyspace: &Keyspace, row: &Row) -> Result<Facts, Corrupt> {
    let rest = keyspace.strip(Family::GroupOffset, &row.key).unwrap_or_default();
    let mut reader = Reader::new("committed offset", rest);
    let (group, topic) = (key_text(&mut reader)?, key_text(&mut reader)?);
    let partition =
        i32::try_from(reader.u32()?).map_err(|_| reader.corrupt("a partition is out of range"))?;
    reader.finish()?;
    let found = CommittedOffset::decode(&row.value)?;
    Ok(Facts::default()
        .text("group", group)
        .text("topic", topic)
        .signed("partition", partition)
        .signed("offset", found.offset)
        .signed("leader epoch", found.leader_epoch)
        .text("topic id", found.topic_id)
        .signed("committed ms", found.committed_at_ms)
        .maybe("expires ms", found.expires_at_ms)
        .text("metadata", found.metadata))
}

/// A text behind its length (2).
fn key_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Corrupt> {
    let length = usize::from(reader.u16()?);
    let bytes = reader.take(length)?;
    std::str::from_utf8(bytes).map_err(|_| reader.corrupt("a text of the key is not UTF-8"))
}

/// The partition that a key consists of.
fn partition_of(keyspace: &Keyspace, family: Family, row: &Row) -> Result<TopicPartition, Corrupt> {
    let mut reader = Reader::new(family.name(), keyspace.strip(family, &row.key).unwrap_or_default());
    let partition = read_partition(&mut reader)?;
    reader.finish()?;
    Ok(partition)
}

/// The partition that a key begins with.
fn partition_prefix(keyspace: &Keyspace, family: Family, row: &Row) -> Result<TopicPartition, Corrupt> {
    read_partition(&mut Reader::new(family.name(), keyspace.strip(family, &row.key).unwrap_or_default()))
}

fn of_partition(at: TopicPartition) -> Facts {
    Facts::default().text("topic id", at.topic).signed("partition", at.partition.get())
}

/// What a seal says.
pub(super) fn seal_facts(facts: Facts, state: &FoldState) -> Facts {
    let open = state.open_transactions.iter().map(|(producer, first)| {
        Facts::default().signed("producer id", producer.get()).signed("first offset", first.get())
    });
    let facts = facts
        .text("sealed up to", position(&state.position))
        .signed("next offset", state.next_offset.get())
        .unsigned("bytes", state.bytes)
        .signed("max timestamp", state.max_timestamp.timestamp);
    facts.list("open transactions", open.collect())
}

/// What a log row says.
pub(super) fn row_facts(facts: Facts, row: &LogRow) -> Facts {
    match row {
        LogRow::Data { leader_epoch, object, position, batches } => facts
            .signed("records", row.records())
            .text("object", object)
            .unsigned("position", *position)
            .signed("leader epoch", leader_epoch.get())
            .list("batches", batches.iter().map(batch_facts).collect()),
        LogRow::Marker { leader_epoch, producer, epoch, abort, coordinator_epoch, timestamp, horizon } => {
            facts
                .text("marker", if *abort { "abort" } else { "commit" })
                .signed("producer id", producer.get())
                .signed("epoch", epoch.get())
                .signed("leader epoch", leader_epoch.get())
                .signed("coordinator epoch", *coordinator_epoch)
                .signed("timestamp", *timestamp)
                .maybe("delete horizon", horizon.map(|horizon| horizon.to_string()))
        }
    }
}

fn batch_facts(batch: &BatchFacts) -> Facts {
    let facts = Facts::default()
        .unsigned("records", batch.records)
        .unsigned("bytes", batch.length)
        .signed("base timestamp", batch.base_timestamp)
        .signed("max timestamp", batch.max_timestamp);
    let names = [
        (flags::TRANSACTIONAL, "transactional"),
        (flags::LOG_APPEND_TIME, "log append time"),
        (flags::COMPRESSED, "compressed"),
    ];
    let set: Vec<&str> =
        names.iter().filter(|(bit, _)| batch.flags & bit != 0).map(|(_, name)| *name).collect();
    let facts = facts.maybe("flags", (!set.is_empty()).then(|| set.join(",")));
    match &batch.producer {
        None => facts,
        Some(producer) => facts
            .signed("producer id", producer.id.get())
            .signed("epoch", producer.epoch.get())
            .signed("sequence", producer.base_sequence.get()),
    }
}

/// What a value of the packed index says, which the key calls `last`.
fn index_facts(facts: Facts, last: i64, packed: &PackedIndex) -> Result<Facts, Corrupt> {
    let named = packed.last_offset().map(Offset::get);
    if named != Some(last) {
        return Err(Corrupt { family: "packed index", reason: "its key names another last offset" });
    }
    let base = packed.entries.first().map_or(0, |entry| entry.base_offset.get());
    let batches: usize = packed.entries.iter().map(|entry| entry.batches().count()).sum();
    Ok(facts
        .signed("base offset", base)
        .signed("last offset", last)
        .signed("max timestamp so far", packed.max_timestamp_so_far)
        .count("batches", batches)
        .maybe("section end", packed.section_end.map(|end| end.to_string()))
        .list("entries", packed.entries.iter().map(entry_facts).collect()))
}

fn entry_facts(entry: &LogEntry) -> Facts {
    let facts = Facts::default()
        .signed("offset", entry.base_offset.get())
        .text("at", position(&entry.at))
        .signed("records", entry.row.records());
    match &entry.row {
        LogRow::Data { object, position, batches, .. } => {
            facts.text("object", object).unsigned("position", *position).count("batches", batches.len())
        }
        LogRow::Marker { abort, .. } => facts.text("marker", if *abort { "abort" } else { "commit" }),
    }
}

/// What a producer's state says.
fn producer_facts(facts: Facts, stored: &StoredProducerState) -> Facts {
    let batches = stored.state.batches.iter().map(|batch| {
        let at = match batch.at {
            RememberedAt::Earlier(at) => position(&at),
            // Not in a state that was read: it knows its stamp.
            RememberedAt::Here { n } => n.to_string(),
        };
        Facts::default()
            .signed("sequence", batch.base_sequence.get())
            .signed("last sequence", batch.last_sequence().get())
            .text("at", at)
    });
    facts
        .signed("epoch", stored.state.epoch.get())
        .unsigned("incarnation", stored.incarnation.get())
        .unsigned("changed", stored.changed.get())
        .list("batches", batches.collect())
}

fn object_facts(facts: Facts, row: &ObjectRow) -> Facts {
    let state = match row.state {
        ObjectState::Committed => "committed",
        ObjectState::Intent => "intent",
        ObjectState::Tombstone => "tombstone",
        ObjectState::Collected => "collected",
    };
    let verdicts = row.verdicts.iter().map(|(batch, verdict)| {
        let facts = Facts::default().unsigned("batch", *batch);
        match verdict {
            Verdict::Refused(refusal) => facts.text("refused", format!("{refusal:?}")),
            Verdict::Duplicate(of) => facts.text("duplicate of", position(of)),
            Verdict::DuplicateHere { n } => facts.unsigned("duplicate here of", *n),
        }
    });
    facts
        .text("state", state)
        .text("stamp", stamp(row.incarnation, row.stamp))
        .unsigned("first n", row.first_n)
        .unsigned("bytes", row.size)
        .unsigned("batches", row.batches)
        .unsigned("level", row.level)
        .list("verdicts", verdicts.collect())
}

fn group_facts(facts: Facts, row: &GroupRow) -> Facts {
    let header = &row.header;
    facts
        .text("kind", format!("{:?}", header.kind).to_lowercase())
        .text("state", format!("{:?}", header.state))
        .signed("generation", header.generation)
        .maybe("protocol type", header.protocol_type.as_deref())
        .maybe("protocol", header.protocol_name.as_deref())
        .maybe("leader", header.leader.as_deref())
        .signed("state since ms", header.state_since_ms)
        .unsigned("coordinator version", row.coordinator_epoch.version.get())
        .text("coordinator nonce", format!("{:016x}", row.coordinator_epoch.nonce))
        .unsigned("revision", row.revision)
}

/// What is known of a member.
pub(super) fn member_facts(facts: Facts, member: &StoredMember) -> Facts {
    let protocols = member
        .protocols
        .iter()
        .map(|(name, metadata)| Facts::default().text("name", name).count("bytes", metadata.len()));
    facts
        .maybe("instance id", member.instance_id.as_deref())
        .text("client id", &member.client_id)
        .text("client host", &member.client_host)
        .unsigned("session timeout ms", member.session_timeout_ms)
        .unsigned("rebalance timeout ms", member.rebalance_timeout_ms)
        .count("assignment bytes", member.assignment.len())
        .list("protocols", protocols.collect())
}

fn configs(configs: &BTreeMap<String, String>) -> Facts {
    configs.iter().fold(Facts::default(), |facts, (name, value)| facts.text(name, value))
}

/// `incarnation/version.order/n`.
pub(super) fn position(at: &BatchPosition) -> String {
    format!("{}/{}", stamp(at.incarnation, at.stamp), at.n)
}

/// `incarnation/version.order`.
pub(super) fn stamp(incarnation: Incarnation, stamp: Versionstamp) -> String {
    format!("{}/{}.{}", incarnation.get(), stamp.version(), stamp.order())
}

fn version(at: MetadataVersion) -> String {
    stamp(at.incarnation, at.stamp)
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
