//! Mutations, and what they make of the rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_types::Versionstamp;

use super::{bounds, stamped_key};
use crate::kv::{KeyRange, StoreError};

/// What a transaction does to rows.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Set { key: Bytes, value: Bytes },
    SetStampedKey { prefix: Vec<u8>, suffix: Vec<u8>, value: Bytes },
    SetStampedValue { key: Bytes, value: Vec<u8>, stamp_at: usize },
    Add { key: Bytes, addend: Bytes },
    Max { key: Bytes, candidate: u64 },
    Clear { key: Bytes },
    ClearRange { range: KeyRange },
}

/// Rows of a group of commits: the last value of each key that it touches, `None` where it removes the key.
pub(crate) type Writes = BTreeMap<Bytes, Option<Bytes>>;

/// The rows below a group of commits.
pub(crate) trait Latest {
    /// A key's value.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// The keys of a range that is not inverted.
    fn keys(&self, range: &KeyRange) -> Result<Vec<Bytes>, StoreError>;
}

/// Applies a mutation; answers the key if it was only known now.
pub(super) fn apply(
    mutation: Mutation,
    stamp: Versionstamp,
    writes: &mut Writes,
    latest: &impl Latest,
) -> Result<Option<Bytes>, StoreError> {
    match mutation {
        Mutation::Set { key, value } => {
            writes.insert(key, Some(value));
        }
        Mutation::SetStampedKey { prefix, suffix, value } => {
            let key = stamped_key(&prefix, stamp, &suffix);
            writes.insert(key.clone(), Some(value));
            return Ok(Some(key));
        }
        Mutation::SetStampedValue { key, mut value, stamp_at } => {
            value[stamp_at..stamp_at + Versionstamp::LENGTH].copy_from_slice(stamp.as_bytes());
            writes.insert(key, Some(value.into()));
        }
        Mutation::Add { key, addend } => {
            let sum = sum(current(&key, writes, latest)?.as_deref().unwrap_or_default(), &addend);
            writes.insert(key, Some(sum.into()));
        }
        Mutation::Max { key, candidate } => {
            let before = number(current(&key, writes, latest)?.as_deref());
            let most = before.max(candidate);
            writes.insert(key, Some(Bytes::copy_from_slice(&most.to_le_bytes())));
        }
        Mutation::Clear { key } => {
            writes.insert(key, None);
        }
        Mutation::ClearRange { range } => clear_range(&range, writes, latest)?,
    }
    Ok(None)
}

fn clear_range(range: &KeyRange, writes: &mut Writes, latest: &impl Latest) -> Result<(), StoreError> {
    if range.start >= range.end {
        return Ok(());
    }
    for (_, value) in writes.range_mut::<[u8], _>(bounds(range)) {
        *value = None;
    }
    for key in latest.keys(range)? {
        writes.insert(key, None);
    }
    Ok(())
}

fn current(key: &Bytes, writes: &Writes, latest: &impl Latest) -> Result<Option<Bytes>, StoreError> {
    match writes.get(key) {
        Some(value) => Ok(value.clone()),
        None => latest.get(key),
    }
}

/// The sum of two little-endian numbers, as long as the second.
fn sum(value: &[u8], addend: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let padded = value.iter().copied().chain(std::iter::repeat(0));
    let add = |(one, other): (u8, &u8)| {
        let sum = u16::from(one) + u16::from(*other) + carry;
        carry = sum >> 8;
        sum as u8
    };
    padded.zip(addend).map(add).collect()
}

/// The number in a value: as FoundationDB does, a shorter value is padded with zeros and a longer one cut off.
fn number(value: Option<&[u8]>) -> u64 {
    let value = value.unwrap_or_default();
    let mut bytes = [0; 8];
    let length = value.len().min(8);
    bytes[..length].copy_from_slice(&value[..length]);
    u64::from_le_bytes(bytes)
}
