//! The metadata store: a narrow key-value seam ([`kv`]), every persisted key family ([`keys`]), and Kafka's
//! semantics as transitions above them, written once for every store.
//!
//! Deliberately absent: bytes of records (they are in the bucket), Kafka's wire messages (the agent's `api`
//! folder), any cache that must be right (agents hold views that they validate).

pub mod agents;
pub mod append;
pub mod burial;
pub mod checkpoints;
pub mod cluster;
pub mod codec;
pub mod collection;
pub mod commit;
pub mod feed_watch;
pub mod fold;
pub mod ground;
pub mod groups;
pub mod incarnation;
pub mod inspect;
pub mod keys;
pub mod kv;
pub mod log_compaction;
pub mod log_starts;
mod looks;
pub mod lookup;
pub mod members;
pub mod mending;
pub mod merging;
pub mod now;
pub mod order_rows;
pub mod present;
pub mod producer_expiry;
pub mod producer_ids;
pub mod retention;
pub mod salvaging;
pub mod sealing;
pub mod standing;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod transact;
pub mod trimming;
pub mod view;
pub mod views;
mod visible;
