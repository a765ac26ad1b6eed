//! Agents: their lives, and everything that they do across a seam.

pub mod bucket;
pub mod clock;
pub mod host;
pub mod seam;
pub mod store;
