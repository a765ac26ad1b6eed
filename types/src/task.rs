//! Tasks that belong to their agent.
//!
//! Every task that an agent spawns goes through [`own`]. In production that is nothing at all; in a simulation, where
//! several agents share one runtime, a task so belongs to the agent that spawned it: it dies with it between two
//! polls, stands still while it does, and is polled in an order that the seed draws.

#[cfg(feature = "simulation")]
pub mod simulated;

/// The future to be spawned for `future`: itself.
#[cfg(not(feature = "simulation"))]
pub fn own<F: Future>(future: F) -> F {
    future
}

/// The future to be spawned for `future`: the same, as part of whoever is running now.
#[cfg(feature = "simulation")]
pub fn own<F>(future: F) -> simulated::Owned<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    simulated::Owned::new(future)
}
