//! The coordinator of classic consumer groups.
//!
//! [`classic`] is the rebalance protocol, a pure state machine. A group that is in use is one task (`actor`), which
//! owns its machine, stores what the machine wants stored before it gives any answer, runs the group's timers, and
//! commits offsets (`commits`: in order, many to one transaction). [`GroupCoordinator`] finds a group's task or
//! starts it, and removes what has expired (`expiry`).
//!
//! Invariants:
//! - The metadata store is the truth. A task claims its group when it starts, and is fenced by whoever claims it later;
//!   it then refuses everything with NOT_COORDINATOR and ends. A task whose write may have happened ends too: the next
//!   one reads what is stored. Either way members keep their generation.
//! - OffsetFetch reads the store, not a task's memory.
//! - Memory is bounded: groups by [`LOADED_GROUPS_MAX`], a group's queues and members each by a number.
//! - Tasks are owned: [`GroupCoordinator::shutdown`] waits for all.
//!
//! - A group that is somebody else's to coordinate, as far as this agent knows, is refused with NOT_COORDINATOR; its task
//!   ends when that changes (`moves`). Who is right about it decides nothing: the fence does.
//!
//! Deliberately absent: how groups are spread over agents (`cluster::placement`), authorization, Kafka's wire messages.

mod actor;
pub mod classic;
mod commits;
pub mod error;
mod expiry;
mod moves;
mod service;
mod stats;
mod topics;

#[cfg(test)]
mod tests;

pub use commits::{CommitCall, CommitEntry};
pub use error::Refusal;
pub use moves::Ownership;
pub use service::{GroupCoordinator, GroupCoordinatorParts, LOADED_GROUPS_MAX, ListedGroup, OffsetDeletion};
pub use stats::GroupStats;
pub use topics::{TopicFacts, TopicLookup};
