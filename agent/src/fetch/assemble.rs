//! From a plan to the bytes of the answer: batches as slices of the cache, with base offset and leader epoch (which
//! stand outside a batch's checksum) patched on a copied head of 16 bytes.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::try_join_all;
use penstock_metadata::fold::{BatchEntry, BatchSource};
use penstock_metadata::lookup::Ahead;
use penstock_storage::batch::{Marker, PREFIX_BYTES, control_batch, patched_prefix_of_size};
use penstock_storage::cache::{Cache, ReadError, ReadKind};
use penstock_types::{ObjectId, Offset};

use super::PlannedPartition;

/// A batch shorter than that is copied: a piece of its own costs the socket more than the copy.
const COPY_BELOW: usize = 8 * 1024;
/// Largest range of one read of the cache.
pub(super) const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Why the bytes of a plan can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssembleError {
    /// The cache can't read them.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They are not what the metadata says.
    #[error("object {object} holds another batch than it should at byte {position}")]
    Mismatch {
        /// The object.
        object: ObjectId,
        /// Where the batch should begin.
        position: u64,
    },
}

/// Batches that lie behind one another in one object.
pub(super) struct Run<'a> {
    pub(super) object: ObjectId,
    pub(super) range: Range<u64>,
    lagging: bool,
    pub(super) batches: &'a [BatchEntry],
}

/// The record batches of a plan, in pieces.
pub(super) async fn records(cache: &Cache, plan: &PlannedPartition) -> Result<Vec<Bytes>, AssembleError> {
    let runs = runs(&plan.batches, plan.sealed);
    let section_ends = section_ends(&runs, plan.ahead);
    let reads = runs.iter().zip(&section_ends).map(|(run, section_end)| async {
        if run.range.is_empty() {
            return Ok::<_, AssembleError>(Vec::new());
        }
        let kind = match run.lagging {
            true => ReadKind::Lagging { section_end: *section_end },
            false => ReadKind::Tail,
        };
        Ok(cache.read(run.object, run.range.clone(), kind).await?)
    });
    let slices = try_join_all(reads).await?;
    let mut pieces = Pieces::default();
    for (run, slices) in runs.iter().zip(slices) {
        let mut bytes = Slices { slices: slices.into() };
        for batch in run.batches {
            let mut shown = *batch;
            if penstock_types::planted!("base-offset-of-the-first") {
                shown.base_offset = run.batches[0].base_offset;
            }
            put_batch(&mut pieces, &mut bytes, &shown)?;
        }
    }
    Ok(pieces.finish())
}

pub(super) fn runs(batches: &[BatchEntry], sealed: Offset) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut first = 0;
    for (index, batch) in batches.iter().enumerate() {
        let length = u64::from(batch.facts.length);
        let BatchSource::Object { object, position } = batch.source else {
            // A marker has no bytes in any object: a run of its own with nothing to read.
            let object = ObjectId::from_bytes([0; ObjectId::LENGTH]);
            runs.push(Run { object, range: 0..0, lagging: false, batches: &batches[index..=index] });
            first = index + 1;
            continue;
        };
        if let Some(run) = runs.last_mut()
            && run.object == object
            && run.range.end == position
            && index > first
            && run.range.end - run.range.start + length <= READ_BYTES
        {
            run.range.end += length;
            run.batches = &batches[first..=index];
            continue;
        }
        first = index;
        let range = position..position + length;
        runs.push(Run {
            object,
            range,
            lagging: batch.base_offset < sealed,
            batches: &batches[index..=index],
        });
    }
    runs
}

/// Up to where, for each run, what the reader will ask for lies in the same object: as far as the runs behind it follow one
/// another, and what is known to come behind the last of them.
pub(super) fn section_ends(runs: &[Run<'_>], ahead: Option<Ahead>) -> Vec<u64> {
    let mut ends: Vec<u64> = runs.iter().map(|run| run.range.end).collect();
    if let (Some(last), Some(end), Some(ahead)) = (runs.last(), ends.last_mut(), ahead)
        && last.object == ahead.object
    {
        *end = ahead.end.max(*end);
    }
    for index in (1..runs.len()).rev() {
        let (before, behind) = (&runs[index - 1], &runs[index]);
        if before.object == behind.object && before.range.end == behind.range.start {
            ends[index - 1] = ends[index];
        }
    }
    ends
}

fn put_batch(pieces: &mut Pieces, bytes: &mut Slices, batch: &BatchEntry) -> Result<(), AssembleError> {
    let (object, position) = match batch.source {
        BatchSource::Object { object, position } => (object, position),
        BatchSource::Marker { producer, epoch, abort, coordinator_epoch } => {
            let timestamp = batch.facts.max_timestamp;
            let marker = Marker { producer, epoch, abort, coordinator_epoch, timestamp };
            pieces.put(&control_batch(&marker, batch.base_offset, batch.leader_epoch));
            return Ok(());
        }
    };
    let length = batch.facts.length as usize;
    let stored = bytes.prefix().ok_or(AssembleError::Mismatch { object, position })?;
    let stored_length = i32::from_be_bytes([stored[8], stored[9], stored[10], stored[11]]);
    if i64::from(stored_length) + 12 != i64::from(batch.facts.length) || length < PREFIX_BYTES {
        return Err(AssembleError::Mismatch { object, position });
    }
    pieces.put(&patched_prefix_of_size(batch.facts.length, batch.base_offset, batch.leader_epoch));
    let mut left = length - PREFIX_BYTES;
    while left > 0 {
        let piece = bytes.take(left).ok_or(AssembleError::Mismatch { object, position })?;
        left -= piece.len();
        if length < COPY_BELOW { pieces.put(&piece) } else { pieces.push(piece) }
    }
    Ok(())
}

/// A read's slices, consumed from the front.
struct Slices {
    slices: std::collections::VecDeque<Bytes>,
}

impl Slices {
    /// Takes the first [`PREFIX_BYTES`].
    fn prefix(&mut self) -> Option<[u8; PREFIX_BYTES]> {
        let mut prefix = [0; PREFIX_BYTES];
        let mut filled = 0;
        while filled < PREFIX_BYTES {
            let piece = self.take(PREFIX_BYTES - filled)?;
            prefix[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Some(prefix)
    }

    /// Takes at most `most` bytes in one piece; `None` at the end.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let front = self.slices.front_mut()?;
        if front.len() <= most {
            return self.slices.pop_front();
        }
        let piece = front.slice(..most);
        front.advance(most);
        Some(piece)
    }
}

/// Pieces of an answer: what is copied is gathered, what is large stays a slice.
#[derive(Default)]
struct Pieces {
    copied: BytesMut,
    done: Vec<Bytes>,
}

impl Pieces {
    fn put(&mut self, bytes: &[u8]) {
        self.copied.put_slice(bytes);
    }

    fn push(&mut self, piece: Bytes) {
        if !self.copied.is_empty() {
            self.done.push(self.copied.split().freeze());
        }
        if !piece.is_empty() {
            self.done.push(piece);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.push(Bytes::new());
        self.done
    }
}

#[cfg(test)]
mod tests {
    use penstock_metadata::keys::log::BatchFacts;
    use penstock_types::{BatchPosition, Incarnation, LeaderEpoch, StoreVersion};

    use super::*;

    fn object(n: u64) -> ObjectId {
        ObjectId::new(Incarnation::FIRST, StoreVersion::new(n), n)
    }

    fn batch(offset: i64, of: u64, position: u64, length: u32) -> BatchEntry {
        let facts =
            BatchFacts { length, records: 1, flags: 0, base_timestamp: 0, max_timestamp: 0, producer: None };
        BatchEntry {
            base_offset: Offset::at(offset),
            at: BatchPosition::ZERO,
            leader_epoch: LeaderEpoch::FIRST,
            facts,
            source: BatchSource::Object { object: object(of), position },
        }
    }

    #[test]
    fn a_lagging_reader_may_ask_as_far_as_its_partition_goes_in_the_object() {
        let most = READ_BYTES as u32;
        let batches = [
            batch(0, 1, 0, 100),
            // Three reads that follow one another, the last of which goes on behind the plan.
            batch(1, 2, 500, most),
            batch(2, 2, 500 + READ_BYTES, most),
            batch(3, 2, 500 + 2 * READ_BYTES, 100),
        ];
        let runs = runs(&batches, Offset::at(10));
        assert_eq!(runs.len(), 4);
        let end = 500 + 2 * READ_BYTES + 100;
        assert_eq!(section_ends(&runs, None), [100, end, end, end]);
        let ahead = |of| Some(Ahead { object: object(of), end: end + 7_000 });
        assert_eq!(section_ends(&runs, ahead(2)), [100, end + 7_000, end + 7_000, end + 7_000]);
        assert_eq!(section_ends(&runs, ahead(1)), [100, end, end, end]);
        assert_eq!(section_ends(&[], ahead(1)), [0; 0]);
    }
}
