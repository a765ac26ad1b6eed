//! What the cache holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use penstock_types::ObjectId;

/// What an entry costs besides its bytes: the cache's own books and the allocations' headers.
const ENTRY_OVERHEAD: u64 = 256;
/// A chunk's: its handle, its position, its buffer's count of references.
const CHUNK_OVERHEAD: u64 = 72;
/// A chunk that isn't copied stands in a buffer that was rounded up to a size class, and behind its request's header:
/// it counts this fraction of its length more.
const BUFFER_SLACK: u64 = 8;
/// Short chunks are copied together into buffers of at most this size.
const COPY_BUFFER: usize = 1024 * 1024;

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockKey {
    pub(super) object: ObjectId,
    pub(super) block: u32,
}

impl BlockKey {
    /// The block number that stands for a whole written object.
    pub(super) const WRITTEN: u32 = u32::MAX;

    pub(super) fn written(object: ObjectId) -> Self {
        Self { object, block: Self::WRITTEN }
    }
}

/// Bytes of an object that follow one another.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where each chunk begins within the object.
    starts: Box<[u64]>,
    chunks: Box<[Bytes]>,
    end: u64,
    object_bytes: u64,
    weight: u32,
    held_bytes: Arc<AtomicU64>,
}

impl Entry {
    /// A block, from `start`.
    pub(super) fn block(start: u64, data: Bytes, object_bytes: u64, held_bytes: &Arc<AtomicU64>) -> Self {
        Self::new(start, vec![data], Some(object_bytes), 0, held_bytes)
    }

    /// A whole object, with the chunks shorter than `copy_below` copied together where they follow one another.
    pub(super) fn written(chunks: &[Bytes], copy_below: usize, held_bytes: &Arc<AtomicU64>) -> Self {
        let mut kept: Vec<Bytes> = Vec::with_capacity(chunks.len());
        let mut uncopied = 0;
        let mut rest = chunks;
        while let Some((first, tail)) = rest.split_first() {
            if first.len() >= copy_below {
                kept.push(first.clone());
                uncopied += first.len() as u64;
                rest = tail;
                continue;
            }
            let (short, bytes) = short_run(rest, copy_below);
            let mut buffer = BytesMut::with_capacity(bytes);
            for chunk in &rest[..short] {
                buffer.extend_from_slice(chunk);
            }
            kept.push(buffer.freeze());
            rest = &rest[short..];
        }
        kept.retain(|chunk| !chunk.is_empty());
        Self::new(0, kept, None, uncopied / BUFFER_SLACK, held_bytes)
    }

    fn new(
        start: u64,
        chunks: Vec<Bytes>,
        object_bytes: Option<u64>,
        slack: u64,
        held_bytes: &Arc<AtomicU64>,
    ) -> Self {
        let mut end = start;
        let starts = chunks
            .iter()
            .map(|chunk| {
                let start = end;
                end += chunk.len() as u64;
                start
            })
            .collect();
        let weight = (end - start) + slack + ENTRY_OVERHEAD + CHUNK_OVERHEAD * chunks.len() as u64;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        held_bytes.fetch_add(u64::from(weight), Ordering::Relaxed);
        Self {
            starts,
            chunks: chunks.into_boxed_slice(),
            end,
            object_bytes: object_bytes.unwrap_or(end),
            weight,
            held_bytes: held_bytes.clone(),
        }
    }

    /// Bytes against the budget.
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    /// The size of the whole object.
    pub(super) fn object_bytes(&self) -> u64 {
        self.object_bytes
    }

    /// Adds what it has of `at..until` to `answer`; answers how far that went. Nothing, if it doesn't hold `at`.
    pub(super) fn slice(&self, at: u64, until: u64, answer: &mut Vec<Bytes>) -> u64 {
        let until = until.min(self.end);
        let mut at = at;
        let Some(mut index) = self.starts.partition_point(|start| *start <= at).checked_sub(1) else {
            return at;
        };
        while at < until {
            let (start, chunk) = (self.starts[index], &self.chunks[index]);
            let chunk_end = (start + chunk.len() as u64).min(until);
            answer.push(chunk.slice((at - start) as usize..(chunk_end - start) as usize));
            at = chunk_end;
            index += 1;
        }
        at
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(u64::from(self.weight), Ordering::Relaxed);
    }
}

/// How many chunks from the first are short and fit in one buffer, and their bytes. At least one.
fn short_run(chunks: &[Bytes], copy_below: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for chunk in chunks {
        if chunk.len() >= copy_below || (count > 0 && bytes + chunk.len() > COPY_BUFFER) {
            break;
        }
        bytes += chunk.len();
        count += 1;
    }
    (count, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(lengths: &[usize]) -> (Vec<Bytes>, Vec<u8>) {
        let all: Vec<u8> = (0..lengths.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let mut at = 0;
        let chunks = lengths
            .iter()
            .map(|length| {
                at += length;
                Bytes::copy_from_slice(&all[at - length..at])
            })
            .collect();
        (chunks, all)
    }

    #[test]
    fn every_range_of_a_written_object_is_found() {
        let (chunks, all) = chunks(&[3, 0, 10, 1, 1, 1, 40, 2, 0]);
        for copy_below in [0, 2, 11, 100] {
            let entry = Entry::written(&chunks, copy_below, &Arc::default());
            for start in 0..all.len() {
                for end in start + 1..=all.len() {
                    let mut answer = Vec::new();
                    assert_eq!(entry.slice(start as u64, end as u64, &mut answer), end as u64);
                    assert_eq!(answer.concat(), &all[start..end], "{start}..{end} {copy_below}");
                }
            }
        }
    }

    #[test]
    fn long_chunks_are_kept_and_short_ones_are_copied_together() {
        let (chunks, _) = chunks(&[100, 5, 6, 7, 200]);
        let entry = Entry::written(&chunks, 50, &Arc::default());
        let mut answer = Vec::new();
        entry.slice(0, 318, &mut answer);
        assert_eq!(answer.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 18, 200]);
        assert_eq!(answer[0].as_ptr(), chunks[0].as_ptr(), "the uploaded slice itself");
        assert_eq!(answer[2].as_ptr(), chunks[4].as_ptr());
        assert_ne!(answer[1].as_ptr(), chunks[1].as_ptr());
        let (slack, overhead) = (300 / 8, ENTRY_OVERHEAD + 3 * CHUNK_OVERHEAD);
        assert_eq!(u64::from(entry.weight()), 318 + slack + overhead);
        assert!(answer[1].clone().try_into_mut().is_err(), "shared with the entry");
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_dropped() {
        let held = Arc::default();
        let entry = Entry::block(0, Bytes::from_static(b"abc"), 3, &held);
        assert_eq!(held.load(Ordering::Relaxed), u64::from(entry.weight()));
        drop(entry);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_position_outside_gives_nothing() {
        let entry = Entry::block(100, Bytes::from_static(b"abc"), 1000, &Arc::default());
        let mut answer = Vec::new();
        assert_eq!(entry.slice(50, 102, &mut answer), 50);
        assert_eq!(entry.slice(103, 110, &mut answer), 103);
        assert!(answer.is_empty());
        assert_eq!(entry.slice(101, 110, &mut answer), 103);
        assert_eq!(answer.concat(), b"bc");
    }
}
