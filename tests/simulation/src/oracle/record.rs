//! Records whose content says who sent them: whoever reads one knows whether it is whole.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// Who sent it.
    pub producer: u32,
    /// Its number among those of its producer.
    pub number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}:{}", self.producer, self.number)
    }
}

impl RecordId {
    /// The record's value, with so much filling.
    pub fn value(self, filling: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(12 + filling);
        value.put_u32(self.producer);
        value.put_u64(self.number);
        // Cheap to make and to compare: seeds are to spend their time elsewhere.
        value.put_bytes((self.seed() >> 56) as u8, filling);
        value.freeze()
    }

    /// Whose value it is; `None` if it is nobody's.
    pub fn of(mut value: &[u8]) -> Option<Self> {
        let whole = value;
        if value.len() < 12 {
            return None;
        }
        let id = Self { producer: value.get_u32(), number: value.get_u64() };
        (id.value(value.len()) == whole).then_some(id)
    }

    fn seed(self) -> u64 {
        (u64::from(self.producer) << 32 ^ self.number).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}
