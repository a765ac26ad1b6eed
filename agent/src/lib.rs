//! The broker: one stateless agent. Connections come in at [`server`], requests are routed by [`api`], and
//! [`broker::Broker`] holds the services that they use.

pub mod api;
pub mod broker;
pub mod server;
pub mod wire;
