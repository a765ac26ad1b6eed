//! What objects hold: the footer of each, and every byte if that is asked for.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use penstock_metadata::keys::object::ObjectState;
use penstock_storage::batch::{BatchHeader, CRC_START, HEADER_BYTES, verify_crc};
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_storage::object::{
    Footer, FooterError, READ_TAIL_BYTES, SectionChecksum, SectionPlacement, object_key,
};
use penstock_types::{ObjectId, PartitionIndex, TopicPartition};

use super::report::{Finding, Kind};
use super::tally::{Identity, Known, Reference, Tallies, stand, to_object};
use super::topics::Topic;
use super::{Check, FsckError};
use crate::facts::facts_of;

/// Bytes that are read at once of a section.
const CHUNK: u64 = 8 << 20;
/// The longest batch that is believed: far more than brokers take.
const LONGEST_BATCH: usize = 256 << 20;
/// Problems of an object that are told.
const TOLD: usize = 5;

/// An object that logs refer to.
struct Job<'a> {
    id: ObjectId,
    row: Known,
    references: &'a [Reference],
}

/// What was read of an object.
#[derive(Debug, Default)]
struct Read {
    problems: Vec<(Kind, String, Option<Reference>)>,
    bytes: u64,
}

impl Read {
    fn wrong(&mut self, kind: Kind, detail: impl Into<String>, of: Option<&Reference>) {
        if self.problems.len() < TOLD {
            self.problems.push((kind, detail.into(), of.copied()));
        }
    }
}

/// Reads the objects of a pass that are there with the right length.
pub(super) async fn check(
    check: &mut Check<'_>,
    topics: &[Topic],
    tallies: &Tallies,
    references: &[Reference],
) -> Result<(), FsckError> {
    let job = |(id, tally): (&ObjectId, &super::tally::Tally)| {
        let row = tally.standing.row.filter(|row| row.state == ObjectState::Committed)?;
        let references = to_object(references, *id);
        let is_there = tally.listed == Some(row.size) && !references.is_empty();
        is_there.then_some(Job { id: *id, row, references })
    };
    let jobs: Vec<Job<'_>> = tallies.objects.iter().filter_map(job).collect();
    check.phase(if check.settings.deep { "bytes" } else { "footers" }, jobs.len() as u64);
    let (bucket, deep) = (check.bucket().clone(), check.settings.deep);
    let at_once = if deep { check.settings.requests.div_ceil(4) } else { check.settings.requests };
    let mut reads = futures::stream::iter(jobs)
        .map(|job| {
            let bucket = bucket.clone();
            async move {
                let read = read(&bucket, &job, topics, deep).await;
                (job, read)
            }
        })
        .buffer_unordered(at_once.max(1));
    while let Some((job, read)) = reads.next().await {
        check.step(1);
        let read = match read {
            Ok(read) => read,
            // Merged into another one meanwhile, and collected; or found missing just now.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        check.report.checked.footers += 1;
        check.report.checked.bytes += read.bytes;
        if read.problems.is_empty() {
            continue;
        }
        let now = stand(check.store(), check.keyspace(), &[job.id]).await?;
        if now[0].row.is_none_or(|row| row.state != ObjectState::Committed) {
            continue;
        }
        for (kind, detail, reference) in read.problems {
            let finding = Finding::of(kind, job.id, detail);
            let finding = check.told_by(reference.as_slice(), finding);
            check.found(finding);
        }
    }
    Ok(())
}

async fn read(bucket: &Bucket, job: &Job<'_>, topics: &[Topic], deep: bool) -> Result<Read, BucketError> {
    let mut read = Read::default();
    let key = object_key(job.id);
    let (mut tail, length) = bucket.get_suffix(&key, READ_TAIL_BYTES).await?;
    let mut footer = Footer::parse(&tail, length);
    if let Err(FooterError::Incomplete { tail_bytes }) = footer {
        (tail, _) = bucket.get_suffix(&key, tail_bytes).await?;
        footer = Footer::parse(&tail, length);
    }
    let footer = match footer {
        Ok(footer) => footer,
        Err(error) => {
            read.wrong(Kind::Footer, error.to_string(), None);
            return Ok(read);
        }
    };
    held_against_row(&footer, job, &mut read);
    held_against_log(&footer, job, topics, &mut read);
    if deep {
        let mut body = Body::of(bucket, &key, footer.body_length());
        for section in &footer.sections {
            let from = job.references.partition_point(|reference| reference.position < section.position);
            let to = job.references.partition_point(|reference| reference.position < section.end());
            let batches = Batches::of(&job.references[from..to], footer.has_offsets);
            read_section(&mut body, section, batches, &mut read).await?;
        }
        read.bytes = body.loaded;
    }
    Ok(read)
}

fn partition_of(reference: &Reference, topics: &[Topic]) -> TopicPartition {
    let partition = PartitionIndex::new(reference.partition as i32);
    TopicPartition { topic: topics[reference.topic as usize].id, partition }
}

fn held_against_row(footer: &Footer, job: &Job<'_>, read: &mut Read) {
    if footer.id != job.id {
        read.wrong(Kind::Footer, format!("it is that of object {}", footer.id), None);
    }
    let batches: u64 = footer.sections.iter().map(|section| u64::from(section.batch_count)).sum();
    let known = u64::from(job.row.batches);
    // Not all that a merge copied is referred to in the end.
    if batches != known && (job.row.level == 0 || batches < known) {
        read.wrong(Kind::Footer, format!("it tells {batches} batches, the object's row {known}"), None);
    }
}

/// Each reference lies in its partition's section, and no two on one another.
fn held_against_log(footer: &Footer, job: &Job<'_>, topics: &[Topic], read: &mut Read) {
    let mut end = 0;
    for reference in job.references {
        let Reference { position, length, .. } = *reference;
        let to = position.saturating_add(length);
        let is_inside = footer
            .section(partition_of(reference, topics))
            .is_some_and(|section| section.position <= position && to <= section.end());
        if !is_inside {
            let detail = format!("bytes {position} to {to} are not its partition's in this object");
            read.wrong(Kind::Reference, detail, Some(reference));
        }
        if position < end {
            let detail = format!("another entry has the bytes from {position} on, too");
            read.wrong(Kind::Reference, detail, Some(reference));
        }
        end = end.max(to);
    }
}

/// Batches of a section, in their order, held against what the log tells of them.
struct Batches<'a> {
    /// The first entry that refers to the section.
    first: Option<&'a Reference>,
    references: std::iter::Peekable<std::slice::Iter<'a, Reference>>,
    /// The entry that is being read, with what was read of it, and where its next batch begins in the log.
    current: Option<(&'a Reference, Identity, i64)>,
    has_offsets: bool,
}

impl<'a> Batches<'a> {
    fn of(references: &'a [Reference], has_offsets: bool) -> Self {
        Self {
            first: references.first(),
            references: references.iter().peekable(),
            current: None,
            has_offsets,
        }
    }

    /// The batch at `position` of the object.
    fn batch(&mut self, position: u64, header: &BatchHeader, length: usize, read: &mut Read) {
        while let Some(missed) = self.references.next_if(|reference| reference.position < position) {
            read.wrong(Kind::Damaged, format!("no batch begins at byte {}", missed.position), Some(missed));
        }
        if self.current.is_none()
            && let Some(reference) = self.references.next_if(|reference| reference.position == position)
        {
            self.current = Some((reference, Identity::default(), reference.offset.get()));
        }
        let Some((reference, mut identity, offset)) = self.current.take() else { return };
        identity.add(&facts_of(header, length));
        if self.has_offsets && header.base_offset != offset {
            let detail =
                format!("the batch at byte {position} says offset {}, the log {offset}", header.base_offset);
            read.wrong(Kind::Damaged, detail, Some(reference));
        }
        let end = position + length as u64;
        let expected = reference.position.saturating_add(reference.length);
        if end < expected {
            let next = offset.saturating_add(i64::from(header.last_offset_delta) + 1);
            self.current = Some((reference, identity, next));
        } else if end > expected || identity.get() != reference.identity {
            let detail = format!("the batches up to byte {end} are not those that the log tells");
            read.wrong(Kind::Damaged, detail, Some(reference));
        }
    }

    /// The batch at `position` is damaged: so is the entry that it is of.
    fn damaged(&mut self, position: u64) -> Option<&'a Reference> {
        let begun = self.current.take().map(|(reference, ..)| reference);
        begun.or_else(|| self.references.next_if(|reference| reference.position == position))
    }

    /// The section has ended.
    fn end(self, read: &mut Read) {
        let left = self.current.map(|(reference, ..)| reference).into_iter().chain(self.references);
        for reference in left {
            read.wrong(Kind::Damaged, "the section ends before it", Some(reference));
        }
    }
}

/// The sections of an object, some megabytes at a time.
struct Body<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    rest: BytesMut,
    /// Up to where it was read; `rest` ends there.
    loaded: u64,
    length: u64,
}

impl<'a> Body<'a> {
    fn of(bucket: &'a Bucket, key: &'a str, length: u64) -> Self {
        Self { bucket, key, rest: BytesMut::new(), loaded: 0, length }
    }

    /// Has at least `wanted` more bytes.
    async fn load(&mut self, wanted: u64) -> Result<(), BucketError> {
        let more = self.loaded..self.length.min(self.loaded.saturating_add(CHUNK.max(wanted)));
        self.rest.extend_from_slice(&self.bucket.get_range(self.key, more.clone()).await?);
        self.loaded = more.end;
        Ok(())
    }

    /// Leaves out everything up to `position`.
    async fn skip_to(&mut self, position: u64) -> Result<(), BucketError> {
        while self.loaded < position {
            self.rest.clear();
            self.load(0).await?;
        }
        let left = (self.loaded - position) as usize;
        let gone = self.rest.len().saturating_sub(left);
        drop(self.rest.split_to(gone));
        Ok(())
    }
}

async fn read_section(
    body: &mut Body<'_>,
    section: &SectionPlacement,
    mut batches: Batches<'_>,
    read: &mut Read,
) -> Result<(), BucketError> {
    let (mut checksum, mut count, mut records) = (SectionChecksum::default(), 0u64, 0u64);
    let mut at = section.position;
    while at < section.end() {
        let length = match next_batch(&body.rest, section.end() - at) {
            Ok(length) => length,
            Err(reason) => {
                read.wrong(Kind::Damaged, format!("at byte {at} {reason}"), batches.damaged(at));
                return body.skip_to(section.end()).await;
            }
        };
        if length > body.rest.len() {
            body.load(length as u64).await?;
            continue;
        }
        let batch = body.rest.split_to(length).freeze();
        match sound(&batch) {
            Ok(header) => {
                batches.batch(at, &header, length, read);
                records += u64::try_from(header.record_count).unwrap_or(0);
            }
            Err(error) => {
                let reference = batches.damaged(at);
                read.wrong(Kind::Damaged, format!("the batch at byte {at}: {error}"), reference);
            }
        }
        checksum.add(&batch);
        count += 1;
        at += length as u64;
    }
    let first = batches.first;
    batches.end(read);
    let told = (section.checksum, u64::from(section.batch_count), section.record_count);
    if (checksum.get(), count, records) != told {
        let partition = section.partition;
        read.wrong(
            Kind::Damaged,
            format!("the section of {partition} is another than the footer tells"),
            first,
        );
    }
    Ok(())
}

/// The length of the batch that begins `bytes`, or how much is needed to know it; at most `left` bytes are there.
fn next_batch(bytes: &[u8], left: u64) -> Result<usize, String> {
    if left < HEADER_BYTES as u64 {
        return Err("there is no batch, and the section goes on".to_owned());
    }
    if bytes.len() < HEADER_BYTES {
        return Ok(HEADER_BYTES);
    }
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    let length = header.size_bytes();
    if length as u64 > left || length > LONGEST_BATCH {
        return Err(format!("a batch of {length} bytes begins, and {left} are left"));
    }
    Ok(length)
}

fn sound(batch: &Bytes) -> Result<BatchHeader, penstock_storage::batch::BatchError> {
    debug_assert!(batch.len() >= CRC_START, "a batch has a header");
    let header = BatchHeader::parse(batch)?;
    verify_crc(batch, &header)?;
    Ok(header)
}
