//! Reading lengths and numbers from bytes that nobody vouches for.

/// Why bytes aren't what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end too early.
    #[error("it ends too early")]
    Truncated,
    /// A length or count that is negative, or above what remains.
    #[error("a length of {length} where {remaining} bytes remain")]
    Length {
        /// The length on the wire.
        length: i64,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A null where the protocol has none.
    #[error("null where the protocol has none")]
    Null,
    /// A variable-length number of more than 32 bits.
    #[error("a variable-length number of more than 32 bits")]
    Varint,
    /// A tagged field whose content isn't as long as it says.
    #[error("a tagged field of {declared} bytes whose content takes {actual}")]
    TaggedLength {
        /// The length on the wire.
        declared: usize,
        /// What its content takes.
        actual: usize,
    },
    /// Neither of the marks of a nullable struct.
    #[error("{0} is no mark of a nullable struct")]
    Presence(i8),
}

/// What remains to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        self.take(length).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn i8(&mut self) -> Result<i8, Malformed> {
        self.array().map(i8::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// An unsigned number, seven bits to the byte, the lowest first: at most five bytes.
    pub(super) fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7F);
            if shift == 28 && bits > 0xF {
                return Err(Malformed::Varint);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Varint)
    }

    /// A length that must lie within what remains; `None` for null (-1, or 0 in the compact form).
    pub(super) fn length(&mut self, encoding: LengthEncoding) -> Result<Option<usize>, Malformed> {
        let length = match encoding {
            LengthEncoding::Compact => i64::from(self.varint()?) - 1,
            LengthEncoding::Short => i64::from(self.i16()?),
            LengthEncoding::Long => i64::from(self.i32()?),
        };
        if length == -1 {
            return Ok(None);
        }
        match usize::try_from(length) {
            Ok(within) if within <= self.remaining() => Ok(Some(within)),
            _ => Err(Malformed::Length { length, remaining: self.remaining() }),
        }
    }

    /// A tagged field's number and content.
    pub(super) fn tagged(&mut self) -> Result<(u32, &'a [u8]), Malformed> {
        let tag = self.varint()?;
        let length = self.varint()? as usize;
        if length > self.remaining() {
            return Err(Malformed::Length { length: length as i64, remaining: self.remaining() });
        }
        Ok((tag, self.take(length)?))
    }
}

/// How a length stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LengthEncoding {
    /// An unsigned varint, one more than the length (flexible versions).
    Compact,
    /// An int16 (strings).
    Short,
    /// An int32 (bytes, records, arrays).
    Long,
}
