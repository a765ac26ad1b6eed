//! LZ4's frame format (version 1.6.x of its description), read as Kafka reads it: one frame of independent blocks.
//! Linked blocks and dictionaries are refused, since no Java consumer could read them; the content checksum is
//! skipped, as Java's clients do.
//!
//! ```text
//! 04 22 4D 18 | FLG | BD | content size (8, if flagged) | header checksum
//! { block length (4, LE; top bit: stored) | block | checksum (4, if flagged) }... | 00 00 00 00 | checksum (4, if flagged)
//! ```

use std::io::Write;

use super::CodecError;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
const CONTENT_SIZE: u8 = 0x08;
const BLOCK_CHECKSUM: u8 = 0x10;
const STORED: u32 = 0x8000_0000;

pub(in crate::batch) struct Decoder<'a> {
    rest: &'a [u8],
    flags: u8,
    max_block_bytes: usize,
    finished: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, CodecError> {
        let Some(frame) = bytes.strip_prefix(&MAGIC) else {
            return Err(CodecError::new("lz4: not a frame"));
        };
        let &[flags, block_descriptor, ..] = frame else {
            return Err(CodecError::new("lz4: the frame ends early"));
        };
        // Version 01, independent blocks, reserved bits and dictionary id off.
        if flags & 0b1110_0011 != 0b0110_0000 {
            return Err(CodecError::new("lz4: a kind of frame that is not supported"));
        }
        if block_descriptor & 0b1000_1111 != 0 || block_descriptor >> 4 < 4 {
            return Err(CodecError::new("lz4: the block size is out of range"));
        }
        let descriptor_bytes = if flags & CONTENT_SIZE == 0 { 2 } else { 10 };
        let Some((descriptor, rest)) = frame.split_at_checked(descriptor_bytes) else {
            return Err(CodecError::new("lz4: the frame ends early"));
        };
        let Some((&checksum, rest)) = rest.split_first() else {
            return Err(CodecError::new("lz4: the frame ends early"));
        };
        if checksum != (xxh32(descriptor) >> 8) as u8 {
            return Err(CodecError::new("lz4: the frame's header is corrupt"));
        }
        let max_block_bytes = 1 << (8 + 2 * (block_descriptor >> 4));
        Ok(Self { rest, flags, max_block_bytes, finished: false })
    }

    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<(), CodecError> {
        window.clear();
        while !self.finished && window.is_empty() {
            self.next_block(window)?;
        }
        Ok(())
    }

    fn next_block(&mut self, window: &mut Vec<u8>) -> Result<(), CodecError> {
        let header = u32::from_le_bytes(self.take_four()?);
        let length = (header & !STORED) as usize;
        if length == 0 {
            self.finished = true;
            return Ok(());
        }
        if length > self.max_block_bytes {
            return Err(CodecError::new("lz4: a block is too large"));
        }
        let Some((block, rest)) = self.rest.split_at_checked(length) else {
            return Err(CodecError::new("lz4: a block ends early"));
        };
        self.rest = rest;
        if self.flags & BLOCK_CHECKSUM != 0 && u32::from_le_bytes(self.take_four()?) != xxh32(block) {
            return Err(CodecError::new("lz4: a block is corrupt"));
        }
        if header & STORED != 0 {
            window.extend_from_slice(block);
            return Ok(());
        }
        // Lengths beyond 255 take a byte for each 255: no block unpacks to more than 255 times its size.
        window.resize(self.max_block_bytes.min(block.len().saturating_mul(256)), 0);
        let written = lz4_flex::block::decompress_into(block, window)
            .map_err(|error| CodecError(format!("lz4: {error}")))?;
        window.truncate(written);
        Ok(())
    }

    fn take_four(&mut self) -> Result<[u8; 4], CodecError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(CodecError::new("lz4: the frame ends early"));
        };
        self.rest = rest;
        Ok(*bytes)
    }
}

/// Writes LZ4 frames.
pub(super) type FrameEncoder<W> = lz4::Encoder<W>;

/// Kafka's default of `compression.lz4.level`.
const DEFAULT_LEVEL: u32 = 9;

/// Writes the frame that Kafka's own clients write: independent blocks of 64 KiB, no checksums but the header's.
/// From level 3 on LZ4 looks harder for matches (its HC mode); what comes out is the same format.
pub(super) fn encoder<W: Write>(output: W, level: Option<i32>) -> std::io::Result<FrameEncoder<W>> {
    let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(DEFAULT_LEVEL);
    lz4::EncoderBuilder::new()
        .level(level)
        .block_size(lz4::BlockSize::Max64KB)
        .block_mode(lz4::BlockMode::Independent)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
        .build(output)
}

const PRIME_1: u32 = 2_654_435_761;
const PRIME_2: u32 = 2_246_822_519;
const PRIME_3: u32 = 3_266_489_917;
const PRIME_4: u32 = 668_265_263;
const PRIME_5: u32 = 374_761_393;

/// xxHash32 with seed 0, the checksum of LZ4's frames.
pub(super) fn xxh32(bytes: &[u8]) -> u32 {
    let (stripes, mut rest) = bytes.as_chunks::<16>();
    let mut hash = if stripes.is_empty() {
        PRIME_5
    } else {
        let mut lanes = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, 0u32.wrapping_sub(PRIME_1)];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
                let mixed = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_2));
                *lane = mixed.rotate_left(13).wrapping_mul(PRIME_1);
            }
        }
        let [a, b, c, d] = lanes;
        let sum = a.rotate_left(1).wrapping_add(b.rotate_left(7));
        sum.wrapping_add(c.rotate_left(12)).wrapping_add(d.rotate_left(18))
    };
    hash = hash.wrapping_add(bytes.len() as u32);
    while let Some((word, tail)) = rest.split_first_chunk::<4>() {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
        rest = tail;
    }
    for &byte in rest {
        hash = hash.wrapping_add(u32::from(byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(PRIME_2);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}
