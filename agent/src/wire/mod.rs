//! Bytes on the wire: what a request must look like before it is decoded, and how an answer is framed.
//!
//! Nothing here knows what a request means. The codec of the messages themselves is the `kafka-protocol` crate;
//! it trusts the lengths that it reads, so every request is walked within its bounds first.

pub mod frame;

pub use frame::{EncodeError, Frame};
