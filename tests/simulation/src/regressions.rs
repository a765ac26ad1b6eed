//! Seeds that once found a bug.

use crate::run::Order;
use crate::scenario::Cuts;

/// A seed that found something.
#[derive(Debug, Clone, Copy)]
pub struct Regression {
    /// The seed.
    pub seed: u64,
    /// What it was run without.
    pub without: &'static [&'static str],
    /// What it found.
    pub found: &'static str,
}

/// All of them.
pub const REGRESSIONS: &[Regression] = &[];

impl Regression {
    /// What is run.
    pub fn order(&self) -> Order {
        let without = self.without.iter().map(|kind| (*kind).to_owned()).collect();
        Order { seed: self.seed, cuts: Cuts { without, ..Cuts::default() }, ..Order::default() }
    }
}
