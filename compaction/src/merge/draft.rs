//! An output in the making: what goes into it, and where the index refers to that. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_metadata::fold::BatchSource;
use penstock_metadata::keys::log::LogRow;
use penstock_metadata::merging::{Copies, Segment, WindowPage};
use penstock_storage::object::{KnownBatch, MergedBuilder};
use penstock_types::{ObjectId, Offset, TopicPartition};

use super::inputs::Inputs;
use crate::facts::known;

/// Partitions of one swap.
const SWAP_PARTITIONS: usize = 200;
/// Batches of one output: what is known of so many takes some 60 MB beside their bytes.
const MOST_BATCHES: u64 = 250_000;

/// An entry of the index whose bytes are to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) partition: TopicPartition,
    pub(super) source: ObjectId,
    pub(super) position: u64,
    pub(super) length: u64,
    pub(super) batches: Vec<KnownBatch>,
}

/// Values of the index that refer to pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    partition: TopicPartition,
    first: Offset,
    last: Offset,
    bytes: u64,
}

/// What of a page of the index is to be copied, and which of its values refer to it; `None` for nothing. What ends at or below
/// `drafted` is in an output already: values that were joined meanwhile are met again.
pub(super) fn pieces(
    partition: TopicPartition,
    page: &WindowPage,
    inputs: &Inputs,
    drafted: &mut Offset,
) -> Option<(Place, Vec<Piece>)> {
    let mut pieces = Vec::new();
    let mut place: Option<Place> = None;
    for found in &page.values {
        let before = pieces.len();
        for entry in &found.value.entries {
            let LogRow::Data { object, position, batches, .. } = &entry.row else { continue };
            // What lies below the log start is about to be trimmed.
            let end = entry.end_offset();
            if !inputs.has(*object) || end <= page.log_start || end <= *drafted {
                continue;
            }
            *drafted = end;
            let stored = entry.batches().filter(|batch| matches!(batch.source, BatchSource::Object { .. }));
            pieces.push(Piece {
                partition,
                source: *object,
                position: *position,
                length: batches.iter().map(|batch| u64::from(batch.length)).sum(),
                batches: stored.map(|batch| known(&batch)).collect(),
            });
        }
        if pieces.len() == before {
            continue;
        }
        let bytes = found.bytes as u64;
        match &mut place {
            Some(place) => (place.last, place.bytes) = (found.last, place.bytes + bytes),
            None => place = Some(Place { partition, first: found.last, last: found.last, bytes }),
        }
    }
    Some((place?, pieces))
}

/// An output in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) pieces: Vec<Piece>,
    pub(super) bytes: u64,
    batches: u64,
    places: Vec<Place>,
}

impl Draft {
    pub(super) fn add(&mut self, place: Place, piece: Piece) {
        self.bytes += piece.length;
        self.batches += piece.batches.len() as u64;
        self.pieces.push(piece);
        if self.places.last() != Some(&place) {
            self.places.push(place);
        }
    }

    /// Whether it is to be written before so many bytes more are added.
    pub(super) fn is_full(&self, more: u64, object_bytes: u64) -> bool {
        !self.pieces.is_empty() && (self.bytes + more > object_bytes || self.batches >= MOST_BATCHES)
    }

    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// Where the bytes of the pieces are.
    pub(super) fn sources(&self) -> Vec<(ObjectId, u64, u64)> {
        self.pieces.iter().map(|piece| (piece.source, piece.position, piece.length)).collect()
    }

    /// The swaps that make the index refer to the output, of about `swap_bytes` of it each.
    pub(super) fn swaps(
        &self,
        section_ends: &BTreeMap<TopicPartition, u64>,
        swap_bytes: u64,
    ) -> Vec<Vec<Segment>> {
        let mut swaps: Vec<Vec<Segment>> = Vec::new();
        let mut bytes = 0;
        for place in &self.places {
            let Some(section_end) = section_ends.get(&place.partition) else { continue };
            let Place { partition, first, last, .. } = *place;
            let segment = Segment { partition, first, last, section_end: *section_end };
            match swaps.last_mut() {
                Some(swap) if bytes + place.bytes <= swap_bytes && swap.len() < SWAP_PARTITIONS => {
                    swap.push(segment);
                    bytes += place.bytes;
                }
                _ => {
                    swaps.push(vec![segment]);
                    bytes = place.bytes;
                }
            }
        }
        swaps
    }
}

/// What was built of a draft.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) builder: MergedBuilder,
    pub(super) copies: Copies,
    /// Where each partition's bytes end.
    pub(super) section_ends: BTreeMap<TopicPartition, u64>,
    /// Batches that can't be copied.
    pub(super) unreadable: u64,
}

impl Built {
    /// Copies a piece, if `bytes` are what the log says.
    pub(super) fn copy(&mut self, piece: &Piece, bytes: Option<&Bytes>) {
        let Some(bytes) = bytes else {
            self.unreadable += piece.batches.len() as u64;
            return;
        };
        match self.builder.add(piece.partition, bytes, &piece.batches) {
            Ok(to) => {
                let askew = penstock_types::planted!("copies-askew");
                let to = if askew { to.saturating_sub(piece.length) } else { to };
                self.copies.add(piece.source, piece.position, piece.length, to);
                self.section_ends.insert(piece.partition, to + piece.length);
            }
            Err(error) => {
                self.unreadable += piece.batches.len() as u64;
                tracing::error!(partition = %piece.partition, object = %piece.source, position = piece.position, %error, "what the bucket holds is not what the metadata says; it is not merged");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_metadata::fold::LogEntry;
    use penstock_metadata::keys::index::PackedIndex;
    use penstock_metadata::keys::log::BatchFacts;
    use penstock_metadata::merging::WindowValue;
    use penstock_types::{
        BatchPosition, Incarnation, LeaderEpoch, PartitionIndex, StoreVersion, TopicId, Versionstamp,
    };

    use super::*;

    fn entry(object: ObjectId, offset: i64) -> LogEntry {
        let facts = BatchFacts {
            length: 100,
            records: 5,
            flags: 0,
            base_timestamp: 1,
            max_timestamp: 2,
            producer: None,
        };
        let (leader_epoch, position) = (LeaderEpoch::new(0), offset as u64 * 20);
        let stamp = Versionstamp::new(StoreVersion::new(offset as u64), 0);
        LogEntry {
            at: BatchPosition { incarnation: Incarnation::FIRST, stamp, n: 0 },
            base_offset: Offset::at(offset),
            row: LogRow::Data { leader_epoch, object, position, batches: vec![facts] },
        }
    }

    fn page(object: ObjectId, offsets: &[i64]) -> WindowPage {
        let entries: Vec<LogEntry> = offsets.iter().map(|offset| entry(object, *offset)).collect();
        let last = Offset::at(offsets[offsets.len() - 1] + 4);
        let value = PackedIndex { entries, max_timestamp_so_far: 2, section_end: None };
        WindowPage { log_start: Offset::at(5), values: vec![WindowValue { last, bytes: 300, value }] }
    }

    #[test]
    fn what_is_met_again_is_copied_once() {
        let topic = TopicId::from_bytes([1; 16]);
        let partition = TopicPartition { topic, partition: PartitionIndex::new(0) };
        let object = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), 1);
        let inputs = Inputs::of(&[object]);
        let mut drafted = Offset::ZERO;
        let mut offsets = |page: &WindowPage| -> Vec<u64> {
            let found = pieces(partition, page, &inputs, &mut drafted);
            found.map_or(Vec::new(), |(_, pieces)| pieces.iter().map(|piece| piece.position / 20).collect())
        };
        assert_eq!(offsets(&page(object, &[0, 5, 10])), [5, 10], "the first is below the log start");
        // Another merge has joined that value with the next.
        assert_eq!(offsets(&page(object, &[5, 10, 15])), [15]);
        assert!(offsets(&page(object, &[5, 10, 15])).is_empty());
    }
}
