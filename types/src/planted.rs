//! Deliberate breakages, which a simulation switches on one at a time to show that its checks can fail.
//!
//! `planted!("name")` stands where the breakage is made. It is the constant `false` unless the feature `simulation` is
//! on, which no shipped binary has; then it asks whether the process was told to break just that.

#[cfg(feature = "simulation")]
use std::sync::OnceLock;

#[cfg(feature = "simulation")]
static PLANTED: OnceLock<String> = OnceLock::new();

/// Breaks `name` from now on, in this process. Only the first call counts.
#[cfg(feature = "simulation")]
pub fn plant(name: &str) {
    let _ = PLANTED.set(name.to_owned());
}

/// Whether `name` is broken in this process.
#[cfg(feature = "simulation")]
pub fn is_planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

/// Whether the deliberate breakage of this name is switched on: never, but in a simulation that was told so.
#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::is_planted($name)
    };
}

/// Whether the deliberate breakage of this name is switched on: never, but in a simulation that was told so.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}
