//! The broker: one stateless agent. Connections come in at [`server`], requests are routed by [`api`], and
//! [`broker::Broker`] holds the services that they use.

pub mod api;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod coordinator;
pub mod fetch;
pub mod fuzzing;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod produce;
pub mod server;
pub mod start;
pub mod wire;
