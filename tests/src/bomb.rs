//! Compressed records that unpack to gigabytes, made without holding them unpacked.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The start of one record whose value is `value_bytes` zeros that follow; behind those comes one zero more.
fn record_head(value_bytes: u32) -> Vec<u8> {
    // Attributes, timestamp delta, offset delta, a null key, the value's length.
    let mut body = vec![0, 0, 0, 1];
    put_varint(&mut body, value_bytes);
    let mut head = Vec::new();
    put_varint(&mut head, body.len() as u32 + value_bytes + 1);
    head.extend_from_slice(&body);
    head
}

/// A number below 2^31, zigzag.
fn put_varint(out: &mut Vec<u8>, value: u32) {
    put_unsigned(out, u64::from(value) << 1);
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes one well-formed record of `value_bytes` zeros.
fn write_record(mut out: impl Write, value_bytes: u32) -> io::Result<()> {
    out.write_all(&record_head(value_bytes))?;
    let mut left = value_bytes as usize + 1;
    while left > 0 {
        let now = left.min(ZEROS.len());
        out.write_all(&ZEROS[..now])?;
        left -= now;
    }
    Ok(())
}

/// A record of `value_bytes`, by gzip: a thousandth of it.
pub fn gzip(value_bytes: u32) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(2));
    write_record(&mut encoder, value_bytes)?;
    encoder.finish()
}

/// By zstd: next to nothing.
pub fn zstd(value_bytes: u32) -> io::Result<Vec<u8>> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1)?;
    write_record(&mut encoder, value_bytes)?;
    encoder.finish()
}

/// By LZ4: a two hundred and fiftieth.
pub fn lz4(value_bytes: u32) -> io::Result<Vec<u8>> {
    let info = FrameInfo::new().block_size(BlockSize::Max4MB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    write_record(&mut encoder, value_bytes)?;
    encoder.finish().map_err(io::Error::other)
}

/// One raw snappy block of `start` (up to 59 bytes) and one zero and `zeros` more: a twenty-second. It announces `announced_bytes`.
fn snappy_block(start: &[u8], zeros: usize, announced_bytes: u64) -> Vec<u8> {
    let mut block = Vec::new();
    put_unsigned(&mut block, announced_bytes);
    // A literal, then copies of 64 bytes from one byte back.
    block.push((start.len() as u8) << 2);
    block.extend_from_slice(start);
    block.push(0);
    for _ in 0..zeros / 64 {
        block.extend_from_slice(&[0xFE, 1, 0]);
    }
    block
}

/// A record in one raw snappy block.
pub fn snappy_raw(value_bytes: u32) -> Vec<u8> {
    let value_bytes = value_bytes / 64 * 64;
    let head = record_head(value_bytes);
    snappy_block(&head, value_bytes as usize, head.len() as u64 + u64::from(value_bytes) + 1)
}

/// A raw snappy block of a few bytes that announces four gigabytes.
pub fn snappy_liar() -> Vec<u8> {
    snappy_block(&record_head(1 << 30), 64, u64::from(u32::MAX))
}

/// A record in snappy-java's framing, in blocks of 64 KiB, about.
pub fn snappy_framed(value_bytes: u32) -> Vec<u8> {
    // A zero, and as many copies of 64 as fit.
    const ZEROS_BEHIND: u32 = 64 * 1023;
    let blocks = value_bytes / (ZEROS_BEHIND + 1);
    let head = record_head(blocks * (ZEROS_BEHIND + 1));
    let mut out = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let mut put = |block: &[u8]| {
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(block);
    };
    put(&snappy_block(&head, 0, head.len() as u64 + 1));
    let one = snappy_block(&[], ZEROS_BEHIND as usize, u64::from(ZEROS_BEHIND) + 1);
    (0..blocks).for_each(|_| put(&one));
    out
}
