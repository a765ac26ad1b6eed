//! Positions in the metadata store's order.

use std::fmt;

/// A version of the metadata store: its commit order, about a million a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreVersion(u64);

impl StoreVersion {
    /// Before every commit.
    pub const ZERO: Self = Self(0);

    /// Wraps a raw version.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StoreVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the store writes into versionstamped keys and values: the commit's version (8 bytes, big-endian) and the
/// transaction's place among those of the same version (2 bytes). Compares in commit order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Versionstamp([u8; 10]);

impl Versionstamp {
    /// Before every commit.
    pub const ZERO: Self = Self([0; 10]);
    /// Bytes of a stamp.
    pub const LENGTH: usize = 10;

    /// Assembles a stamp.
    pub fn new(version: StoreVersion, order: u16) -> Self {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&version.get().to_be_bytes());
        bytes[8..].copy_from_slice(&order.to_be_bytes());
        Self(bytes)
    }
    /// The stamp in its stored form.
    pub const fn from_bytes(bytes: [u8; 10]) -> Self {
        Self(bytes)
    }
    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; 10] {
        &self.0
    }
    /// The commit version.
    pub fn version(&self) -> StoreVersion {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        StoreVersion::new(u64::from_be_bytes(bytes))
    }
    /// The place among the transactions of the same version.
    pub fn order(&self) -> u16 {
        u16::from_be_bytes([self.0[8], self.0[9]])
    }
}

impl fmt::Debug for Versionstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.version(), self.order())
    }
}

/// A number in front of every stored version; an operator raises it at a restore or move of the metadata, so that
/// what is written afterwards sorts behind everything written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u32);

impl Incarnation {
    /// A cluster's first incarnation.
    pub const FIRST: Self = Self(1);
    /// Above every incarnation: where a partition's counter sorts.
    pub const AFTER_ALL: Self = Self(u32::MAX);

    /// Wraps a raw number.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }
    /// The raw number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Where a batch stands in the store's order: incarnation, stamp of its commit, and `n`, its number among the
/// batches of that store transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchPosition {
    /// The cluster's incarnation at the commit.
    pub incarnation: Incarnation,
    /// The commit's stamp.
    pub stamp: Versionstamp,
    /// The batch's number within its store transaction.
    pub n: u32,
}

impl BatchPosition {
    /// Bytes of the stored form: 4 + 10 + 4.
    pub const LENGTH: usize = 18;
    /// Before every batch.
    pub const ZERO: Self = Self { incarnation: Incarnation::new(0), stamp: Versionstamp::ZERO, n: 0 };

    /// The stored form, which sorts as the positions do.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.incarnation.get().to_be_bytes());
        bytes[4..14].copy_from_slice(self.stamp.as_bytes());
        bytes[14..].copy_from_slice(&self.n.to_be_bytes());
        bytes
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut incarnation = [0; 4];
        incarnation.copy_from_slice(&bytes[..4]);
        let mut stamp = [0; 10];
        stamp.copy_from_slice(&bytes[4..14]);
        let mut n = [0; 4];
        n.copy_from_slice(&bytes[14..]);
        Self {
            incarnation: Incarnation::new(u32::from_be_bytes(incarnation)),
            stamp: Versionstamp::from_bytes(stamp),
            n: u32::from_be_bytes(n),
        }
    }
}
