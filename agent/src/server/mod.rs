//! Connections: accepting them, reading requests off them, sending answers in the order of the requests.

mod answer;

pub use crate::wire::{EncodeError, Frame};
pub use answer::{Answer, PendingAnswer};
