//! How the groups of this agent stand, for metrics: each task writes its group's standing, whoever asks adds them up.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use super::classic::State;

/// How one group stands. Written by its task alone.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// 0 while the group doesn't exist, else the place of its state in [`STATES`], from 1.
    state: AtomicU8,
    members: AtomicU32,
}

const STATES: [State; 4] =
    [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];

impl Standing {
    /// `None`: it doesn't exist.
    pub(super) fn set(&self, state: Option<State>, members: usize) {
        let place = state.and_then(|state| STATES.iter().position(|other| *other == state));
        self.state.store(place.map_or(0, |place| place as u8 + 1), Relaxed);
        self.members.store(u32::try_from(members).unwrap_or(u32::MAX), Relaxed);
    }
}

/// All groups that have a task at an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStats {
    /// Groups by state.
    pub groups: Vec<(State, u64)>,
    /// Their members.
    pub members: u64,
    /// Generations begun by this agent.
    pub rebalances: u64,
}

impl GroupStats {
    pub(super) fn new(rebalances: u64) -> Self {
        Self { groups: STATES.map(|state| (state, 0)).to_vec(), members: 0, rebalances }
    }

    pub(super) fn add(&mut self, standing: &Standing) {
        let place = usize::from(standing.state.load(Relaxed)).checked_sub(1);
        if let Some((_, count)) = place.and_then(|place| self.groups.get_mut(place)) {
            *count += 1;
            self.members += u64::from(standing.members.load(Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings_add_up() {
        let mut stats = GroupStats::new(3);
        for (state, members) in [
            (None, 9),
            (Some(State::Stable), 2),
            (Some(State::Stable), 3),
            (Some(State::Empty), 0),
            (Some(State::PreparingRebalance), 1),
        ] {
            let standing = Standing::default();
            standing.set(state, members);
            stats.add(&standing);
        }
        let counts: Vec<_> = stats.groups.iter().map(|(state, count)| (state.name(), *count)).collect();
        let expected = [("Empty", 1), ("PreparingRebalance", 1), ("CompletingRebalance", 0), ("Stable", 2)];
        assert_eq!((counts, stats.members, stats.rebalances), (expected.to_vec(), 6, 3));
    }
}
