//! Counters (family 0x18): how many records were ever appended, of the partitions of a stripe in one value.
//!
//! ```text
//! key    0x18 | topic id 16 | stripe 4
//! value  33 signed 64-bit little-endian numbers: of each of 32 partitions, Σ records of every row ever appended
//!        (markers count one); then how often anything else changed what readers of these partitions see
//! ```
//!
//! A stripe is 32 consecutive partitions of a topic. One addition of 264 bytes counts for all of them: an addition costs the
//! store as much for one number as for 33, and none of them ever leaves its eight bytes.
//!
//! - **Written** blindly, by atomic addition without a write conflict range, by every commit, marker and move of a log
//!   start; always whole, since an addition cuts a value to its own length.
//! - **Read** by commits for their own offsets (at the commit's version), and by views: one whose fold ends at the counter, of a
//!   stripe that has not changed otherwise, is the newest there is.
//! - **Cardinality**: one per stripe that was ever written to. 264 bytes.

use penstock_types::{TopicId, TopicPartition};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader};

const NAME: &str = "counters";
/// How many partitions a stripe has.
pub const STRIPE_PARTITIONS: usize = 32;
const NUMBERS: usize = STRIPE_PARTITIONS + 1;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 8 * NUMBERS;

/// Consecutive partitions of a topic, which share a value of counters and a slot of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stripe {
    /// The topic.
    pub topic: TopicId,
    /// Of partitions `32 * number` to `32 * number + 31`.
    pub number: u32,
}

impl Stripe {
    /// The stripe of a partition.
    pub fn of(partition: TopicPartition) -> Self {
        let number = partition.partition.get() as u32 / STRIPE_PARTITIONS as u32;
        Self { topic: partition.topic, number }
    }
}

/// Where in its stripe's value a partition counts.
fn index(partition: TopicPartition) -> usize {
    partition.partition.get() as usize % STRIPE_PARTITIONS
}

/// The counters of a stripe; also what is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters([i64; NUMBERS]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; NUMBERS])
    }
}

impl Counters {
    /// Records ever appended to `partition`, which is one of the stripe's.
    pub fn of(&self, partition: TopicPartition) -> i64 {
        self.0[index(partition)]
    }

    /// How often anything but an append changed what readers of the stripe's partitions see.
    pub fn changes(&self) -> i64 {
        self.0[STRIPE_PARTITIONS]
    }

    /// The records of each of the stripe's partitions, from its first one on.
    pub fn records(&self) -> &[i64] {
        &self.0[..STRIPE_PARTITIONS]
    }

    /// Counts so many records of `partition`, at most some billions in one addition.
    pub fn append(&mut self, partition: TopicPartition, records: i64) {
        self.0[index(partition)] += records;
    }

    /// Counts a change that is not an append.
    pub fn change(&mut self) {
        self.0[STRIPE_PARTITIONS] += 1;
    }

    /// The value, or what is added to it.
    pub fn encode(&self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        for (bytes, number) in value.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        value
    }

    /// Reads a value; none is all 0.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, Corrupt> {
        let corrupt = |reason| Corrupt { family: NAME, reason };
        let Some(value) = value else { return Ok(Self::default()) };
        if value.len() != VALUE_BYTES {
            return Err(corrupt("not 33 numbers"));
        }
        let mut counters = Self::default();
        for (number, bytes) in counters.0.iter_mut().zip(value.chunks_exact(8)) {
            *number = i64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
            if *number < 0 {
                return Err(corrupt("a number is negative"));
            }
        }
        Ok(counters)
    }
}

/// The key of a stripe's counters.
pub fn key(keyspace: &Keyspace, stripe: Stripe) -> Vec<u8> {
    let mut key = keyspace.family(Family::Counters);
    key.extend_from_slice(stripe.topic.as_bytes());
    key.extend_from_slice(&stripe.number.to_be_bytes());
    key
}

/// Reads a key of this family back.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<Stripe, Corrupt> {
    let rest = keyspace
        .strip(Family::Counters, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let topic = TopicId::from_bytes(reader.array()?);
    let number = reader.u32()?;
    reader.finish()?;
    Ok(Stripe { topic, number })
}
