//! Offsets.

use std::fmt;

/// A record's place in its partition's log, 0 or above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first offset of a log.
    pub const ZERO: Self = Self(0);

    /// Wraps an offset; `None` below zero.
    pub const fn new(raw: i64) -> Option<Self> {
        if raw < 0 { None } else { Some(Self(raw)) }
    }

    /// Wraps an offset known to be in range.
    ///
    /// # Panics
    /// Below zero: an offset computed by us is never negative.
    pub const fn at(raw: i64) -> Self {
        assert!(raw >= 0, "an offset is never negative");
        Self(raw)
    }
    /// The raw number.
    pub const fn get(self) -> i64 {
        self.0
    }
    /// The offset `records` further on.
    ///
    /// # Panics
    /// Past 2^63: a log never gets there.
    #[must_use]
    pub fn plus(self, records: i64) -> Self {
        Self::at(self.0.checked_add(records).expect("an offset fits in 63 bits"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Offsets from `start` (inclusive) to `end` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// Inclusive.
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
}
