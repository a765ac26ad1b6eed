//! Where records are read from: a slice, or the windows of a decompressor. Both read Kafka's varints (LEB128, zigzag)
//! as Kafka does: at most 5 bytes for 32 bits, 10 for 64, excess bits dropped.

use super::codec::{CodecError, Decompressor, decompressed_limit};
use super::error::BatchError;
use super::header::Codec;

/// Bytes, one after the other.
pub(super) trait Source {
    /// What can go wrong.
    type Error: From<Fault>;

    /// The next byte.
    fn byte(&mut self) -> Result<u8, Self::Error>;

    /// Passes over `count` bytes.
    fn skip(&mut self, count: usize) -> Result<(), Self::Error>;

    /// A signed number of 32 bits.
    #[inline]
    fn varint(&mut self) -> Result<i32, Self::Error> {
        let first = self.byte()?;
        let mut raw = u32::from(first & 0x7F);
        if first >= 0x80 {
            raw |= self.varint_rest()?;
        }
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// What follows the first byte of a longer number.
    #[inline]
    fn varint_rest(&mut self) -> Result<u32, Self::Error> {
        let mut raw = 0;
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            raw |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(raw);
            }
        }
        Err(Fault::NumberTooLong.into())
    }

    /// A signed number of 64 bits.
    #[inline]
    fn varlong(&mut self) -> Result<i64, Self::Error> {
        let mut raw = 0u64;
        for shift in (0..=63).step_by(7) {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err(Fault::NumberTooLong.into())
    }

    /// Bytes behind their length, passed over; below zero means that there are none. Returns the length.
    #[inline]
    fn skip_field(&mut self) -> Result<i32, Self::Error> {
        let length = self.varint()?;
        if length > 0 {
            self.skip(length as usize)?;
        }
        Ok(length)
    }

    /// A record's headers, passed over.
    #[inline]
    fn skip_headers(&mut self) -> Result<(), Self::Error> {
        let count = self.varint()?;
        if count < 0 {
            return Err(Fault::HeaderCount.into());
        }
        for _ in 0..count {
            if self.skip_field()? < 0 {
                return Err(Fault::HeaderKey.into());
            }
            self.skip_field()?;
        }
        Ok(())
    }
}

/// Writes a number as [`Source::varint`] reads it.
pub(super) fn put_varint(bytes: &mut Vec<u8>, value: i32) {
    put_varlong(bytes, i64::from(value));
}

/// Writes a number as [`Source::varlong`] reads it.
pub(super) fn put_varlong(bytes: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        bytes.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    bytes.push(raw as u8);
}

/// What can be wrong with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    EndsEarly,
    NumberTooLong,
    HeaderCount,
    HeaderKey,
    Length,
    BytesLeft,
    OffsetDelta,
}

impl Fault {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::EndsEarly => "it ends early",
            Self::NumberTooLong => "a number is too long",
            Self::HeaderCount => "the number of headers is out of range",
            Self::HeaderKey => "a header has no key",
            Self::Length => "its length is wrong",
            Self::BytesLeft => "bytes are left behind the last record",
            Self::OffsetDelta => "its offset is out of order",
        }
    }

    /// As a batch's error, of its record `index`.
    pub(super) fn of_record(self, index: i32) -> BatchError {
        BatchError::MalformedRecord { index, reason: self.reason() }
    }
}

/// A slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice<'a>(pub(super) &'a [u8]);

impl<'a> Slice<'a> {
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::EndsEarly)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl Source for Slice<'_> {
    type Error = Fault;

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.0.split_first().ok_or(Fault::EndsEarly)?;
        self.0 = rest;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.take(count).map(drop)
    }
}

/// What can go wrong while records are unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamFault {
    Record(Fault),
    Codec(CodecError),
    Bomb(u64),
}

impl From<Fault> for StreamFault {
    fn from(fault: Fault) -> Self {
        Self::Record(fault)
    }
}

impl From<CodecError> for StreamFault {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl StreamFault {
    /// As a batch's error, met in its record `index`.
    pub(super) fn of_record(self, index: i32) -> BatchError {
        match self {
            Self::Record(fault) => fault.of_record(index),
            Self::Codec(CodecError(reason)) => BatchError::Undecodable { reason },
            Self::Bomb(limit) => BatchError::DecompressionBomb { limit },
        }
    }
}

/// The windows of a decompressor, bounded in their sum.
pub(super) struct Stream<'a> {
    decompressor: Decompressor<'a>,
    window: Vec<u8>,
    position: usize,
    unpacked: u64,
    limit: u64,
}

impl<'a> Stream<'a> {
    pub(super) fn new(codec: Codec, records: &'a [u8]) -> Result<Self, StreamFault> {
        Ok(Self {
            decompressor: Decompressor::new(codec, records)?,
            window: Vec::new(),
            position: 0,
            unpacked: 0,
            limit: decompressed_limit(records.len()),
        })
    }

    /// The rest of the window, another one if this is used up; empty at the end.
    pub(super) fn window(&mut self) -> Result<&[u8], StreamFault> {
        if self.position == self.window.len() {
            self.position = 0;
            self.decompressor.refill(&mut self.window)?;
            self.unpacked += self.window.len() as u64;
            if self.unpacked > self.limit {
                return Err(StreamFault::Bomb(self.limit));
            }
        }
        Ok(&self.window[self.position..])
    }

    /// Uses up `count` bytes of the window.
    pub(super) fn consume(&mut self, count: usize) {
        self.position += count;
        assert!(self.position <= self.window.len(), "consumed what was not there");
    }

    /// Whether everything was read.
    pub(super) fn is_at_end(&mut self) -> Result<bool, StreamFault> {
        self.window().map(<[u8]>::is_empty)
    }
}

impl Source for Stream<'_> {
    type Error = StreamFault;

    #[inline]
    fn byte(&mut self) -> Result<u8, StreamFault> {
        if let Some(&byte) = self.window.get(self.position) {
            self.position += 1;
            return Ok(byte);
        }
        let first = self.window()?.first().copied().ok_or(Fault::EndsEarly)?;
        self.position += 1;
        Ok(first)
    }

    #[inline]
    fn skip(&mut self, mut count: usize) -> Result<(), StreamFault> {
        while count > 0 {
            let passed = self.window()?.len().min(count);
            if passed == 0 {
                return Err(Fault::EndsEarly.into());
            }
            self.position += passed;
            count -= passed;
        }
        Ok(())
    }
}
