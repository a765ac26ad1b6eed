//! Reads: of ranges, of the end, of whole small objects. Bytes are received into allocations of exactly their size,
//! so that what is kept of an answer pins nothing else.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStoreExt};
use tokio::time::Instant;

use super::retry::Again;
use super::stats::BucketStats;
use super::{Bucket, BucketError, ErrorClass, Failure, Operation, Outcome};

/// Ranges with less than this between them are read by one request: the bytes cost less than another round trip.
const COALESCED_GAP: u64 = 256 * 1024;
/// The largest object that is read whole. Data objects are read by ranges.
const LARGEST_WHOLE: u64 = 16 * 1024 * 1024;

/// Stores ignore a range that ends behind this and answer with the whole object.
const FARTHEST: u64 = i64::MAX as u64;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its size in bytes.
    pub bytes: u64,
    /// The store's tag of this version.
    pub etag: Option<String>,
}

/// A whole object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeObject {
    /// Its bytes.
    pub data: Bytes,
    /// The store's tag of this version, for [`Bucket::put_if_matches`].
    pub etag: Option<String>,
}

/// A range of an object, cut into blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedBlocks {
    /// Each in an allocation of its own and of exactly its size. All but the last are of the size asked for.
    pub blocks: Vec<Bytes>,
    /// The size of the whole object.
    pub object_bytes: u64,
}

/// An answer of the store.
struct Got {
    blocks: Vec<Bytes>,
    range: Range<u64>,
    object_bytes: u64,
    etag: Option<String>,
}

impl Bucket {
    /// Exactly the bytes of `range`. No bytes are asked for without a request.
    ///
    /// # Errors
    /// [`ErrorClass::OutOfRange`] if the object ends before `range` does.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        let blocks = self.get_blocks_by(key, range.clone(), u64::MAX, self.default_deadline()).await?;
        let data = blocks.blocks.into_iter().next().unwrap_or_default();
        if data.len() as u64 == range.end.saturating_sub(range.start) {
            return Ok(data);
        }
        let detail = format!("{range:?} of an object of {} bytes", blocks.object_bytes);
        Err(Failure::new(ErrorClass::OutOfRange, Outcome::DidNotHappen, detail).into_error(
            Operation::Get,
            key,
            1,
        ))
    }

    /// Exactly the bytes of each range, in the order of `ranges`. Ranges that lie near one another are read
    /// together, and are then slices of one buffer.
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BucketError> {
        object_store::coalesce_ranges(ranges, |range| self.get_range(key, range), COALESCED_GAP).await
    }

    /// The bytes of `range`, as far as the object goes, cut into blocks of `block_bytes` from its start.
    ///
    /// # Errors
    /// [`ErrorClass::OutOfRange`] if the object ends at or before the start of `range`.
    pub async fn get_blocks(
        &self,
        key: &str,
        range: Range<u64>,
        block_bytes: u64,
    ) -> Result<LoadedBlocks, BucketError> {
        self.get_blocks_by(key, range, block_bytes, self.default_deadline()).await
    }

    async fn get_blocks_by(
        &self,
        key: &str,
        range: Range<u64>,
        block_bytes: u64,
        deadline: Instant,
    ) -> Result<LoadedBlocks, BucketError> {
        let location = self.location(Operation::Get, key)?;
        if range.start >= range.end {
            return Ok(LoadedBlocks { blocks: Vec::new(), object_bytes: 0 });
        }
        let range = range.start..range.end.min(FARTHEST);
        if range.start >= range.end {
            let failure =
                Failure::new(ErrorClass::OutOfRange, Outcome::DidNotHappen, "no object is that long");
            return Err(failure.into_error(Operation::Get, key, 0));
        }
        let bytes = range.end - range.start;
        let got = self
            .read(Operation::Get, key, bytes, deadline, || {
                self.get_once(&location, Some(GetRange::Bounded(range.clone())), block_bytes)
            })
            .await?;
        if got.range.start == range.start && got.range.end <= range.end {
            return Ok(LoadedBlocks { blocks: got.blocks, object_bytes: got.object_bytes });
        }
        Err(nonsense(&format!("asked for {range:?}, answered {:?}", got.range), key))
    }

    /// The last `bytes` of the object, or all of it if it is shorter, and the size of the whole.
    pub async fn get_suffix(&self, key: &str, bytes: u64) -> Result<(Bytes, u64), BucketError> {
        let location = self.location(Operation::Get, key)?;
        let got = self
            .read(Operation::Get, key, bytes, self.default_deadline(), || {
                self.get_once(&location, Some(GetRange::Suffix(bytes)), u64::MAX)
            })
            .await?;
        if got.range.end != got.object_bytes || got.range.end - got.range.start > bytes {
            return Err(nonsense(&format!("asked for the last {bytes}, answered {:?}", got.range), key));
        }
        Ok((got.blocks.into_iter().next().unwrap_or_default(), got.object_bytes))
    }

    /// A whole small object (at most 16 MiB) and its tag.
    pub async fn get_with_etag(&self, key: &str) -> Result<WholeObject, BucketError> {
        let location = self.location(Operation::Get, key)?;
        let got = self
            .read(Operation::Get, key, LARGEST_WHOLE, self.default_deadline(), || {
                self.get_once(&location, None, u64::MAX)
            })
            .await?;
        Ok(WholeObject { data: got.blocks.into_iter().next().unwrap_or_default(), etag: got.etag })
    }

    /// The object's size and tag.
    pub async fn head(&self, key: &str) -> Result<ObjectHead, BucketError> {
        let location = self.location(Operation::Head, key)?;
        let got = self
            .read(Operation::Head, key, 0, self.default_deadline(), || async {
                let meta = self.store.head(&location).await?;
                Ok(Got { blocks: Vec::new(), range: 0..0, object_bytes: meta.size, etag: meta.e_tag })
            })
            .await?;
        Ok(ObjectHead { bytes: got.object_bytes, etag: got.etag })
    }

    /// Removes the object. That it isn't there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let location = self.location(Operation::Delete, key)?;
        let delete = || async { Ok(self.store.delete(&location).await?) };
        match self
            .retrying((Operation::Delete, key), Again::Whatever, 0, self.default_deadline(), delete)
            .await
        {
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(()) | Err(_) => BucketStats::add(&self.stats.deletes, 1),
        }
        Ok(())
    }

    async fn read<F>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        deadline: Instant,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Got, BucketError>
    where
        F: Future<Output = Result<Got, Failure>>,
    {
        let begun = Instant::now();
        let attempt = || {
            BucketStats::add(&self.stats.get_requests, 1);
            attempt()
        };
        let got = self.retrying((operation, key), Again::Whatever, bytes, deadline, attempt).await?;
        BucketStats::add(&self.stats.gets, 1);
        BucketStats::add(&self.stats.get_bytes, got.range.end - got.range.start);
        self.stats.get_latency.record(begun.elapsed());
        Ok(got)
    }

    async fn get_once(
        &self,
        location: &Path,
        range: Option<GetRange>,
        block_bytes: u64,
    ) -> Result<Got, Failure> {
        let most = match &range {
            None => LARGEST_WHOLE,
            Some(GetRange::Bounded(range)) => range.end - range.start,
            Some(GetRange::Suffix(bytes)) => *bytes,
            Some(GetRange::Offset(_)) => u64::MAX,
        };
        let result = self.store.get_opts(location, GetOptions { range, ..GetOptions::default() }).await?;
        let (range, object_bytes) = (result.range.clone(), result.meta.size);
        let etag = result.meta.e_tag.clone();
        // The store's numbers decide how much memory is reserved: they are believed only within what was asked for.
        if range.end < range.start || range.end - range.start > most {
            let detail = format!("an answer of {range:?} where at most {most} bytes were asked for");
            return Err(Failure::new(ErrorClass::Other, Outcome::DidNotHappen, detail));
        }
        let blocks = receive(result, block_bytes.max(1)).await?;
        Ok(Got { blocks, range, object_bytes, etag })
    }
}

fn nonsense(detail: &str, key: &str) -> BucketError {
    Failure::new(ErrorClass::Other, Outcome::DidNotHappen, detail).into_error(Operation::Get, key, 1)
}

/// The sizes of the blocks of `range`.
fn cuts(range: &Range<u64>, block_bytes: u64) -> impl Iterator<Item = usize> + use<> {
    let mut left = range.end - range.start;
    std::iter::from_fn(move || {
        let block = left.min(block_bytes);
        left -= block;
        (block > 0).then_some(block as usize)
    })
}

async fn receive(result: GetResult, block_bytes: u64) -> Result<Vec<Bytes>, Failure> {
    let range = result.range.clone();
    match result.payload {
        GetResultPayload::File(file, path) => {
            let read = tokio::task::spawn_blocking(move || read_file(&file, &range, block_bytes));
            match read.await {
                Ok(Ok(blocks)) => Ok(blocks),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(short(&path.display()))
                }
                Ok(Err(error)) => {
                    Err(object_store::Error::Generic { store: "file", source: Box::new(error) }.into())
                }
                Err(error) => Err(Failure::new(ErrorClass::Other, Outcome::DidNotHappen, error.to_string())),
            }
        }
        GetResultPayload::Stream(mut stream) => {
            let mut filling = Filling::new(&range, block_bytes);
            while let Some(chunk) = stream.next().await {
                filling.add(&chunk?)?;
            }
            filling.finish()
        }
    }
}

fn read_file(file: &std::fs::File, range: &Range<u64>, block_bytes: u64) -> std::io::Result<Vec<Bytes>> {
    use std::os::unix::fs::FileExt;
    let mut at = range.start;
    let mut blocks = Vec::new();
    for length in cuts(range, block_bytes) {
        let mut block = vec![0; length];
        file.read_exact_at(&mut block, at)?;
        at += length as u64;
        blocks.push(Bytes::from(block));
    }
    Ok(blocks)
}

fn short(what: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorClass::Corrupted,
        Outcome::DidNotHappen,
        format!("fewer or more bytes than announced: {what}"),
    )
}

/// Blocks being filled from a stream.
struct Filling {
    done: Vec<Bytes>,
    current: Vec<u8>,
    room: usize,
    block_bytes: u64,
    /// Not yet reserved.
    left: u64,
}

impl Filling {
    fn new(range: &Range<u64>, block_bytes: u64) -> Self {
        let mut filling = Self {
            done: Vec::new(),
            current: Vec::new(),
            room: 0,
            block_bytes,
            left: range.end - range.start,
        };
        filling.reserve();
        filling
    }

    fn reserve(&mut self) {
        let length = self.left.min(self.block_bytes);
        self.left -= length;
        self.room = length as usize;
        self.current = Vec::with_capacity(self.room);
    }

    fn add(&mut self, mut chunk: &[u8]) -> Result<(), Failure> {
        while !chunk.is_empty() {
            if self.room == 0 {
                return Err(short(&"too many"));
            }
            let (now, later) = chunk.split_at(chunk.len().min(self.room));
            self.current.extend_from_slice(now);
            self.room -= now.len();
            chunk = later;
            if self.room == 0 {
                self.done.push(Bytes::from(std::mem::take(&mut self.current)));
                self.reserve();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Bytes>, Failure> {
        if penstock_types::planted!("short-read-accepted") && self.room > 0 {
            self.current.resize(self.current.len() + self.room, 0);
            self.done.push(Bytes::from(std::mem::take(&mut self.current)));
            self.room = 0;
        }
        if self.room > 0 || self.left > 0 { Err(short(&"too few")) } else { Ok(self.done) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_another_length_than_announced_is_refused() {
        for announced in [1_u64, 9, 10, 11, 25] {
            for sent in [0_usize, 9, 10, 11, 25, 1000] {
                let mut filling = Filling::new(&(100..100 + announced), 10);
                let added = vec![7; sent].chunks(4).try_for_each(|chunk| filling.add(chunk));
                match added.and_then(|()| filling.finish()) {
                    Ok(blocks) => {
                        assert_eq!(sent as u64, announced);
                        assert_eq!(blocks.concat(), vec![7; sent]);
                        assert!(blocks.iter().rev().skip(1).all(|block| block.len() == 10));
                    }
                    Err(failure) => {
                        assert_ne!(sent as u64, announced);
                        assert_eq!(failure.class, ErrorClass::Corrupted);
                    }
                }
            }
        }
    }

    #[test]
    fn cuts_cover_the_range() {
        assert_eq!(cuts(&(5..5), 10).count(), 0);
        assert_eq!(cuts(&(5..30), 10).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(cuts(&(5..30), u64::MAX).collect::<Vec<_>>(), [25]);
    }
}
