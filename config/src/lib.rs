//! Options only: what can be set, what it means, and how file, environment and flags come together.
//!
//! [`AgentConfig`] is everything that an agent reads, a struct for each component (`FlushOptions`, `CacheOptions`,
//! …); each option has its type, unit, default, range and consequence declared in one place ([`options`]), from
//! which the reference page is generated too ([`reference`]). Kafka's own options of topics and brokers, which
//! clients describe and alter while the cluster runs, are defined in [`topic`] and `broker`.
//!
//! Deliberately absent: I/O. Nothing here reads a file, an environment variable or a clock; what was read is an
//! argument ([`load::Inputs`]).

pub mod address;
pub mod agent;
pub mod broker;
mod config;
pub mod definition;
pub mod group;
pub mod kafka_reference;
pub mod load;
mod metadata;
mod nearest;
pub mod options;
pub mod reference;
pub mod topic;
pub mod value;

pub use address::{HostLimits, HostPort, ObjectStoreUrl};
pub use agent::{
    CacheOptions, CheckpointOptions, CollectOptions, CompactOptions, DEV_PROFILE, FetchOptions, FlushOptions,
    HttpOptions, LogFormat, LogOptions, MergeOptions, NodeOptions, ProduceOptions, Roles, SealOptions,
    ServerOptions, UploadChecksum, UploadOptions,
};
pub use config::{AgentConfig, Conflict};
pub use group::GroupOptions;
pub use load::{Inputs, LoadError, Loaded, Source, load};
pub use metadata::{FoundationDbOptions, MetadataKind};
pub use options::{Component, Definition};
pub use value::{ByteSize, OptionValue, Secret};
