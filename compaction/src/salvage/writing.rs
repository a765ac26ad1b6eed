//! Writing what was found: partition by partition in the order of the checkpoints, then topics, objects and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_metadata::codec::Corrupt;
use penstock_metadata::fold::FoldState;
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::keys::index::PackedIndex;
use penstock_metadata::keys::merge_queue::{self, CommitPlace};
use penstock_metadata::keys::object::{self, ObjectRow, ObjectState};
use penstock_metadata::keys::topic::{encode_name, name_key, row_key};
use penstock_metadata::keys::{Family, Keyspace, checkpoint, dead, index, log_start, seal};
use penstock_metadata::kv::{Row, limits};
use penstock_metadata::salvaging::Salvaging;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_types::{
    Incarnation, ObjectId, Offset, PartitionIndex, StoreVersion, TopicId, TopicPartition, Versionstamp,
};

use super::checkpoints::{self, Found};
use super::inventory::{self, Inventory, Piece};
use super::partition::{Moved, Partition, Seen, Tail};
use super::report::{Report, TopicReport, UnknownTopic};
use super::{SalvageError, Told, bare, partition_of};

/// How much earlier than a seal an object may have been begun that was committed behind it.
const COMMITTED_WITHIN: Duration = Duration::from_secs(600);

/// Rows on their way into the store.
pub(super) struct Writing<'a> {
    bucket: &'a Bucket,
    told: &'a Told,
    inventory: &'a mut Inventory,
    out: &'a mut Salvaging,
    report: &'a mut Report,
    counters: BTreeMap<Stripe, Counters>,
    written: BTreeSet<TopicPartition>,
    producer: i64,
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        bucket: &'a Bucket,
        told: &'a Told,
        inventory: &'a mut Inventory,
        out: &'a mut Salvaging,
        report: &'a mut Report,
    ) -> Self {
        let producer = told.producer;
        Self {
            bucket,
            told,
            inventory,
            out,
            report,
            counters: BTreeMap::new(),
            written: BTreeSet::new(),
            producer,
        }
    }

    /// The highest producer id that was seen.
    pub(super) fn producer(&self) -> i64 {
        self.producer
    }

    /// The partitions of a checkpoint.
    pub(super) async fn checkpoint(&mut self, cluster_id: &str, found: &Found) -> Result<(), SalvageError> {
        let keyspace = bare();
        let mut current: Option<(TopicPartition, Partition, Moved)> = None;
        let mut start: Option<(TopicPartition, Offset)> = None;
        for part in 0..found.parts() {
            let part = match checkpoints::part_of(self.bucket, cluster_id, found, part).await? {
                Ok(part) => part,
                Err(reason) => {
                    self.report.damaged.push(format!("checkpoint {}: {reason}", found.id));
                    break;
                }
            };
            for row in &part.rows {
                match self.row(&keyspace, row, &mut start, &mut current).await? {
                    Ok(()) => {}
                    Err(corrupt) => self.report.damaged.push(format!("checkpoint {}: {corrupt}", found.id)),
                }
            }
        }
        if let Some((of, partition, moved)) = current {
            self.end(of, partition, &moved).await?;
        }
        Ok(())
    }

    async fn row(
        &mut self,
        keyspace: &Keyspace,
        row: &Row,
        start: &mut Option<(TopicPartition, Offset)>,
        current: &mut Option<(TopicPartition, Partition, Moved)>,
    ) -> Result<Result<(), Corrupt>, SalvageError> {
        match keyspace.family_byte(&row.key).and_then(Family::from_byte) {
            Some(Family::LogStart) => {
                let decoded = partition_of(keyspace, Family::LogStart, &row.key)
                    .and_then(|of| Ok((of, log_start::decode(Some(&row.value))?)));
                match decoded {
                    Ok(decoded) => *start = Some(decoded),
                    Err(corrupt) => return Ok(Err(corrupt)),
                }
            }
            Some(Family::Seal) => {
                let decoded = partition_of(keyspace, Family::Seal, &row.key)
                    .and_then(|of| Ok((of, seal::decode(Some(&row.value))?)));
                let (of, sealed) = match decoded {
                    Ok(decoded) => decoded,
                    Err(corrupt) => return Ok(Err(corrupt)),
                };
                if let Some((of, partition, moved)) = current.take() {
                    self.end(of, partition, &moved).await?;
                }
                if !self.told.topics.contains_key(&of.topic) || !self.written.insert(of) {
                    return Ok(Ok(()));
                }
                let start = start.filter(|(whose, _)| *whose == of).map_or(Offset::ZERO, |(_, start)| start);
                let moved = if self.told.moved.contains(&of) { self.moved(of).await? } else { Moved::new() };
                *current = Some((of, Partition::new(of, start, sealed), moved));
            }
            Some(Family::Index) => {
                let decoded = index::parse_key(keyspace, &row.key)
                    .and_then(|(of, _)| Ok((of, PackedIndex::decode(&row.value)?)));
                match (decoded, current) {
                    (Ok((of, value)), Some((whose, partition, moved))) if of == *whose => {
                        partition.value(value, self.inventory, moved, self.out).await?;
                    }
                    (Ok(_), _) => {}
                    (Err(corrupt), _) => return Ok(Err(corrupt)),
                }
            }
            Some(Family::Aborted) if current.is_some() => {
                let mut key = self.out.keyspace().family(Family::Aborted);
                key.extend_from_slice(&row.key[1..]);
                self.out.put(key, row.value.to_vec()).await?;
            }
            _ => {}
        }
        Ok(Ok(()))
    }

    /// Where the batches are of a partition that merges have moved.
    async fn moved(&mut self, of: TopicPartition) -> Result<Moved, BucketError> {
        let mut moved = Moved::new();
        for piece in self.inventory.pieces.get(&of).cloned().unwrap_or_default() {
            if self.inventory.objects.get(&piece.object).is_none_or(|held| !held.has_offsets) {
                continue;
            }
            for batch in inventory::read(self.bucket, &piece, &mut self.report.damaged).await? {
                if let Some(offset) = Offset::new(batch.base_offset) {
                    moved.insert(offset, (piece.object, batch));
                }
            }
        }
        Ok(moved)
    }

    async fn end(
        &mut self,
        of: TopicPartition,
        partition: Partition,
        moved: &Moved,
    ) -> Result<(), SalvageError> {
        let sealed = self.told.sealed.get(&of).cloned().unwrap_or_default();
        let tail = self.tail(of, &sealed).await?;
        let finished = partition.finish(tail, self.inventory, moved, self.out).await?;
        let (report, end) = finished;
        self.counters.entry(Stripe::of(of)).or_default().append(of, end.get());
        let topic = of.topic.to_string();
        let name = self.told.topics.get(&of.topic).map_or_else(String::new, |row| row.name.clone());
        match self.report.topics.iter_mut().find(|known| known.id == topic) {
            Some(known) => known.partitions.push(report),
            None => self.report.topics.push(TopicReport { name, id: topic, partitions: vec![report] }),
        }
        Ok(())
    }

    /// What the objects have of a partition behind its seal.
    async fn tail(&mut self, of: TopicPartition, sealed: &FoldState) -> Result<Vec<Tail>, BucketError> {
        let (mut with, mut without, mut seen) = (Vec::new(), Vec::new(), Seen::default());
        for piece in self.inventory.pieces.get(&of).cloned().unwrap_or_default() {
            let Some(held) = self.inventory.objects.get(&piece.object) else { continue };
            if held.has_offsets {
                // What was begun long before the seal has nothing behind it, nor what else may be behind it.
                if behind(piece.object, None, sealed).is_some() {
                    self.with_offsets(&piece, sealed, &mut with, &mut seen).await?;
                }
            } else if let Some(at) = behind(piece.object, held.place, sealed) {
                without.push((at, piece));
            }
        }
        with.sort_by_key(|tail: &Tail| (tail.offset, tail.object));
        without.sort_by_key(|(at, piece)| (*at, piece.object));
        for (at, piece) in without {
            for batch in inventory::read(self.bucket, &piece, &mut self.report.damaged).await? {
                self.producer =
                    batch.facts.producer.map_or(self.producer, |by| self.producer.max(by.id.get()));
                if seen.is_new(&batch) {
                    with.push(Tail { object: piece.object, batch, offset: None, at });
                }
            }
        }
        Ok(with)
    }

    async fn with_offsets(
        &mut self,
        piece: &Piece,
        sealed: &FoldState,
        with: &mut Vec<Tail>,
        seen: &mut Seen,
    ) -> Result<(), BucketError> {
        let at = CommitPlace {
            incarnation: sealed.position.incarnation.max(piece.object.incarnation()),
            stamp: Versionstamp::ZERO,
        };
        for batch in inventory::read(self.bucket, piece, &mut self.report.damaged).await? {
            seen.merged(&batch);
            if let Some(offset) =
                Offset::new(batch.base_offset).filter(|offset| *offset >= sealed.next_offset)
            {
                with.push(Tail { object: piece.object, batch, offset: Some(offset), at });
            }
        }
        Ok(())
    }

    /// Partitions of known topics that were never sealed.
    pub(super) async fn others(&mut self) -> Result<(), SalvageError> {
        let topics: Vec<(TopicId, u32)> =
            self.told.topics.iter().map(|(id, row)| (*id, row.partitions)).collect();
        for (topic, partitions) in topics {
            for index in 0..partitions {
                let of = TopicPartition { topic, partition: PartitionIndex::new(index as i32) };
                if self.written.insert(of) {
                    let partition = Partition::new(of, Offset::ZERO, FoldState::default());
                    self.end(of, partition, &Moved::new()).await?;
                }
            }
        }
        let mut unknown: BTreeMap<TopicId, UnknownTopic> = BTreeMap::new();
        for (of, pieces) in &self.inventory.pieces {
            if self.told.topics.contains_key(&of.topic) {
                continue;
            }
            let id = of.topic;
            let topic = UnknownTopic { id: id.to_string(), objects: 0, records: 0 };
            let topic = unknown.entry(id).or_insert(topic);
            topic.objects = topic.objects.max(pieces.len() as u64);
            topic.records += pieces.iter().map(|piece| piece.section.record_count).sum::<u64>();
        }
        self.report.unknown = unknown.into_values().collect();
        Ok(())
    }

    /// Topics, objects and counters; checkpoints count as outdated.
    pub(super) async fn rows(&mut self, incarnation: Incarnation) -> Result<(), SalvageError> {
        let keyspace = self.out.keyspace().clone();
        for (id, row) in &self.told.topics {
            let Some(value) = self.told.rows.get(id) else { continue };
            self.out.put(row_key(&keyspace, *id), value.to_vec()).await?;
            self.out.put(name_key(&keyspace, &row.name), encode_name(*id, &row.name)).await?;
        }
        for (stripe, counters) in &self.counters {
            self.out.put(counters::key(&keyspace, *stripe), counters.encode().to_vec()).await?;
        }
        let slots: BTreeSet<Slot> = self.written.iter().map(|of| Slot::of(*of)).collect();
        for slot in slots {
            self.out.put(checkpoint::seals_key(&keyspace, slot), 1i64.to_le_bytes().to_vec()).await?;
        }
        let used = self.inventory.objects.values().filter(|held| held.referred > 0).count() as u64;
        self.report.objects = used;
        self.report.unused = self.inventory.objects.len() as u64 - used;
        for (id, held) in self.inventory.objects.iter().filter(|(_, held)| held.referred > 0) {
            // Of what a merge wrote the row counts what refers to it.
            let batches = if held.has_offsets { held.referred } else { held.batches };
            let row = ObjectRow {
                state: ObjectState::Committed,
                stamp: Versionstamp::ZERO,
                incarnation,
                first_n: 0,
                size: held.size,
                batches: u32::try_from(batches).unwrap_or(u32::MAX),
                verdicts: Vec::new(),
                level: if held.has_offsets { merge_queue::LAST_LEVEL } else { 0 },
            };
            self.out.put(object::key(&keyspace, *id), row.encode()).await?;
            let gone = batches.saturating_sub(held.referred);
            if gone > 0 {
                let value = dead::amount(gone, true).to_le_bytes().to_vec();
                self.out.put(dead::key(&keyspace, *id), value).await?;
            }
            if let Some(place) = held.place.filter(|_| !held.has_offsets) {
                let value = merge_queue::encode_committed(held.size);
                self.out.put(merge_queue::key(&keyspace, 0, place, *id), value).await?;
            }
        }
        Ok(())
    }
}

/// Where an object stands that was committed behind a seal, or may have been: where nobody knows when it was, what was begun
/// long before the seal wasn't committed behind it.
fn behind(id: ObjectId, place: Option<CommitPlace>, sealed: &FoldState) -> Option<CommitPlace> {
    let seal = CommitPlace { incarnation: sealed.position.incarnation, stamp: sealed.position.stamp };
    if let Some(place) = place {
        return (place > seal).then_some(place);
    }
    let begun = CommitPlace { incarnation: id.incarnation(), stamp: Versionstamp::new(id.version(), 0) };
    let lag = limits::versions_of(COMMITTED_WITHIN);
    let earliest = StoreVersion::new(seal.stamp.version().get().saturating_sub(lag));
    let earliest = CommitPlace { incarnation: seal.incarnation, stamp: Versionstamp::new(earliest, 0) };
    (begun >= earliest).then_some(begun)
}
