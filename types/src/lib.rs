//! The vocabulary of the log, shared by every crate: newtypes for ids, offsets and store versions, and the two
//! sources of non-determinism (clock, randomness) as arguments.
//!
//! Owns no state and does no I/O. Deliberately absent: Kafka's wire messages (they stop at the agent's `api`
//! folder) and anything that knows how a value is stored (see `metadata::keys`, `storage::object`).

mod clock;
mod ids;
mod log;
mod planted;
mod random;
mod task;
mod version;

pub use clock::{Clock, SystemClock, TestClock, TimestampMs, pause, pause_until};
pub use ids::{
    GroupId, LeaderEpoch, NodeId, ObjectId, ObjectIdParseError, PartitionIndex, ProducerEpoch, ProducerId,
    Sequence, TopicId, TopicPartition,
};
pub use log::{Offset, OffsetRange};
#[cfg(feature = "simulation")]
pub use planted::{is_planted, plant};
pub use random::{OsRandomness, Randomness, SeededRandomness};
pub use task::own;
#[cfg(feature = "simulation")]
pub use task::simulated;
pub use version::{BatchPosition, Incarnation, StoreVersion, Versionstamp};
