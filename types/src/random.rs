//! Randomness as an argument, so that one seed gives one history.

use std::fmt::Debug;
use std::sync::Mutex;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// A source of random bits. Not for secrets.
pub trait Randomness: Send + Sync + Debug + 'static {
    /// 64 uniformly distributed bits.
    fn next_u64(&self) -> u64;

    /// A random (version 4) UUID.
    fn uuid(&self) -> uuid::Uuid {
        let bits = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// A uniformly distributed number below `bound`; 0 for a bound of 0.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64 }
    }
}

/// A generator whose sequence follows from its seed.
#[derive(Debug)]
pub struct SeededRandomness(Mutex<SmallRng>);

impl SeededRandomness {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SmallRng::seed_from_u64(seed)))
    }
}

impl Randomness for SeededRandomness {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next_u64()
    }
}

/// A generator seeded by the operating system.
#[derive(Debug)]
pub struct OsRandomness(SeededRandomness);

impl Default for OsRandomness {
    fn default() -> Self {
        Self(SeededRandomness(Mutex::new(SmallRng::from_os_rng())))
    }
}

impl Randomness for OsRandomness {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}
