//! The feed (family 0x15): tells views and long polls that something in their slot of partitions has changed.
//!
//! ```text
//! key    0x15 | slot 2
//! value  incarnation 4 | versionstamp 10
//! ```
//!
//! - **Written** without a conflict range by every commit, marker and move of a log start, for each slot of
//!   partitions that it touches, watched or not.
//! - **Read** by every fetch and ListOffsets (is my view still the newest?), **watched** by agents with waiting long
//!   polls.
//! - **Cardinality**: [`SLOTS`], however many partitions. 14 bytes.

use penstock_types::{Incarnation, TopicPartition, Versionstamp};

use super::counters::Stripe;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader};

/// How many slots the partitions are spread over.
pub const SLOTS: u16 = 256;

/// Where the versionstamp stands in the value.
pub const STAMP_AT: usize = 4;

/// A slot of partitions: of whole stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a partition, which is that of its stripe: FNV-1a of the stripe's key bytes, the same on every agent
    /// and for ever.
    pub fn of(partition: TopicPartition) -> Self {
        let stripe = Stripe::of(partition);
        let number = stripe.number.to_be_bytes();
        let hash =
            stripe.topic.as_bytes().iter().chain(&number).fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        Self(((hash ^ (hash >> 32)) % u64::from(SLOTS)) as u16)
    }
    /// The slot of that number, if there is one.
    pub const fn numbered(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }
    /// The slot's number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// When a slot last changed. Compares in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedStamp {
    /// The incarnation of that commit.
    pub incarnation: Incarnation,
    /// Its stamp.
    pub stamp: Versionstamp,
}

impl FeedStamp {
    /// Before every commit.
    pub const NEVER: Self = Self { incarnation: Incarnation::new(0), stamp: Versionstamp::ZERO };
}

/// The key of a slot.
pub fn key(keyspace: &Keyspace, slot: Slot) -> Vec<u8> {
    let mut key = keyspace.family(Family::Feed);
    key.extend_from_slice(&slot.0.to_be_bytes());
    key
}

/// The value, its stamp left to the store.
pub fn template(incarnation: Incarnation) -> Vec<u8> {
    let mut value = incarnation.get().to_be_bytes().to_vec();
    value.extend_from_slice(Versionstamp::ZERO.as_bytes());
    value
}

/// Reads a value; none is [`FeedStamp::NEVER`].
pub fn decode(value: Option<&[u8]>) -> Result<FeedStamp, Corrupt> {
    let Some(value) = value else { return Ok(FeedStamp::NEVER) };
    let mut reader = Reader::new("feed", value);
    let incarnation = Incarnation::new(reader.u32()?);
    let stamp = Versionstamp::from_bytes(reader.array()?);
    reader.finish()?;
    Ok(FeedStamp { incarnation, stamp })
}
