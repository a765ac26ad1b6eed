//! Which part of the jobs an agent does, where several run them.

use std::fmt::Debug;

/// Says what is this agent's to do. A hint: done twice is done, and what nobody takes for its own waits for the next
/// look.
pub trait Share: Debug + Send + Sync + 'static {
    /// Whether `what`, a name that all agents use, is this agent's now.
    fn is_mine(&self, what: &str) -> bool;
}

/// Everything: for an agent alone.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Share for Everything {
    fn is_mine(&self, _what: &str) -> bool {
        true
    }
}
