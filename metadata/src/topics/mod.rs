//! Topics and dynamic configuration: what may happen to them, as transitions of the metadata store, and the
//! [`TopicCatalog`], each agent's validated view of the result.
//!
//! Every change is one transaction: the rows themselves, a row in the change log ([`changes`]) and the metadata
//! version, which every commit of records compares with its catalog's. A change that may have happened is settled by
//! running it again: a topic's id, or its wanted state, tells.
//!
//! Deletion makes a topic unreachable in one small transaction and leaves a durable row
//! ([`crate::keys::topic::DeletedTopicRow`]), which lists it until [`collect_topic`] has taken out its rows.
//!
//! Deliberately absent: authorization and Kafka's wire messages.

mod admin;
mod alter;
mod catalog;
pub mod changes;
mod collect;
mod configs;
mod create;
mod delete;
mod names;
mod partitions;
mod sizes;
#[cfg(test)]
mod testing;

pub use admin::{ChangeFailed, PARTITIONS_PER_REQUEST, Request, TopicAdmin};
pub use alter::{AlterError, Alteration, Operation};
pub use catalog::{Lookup, Topic, TopicCatalog, read_rows};
pub use collect::{Collected, FAMILIES as PARTITION_FAMILIES, collect_topic};
pub use configs::{AlterBrokerError, AlterTopicError, check_alteration};
pub use create::{AssignmentError, CONFIG_BYTES, CreateTopicError, NewTopic, PlannedTopic, Terms};
pub use delete::{DeleteTopicError, deleted_topics};
pub use names::{LONGEST_NAME, NameError, is_internal, validate_name};
pub use partitions::{CreatePartitionsError, NewPartitions};
pub use sizes::partition_sizes;
