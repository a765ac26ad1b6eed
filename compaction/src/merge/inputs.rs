//! The objects that are merged: what partitions they hold, and their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use penstock_metadata::merging::Source;
use penstock_storage::bucket::{Bucket, BucketError, ErrorClass};
use penstock_storage::object::{Footer, FooterError, READ_TAIL_BYTES, object_key};
use penstock_types::{ObjectId, TopicPartition};

use super::{MergeStats, add};
use crate::pace::Pace;
use crate::ranges::{Reach, requests, slice};

/// Requests under way at a time.
const AT_ONCE: usize = 4;
const REACH: Reach = Reach { gap: 256 * 1024, longest: 8 * 1024 * 1024 };

/// What a unit's objects hold.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// The objects that can be read.
    objects: BTreeSet<ObjectId>,
    /// Bytes of each partition in all of them, dead ones too.
    pub(super) partitions: BTreeMap<TopicPartition, u64>,
    /// Whole objects, if they are held.
    held: BTreeMap<ObjectId, Bytes>,
    /// Objects that can't be opened.
    pub(super) lost: Vec<Source>,
}

/// Reads from the bucket, paced and counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) pace: &'a Pace,
    pub(super) stats: &'a MergeStats,
    /// Whether the bucket has refused to give something that is there, as far as can be told.
    pub(super) refused: &'a AtomicBool,
}

impl Reading<'_> {
    /// The last bytes of an object; `None` if it isn't there.
    async fn suffix(&self, object: ObjectId, bytes: u64) -> Result<Option<(Bytes, u64)>, BucketError> {
        self.pace.take(1, bytes).await;
        match self.bucket.get_suffix(&object_key(object), bytes).await {
            Ok((tail, size)) => {
                self.count(tail.len() as u64);
                Ok(Some((tail, size)))
            }
            Err(error) => self.none_of(object, error),
        }
    }

    /// A range of an object; `None` if it isn't there, or ends before.
    async fn range(&self, object: ObjectId, range: Range<u64>) -> Result<Option<Bytes>, BucketError> {
        self.pace.take(1, range.end - range.start).await;
        match self.bucket.get_range(&object_key(object), range).await {
            Ok(bytes) => {
                self.count(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Err(error) => self.none_of(object, error),
        }
    }

    /// Nothing can be had of one object: that is no reason to leave the others. What ails the bucket is.
    fn none_of<T>(&self, object: ObjectId, error: BucketError) -> Result<Option<T>, BucketError> {
        match error.class {
            ErrorClass::NotFound | ErrorClass::OutOfRange => {}
            ErrorClass::Denied | ErrorClass::Corrupted | ErrorClass::Precondition | ErrorClass::Other => {
                self.refused.store(true, Ordering::Relaxed);
            }
            ErrorClass::Throttled | ErrorClass::Unavailable | ErrorClass::Timeout | ErrorClass::Full => {
                return Err(error);
            }
        }
        tracing::debug!(%object, %error, "an object to be merged can't be read");
        Ok(None)
    }

    fn count(&self, bytes: u64) {
        add(&self.stats.gets, 1);
        add(&self.stats.read_bytes, bytes);
    }
}

impl Inputs {
    /// Reads what the objects hold. With `hold` they are read whole, with one request each, and kept.
    ///
    /// An object that isn't there, that the bucket refuses to give, or that has no footer is left out: nothing of it can be
    /// copied.
    pub(super) async fn open(
        reading: Reading<'_>,
        sources: &[Source],
        hold: bool,
    ) -> Result<Self, BucketError> {
        let mut inputs = Self::default();
        let mut opened = futures::stream::iter(sources.iter().copied())
            .map(|source| async move { Ok((source, open(reading, source, hold).await?)) })
            .buffered(AT_ONCE);
        while let Some((source, opened)) = opened.try_next().await? {
            let Some((footer, whole)) = opened else {
                inputs.lost.push(source);
                continue;
            };
            let object = source.object;
            add(&reading.stats.inputs, 1);
            for section in &footer.sections {
                *inputs.partitions.entry(section.partition).or_default() += section.length;
            }
            inputs.objects.insert(object);
            if let Some(whole) = whole {
                inputs.held.insert(object, whole);
            }
        }
        drop(opened);
        Ok(inputs)
    }

    #[cfg(test)]
    pub(super) fn of(objects: &[ObjectId]) -> Self {
        Self { objects: objects.iter().copied().collect(), ..Self::default() }
    }

    /// Whether an object is among them.
    pub(super) fn has(&self, object: ObjectId) -> bool {
        self.objects.contains(&object)
    }

    /// The bytes of stretches of the objects (position, length), in the order asked for; `None` for what isn't there.
    pub(super) async fn read(
        &self,
        reading: Reading<'_>,
        wanted: &[(ObjectId, u64, u64)],
    ) -> Result<Vec<Option<Bytes>>, BucketError> {
        let mut found: Vec<Option<Bytes>> = vec![None; wanted.len()];
        let mut absent: Vec<usize> = Vec::new();
        for (index, (object, position, length)) in wanted.iter().enumerate() {
            match self.held.get(object) {
                Some(whole) => found[index] = slice(whole, *position, *length),
                None => absent.push(index),
            }
        }
        absent.sort_by_key(|index| (wanted[*index].0, wanted[*index].1));
        let mut reads = futures::stream::iter(requests(wanted, &absent, REACH))
            .map(|request| async move {
                let bytes = reading.range(request.object, request.range.clone()).await?;
                Ok::<_, BucketError>((request, bytes))
            })
            .buffer_unordered(AT_ONCE);
        while let Some((request, bytes)) = reads.try_next().await? {
            let Some(bytes) = bytes else { continue };
            let used: u64 = request.wanted.iter().map(|index| wanted[*index].2).sum();
            // Else what lies between would be held with what is wanted.
            let is_sparse = used < bytes.len() as u64 / 2;
            for index in request.wanted {
                let (_, position, length) = wanted[index];
                let found_here = slice(&bytes, position - request.range.start, length);
                found[index] = match found_here {
                    Some(slice) if is_sparse => Some(Bytes::copy_from_slice(&slice)),
                    slice => slice,
                };
            }
        }
        drop(reads);
        Ok(found)
    }
}

type Opened = Option<(Footer, Option<Bytes>)>;

async fn open(reading: Reading<'_>, source: Source, hold: bool) -> Result<Opened, BucketError> {
    let Source { object, size, .. } = source;
    // A store refuses to give the last bytes of nothing.
    let wanted = if hold { size.max(1) } else { READ_TAIL_BYTES };
    let Some((mut tail, mut object_bytes)) = reading.suffix(object, wanted).await? else {
        return Ok(None);
    };
    let mut parsed = Footer::parse(&tail, object_bytes);
    if let Err(FooterError::Incomplete { tail_bytes }) = parsed {
        let Some(longer) = reading.suffix(object, tail_bytes).await? else { return Ok(None) };
        (tail, object_bytes) = longer;
        parsed = Footer::parse(&tail, object_bytes);
    }
    match parsed {
        Ok(footer) if footer.id == object => {
            let whole = (hold && tail.len() as u64 == object_bytes).then_some(tail);
            Ok(Some((footer, whole)))
        }
        Ok(footer) => {
            tracing::debug!(%object, other = %footer.id, "an object to be merged says that it is another");
            Ok(None)
        }
        Err(error) => {
            tracing::debug!(%object, %error, "an object to be merged has no footer that can be read");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_storage::bucket::{Operation, Outcome};
    use penstock_types::{Incarnation, StoreVersion};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ails_one_object_and_what_ails_the_bucket_are_told_apart() {
        let world = crate::testing::World::without_topics().await;
        let (pace, stats, refused) = (Pace::new(1, 1), MergeStats::default(), AtomicBool::new(false));
        let reading = Reading { bucket: &world.bucket, pace: &pace, stats: &stats, refused: &refused };
        let object = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), 1);
        let none_of = |class| {
            refused.store(false, Ordering::Relaxed);
            let error = BucketError {
                operation: Operation::Get,
                key: object_key(object),
                class,
                outcome: Outcome::DidNotHappen,
                attempts: 1,
                detail: String::new(),
            };
            let is_none = matches!(reading.none_of::<()>(object, error), Ok(None));
            (is_none, refused.load(Ordering::Relaxed))
        };
        for class in [ErrorClass::NotFound, ErrorClass::OutOfRange] {
            assert_eq!(none_of(class), (true, false), "it is gone");
        }
        for class in [ErrorClass::Denied, ErrorClass::Corrupted, ErrorClass::Other] {
            assert_eq!(none_of(class), (true, true), "it may be given later");
        }
        for class in [ErrorClass::Throttled, ErrorClass::Unavailable, ErrorClass::Timeout] {
            assert_eq!(none_of(class), (false, false), "nothing can be told of it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_between_is_not_held_with_what_is_wanted() {
        let world = crate::testing::World::without_topics().await;
        let object = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), 1);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        let body: Vec<u8> = (0..200_000_u32).map(|at| (at / 1_000) as u8).collect();
        world.bucket.put(&object_key(object), vec![body.into()], deadline).await.expect("an upload");
        let (pace, stats, refused) =
            (Pace::new(1 << 30, 1_000), MergeStats::default(), AtomicBool::new(false));
        let reading = Reading { bucket: &world.bucket, pace: &pace, stats: &stats, refused: &refused };
        let read = async |wanted: &[(ObjectId, u64, u64)]| -> Vec<Bytes> {
            let found = Inputs::default().read(reading, wanted).await.expect("a bucket");
            found.into_iter().map(|bytes| bytes.expect("there")).collect()
        };
        let apart = |found: &[Bytes]| (found[1].as_ptr() as usize).wrapping_sub(found[0].as_ptr() as usize);
        let dense = read(&[(object, 1_000, 90_000), (object, 91_000, 90_000)]).await;
        assert_eq!(apart(&dense), 90_000, "slices of one buffer");
        let sparse = read(&[(object, 1_000, 1_000), (object, 150_000, 1_000)]).await;
        assert_ne!(apart(&sparse), 149_000);
        assert_eq!(stats.gets.load(Ordering::Relaxed), 2, "a request each");
        assert!(sparse[0].iter().all(|byte| *byte == 1) && sparse[1].iter().all(|byte| *byte == 150));
    }
}
