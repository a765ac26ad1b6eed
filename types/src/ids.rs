//! Ids.

use std::fmt;

use crate::{Incarnation, StoreVersion};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($raw);

        impl $name {
            /// Wraps the wire's number.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }
            /// The wire's number.
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number!(
    /// A partition's number within its topic, from 0.
    PartitionIndex(i32)
);
number!(
    /// A producer's id; [`ProducerId::NONE`] for a producer without idempotence.
    ProducerId(i64)
);
number!(
    /// A producer's epoch; [`ProducerEpoch::NONE`] for a producer without idempotence.
    ProducerEpoch(i16)
);
number!(
    /// The number of a producer's record in one partition; wraps from 2^31 - 1 to 0. -1 without idempotence.
    Sequence(i32)
);
number!(
    /// A partition's leader epoch: constant here, since no election ever moves data.
    LeaderEpoch(i32)
);

number!(
    /// An agent's id in its cluster: the broker id that Kafka clients see.
    NodeId(i32)
);

impl ProducerId {
    /// No idempotence.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// No idempotence.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// No idempotence.
    pub const NONE: Self = Self(-1);

    /// The sequence `by` records further on, wrapping as Kafka's does (2^31 - 1 is followed by 0).
    #[must_use]
    pub fn plus(self, by: i32) -> Self {
        let sum = i64::from(self.0) + i64::from(by);
        let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
        Self(i32::try_from(wrapped).expect("two sequences add up to less than twice 2^31"))
    }
}

impl LeaderEpoch {
    /// The epoch of every partition.
    pub const FIRST: Self = Self(0);
}

/// A topic's UUID (KIP-516): names one life of a topic; a topic deleted and created anew has another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(uuid::Uuid);

impl TopicId {
    /// The id that stands for "none" on the wire.
    pub const NIL: Self = Self(uuid::Uuid::nil());

    /// Wraps a UUID.
    pub const fn new(raw: uuid::Uuid) -> Self {
        Self(raw)
    }
    /// The UUID.
    pub const fn get(self) -> uuid::Uuid {
        self.0
    }
    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
    /// Reads the stored form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A partition of one life of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A consumer group's name.
pub type GroupId = std::sync::Arc<str>;

/// A data object's id: sorts by creation in the metadata store's time, never by a wall clock.
///
/// ```text
/// incarnation (4) | store version read before the first batch was admitted (8) | random (8)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// Bytes of the stored form.
    pub const LENGTH: usize = 20;

    /// Assembles an id.
    pub fn new(incarnation: Incarnation, version: StoreVersion, random: u64) -> Self {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&incarnation.get().to_be_bytes());
        bytes[4..12].copy_from_slice(&version.get().to_be_bytes());
        bytes[12..].copy_from_slice(&random.to_be_bytes());
        Self(bytes)
    }
    /// The stored form, which sorts as the ids do.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
    /// Reads the stored form.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
    /// The cluster's incarnation when it was made.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]))
    }
    /// The store version that it carries.
    pub fn version(&self) -> StoreVersion {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[4..12]);
        StoreVersion::new(u64::from_be_bytes(bytes))
    }
    /// The shard of the bucket that it is kept under (0 to 255): from its random part, so that neighbours in time
    /// are spread.
    pub fn shard(&self) -> u8 {
        self.0[19]
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Forty hexadecimal digits.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not an object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an object id is 40 hexadecimal digits, not {0:?}")]
pub struct ObjectIdParseError(pub String);

impl std::str::FromStr for ObjectId {
    type Err = ObjectIdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ObjectIdParseError(text.chars().take(64).collect());
        if text.len() != 40 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let mut bytes = [0; 20];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_sort_by_version_and_round_trip_as_text() {
        let early = ObjectId::new(Incarnation::FIRST, StoreVersion::new(5), u64::MAX);
        let late = ObjectId::new(Incarnation::FIRST, StoreVersion::new(6), 0);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse::<ObjectId>(), Ok(late));
        assert!("zz".parse::<ObjectId>().is_err());
        assert!("é".repeat(20).parse::<ObjectId>().is_err());
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence::new(i32::MAX).plus(1), Sequence::new(0));
        assert_eq!(Sequence::new(i32::MAX - 1).plus(3), Sequence::new(1));
        assert_eq!(Sequence::new(7).plus(3), Sequence::new(10));
    }
}
