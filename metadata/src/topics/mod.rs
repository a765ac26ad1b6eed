//! Topics and dynamic configuration: what may happen to them, as transitions of the metadata store, and the
//! [`TopicCatalog`], each agent's validated view of the result.
//!
//! Every change is one transaction: the rows themselves, a row in the change log ([`changes`]) and the metadata
//! version, which every commit of records compares with its catalog's. A change that may have happened is settled by
//! running it again: a topic's id, or its wanted state, tells.
//!
//! Deliberately absent: collecting what a deleted topic's rows refer to. Deletion makes them unreachable in one small
//! transaction and leaves a durable row ([`crate::keys::topic::DeletedTopicRow`]) that lists the topic until its log,
//! index and objects are collected. Absent too: authorization and Kafka's wire messages.

mod catalog;
pub mod changes;

pub use catalog::{Lookup, Topic, TopicCatalog, read_rows};
