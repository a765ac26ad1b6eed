//! The objects of a bucket, by their footers.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use penstock_metadata::keys::log::BatchFacts;
use penstock_metadata::keys::merge_queue::CommitPlace;
use penstock_storage::batch::verify_crc;
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_storage::object::{
    Footer, FooterError, OBJECTS_PREFIX, READ_TAIL_BYTES, SectionPlacement, batches, id_of_key, object_key,
};
use penstock_types::{Incarnation, ObjectId, TopicPartition};

/// Requests to the bucket at the same time.
const REQUESTS: usize = 16;
/// The longest section that is read at once.
const LONGEST_SECTION: u64 = 1 << 30;

/// An object.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// Its bytes.
    pub(super) size: u64,
    /// Its batches.
    pub(super) batches: u64,
    /// Whether its batches carry their offsets.
    pub(super) has_offsets: bool,
    /// When it was committed, if a log that was salvaged tells.
    pub(super) place: Option<CommitPlace>,
    /// Batches that the salvaged logs refer to.
    pub(super) referred: u64,
}

/// A partition's batches in an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) object: ObjectId,
    pub(super) section: SectionPlacement,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) objects: BTreeMap<ObjectId, Held>,
    /// Where the batches of each partition are, by object.
    pub(super) pieces: BTreeMap<TopicPartition, Vec<Piece>>,
    /// What can't be read.
    pub(super) damaged: Vec<String>,
}

/// A batch, as its bytes say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    /// What stands in its head: its offset in an object that has them.
    pub(super) base_offset: i64,
    pub(super) position: u64,
    pub(super) crc: u32,
    pub(super) facts: BatchFacts,
}

impl Inventory {
    /// Lists the bucket and reads every footer.
    pub(super) async fn read(
        bucket: &Bucket,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, BucketError> {
        let mut ids = Vec::new();
        let mut listing = bucket.list(OBJECTS_PREFIX.trim_end_matches('/'));
        while let Some(listed) = listing.next().await {
            let listed = listed?;
            ids.extend(id_of_key(&listed.key));
        }
        drop(listing);
        let all = ids.len() as u64;
        let mut inventory = Self::default();
        let mut footers = futures::stream::iter(ids)
            .map(|id| async move { (id, footer(bucket, id).await) })
            .buffer_unordered(REQUESTS);
        let mut done = 0;
        while let Some((id, footer)) = footers.next().await {
            done += 1;
            progress(done, all);
            match footer? {
                Ok((footer, size)) => inventory.add(id, &footer, size),
                Err(reason) => inventory.damaged.push(format!("object {id}: {reason}")),
            }
        }
        inventory.pieces.values_mut().for_each(|pieces| pieces.sort_by_key(|piece| piece.object));
        Ok(inventory)
    }

    fn add(&mut self, id: ObjectId, footer: &Footer, size: u64) {
        let batches = footer.sections.iter().map(|section| u64::from(section.batch_count)).sum();
        let has_offsets = footer.has_offsets;
        self.objects.insert(id, Held { size, batches, has_offsets, ..Held::default() });
        for section in &footer.sections {
            self.pieces.entry(section.partition).or_default().push(Piece { object: id, section: *section });
        }
    }

    /// The highest incarnation of an object.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.objects.keys().map(ObjectId::incarnation).max().unwrap_or(Incarnation::new(0))
    }
}

async fn footer(bucket: &Bucket, id: ObjectId) -> Result<Result<(Footer, u64), String>, BucketError> {
    let key = object_key(id);
    let (mut tail, length) = bucket.get_suffix(&key, READ_TAIL_BYTES).await?;
    let mut footer = Footer::parse(&tail, length);
    if let Err(FooterError::Incomplete { tail_bytes }) = footer {
        (tail, _) = bucket.get_suffix(&key, tail_bytes).await?;
        footer = Footer::parse(&tail, length);
    }
    Ok(match footer {
        Ok(footer) if footer.id == id => Ok((footer, length)),
        Ok(footer) => Err(format!("it is object {}", footer.id)),
        Err(error) => Err(error.to_string()),
    })
}

/// The sound batches of a piece, in their order; those behind the first that isn't are lost, which is told.
pub(super) async fn read(
    bucket: &Bucket,
    piece: &Piece,
    damaged: &mut Vec<String>,
) -> Result<Vec<Batch>, BucketError> {
    let Piece { object, section } = piece;
    let what = |reason: &dyn std::fmt::Display| {
        format!("object {object}, partition {}: {reason}", section.partition)
    };
    if section.length > LONGEST_SECTION {
        damaged.push(what(&"its section is too long to be read"));
        return Ok(Vec::new());
    }
    let bytes: Bytes = bucket.get_range(&object_key(*object), section.position..section.end()).await?;
    let (mut found, mut position) = (Vec::new(), section.position);
    for batch in batches(&bytes) {
        let sound = batch.map_err(|error| error.to_string()).and_then(|(header, bytes)| {
            verify_crc(&bytes, &header).map_err(|error| error.to_string())?;
            if header.last_offset_delta < 0 {
                Err("a batch without offsets".to_owned())
            } else {
                Ok((header, bytes.len()))
            }
        });
        match sound {
            Ok((header, length)) => {
                found.push(Batch {
                    base_offset: header.base_offset,
                    position,
                    crc: header.crc,
                    facts: crate::facts::facts_of(&header, length),
                });
                position += length as u64;
            }
            Err(reason) => {
                damaged.push(what(&format!("from byte {position} on: {reason}")));
                break;
            }
        }
    }
    Ok(found)
}
