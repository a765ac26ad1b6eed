//! Kafka's record batch, version 2 (magic 2): its header, its validation on the way in, the rewriting that a topic's
//! settings ask for, and the records inside.
//!
//! Batches are slices ([`bytes::Bytes`]) of what the producer sent, from the socket to the bucket and back to the
//! consumer; only a rewritten batch is a copy. Bytes are never trusted and never panic; whatever is unpacked is
//! bounded, in memory and in sum.
//!
//! Deliberately absent: Kafka's error codes ([`Refusal`] names them, the agent maps them), producer state (the
//! sequence's shape is checked here, its place in the log by the metadata crate), the formats before version 2.

mod builder;
mod check;
mod codec;
mod control;
mod error;
mod filter;
mod header;
mod records;
mod rewrite;
mod source;
mod validate;

pub use builder::{BatchBuilder, NewHeader, seal_raw};
pub use codec::decompressed_limit;
pub use control::{CONTROL_BATCH_BYTES, Marker, control_batch};
pub use error::{
    BatchError, Corruption, InvalidBatch, MAX_RECORD_ERRORS, RecordError, RecordErrorReason, RecordErrors,
    Refusal,
};
pub use filter::{FilterOptions, Filtered, RecordView, filter_batch, for_each_record};
pub use header::{
    Attributes, BatchHeader, CRC_START, Codec, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC, PREFIX_BYTES,
    TimestampType, patched_prefix, patched_prefix_of_size,
};
pub use records::{FoundRecord, Record, Records, find_max_timestamp, find_timestamp, records};
pub use validate::{TopicCompression, ValidatedBatch, ValidationRules, validate, verify_crc};

#[cfg(test)]
mod tests;
