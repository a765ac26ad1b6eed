//! The planted bugs: what each breaks, and how many seeds it may take to find it.

/// A planted bug.
#[derive(Debug, Clone, Copy)]
pub struct Planted {
    /// Its name, as in `penstock_types::planted!`.
    pub name: &'static str,
    /// What it breaks.
    pub breaks: &'static str,
    /// Seeds within which it has to be found.
    pub seeds: u64,
}

/// All of them.
pub const PLANTED: &[Planted] = &[];

/// The planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
