//! Bytes on the wire: what a request must look like before it is decoded, and how an answer is framed.
//!
//! Nothing here knows what a request means. The codec of the messages themselves is the `kafka-protocol` crate;
//! it trusts the lengths that it reads, so [`bounds`] walks every request first.

pub mod bounds;
mod buffers;
mod cursor;
pub mod frame;
mod frame_memory;
mod header;
mod reader;
pub mod schema;

pub use cursor::Malformed;
pub use frame::{EncodeError, Frame};
pub use frame_memory::{FrameMemory, FramePermit};
pub use header::{HeaderError, RequestHeader};
pub use reader::{FrameDeadline, FrameReader, Patience, ReadError, ReceivedFrame};
