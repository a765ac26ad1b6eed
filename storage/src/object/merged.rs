//! Assembling an object from what other objects hold: the sections of larger objects, each batch with its offset.
//!
//! Nothing of the bytes is believed: each batch is held against its own checksum and against what the log knows of it, before
//! the only other copy may go. The offset and the leader epoch are written into the batch's head, outside its checksum: so what
//! was merged can be read again, in its order, from the bucket alone.

use bytes::{BufMut, Bytes, BytesMut};
use penstock_types::{
    LeaderEpoch, ObjectId, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicPartition,
};

use super::builder::DataObject;
use super::footer::{Footer, SectionPlacement};
use super::section::SectionChecksum;
use crate::batch::{BatchError, BatchHeader, PREFIX_BYTES, patched_prefix, verify_crc};

/// Batches shorter than that are copied together: a chunk of its own costs the upload more than the copy.
const COPY_BELOW: usize = 64 * 1024;
/// Bytes that are copied together.
const COPY_BUFFER: usize = 1024 * 1024;

/// A batch that is to be copied, as the log knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownBatch {
    /// Its offset.
    pub base_offset: Offset,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its bytes.
    pub length: u32,
    /// Offsets that it takes.
    pub records: u32,
    /// Timestamp of its first record.
    pub base_timestamp: TimestampMs,
    /// Largest timestamp.
    pub max_timestamp: TimestampMs,
    /// Its idempotent producer, if it has one: id, epoch, sequence of the first record.
    pub producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
}

/// Why bytes are not the batches that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergedError {
    /// A batch can't be read, or is damaged.
    #[error("the batch of offset {offset}: {error}")]
    Batch {
        /// Its offset.
        offset: Offset,
        /// What is wrong.
        error: BatchError,
    },
    /// It is sound, but another one.
    #[error("the batch of offset {offset} has another {what} than the log says")]
    Mismatch {
        /// Its offset.
        offset: Offset,
        /// What differs.
        what: &'static str,
    },
    /// There are more or fewer bytes than the batches take.
    #[error("{bytes} bytes where the log says {expected}")]
    Length {
        /// How many there are.
        bytes: usize,
        /// How many there should be.
        expected: u64,
    },
}

/// Collects batches of other objects. Partitions come in ascending order, and the batches of each in the order of the log.
#[derive(Debug, Default)]
pub struct MergedBuilder {
    sections: Vec<SectionPlacement>,
    checksum: SectionChecksum,
    copied: BytesMut,
    chunks: Vec<Bytes>,
    length: u64,
}

impl MergedBuilder {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes so far.
    pub fn body_length(&self) -> u64 {
        self.length
    }

    /// How many partitions it has batches of.
    pub fn section_count(&self) -> usize {
        self.sections.len()
    }

    /// Adds `run`, which must be exactly `batches`, behind everything else: the position of its first byte.
    ///
    /// # Errors
    /// If it isn't; then nothing of it is added.
    ///
    /// # Panics
    /// If `partition` lies before one that was added: the caller sorts them.
    pub fn add(
        &mut self,
        partition: TopicPartition,
        run: &Bytes,
        batches: &[KnownBatch],
    ) -> Result<u64, MergedError> {
        let headers = check(run, batches)?;
        let is_new = match self.sections.last() {
            Some(last) => {
                assert!(last.partition <= partition, "partitions are added in ascending order");
                last.partition != partition
            }
            None => true,
        };
        if is_new {
            self.close_section();
            self.sections.push(empty_section(partition, self.length));
        }
        let position = self.length;
        let mut at = 0;
        for (header, known) in headers.iter().zip(batches) {
            let batch = run.slice(at..at + known.length as usize);
            at += batch.len();
            self.put(&batch, header, known);
        }
        Ok(position)
    }

    fn put(&mut self, batch: &Bytes, header: &BatchHeader, known: &KnownBatch) {
        let prefix = patched_prefix(header, known.base_offset, known.leader_epoch);
        let mut head = [0; crate::batch::CRC_START];
        head[..PREFIX_BYTES].copy_from_slice(&prefix);
        head[PREFIX_BYTES..].copy_from_slice(&batch[PREFIX_BYTES..crate::batch::CRC_START]);
        self.checksum.add(&head);
        self.copied.put_slice(&prefix);
        let rest = batch.slice(PREFIX_BYTES..);
        if batch.len() < COPY_BELOW {
            self.copied.put_slice(&rest);
        } else {
            self.flush_copied();
            self.chunks.push(rest);
        }
        if self.copied.len() >= COPY_BUFFER {
            self.flush_copied();
        }
        self.length += batch.len() as u64;
        let section = self.sections.last_mut().expect("a section was begun before its batches");
        section.length += batch.len() as u64;
        section.batch_count += 1;
        section.record_count += u64::try_from(header.record_count).unwrap_or(0);
        section.min_timestamp = section.min_timestamp.min(header.base_timestamp);
        section.max_timestamp = section.max_timestamp.max(header.max_timestamp);
    }

    fn flush_copied(&mut self) {
        if !self.copied.is_empty() {
            self.chunks.push(self.copied.split().freeze());
        }
    }

    fn close_section(&mut self) {
        let checksum = std::mem::take(&mut self.checksum).get();
        if let Some(section) = self.sections.last_mut() {
            section.checksum = checksum;
        }
    }

    /// The object, under its id.
    pub fn finish(mut self, id: ObjectId) -> DataObject {
        self.close_section();
        self.flush_copied();
        let footer = Footer { id, sections: self.sections, has_offsets: true };
        DataObject::assemble(footer, self.chunks)
    }
}

fn empty_section(partition: TopicPartition, position: u64) -> SectionPlacement {
    SectionPlacement {
        partition,
        position,
        length: 0,
        batch_count: 0,
        record_count: 0,
        min_timestamp: TimestampMs::MAX,
        max_timestamp: TimestampMs::MIN,
        checksum: 0,
    }
}

/// Holds bytes against what the log knows of them.
fn check(run: &Bytes, batches: &[KnownBatch]) -> Result<Vec<BatchHeader>, MergedError> {
    let expected: u64 = batches.iter().map(|batch| u64::from(batch.length)).sum();
    if run.len() as u64 != expected {
        return Err(MergedError::Length { bytes: run.len(), expected });
    }
    let mut headers = Vec::with_capacity(batches.len());
    let mut at = 0;
    for known in batches {
        let batch = &run[at..at + known.length as usize];
        at += batch.len();
        headers.push(check_batch(batch, known)?);
    }
    Ok(headers)
}

/// Holds the bytes of one batch against what the log knows of it: its header.
///
/// # Errors
/// If they are damaged, or another batch.
pub fn check_batch(batch: &[u8], known: &KnownBatch) -> Result<BatchHeader, MergedError> {
    let offset = known.base_offset;
    let header = BatchHeader::parse(batch).map_err(|error| MergedError::Batch { offset, error })?;
    let records = i64::from(header.last_offset_delta) + 1;
    let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
    let differs = [
        (header.size_bytes() != batch.len() || batch.len() as u64 != u64::from(known.length), "length"),
        (records != i64::from(known.records), "number of offsets"),
        (header.base_timestamp != known.base_timestamp, "first timestamp"),
        (header.max_timestamp != known.max_timestamp, "largest timestamp"),
        (header.has_producer_id().then_some(producer) != known.producer, "producer or sequence"),
    ];
    if let Some((_, what)) = differs.into_iter().find(|(differs, _)| *differs) {
        return Err(MergedError::Mismatch { offset, what });
    }
    verify_crc(batch, &header).map_err(|error| MergedError::Batch { offset, error })?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use penstock_types::{Incarnation, PartitionIndex, StoreVersion, TopicId};

    use super::*;
    use crate::batch::{BatchBuilder, Codec};
    use crate::object::{batches, verify_section};

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::from_bytes([1; 16]), partition: PartitionIndex::new(number) }
    }

    fn batch(timestamp: i64, records: usize, bytes: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        for record in 0..records {
            builder.record(timestamp + record as i64, None, Some(&vec![7; bytes]));
        }
        builder.build().bytes
    }

    fn known(bytes: &Bytes, offset: i64, records: u32) -> KnownBatch {
        let BatchHeader { base_timestamp, max_timestamp, .. } = BatchHeader::parse(bytes).expect("a batch");
        KnownBatch {
            base_offset: Offset::at(offset),
            leader_epoch: LeaderEpoch::new(3),
            length: bytes.len() as u32,
            records,
            base_timestamp,
            max_timestamp,
            producer: None,
        }
    }

    #[test]
    fn what_was_merged_is_a_data_object_whose_batches_have_their_offsets() {
        let (small, large) = (batch(5, 2, 10), batch(9, 3, 100_000));
        let run: Bytes = [small.clone(), large.clone()].concat().into();
        let mut builder = MergedBuilder::new();
        let both = [known(&small, 100, 2), known(&large, 102, 3)];
        assert_eq!(builder.add(partition(0), &run, &both), Ok(0));
        assert_eq!(builder.add(partition(0), &small, &[known(&small, 105, 2)]), Ok(run.len() as u64));
        let position = (run.len() + small.len()) as u64;
        assert_eq!(builder.add(partition(4), &large, &[known(&large, 0, 3)]), Ok(position));
        assert_eq!((builder.section_count(), builder.body_length()), (2, position + large.len() as u64));
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), 2);
        let object = builder.finish(id);
        let bytes: Bytes = object.chunks().concat().into();
        assert_eq!(bytes.len() as u64, object.length());
        let footer = Footer::parse(&bytes, bytes.len() as u64).expect("a footer");
        assert_eq!(&footer, object.footer());
        assert!(footer.has_offsets);
        let mut offsets = Vec::new();
        for section in &footer.sections {
            let body = bytes.slice(section.position as usize..section.end() as usize);
            verify_section(&body, section).expect("sound");
            for batch in batches(&body) {
                let (header, _) = batch.expect("a batch");
                offsets.push((header.base_offset, header.partition_leader_epoch));
            }
        }
        assert_eq!(offsets, [(100, 3), (102, 3), (105, 3), (0, 3)]);
        assert_eq!((footer.sections[0].batch_count, footer.sections[0].record_count), (3, 7));
        assert_eq!((footer.sections[0].min_timestamp, footer.sections[0].max_timestamp), (5, 11));
        // Under another id it is the same kind of object.
        assert!(object.with_id(id).footer().has_offsets);
    }

    #[test]
    fn bytes_that_are_not_what_the_log_says_are_not_copied() {
        let good = batch(5, 2, 10);
        let mut builder = MergedBuilder::new();
        let add = |builder: &mut MergedBuilder, bytes: &Bytes, known: KnownBatch| {
            builder.add(partition(0), bytes, &[known])
        };
        let wrong = add(&mut builder, &good, known(&good, 0, 3));
        assert!(matches!(wrong, Err(MergedError::Mismatch { what: "number of offsets", .. })));
        let longer = KnownBatch { length: good.len() as u32 + 1, ..known(&good, 0, 2) };
        assert!(matches!(add(&mut builder, &good, longer), Err(MergedError::Length { .. })));
        // A sound batch of the same size from another place.
        for (timestamp, other) in [(6, "first timestamp"), (5, "producer or sequence")] {
            let twin = batch(timestamp, 2, 10);
            let producer =
                (timestamp == 5).then(|| (ProducerId::new(1), ProducerEpoch::new(0), Sequence::new(0)));
            let wrong = add(&mut builder, &twin, KnownBatch { producer, ..known(&good, 0, 2) });
            assert!(matches!(wrong, Err(MergedError::Mismatch { what, .. }) if what == other), "{wrong:?}");
        }
        for at in 17..good.len() {
            let mut damaged = good.to_vec();
            damaged[at] ^= 0x40;
            let wrong = add(&mut builder, &damaged.into(), known(&good, 0, 2));
            assert!(wrong.is_err(), "byte {at}");
        }
        assert_eq!((builder.section_count(), builder.body_length()), (0, 0));
    }
}
