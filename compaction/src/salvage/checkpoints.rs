//! The checkpoints of a bucket: of each slot the newest that is whole.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::Row;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_types::{Incarnation, ObjectId};

use crate::checkpoint::format::{CHECKPOINTS_PREFIX, Part, PartName};

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) id: ObjectId,
    parts: u32,
}

/// Those of one slot, newest first, with the parts that are there.
pub(super) type Candidates = BTreeMap<Reverse<ObjectId>, BTreeSet<u32>>;

/// What lies under `checkpoints/`, and the highest incarnation of it.
pub(super) async fn list(bucket: &Bucket) -> Result<(BTreeMap<Slot, Candidates>, Incarnation), BucketError> {
    let (mut found, mut incarnation) = (BTreeMap::<Slot, Candidates>::new(), Incarnation::new(0));
    let mut listing = bucket.list(CHECKPOINTS_PREFIX.trim_end_matches('/'));
    while let Some(listed) = listing.next().await {
        let Some(name) = PartName::of_key(&listed?.key) else { continue };
        incarnation = incarnation.max(name.id.incarnation());
        found.entry(name.slot).or_default().entry(Reverse(name.id)).or_default().insert(name.part);
    }
    Ok((found, incarnation))
}

/// The newest of a slot that is whole, and its rows; what is not whole is told.
pub(super) async fn newest<T: Default>(
    bucket: &Bucket,
    cluster_id: &str,
    slot: Slot,
    candidates: &Candidates,
    damaged: &mut Vec<String>,
    take: impl Fn(&mut T, &Row),
) -> Result<Option<(Found, T)>, BucketError> {
    for (Reverse(id), parts) in candidates {
        let found = Found { slot, id: *id, parts: parts.len() as u32 };
        let mut taken = T::default();
        let whole = rows(bucket, cluster_id, &found, |row| {
            take(&mut taken, row);
        });
        match whole.await? {
            Ok(()) => return Ok(Some((found, taken))),
            Err(reason) => damaged.push(format!("checkpoint {id} of slot {}: {reason}", slot.get())),
        }
    }
    Ok(None)
}

/// The rows of a checkpoint, in their order. `Err` within: it isn't whole, and what was given counts for nothing.
pub(super) async fn rows(
    bucket: &Bucket,
    cluster_id: &str,
    found: &Found,
    mut take: impl FnMut(&Row),
) -> Result<Result<(), String>, BucketError> {
    for part in 0..found.parts {
        match part_of(bucket, cluster_id, found, part).await? {
            Ok(read) => read.rows.iter().for_each(&mut take),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(()))
}

/// One part.
pub(super) async fn part_of(
    bucket: &Bucket,
    cluster_id: &str,
    found: &Found,
    part: u32,
) -> Result<Result<Part, String>, BucketError> {
    let name = PartName { slot: found.slot, id: found.id, part };
    let object = match bucket.get_with_etag(&name.key()).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(Err(format!("part {part} isn't there"))),
        Err(error) => return Err(error),
    };
    let read = match Part::decode(&object.data) {
        Ok(read) => read,
        Err(corrupt) => return Ok(Err(format!("part {part}: {corrupt}"))),
    };
    let is_last = part + 1 == found.parts;
    let wrong = [
        (read.name != name, "is another one"),
        (read.cluster_id != cluster_id, "is another cluster's"),
        (read.is_last != is_last, "is the last one, or isn't, against what there is"),
    ];
    match wrong.into_iter().find(|(wrong, _)| *wrong) {
        Some((_, what)) => Ok(Err(format!("part {part} {what}"))),
        None => Ok(Ok(read)),
    }
}

impl Found {
    /// How many parts it has.
    pub(super) fn parts(&self) -> u32 {
        self.parts
    }
}
