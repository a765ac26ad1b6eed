//! The layout of Kafka's requests: what each version of each request consists of, as far as lengths go.
//!
//! `requests.rs` is written by `agent/schema/generate.py` from the message descriptions in Apache Kafka's client
//! jar; tests hold it against the `kafka-protocol` crate, which does the decoding. Deliberately absent: responses
//! (nobody sends us any), defaults, the meaning of fields.

mod requests;

use requests::REQUESTS;

/// A range of versions, both ends inclusive; empty where the low end is above the high one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    low: i16,
    high: i16,
}

/// The layout of one request.
#[derive(Debug)]
pub struct Request {
    /// The API's key.
    pub key: i16,
    /// The API's name.
    pub name: &'static str,
    /// The versions that have a layout.
    pub valid: Versions,
    /// The versions with compact lengths and tagged fields (KIP-482); they have request header 2, others 1.
    pub flexible: Versions,
    /// The body.
    pub fields: &'static [Field],
    /// Bytes of memory that the decoded body takes, without what its fields point at.
    pub decoded: usize,
}

/// One field of a request or of a struct in it.
#[derive(Debug)]
pub struct Field {
    /// Its name in the protocol's description.
    pub name: &'static str,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Versions,
    /// The versions in which it stands among the tagged fields.
    pub tagged: Versions,
    /// Its number there.
    pub tag: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a field is.
#[derive(Debug)]
pub enum Kind {
    /// That many bytes, on the wire and decoded.
    Fixed(usize),
    /// A string.
    Text,
    /// Bytes or records.
    Binary,
    /// An array.
    Array(&'static Kind),
    /// A struct, and the bytes of memory that one takes when it is decoded, without what its fields point at.
    Struct(&'static [Field], usize),
}

/// The layout of the requests of an API; `None` for a key that Kafka 4.1 doesn't know.
pub fn request(key: i16) -> Option<&'static Request> {
    let index = REQUESTS.binary_search_by_key(&key, |request| request.key).ok()?;
    Some(&REQUESTS[index])
}

/// Every request, by key.
pub fn requests() -> impl Iterator<Item = &'static Request> {
    REQUESTS.iter()
}

impl Versions {
    /// Is `version` in the range?
    pub const fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }
    /// The lowest and the highest version.
    pub const fn bounds(self) -> (i16, i16) {
        (self.low, self.high)
    }
}

impl Kind {
    /// Bytes of memory that a value takes where it stands, without what it points at.
    pub const fn decoded(&self) -> usize {
        match self {
            Self::Fixed(size) => *size,
            Self::Text | Self::Binary => DECODED_STRING,
            Self::Array(_) => DECODED_VECTOR,
            Self::Struct(_, size) => *size,
        }
    }
}

/// Memory of a decoded string or byte sequence: a slice of the frame.
const DECODED_STRING: usize = size_of::<bytes::Bytes>();
/// Memory of a decoded array, without its elements.
const DECODED_VECTOR: usize = size_of::<Vec<u8>>();

const NEVER: Versions = Versions { low: 0, high: -1 };

const fn from(low: i16) -> Versions {
    Versions { low, high: i16::MAX }
}

const fn within(low: i16, high: i16) -> Versions {
    Versions { low, high }
}

const fn field(name: &'static str, versions: Versions, kind: Kind) -> Field {
    Field { name, versions, nullable: NEVER, tagged: NEVER, tag: 0, kind }
}

impl Field {
    const fn nullable(self, nullable: Versions) -> Self {
        Self { nullable, ..self }
    }
    const fn tagged(self, tag: u32, tagged: Versions) -> Self {
        Self { tag, tagged, ..self }
    }
}
