//! Snappy, as Kafka's clients write it: in snappy-java's framing, or (librdkafka and others) as one raw block.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version (4) | compatible version (4) | { block length (4) | raw block }...
//! ```

use std::io::{self, Write};

use super::CodecError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
const VERSION: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes of a block, as snappy-java's default.
const BLOCK_BYTES: usize = 32 * 1024;
/// A copy of up to 64 bytes takes at least 3: no block unpacks to more than this many times its size.
const MOST_DENSE: usize = 22;

pub(in crate::batch) struct Decoder<'a> {
    rest: &'a [u8],
    framed: bool,
    decoder: snap::raw::Decoder,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() {
            return Err(CodecError::new("snappy: nothing there"));
        }
        let framed = bytes.len() >= HEADER_BYTES && bytes.starts_with(&MAGIC);
        let rest = if framed { &bytes[HEADER_BYTES..] } else { bytes };
        Ok(Self { rest, framed, decoder: snap::raw::Decoder::new() })
    }

    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<(), CodecError> {
        window.clear();
        while window.is_empty() {
            let Some(block) = self.next_block()? else {
                break;
            };
            self.unpack(block, window)?;
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
        if !self.framed {
            let block = std::mem::take(&mut self.rest);
            return Ok((!block.is_empty()).then_some(block));
        }
        // Streams may be concatenated: a header where a block's length is expected begins the next one.
        while self.rest.len() >= HEADER_BYTES && self.rest.starts_with(&MAGIC) {
            self.rest = &self.rest[HEADER_BYTES..];
        }
        let Some((length, rest)) = self.rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| CodecError::new("snappy: a block's length is negative"))?;
        let Some((block, rest)) = rest.split_at_checked(length) else {
            return Err(CodecError::new("snappy: a block ends early"));
        };
        self.rest = rest;
        Ok(Some(block))
    }

    fn unpack(&mut self, block: &[u8], window: &mut Vec<u8>) -> Result<(), CodecError> {
        let length = snap::raw::decompress_len(block).map_err(|error| CodecError(error.to_string()))?;
        if length > block.len().saturating_mul(MOST_DENSE) {
            return Err(CodecError::new("snappy: a block's length is a lie"));
        }
        window.resize(length, 0);
        let written =
            self.decoder.decompress(block, window).map_err(|error| CodecError(error.to_string()))?;
        window.truncate(written);
        Ok(())
    }
}

/// Writes snappy-java's framing.
pub(in crate::batch) struct Encoder<W: Write> {
    output: W,
    block: Vec<u8>,
    packed: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(mut output: W) -> io::Result<Self> {
        output.write_all(&MAGIC)?;
        output.write_all(&VERSION)?;
        Ok(Self {
            output,
            block: Vec::with_capacity(BLOCK_BYTES),
            packed: vec![0; snap::raw::max_compress_len(BLOCK_BYTES)],
            encoder: snap::raw::Encoder::new(),
        })
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.write_block()?;
        Ok(self.output)
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = self.encoder.compress(&self.block, &mut self.packed).map_err(io::Error::other)?;
        self.output.write_all(&(length as u32).to_be_bytes())?;
        self.output.write_all(&self.packed[..length])?;
        self.block.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_BYTES {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
