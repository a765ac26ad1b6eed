//! Compression into a bounded buffer.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::header::Codec;
use super::{CodecError, lz4, snappy};

/// Bytes written so far, up to a limit; what lies beyond is only counted.
#[derive(Debug)]
pub(in crate::batch) struct Output {
    bytes: Vec<u8>,
    limit: usize,
    total: usize,
}

impl Output {
    pub(in crate::batch) fn new(start: &[u8], limit: usize) -> Self {
        Self { bytes: start.to_vec(), limit, total: start.len() }
    }

    /// What was written, or how long it is if that is beyond the limit.
    pub(in crate::batch) fn into_bytes(self) -> Result<Vec<u8>, usize> {
        if self.total > self.limit { Err(self.total) } else { Ok(self.bytes) }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len();
        if self.total <= self.limit {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes = Vec::new();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs records behind a header that is already there.
pub(in crate::batch) enum Compressor {
    None(Output),
    Gzip(GzEncoder<Output>),
    Snappy(Box<snappy::Encoder<Output>>),
    Lz4(Box<lz4::FrameEncoder<Output>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Output>>),
}

impl Compressor {
    /// `level` is the codec's own (gzip 1 to 9, LZ4 1 to 17, zstd up to 22); `None` is its default. Snappy has none.
    pub(in crate::batch) fn new(
        codec: Codec,
        level: Option<i32>,
        output: Output,
    ) -> Result<Self, CodecError> {
        Ok(match codec {
            Codec::None => Self::None(output),
            Codec::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = level.map_or(Compression::default(), |level| Compression::new(level.min(9)));
                Self::Gzip(GzEncoder::new(output, level))
            }
            Codec::Snappy => Self::Snappy(Box::new(snappy::Encoder::new(output)?)),
            Codec::Lz4 => Self::Lz4(Box::new(lz4::encoder(output, level)?)),
            Codec::Zstd => {
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(output, level)?))
            }
        })
    }

    pub(in crate::batch) fn finish(self) -> Result<Output, CodecError> {
        Ok(match self {
            Self::None(output) => output,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Snappy(encoder) => encoder.finish()?,
            Self::Lz4(encoder) => {
                let (output, finished) = encoder.finish();
                finished?;
                output
            }
            Self::Zstd(encoder) => encoder.finish()?,
        })
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(output) => output.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Snappy(encoder) => encoder.write(bytes),
            Self::Lz4(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
