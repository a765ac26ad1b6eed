//! Kafka's APIs, one file each.

pub mod context;
