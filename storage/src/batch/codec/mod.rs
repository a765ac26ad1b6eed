//! The codecs: decompression in windows, compression into a bounded buffer.
//!
//! Nothing here trusts its input, and nothing holds more decompressed bytes than one window: 64 KiB for gzip and
//! zstd, a block (at most 4 MiB) for LZ4, a block (bounded by what snappy can pack into its bytes) for snappy. A
//! zstd frame may ask for a history of up to 128 MiB, as it may of Kafka; it is filled only as far as the frame
//! really unpacks, which [`decompressed_limit`] bounds.
//!
//! Where Kafka's decoders are lax (bytes behind an LZ4 frame, a content checksum that it doesn't compute, garbage
//! behind a gzip member) these are too: what they refuse, the broker answers for.

mod gzip;
mod lz4;
mod output;
mod snappy;

use std::io::Read;

use super::header::Codec;

pub(super) use output::{Compressor, Output};

/// Bytes of a window of the streaming codecs.
const WINDOW_BYTES: usize = 64 * 1024;
/// A batch may always unpack to this much.
const DECOMPRESSED_FLOOR_BYTES: u64 = 128 * 1024 * 1024;
/// A large batch may unpack to this many times its size.
const DECOMPRESSED_FACTOR: u64 = 16;

/// How many bytes a batch of `compressed_bytes` may unpack to before it counts as a decompression bomb: 128 MiB, or
/// sixteen times its size if that is more. Kafka has no such bound.
pub const fn decompressed_limit(compressed_bytes: usize) -> u64 {
    let scaled = compressed_bytes as u64 * DECOMPRESSED_FACTOR;
    if scaled > DECOMPRESSED_FLOOR_BYTES { scaled } else { DECOMPRESSED_FLOOR_BYTES }
}

/// Compressed bytes that can't be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CodecError(pub(super) String);

impl From<std::io::Error> for CodecError {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl CodecError {
    fn new(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// Unpacks the records of one batch, a window at a time.
pub(super) enum Decompressor<'a> {
    None(&'a [u8]),
    Gzip(gzip::Decoder<'a>),
    Snappy(snappy::Decoder<'a>),
    Lz4(lz4::Decoder<'a>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl<'a> Decompressor<'a> {
    /// Of `records`, everything behind a batch's header.
    pub(super) fn new(codec: Codec, records: &'a [u8]) -> Result<Self, CodecError> {
        Ok(match codec {
            Codec::None => Self::None(records),
            Codec::Gzip => Self::Gzip(gzip::Decoder::new(records)),
            Codec::Snappy => Self::Snappy(snappy::Decoder::new(records)?),
            Codec::Lz4 => Self::Lz4(lz4::Decoder::new(records)?),
            Codec::Zstd => Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(records)?)),
        })
    }

    /// Replaces what `window` holds by the next bytes; leaves it empty at the end.
    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::None(records) => {
                window.clear();
                let (next, rest) = records.split_at(records.len().min(WINDOW_BYTES));
                window.extend_from_slice(next);
                *records = rest;
                Ok(())
            }
            Self::Gzip(decoder) => decoder.refill(window),
            Self::Snappy(decoder) => decoder.refill(window),
            Self::Lz4(decoder) => decoder.refill(window),
            Self::Zstd(decoder) => refill_from(decoder, window),
        }
    }
}

/// One window from a reader.
fn refill_from(reader: &mut impl Read, window: &mut Vec<u8>) -> Result<(), CodecError> {
    window.resize(WINDOW_BYTES, 0);
    let filled = reader.read(window)?;
    window.truncate(filled);
    Ok(())
}

#[cfg(test)]
mod tests;
