//! The walk over a request before it is decoded.
//!
//! The codec reserves memory by the array lengths that it reads, so that a request of thirty bytes can ask for
//! gigabytes. [`check`] follows the request's layout over its bytes without allocating anything, and refuses
//!
//! - a length or count above what remains (each element of an array takes a byte at least),
//! - a null, a mark or a variable-length number that the codec would read otherwise than the protocol means it,
//! - a known tagged field whose content isn't exactly as long as it says,
//! - a request whose decoded form would take more memory than [`Limit`] allows.
//!
//! So a request that passes is decoded in memory bounded by [`Walked::decoded_bytes`]. Unknown tagged fields are
//! skipped, wherever and in whichever order they come. Bytes behind the request are left alone, as in Kafka.
//! Deliberately absent: UTF-8, and the meaning of any value; the codec and the handlers check those.

use super::cursor::{Cursor, LengthEncoding, Malformed};
use super::schema::{self, Field, Kind, Request};

/// How much memory a decoded request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes that every request may take.
    pub base_bytes: usize,
    /// Bytes more for each byte of its body.
    pub per_body_byte: usize,
}

impl Default for Limit {
    /// 16 MiB and twice the body: a commit of 100,000 offsets takes some 8 MiB.
    fn default() -> Self {
        Self { base_bytes: 16 << 20, per_body_byte: 2 }
    }
}

impl Limit {
    /// The most that the decoded form of a body of `length` bytes may take.
    pub fn for_body(self, length: usize) -> usize {
        length.saturating_mul(self.per_body_byte).saturating_add(self.base_bytes)
    }
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// An upper bound for the memory that decoding takes, without the frame that strings and records are slices of.
    pub decoded_bytes: usize,
    /// Bytes behind the request's end.
    pub left_over: usize,
}

/// Why a request isn't decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// There is no such API or version.
    #[error("no layout for version {version} of API {key}")]
    Unknown {
        /// The API's key.
        key: i16,
        /// The version.
        version: i16,
    },
    /// The bytes aren't that request.
    #[error("{api} version {version}, {offset} bytes into the body, in {field}: {reason}")]
    Malformed {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The field that was being read, empty for the list of tagged fields.
        field: &'static str,
        /// Where the walk stood.
        offset: usize,
        /// What is wrong.
        reason: Malformed,
    },
    /// Decoding would take too much memory.
    #[error("{api} version {version} would take more than {limit_bytes} bytes of memory")]
    TooMuchMemory {
        /// The API's name.
        api: &'static str,
        /// The version.
        version: i16,
        /// The bound.
        limit_bytes: usize,
    },
}

/// Walks the body of a request.
pub fn check(key: i16, version: i16, body: &[u8], limit: Limit) -> Result<Walked, BoundsError> {
    let request = schema::request(key)
        .filter(|request| request.valid.contains(version))
        .ok_or(BoundsError::Unknown { key, version })?;
    let mut walk = Walk {
        cursor: Cursor::new(body),
        version,
        flexible: request.flexible.contains(version),
        decoded: request.decoded,
        limit: limit.for_body(body.len()),
        field: "",
    };
    match walk.fields(request.fields) {
        Ok(()) => Ok(Walked { decoded_bytes: walk.decoded, left_over: walk.cursor.remaining() }),
        Err(stop) => Err(walk.describe(request, body.len(), stop)),
    }
}

/// Memory of the first unknown tagged field of a struct: a leaf of a B-tree of 11 entries of 36 bytes.
const FIRST_TAG: usize = 448;
/// Memory of each further one: an entry of leaves that are half full.
const NEXT_TAG: usize = 96;

enum Stop {
    Malformed(Malformed),
    Memory,
}

impl From<Malformed> for Stop {
    fn from(reason: Malformed) -> Self {
        Self::Malformed(reason)
    }
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    flexible: bool,
    decoded: usize,
    limit: usize,
    field: &'static str,
}

impl Walk<'_> {
    /// The depth of the recursion is that of the layout, whatever the bytes are.
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), Stop> {
        for field in fields {
            if field.versions.contains(self.version) && !field.tagged.contains(self.version) {
                self.field(field)?;
            }
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn field(&mut self, field: &'static Field) -> Result<(), Stop> {
        self.field = field.name;
        self.value(&field.kind, field.nullable.contains(self.version))
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool) -> Result<(), Stop> {
        match kind {
            Kind::Fixed(size) => Ok(self.cursor.skip(*size)?),
            Kind::Text => self.content(LengthEncoding::Short, nullable),
            Kind::Binary => self.content(LengthEncoding::Long, nullable),
            Kind::Array(element) => self.array(element, nullable),
            Kind::Struct(fields, _) => {
                if nullable {
                    // Kafka writes 1 and -1; the codec takes whatever isn't 1 for null.
                    match self.cursor.i8()? {
                        1 => {}
                        -1 => return Ok(()),
                        mark => return Err(Malformed::Presence(mark).into()),
                    }
                }
                self.fields(fields)
            }
        }
    }

    fn length(&mut self, encoding: LengthEncoding, nullable: bool) -> Result<usize, Stop> {
        let encoding = if self.flexible { LengthEncoding::Compact } else { encoding };
        match self.cursor.length(encoding)? {
            Some(length) => Ok(length),
            None if nullable => Ok(0),
            None => Err(Malformed::Null.into()),
        }
    }

    fn content(&mut self, encoding: LengthEncoding, nullable: bool) -> Result<(), Stop> {
        let length = self.length(encoding, nullable)?;
        Ok(self.cursor.skip(length)?)
    }

    fn array(&mut self, element: &'static Kind, nullable: bool) -> Result<(), Stop> {
        let count = self.length(LengthEncoding::Long, nullable)?;
        self.reserve(count.saturating_mul(element.decoded()))?;
        if let Kind::Fixed(size) = element {
            return Ok(self.cursor.skip(count.saturating_mul(*size))?);
        }
        for _ in 0..count {
            self.value(element, false)?;
        }
        Ok(())
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), Stop> {
        self.field = "";
        let count = self.cursor.varint()?;
        let mut unknown = 0_usize;
        for _ in 0..count {
            let (tag, content) = self.cursor.tagged()?;
            let known = fields.iter().find(|field| field.tag == tag && field.tagged.contains(self.version));
            if let Some(field) = known {
                self.tagged_field(field, content)?;
                continue;
            }
            self.reserve(if unknown == 0 { FIRST_TAG } else { NEXT_TAG })?;
            unknown += 1;
        }
        Ok(())
    }

    /// The codec reads a known tagged field without regard to the length in front of it: they must agree.
    fn tagged_field(&mut self, field: &'static Field, content: &[u8]) -> Result<(), Stop> {
        let mut inner = Walk { cursor: Cursor::new(content), ..*self };
        let walked = inner.field(field);
        (self.decoded, self.field) = (inner.decoded, inner.field);
        walked?;
        // A tagged field that comes twice is decoded twice, and the first one dropped: counted twice here.
        let left = inner.cursor.remaining();
        if left > 0 {
            let (declared, actual) = (content.len(), content.len() - left);
            return Err(Malformed::TaggedLength { declared, actual }.into());
        }
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), Stop> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > self.limit { Err(Stop::Memory) } else { Ok(()) }
    }

    fn describe(&self, request: &Request, length: usize, stop: Stop) -> BoundsError {
        let (api, version) = (request.name, self.version);
        match stop {
            Stop::Memory => BoundsError::TooMuchMemory { api, version, limit_bytes: self.limit },
            Stop::Malformed(reason) => BoundsError::Malformed {
                api,
                version,
                field: self.field,
                offset: length - self.cursor.remaining(),
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
