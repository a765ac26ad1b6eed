//! The data object: record batches of many partitions as they came, sorted, and a footer that says where they lie. The
//! format is written down in docs/data-object.md and pinned by golden files.
//!
//! Invariants: sections lie one behind the other from the object's first byte and ascend by (topic id, partition); the
//! footer's checksum covers the footer, a section's covers the start of each batch and, through the batches' own CRCs,
//! every byte. An object is immutable. Bytes from the bucket are never trusted and never panic.
//!
//! Deliberately absent: offsets (an object is written before anybody knows them) and I/O.

mod builder;
mod footer;
mod key;
mod merged;
mod section;

pub use builder::{DataObject, ObjectBuilder};
pub use footer::{
    Footer, FooterError, MAX_FOOTER_BYTES, READ_TAIL_BYTES, SectionPlacement, TRAILER_BYTES, VERSION,
};
pub use key::{OBJECTS_PREFIX, id_of_key, object_key, shard_prefix};
pub use merged::{KnownBatch, MergedBuilder, MergedError, check_batch};
pub use section::{Batches, SectionChecksum, SectionError, batches, verify_section};

#[cfg(test)]
mod tests;
