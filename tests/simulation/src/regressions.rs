//! Seeds that once found a bug.

use crate::run::Order;
use crate::scenario::Cuts;

/// A seed that found something.
#[derive(Debug, Clone, Copy)]
pub struct Regression {
    /// The seed.
    pub seed: u64,
    /// What it was run with.
    pub with: &'static [&'static str],
    /// What it was run without.
    pub without: &'static [&'static str],
    /// What it found.
    pub found: &'static str,
}

/// All of them.
pub const REGRESSIONS: &[Regression] = &[Regression {
    seed: 82,
    with: &["compact"],
    without: &[],
    found: "a connection that its handler closed stayed open for what stood behind",
}];

impl Regression {
    /// What is run.
    pub fn order(&self) -> Order {
        let kinds = |names: &[&str]| names.iter().map(|kind| (*kind).to_owned()).collect();
        let (with, without) = (kinds(self.with), kinds(self.without));
        Order { seed: self.seed, cuts: Cuts { with, without, ..Cuts::default() }, ..Order::default() }
    }
}
