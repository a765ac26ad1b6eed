//! An answer as it goes to the socket: a few chunks, sent without being copied together.
//!
//! ```text
//! length (4, of what follows) | response header v0: correlation id (4)
//!                             | response header v1: correlation id (4), tagged fields (1: none)
//!                             | body
//! ```
//!
//! A message is encoded into one exactly sized buffer. A fetch answer is many chunks: the bytes between the record
//! batches, and the batches themselves as slices of the cache.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::api::context::RequestContext;

/// An answer, complete with length and response header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    chunks: Chunks,
    length: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Chunks {
    One(Bytes),
    Many(Vec<Bytes>),
}

/// A response that can't be written down: a bug of the handler that made it (a field that its version doesn't have,
/// a string or an answer that is too long).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The codec refuses the message.
    #[error("the response can't be encoded in version {version}: {reason}")]
    Message {
        /// The version that was asked for.
        version: i16,
        /// The codec's reason.
        reason: String,
    },
    /// An answer's length is an int32.
    #[error("a response of {length} bytes doesn't fit a frame")]
    TooLong {
        /// Bytes behind the length field.
        length: usize,
    },
}

impl Frame {
    /// Encodes `response` as the answer to the request of `context`, into one buffer.
    pub fn encode<M: Encodable + HeaderVersion>(
        context: &RequestContext,
        response: &M,
    ) -> Result<Self, EncodeError> {
        Self::encode_as(context.correlation_id, context.api_version, response)
    }

    /// As [`Frame::encode`], in a version other than the request's.
    pub fn encode_as<M: Encodable + HeaderVersion>(
        correlation_id: i32,
        version: i16,
        response: &M,
    ) -> Result<Self, EncodeError> {
        let header_version = M::header_version(version);
        let body = response.compute_size(version).map_err(|error| refuse(version, &error))?;
        let mut buffer = BytesMut::with_capacity(4 + header_length(header_version) + body);
        put_head(&mut buffer, correlation_id, header_version, body)?;
        let start = buffer.len();
        response.encode(&mut buffer, version).map_err(|error| refuse(version, &error))?;
        debug_assert_eq!(buffer.len() - start, body, "the codec's size is what it writes");
        let length = buffer.len();
        Ok(Self { chunks: Chunks::One(buffer.freeze()), length })
    }

    /// Frames a body that is already encoded, as chunks to be sent one after the other. `header_version` is that of
    /// the response header: 1 for the flexible versions of every API but ApiVersions, else 0.
    pub fn from_body(
        context: &RequestContext,
        header_version: i16,
        body: impl IntoIterator<Item = Bytes>,
    ) -> Result<Self, EncodeError> {
        let mut chunks = vec![Bytes::new()];
        chunks.extend(body.into_iter().filter(|chunk| !chunk.is_empty()));
        let body: usize = chunks.iter().map(Bytes::len).sum();
        let mut head = BytesMut::with_capacity(4 + header_length(header_version));
        put_head(&mut head, context.correlation_id, header_version, body)?;
        let length = head.len() + body;
        chunks[0] = head.freeze();
        Ok(Self { chunks: Chunks::Many(chunks), length })
    }

    /// Bytes on the wire, the length field included.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: a frame has a header.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The chunks, in the order in which they are sent; none is empty.
    pub fn chunks(&self) -> &[Bytes] {
        match &self.chunks {
            Chunks::One(chunk) => std::slice::from_ref(chunk),
            Chunks::Many(chunks) => chunks,
        }
    }

    /// Hands each chunk over, in the order in which they are sent.
    pub fn for_each_chunk(self, mut take: impl FnMut(Bytes)) {
        match self.chunks {
            Chunks::One(chunk) => take(chunk),
            Chunks::Many(chunks) => chunks.into_iter().for_each(take),
        }
    }

    /// All bytes in one piece, copied: for tests and tools.
    pub fn to_bytes(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(self.length);
        self.chunks().iter().for_each(|chunk| buffer.put_slice(chunk));
        buffer.freeze()
    }
}

fn refuse(version: i16, error: &dyn std::fmt::Display) -> EncodeError {
    EncodeError::Message { version, reason: format!("{error:#}") }
}

fn header_length(header_version: i16) -> usize {
    if header_version >= 1 { 5 } else { 4 }
}

fn put_head(
    buffer: &mut BytesMut,
    correlation_id: i32,
    header_version: i16,
    body: usize,
) -> Result<(), EncodeError> {
    let length = header_length(header_version) + body;
    buffer.put_i32(i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
    buffer.put_i32(correlation_id);
    if header_version >= 1 {
        buffer.put_u8(0);
    }
    Ok(())
}
