//! Log compaction as transitions: of each key only the newest record stays in the log (`cleanup.policy=compact`).
//!
//! A run of a partition begins with the next number ([`begin`]), reads keys and decides (see the compaction crate), and then
//! replaces batches of the sealed log, stretch by stretch from the log's start on ([`swap`]): some leave it, some refer to
//! rewritten bytes in an output that was announced and put before (see [`crate::merging`]). At its end it says how far it got
//! ([`finish`]).
//!
//! # Invariants
//! - Offsets, and a batch's place in the order of commits, never change: a batch that is rewritten takes as many offsets as before,
//!   one that leaves the log leaves a gap.
//! - A swap goes by the places of batches. It reads the number of the run serializably: behind the beginning of another run it
//!   changes nothing. It doesn't go by where bytes lie: merging may copy them meanwhile, they stay the same.
//! - It replaces a batch only if the log says of it what it said when it was read.
//! - Each value of the index that it writes, the topic's row and the output's are in its read conflicts, as in a swap of merging,
//!   and it counts what no longer refers to an object as dead in the same way.
//! - Nothing at or above the seal or the first open transaction is compacted ([`Standing::end`]).
//!
//! Deliberately absent: which records stay, and their bytes.

mod standing;
mod swap;
#[cfg(test)]
mod tests;
mod walk;

pub use standing::{Run, Standing, begin, finish, standing};
pub use swap::{Changes, Fate, Stretch, Swapped, swap};
pub use walk::{Walk, aborted};

use crate::codec::Corrupt;
use crate::kv::StoreError;
pub use crate::merging::WindowValue;

/// Why nothing was swapped. It did not happen, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// Another run of the partition has begun, or the topic was deleted.
    #[error("another run of the partition has begun, or the topic is gone")]
    RunOver,
    /// The output was given up: it is dead already, or the sweeper's cutoff has passed it.
    #[error("the output was given up")]
    OutputGone,
    /// A batch isn't any more what it was when it was read.
    #[error("a batch has changed since it was read")]
    Disturbed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Corrupt> for SwapError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}
