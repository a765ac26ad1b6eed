//! Whole clusters in one process, under virtual time, from one seed: what ARCHITECTURE.md's section "Simulation"
//! describes. docs/testing.md says how to use it.

pub mod agent;
pub mod ambient;
pub mod checks;
pub mod client;
pub mod draw;
pub mod net;
pub mod oracle;
pub mod outcome;
pub mod planted;
pub mod process;
pub mod regressions;
pub mod run;
pub mod runner;
pub mod scenario;
pub mod shrink;
pub mod trace;
pub mod world;
