//! Which keys are overwritten all the time.
//!
//! The tables keep every version of a key until they are written out, side by side: a point read goes straight to
//! the one it wants, but a range read steps over all of them (a partition's counter, written by each commit, would
//! make each read of its last rows cost a millisecond). So range reads go around such keys and read them on their
//! own. Which keys those are is only a matter of speed: no answer depends on it.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::kv::KeyRange;
use crate::kv::resolver::{Writes, bounds};

/// Counters of writes; keys share them by hash, which at worst makes a key look busier than it is.
const COUNTERS: usize = 1 << 16;
/// So many writes make a pile worth going around.
const PILE: u8 = 16;
/// Piles of a generation at most.
const PILES: usize = 1 << 15;
/// Piles that one read goes around at most.
const PILES_PER_READ: usize = 1 << 10;

/// The piles, for readers. A key stays in it for the generation after the one in which it piled up.
#[derive(Debug, Default)]
pub(super) struct Piles(RwLock<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: BTreeSet<Bytes>,
    last: BTreeSet<Bytes>,
}

impl Piles {
    /// Those of a range, in the order asked for; of very many only the first.
    pub(super) fn within(&self, range: &KeyRange, reverse: bool) -> Vec<Bytes> {
        let piles = self.0.read();
        let mut keys = BTreeSet::new();
        for generation in [&piles.current, &piles.last] {
            let found = generation.range::<[u8], _>(bounds(range)).cloned();
            if reverse {
                keys.extend(found.rev().take(PILES_PER_READ));
            } else {
                keys.extend(found.take(PILES_PER_READ));
            }
        }
        if reverse {
            keys.into_iter().rev().take(PILES_PER_READ).collect()
        } else {
            keys.into_iter().take(PILES_PER_READ).collect()
        }
    }
}

/// Counts writes, for the one who writes.
#[derive(Debug)]
pub(super) struct WriteCounts {
    counts: Vec<u8>,
    bytes: u64,
    bytes_per_generation: u64,
}

impl WriteCounts {
    /// A generation lasts for so many bytes of rows.
    pub(super) fn new(bytes_per_generation: u64) -> Self {
        Self { counts: vec![0; COUNTERS], bytes: 0, bytes_per_generation }
    }

    /// Counts what was written.
    pub(super) fn note(&mut self, writes: &Writes, piles: &Piles) {
        for (key, value) in writes {
            self.bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let count = &mut self.counts[hasher.finish() as usize % COUNTERS];
            *count = count.saturating_add(1);
            if *count >= PILE {
                *count = 0;
                let mut piles = piles.0.write();
                if piles.current.len() < PILES {
                    piles.current.insert(key.clone());
                }
            }
        }
        if self.bytes >= self.bytes_per_generation {
            self.bytes = 0;
            self.counts.fill(0);
            let mut piles = piles.0.write();
            piles.last = std::mem::take(&mut piles.current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str) -> Writes {
        Writes::from([(Bytes::copy_from_slice(key.as_bytes()), Some(Bytes::from_static(&[0; 90])))])
    }

    #[test]
    fn a_key_written_often_is_a_pile_until_it_rests() {
        let piles = Piles::default();
        let mut counts = WriteCounts::new(100_000);
        let all = b"".to_vec()..b"z".to_vec();
        for _ in 0..PILE - 1 {
            counts.note(&one("a"), &piles);
        }
        assert!(piles.within(&all, false).is_empty());
        for _ in 0..PILE {
            counts.note(&one("a"), &piles);
            counts.note(&one("b"), &piles);
        }
        assert_eq!(piles.within(&all, false), ["a", "b"]);
        assert_eq!(piles.within(&all, true), ["b", "a"]);
        assert_eq!(piles.within(&(b"a\0".to_vec()..b"c".to_vec()), false), ["b"]);
        for other in 0..3_000 {
            counts.note(&one(&format!("other {other}")), &piles);
        }
        let kept = piles.within(&all, false);
        assert!(!kept.iter().any(|key| key == "a" || key == "b"), "{} piles", kept.len());
    }
}
