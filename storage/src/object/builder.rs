//! Assembling an object from batches, without copying them.

use bytes::Bytes;
use penstock_types::{ObjectId, TimestampMs, TopicPartition};

use super::footer::{Footer, SectionPlacement};
use super::section::SectionChecksum;
use crate::batch::ValidatedBatch;

/// Collects batches for one object.
#[derive(Debug, Default)]
pub struct ObjectBuilder {
    batches: Vec<Added>,
    body_length: u64,
}

#[derive(Debug)]
struct Added {
    partition: TopicPartition,
    bytes: Bytes,
    record_count: u32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl ObjectBuilder {
    /// An empty object.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch behind those of the same partition. Partitions may come in any order.
    pub fn add(&mut self, partition: TopicPartition, batch: &ValidatedBatch) {
        self.body_length += batch.bytes.len() as u64;
        self.batches.push(Added {
            partition,
            bytes: batch.bytes.clone(),
            record_count: u32::try_from(batch.header.record_count).unwrap_or(0),
            base_timestamp: batch.header.base_timestamp,
            max_timestamp: batch.header.max_timestamp,
        });
    }

    /// Bytes of the batches so far.
    pub fn body_length(&self) -> u64 {
        self.body_length
    }

    /// How many batches it has so far.
    pub fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The object, under its id.
    pub fn finish(mut self, id: ObjectId) -> DataObject {
        if !self.batches.is_sorted_by_key(|batch| batch.partition) {
            self.batches.sort_by_key(|batch| batch.partition);
        }
        let mut sections = Vec::new();
        let mut position = 0;
        for batches in self.batches.chunk_by(|a, b| a.partition == b.partition) {
            let section = place(batches, position);
            position = section.end();
            sections.push(section);
        }
        let mut chunks = Vec::with_capacity(self.batches.len() + 1);
        chunks.extend(self.batches.into_iter().map(|batch| batch.bytes));
        DataObject::assemble(Footer { id, sections, has_offsets: false }, chunks)
    }
}

/// The section of `batches`, which are all of one partition, at `position`.
fn place(batches: &[Added], position: u64) -> SectionPlacement {
    let mut checksum = SectionChecksum::default();
    let mut section = SectionPlacement {
        partition: batches[0].partition,
        position,
        length: 0,
        batch_count: 0,
        record_count: 0,
        min_timestamp: TimestampMs::MAX,
        max_timestamp: TimestampMs::MIN,
        checksum: 0,
    };
    for batch in batches {
        section.length += batch.bytes.len() as u64;
        section.batch_count += 1;
        section.record_count += u64::from(batch.record_count);
        section.min_timestamp = section.min_timestamp.min(batch.base_timestamp);
        section.max_timestamp = section.max_timestamp.max(batch.max_timestamp);
        checksum.add(&batch.bytes);
    }
    section.checksum = checksum.get();
    section
}

/// An object that is ready to be put into the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataObject {
    footer: Footer,
    chunks: Vec<Bytes>,
    length: u64,
}

impl DataObject {
    /// An object of sections, whose bytes are `chunks`.
    pub(super) fn assemble(footer: Footer, mut chunks: Vec<Bytes>) -> Self {
        let end = Bytes::from(footer.to_bytes());
        let length = footer.body_length() + end.len() as u64;
        chunks.push(end);
        Self { footer, chunks, length }
    }

    /// Its id.
    pub fn id(&self) -> ObjectId {
        self.footer.id
    }

    /// Its bytes, in order: the batches as they were added, then the footer.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// How many bytes that are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where each partition's batches lie, ascending by partition. Within a section batches lie in the order in which
    /// they were added.
    pub fn sections(&self) -> &[SectionPlacement] {
        &self.footer.sections
    }

    /// What it says about itself.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The same batches as another object: only the footer is made anew.
    #[must_use]
    pub fn with_id(mut self, id: ObjectId) -> Self {
        self.footer.id = id;
        let end = Bytes::from(self.footer.to_bytes());
        self.length = self.footer.body_length() + end.len() as u64;
        self.chunks.pop();
        self.chunks.push(end);
        self
    }
}
