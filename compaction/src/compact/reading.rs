//! The bytes of batches, as few requests as reach them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use penstock_metadata::fold::BatchSource;
use penstock_storage::batch::BatchHeader;
use penstock_storage::bucket::{BucketError, ErrorClass};
use penstock_storage::object::{check_batch, object_key};
use penstock_types::{BatchPosition, ObjectId, TopicPartition};

use super::scan::{Found, Scan};
use super::{CompactError, Compaction, CompactionParts, add};
use crate::facts::known;
use crate::ranges::{Reach, Request, requests, slice};

/// Requests under way at a time.
const AT_ONCE: usize = 8;
/// Ranges with less than this between them are read by one request.
const GAP: u64 = 64 * 1024;

impl Compaction {
    /// The bytes of those batches of a window that are wanted, in its order; `None` for the others, and for markers.
    ///
    /// What isn't there is looked up again, since merging may have moved it and deleted what it lay in.
    pub(super) async fn read(
        &self,
        partition: TopicPartition,
        window: &mut [Found],
        is_wanted: impl Fn(&Found) -> bool,
    ) -> Result<Vec<Option<Bytes>>, CompactError> {
        let wanted: Vec<usize> = (0..window.len()).filter(|index| is_wanted(&window[*index])).collect();
        let mut bytes = vec![None; window.len()];
        self.read_some(window, &wanted, &mut bytes).await?;
        let is_absent = |index: &usize| bytes[*index].is_none() && window[*index].stored_bytes() > 0;
        let absent: Vec<usize> = wanted.into_iter().filter(is_absent).collect();
        if absent.is_empty() {
            return Ok(bytes);
        }
        self.look_again(partition, window, &absent).await?;
        self.read_some(window, &absent, &mut bytes).await?;
        match absent.into_iter().find(|index| bytes[*index].is_none()) {
            Some(index) => Err(unreadable(partition, &window[index], "it isn't there".to_owned())),
            None => Ok(bytes),
        }
    }

    async fn read_some(
        &self,
        window: &[Found],
        wanted: &[usize],
        into: &mut [Option<Bytes>],
    ) -> Result<(), CompactError> {
        let place = |found: &Found| match found.batch.source {
            BatchSource::Object { object, position } => {
                Some((object, position, u64::from(found.batch.facts.length)))
            }
            BatchSource::Marker { .. } => None,
        };
        let (indexes, places): (Vec<usize>, Vec<(ObjectId, u64, u64)>) =
            wanted.iter().filter_map(|index| Some((*index, place(&window[*index])?))).unzip();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|index| (places[*index].0, places[*index].1));
        let reach = Reach { gap: GAP, longest: self.settings.read_bytes };
        let mut reads = futures::stream::iter(requests(&places, &order, reach))
            .map(|request| self.request(request))
            .buffer_unordered(AT_ONCE);
        while let Some((request, found)) = reads.try_next().await? {
            let Some(found) = found else { continue };
            let used: u64 = request.wanted.iter().map(|index| places[*index].2).sum();
            // Else what lies between would be held with what is wanted.
            let is_sparse = used < found.len() as u64 / 2;
            for index in request.wanted {
                let (_, position, length) = places[index];
                let part = slice(&found, position - request.range.start, length);
                into[indexes[index]] = part.map(|part| match is_sparse {
                    true => Bytes::copy_from_slice(&part),
                    false => part,
                });
            }
        }
        drop(reads);
        Ok(())
    }

    /// A range of an object; `None` if it isn't there.
    async fn request(&self, request: Request) -> Result<(Request, Option<Bytes>), BucketError> {
        self.pace.take(1, request.range.end - request.range.start).await;
        let key = object_key(request.object);
        match self.parts.bucket.get_range(&key, request.range.clone()).await {
            Ok(bytes) => {
                add(&self.stats.gets, 1);
                add(&self.stats.read_bytes, bytes.len() as u64);
                Ok((request, Some(bytes)))
            }
            Err(error) if matches!(error.class, ErrorClass::NotFound | ErrorClass::OutOfRange) => {
                Ok((request, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Where batches lie now whose bytes weren't there.
    async fn look_again(
        &self,
        partition: TopicPartition,
        window: &mut [Found],
        absent: &[usize],
    ) -> Result<(), CompactError> {
        let CompactionParts { store, keyspace, .. } = &self.parts;
        let (Some(first), Some(last)) = (absent.first(), absent.last()) else { return Ok(()) };
        let (from, to) = (window[*first].batch.base_offset, window[*last].batch.end_offset());
        let mut scan = Scan::new(partition, from, to);
        let mut now: BTreeMap<BatchPosition, Found> = BTreeMap::new();
        loop {
            let found = scan.next(store, keyspace, u64::MAX).await?;
            if found.is_empty() {
                break;
            }
            now.extend(found.into_iter().map(|found| (found.batch.at, found)));
        }
        for index in absent {
            let found = &mut window[*index];
            match now.get(&found.batch.at) {
                Some(now) if now.batch.facts == found.batch.facts => found.batch.source = now.batch.source,
                _ => return Err(CompactError::Disturbed),
            }
        }
        Ok(())
    }
}

/// The header of a batch whose bytes are what the log says.
pub(super) fn checked(
    partition: TopicPartition,
    found: &Found,
    bytes: &Bytes,
) -> Result<BatchHeader, CompactError> {
    check_batch(bytes, &known(&found.batch)).map_err(|error| unreadable(partition, found, error.to_string()))
}

pub(super) fn unreadable(partition: TopicPartition, found: &Found, reason: String) -> CompactError {
    let object = match found.batch.source {
        BatchSource::Object { object, .. } => Some(object),
        BatchSource::Marker { .. } => None,
    };
    CompactError::Unreadable { partition, offset: found.batch.base_offset, object, reason }
}
