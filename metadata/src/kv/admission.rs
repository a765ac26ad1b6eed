//! What a transaction may hold before it is sent: the limits of the seam, checked operation by operation, and the
//! bytes that its operations come to. Shared by all stores, so that all refuse the same.
//!
//! Invariant: the first refusal stays: whatever follows, the transaction can't be committed.

use penstock_types::Versionstamp;

use super::{KeyRange, StoreError, WriteConflict, limits};

/// FoundationDB counts its own structures in a transaction's size: about so much for a mutation.
const MUTATION_OVERHEAD: usize = 44;
/// And so much for a conflict range.
const RANGE_OVERHEAD: usize = 24;
/// FoundationDB's form of a stamped key or value carries the stamp's position in 4 bytes, which its limits count.
const STAMP_POSITION: usize = 4;
/// The highest end of a range: keys from 0xFF on are FoundationDB's own.
const END: &[u8] = &[0xFF];

/// A transaction's operations so far, as far as limits go.
#[derive(Debug, Default)]
pub(super) struct Admission {
    bytes: usize,
    refusal: Option<StoreError>,
}

impl Admission {
    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the commit fail with `refusal`, unless it is to fail already.
    pub(super) fn refuse(&mut self, refusal: StoreError) {
        self.refusal.get_or_insert(refusal);
    }

    /// Whether the transaction may be sent.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if self.bytes > limits::TRANSACTION_BYTES {
            let (bytes, limit) = (self.bytes, limits::TRANSACTION_BYTES);
            return Err(StoreError::TooLarge { what: "a transaction", bytes, limit });
        }
        Ok(())
    }

    /// Counts a conflict range.
    pub(super) fn conflict_range(&mut self, range: &KeyRange) {
        self.bytes += range.start.len() + range.end.len() + RANGE_OVERHEAD;
    }

    /// Whether a mutation of `key` with an operand of so many bytes may be made; counts it.
    pub(super) fn mutation(&mut self, key: &[u8], operand_bytes: usize, conflict: WriteConflict) -> bool {
        if !self.key(key.first(), key.len()) || !self.value(operand_bytes) {
            return false;
        }
        self.bytes += key.len() + operand_bytes + MUTATION_OVERHEAD;
        if conflict == WriteConflict::Yes {
            self.bytes += 2 * key.len() + 1 + RANGE_OVERHEAD;
        }
        true
    }

    /// The same for a value that gets a stamp.
    ///
    /// # Panics
    /// If the value has no 10 bytes at `stamp_at`.
    pub(super) fn stamped_value(
        &mut self,
        key: &[u8],
        value: &[u8],
        stamp_at: usize,
        conflict: WriteConflict,
    ) -> bool {
        let stamp_end = stamp_at.saturating_add(Versionstamp::LENGTH);
        assert!(stamp_end <= value.len(), "no stamp fits at {stamp_at} in a value of {} bytes", value.len());
        self.mutation(key, value.len() + STAMP_POSITION, conflict)
    }

    /// The same for a key that gets a stamp. The key enters the write conflict ranges at the commit, when it is
    /// known, whatever was asked for.
    pub(super) fn stamped_key(&mut self, prefix: &[u8], suffix: &[u8], value_bytes: usize) -> bool {
        let bytes = prefix.len() + Versionstamp::LENGTH + suffix.len() + STAMP_POSITION;
        if !self.key(prefix.first(), bytes) || !self.value(value_bytes) {
            return false;
        }
        self.bytes += 3 * bytes + value_bytes + MUTATION_OVERHEAD + RANGE_OVERHEAD;
        true
    }

    /// Whether a removal of a range has anything to do; counts it.
    pub(super) fn clear_range(&mut self, range: &KeyRange, conflict: WriteConflict) -> bool {
        if !self.range(range) {
            return false;
        }
        self.bytes += range.start.len() + range.end.len() + MUTATION_OVERHEAD;
        if conflict == WriteConflict::Yes {
            self.conflict_range(range);
        }
        true
    }

    /// Whether a range is legal and holds any key.
    pub(super) fn range(&mut self, range: &KeyRange) -> bool {
        match check_range(range) {
            Ok(()) => range.start < range.end,
            Err(refusal) => {
                self.refuse(refusal);
                false
            }
        }
    }

    fn key(&mut self, first: Option<&u8>, bytes: usize) -> bool {
        if bytes > limits::KEY_BYTES {
            self.refuse(StoreError::TooLarge { what: "a key", bytes, limit: limits::KEY_BYTES });
            return false;
        }
        if first == Some(&0xFF) {
            self.refuse(outside());
            return false;
        }
        true
    }

    fn value(&mut self, bytes: usize) -> bool {
        if bytes > limits::VALUE_BYTES {
            self.refuse(StoreError::TooLarge { what: "a value", bytes, limit: limits::VALUE_BYTES });
            return false;
        }
        true
    }
}

/// Whether a key may be read.
pub(super) fn check_read_key(key: &[u8]) -> Result<(), StoreError> {
    if key.first() == Some(&0xFF) { Err(outside()) } else { Ok(()) }
}

/// Whether a range may be read or named as a conflict range.
pub(super) fn check_range(range: &KeyRange) -> Result<(), StoreError> {
    if range.start > range.end {
        return Err(StoreError::Failed { reason: "a range's start is behind its end".to_owned() });
    }
    if range.end.as_slice() > END { Err(outside()) } else { Ok(()) }
}

fn outside() -> StoreError {
    StoreError::Failed { reason: "a key is outside the legal range: it begins with 0xFF".to_owned() }
}
