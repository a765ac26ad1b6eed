//! Records of compacted topics: their keys, tombstones, and the offsets that a batch takes, whatever is left of it.

use bytes::Bytes;
use kafka_protocol::records::Record;

use crate::draw::Draw;
use crate::oracle::{Compacting, Keyed, RecordId};

/// The header by which a tombstone says which record it is.
pub const ID_HEADER: &str = "id";
/// A batch up to its records.
const HEADER_BYTES: usize = 61;

/// The keys of a topic, and how it is compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyPlan {
    /// How many there are.
    pub keys: u64,
    /// How many of them half of the records have.
    pub hot: u64,
    /// How often a record is a tombstone.
    pub tombstones: f64,
    /// How the topic is compacted.
    pub compacting: Compacting,
}

impl KeyPlan {
    /// Another record's.
    pub fn draw(&self, draw: &Draw) -> Keyed {
        let among = if draw.chance(0.5) { self.hot } else { self.keys };
        Keyed { key: draw.within(0..among) as u32, is_tombstone: draw.chance(self.tombstones) }
    }
}

/// A key as it is sent.
pub fn key_bytes(key: u32) -> Bytes {
    Bytes::from(format!("key-{key}"))
}

/// Which record it is, and its key; `None` for what nobody sent.
pub fn identify(record: &Record) -> Option<(RecordId, Option<Keyed>)> {
    let key = match record.key.as_deref() {
        Some(key) => Some(std::str::from_utf8(key).ok()?.strip_prefix("key-")?.parse().ok()?),
        None => None,
    };
    let header = record.headers.iter().find(|(name, _)| name.as_str() == ID_HEADER);
    let value = record.value.as_deref().or(header.and_then(|(_, value)| value.as_deref()));
    let is_tombstone = record.value.is_none();
    Some((RecordId::of(value?)?, key.map(|key| Keyed { key, is_tombstone })))
}

/// Where the offsets of each batch begin and end; as far as the bytes go.
pub fn extents(mut batches: &[u8]) -> Vec<std::ops::Range<i64>> {
    let mut extents = Vec::new();
    while let Some(header) = batches.first_chunk::<HEADER_BYTES>() {
        let number =
            |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let base = i64::from(number(0)) << 32 | i64::from(number(4) as u32);
        extents.push(base..base + i64::from(number(23)) + 1);
        let length = usize::try_from(number(8)).unwrap_or(0);
        batches = batches.get(12 + length..).unwrap_or_default();
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_say_which_offsets_they_take() {
        let mut batch = [0; HEADER_BYTES + 9];
        batch[..8].copy_from_slice(&5_000_000_000_i64.to_be_bytes());
        batch[8..12].copy_from_slice(&58_i32.to_be_bytes());
        batch[23..27].copy_from_slice(&2_i32.to_be_bytes());
        let mut both = batch.to_vec();
        both.extend(batch);
        let extent = 5_000_000_000..5_000_000_003;
        assert_eq!(extents(&both), [extent.clone(), extent]);
        assert_eq!(extents(&batch[..60]), []);
    }
}
