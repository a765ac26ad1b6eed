//! Where blocks come from.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use penstock_types::ObjectId;

use super::ReadError;
use crate::bucket::{Bucket, ErrorClass, LoadedBlocks};
use crate::object::object_key;

/// A place to load blocks of data objects from. The bucket is one; the cache of another agent in the same zone, with
/// the bucket behind it, can be another.
#[async_trait]
pub trait BlockSource: Debug + Send + Sync + 'static {
    /// The bytes of `range` as far as the object goes, cut into blocks of `block_bytes` from its start, each in an
    /// allocation of its own and of exactly its size. Retries as it sees fit; the caller bounds the time by dropping
    /// the future.
    async fn load(
        &self,
        object: ObjectId,
        range: Range<u64>,
        block_bytes: u64,
    ) -> Result<LoadedBlocks, ReadError>;
}

/// The bucket itself.
#[derive(Debug)]
pub struct BucketSource {
    bucket: Arc<Bucket>,
}

impl BucketSource {
    /// Loads from `bucket`.
    pub fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket }
    }
}

#[async_trait]
impl BlockSource for BucketSource {
    async fn load(
        &self,
        object: ObjectId,
        range: Range<u64>,
        block_bytes: u64,
    ) -> Result<LoadedBlocks, ReadError> {
        self.bucket.get_blocks(&object_key(object), range.clone(), block_bytes).await.map_err(|error| {
            match error.class {
                ErrorClass::NotFound => ReadError::Gone { object },
                ErrorClass::OutOfRange => ReadError::OutOfRange { object, object_bytes: 0, range },
                class => ReadError::Unavailable { object, class, detail: error.to_string() },
            }
        })
    }
}
