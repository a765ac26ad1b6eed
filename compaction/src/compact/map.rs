//! The newest offset of each key, in bounded memory: as Kafka's cleaner has it, with hashes instead of keys.
//!
//! The hash has 128 bits and a key of its own for each run, so that nobody can make two keys that are one.

use penstock_types::Offset;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Bytes of a slot.
const SLOT_BYTES: u64 = 24;

/// Hash and offset; a negative offset where nothing is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    offset: i64,
}

const FREE: Slot = Slot { hash: (0, 0), offset: -1 };

/// Keys with the newest offset of each.
#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<Slot>,
    taken: usize,
    secret: (u64, u64),
}

impl KeyMap {
    /// A map for so many records, each with a key of its own, or for as many as fit `bytes`.
    pub(super) fn new(records: u64, bytes: u64, secret: (u64, u64)) -> Self {
        let slots = slots_for(records).min(bytes / SLOT_BYTES);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        Self { slots: vec![FREE; slots], taken: 0, secret }
    }

    /// Whether so many keys more have room. Into an empty map any number goes: it grows.
    pub(super) fn makes_room(&mut self, keys: u64) -> bool {
        if self.taken as u64 + keys <= self.slots.len() as u64 / 4 * 3 {
            return true;
        }
        if self.taken > 0 {
            return false;
        }
        self.slots = vec![FREE; usize::try_from(slots_for(keys)).unwrap_or(usize::MAX)];
        true
    }

    /// A record of the key stands at `offset`.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = self.hash(key);
        let at = self.slot(hash);
        let slot = &mut self.slots[at];
        if slot.offset < 0 {
            *slot = Slot { hash, offset: -1 };
            self.taken += 1;
        }
        slot.offset = slot.offset.max(offset.get());
    }

    /// Where the newest record of the key stands, if the map has the key.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        if self.slots.is_empty() {
            return None;
        }
        Offset::new(self.slots[self.slot(self.hash(key))].offset)
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// The slot of a hash, or the free one for it: there always is one.
    fn slot(&self, hash: (u64, u64)) -> usize {
        let slots = self.slots.len();
        let mut at = ((u128::from(hash.0) * slots as u128) >> 64) as usize;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
        at
    }
}

/// Slots of which at most three quarters are taken by so many keys.
fn slots_for(keys: u64) -> u64 {
    (keys.saturating_add(2) / 3).saturating_add(1).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_newest_of_as_many_keys_as_fit() {
        let mut map = KeyMap::new(1_000, 1 << 20, (1, 2));
        assert!(map.makes_room(1_000) && map.newest(b"a").is_none());
        for offset in 0..3_000_i64 {
            map.put(&(offset % 1_000).to_be_bytes(), Offset::at(offset));
        }
        map.put(&7_i64.to_be_bytes(), Offset::at(5));
        for key in 0..1_000_i64 {
            assert_eq!(map.newest(&key.to_be_bytes()), Some(Offset::at(key + 2_000)));
        }
        assert_eq!(map.newest(&1_000_i64.to_be_bytes()), None);
        assert!(!map.makes_room(400), "it is full");
        assert!(map.slots.len() < 1_400);
    }

    #[test]
    fn memory_is_bounded_but_for_a_single_batch() {
        let mut map = KeyMap::new(1 << 40, 2_400, (1, 2));
        assert_eq!(map.slots.len(), 100);
        assert!(map.makes_room(75));
        assert!(map.makes_room(500) && map.slots.len() >= 667, "nothing is in it");
        map.put(b"", Offset::at(0));
        assert!(!map.makes_room(510));
        assert_eq!(map.newest(b""), Some(Offset::ZERO));
        assert_eq!(KeyMap::new(0, 0, (1, 2)).newest(b"a"), None);
    }
}
