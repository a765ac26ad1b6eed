//! What is kept in the object store, and the way there: record batches, data objects, the bucket, the cache.

pub mod batch;
pub mod bucket;
pub mod cache;
pub mod fuzzing;
pub mod object;
