//! Merging as transitions: from many objects in which partitions are mixed to few in which each is contiguous.
//!
//! What commits write stands in a queue, in the order of the log ([`crate::keys::merge_queue`]). The planner cuts the queue
//! into units ([`cut_unit`]). Whoever merges a unit looks up where the index refers to its objects ([`Window`]), copies those
//! batches into an output that it has announced ([`announce`]), and makes the index refer to the copies ([`swap`]). A unit
//! that is done goes together with its part of the queue ([`end_unit`]); its outputs have been queued at the next level.
//!
//! # Invariants
//! - A swap changes of an entry of the index only the object and the position. Offset, place in the commit order and facts are the
//!   batch's identity, and stay. It changes only entries whose very bytes were copied: what it goes by is where bytes lay and
//!   where their copy lies, so trimming or another merge in between leaves it right.
//! - A swap reads the output's row serializably and adds to its batches what it makes refer to it: so the output is dead when,
//!   and only when, as many have left the log. It is refused where the row isn't an intent or committed any more.
//! - Each value of the index that a swap writes is in its read conflicts, and the row of the unit and of the topic, too: of two
//!   that change a value one succeeds; nothing is swapped in a deleted topic, or for a unit that was ended.
//! - Everything may be run twice, by two agents, and left anywhere: what a swap has done is in the index, and whoever merges
//!   the unit again finds only the rest.
//!
//! Deliberately absent: bytes (see the compaction crate), and the choice of what lies together in an output.

mod output;
mod plan;
mod swap;
#[cfg(test)]
mod tests;
mod window;

pub use output::{AnnounceError, Output, announce, give_up};
pub use plan::{CutRules, Source, cut, cut_unit, end_unit, front, queued, sources, units};
pub use swap::{Copies, Segment, SwapError, Swapped, swap};
pub(crate) use swap::{IndexValue, join, usable};
pub use window::{Window, WindowPage, WindowValue, is_sealed};
