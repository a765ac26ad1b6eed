//! What time does to a group.

use std::time::Duration;

use super::{ClassicGroup, Effects, JoinTimer, Now, State};

impl ClassicGroup {
    /// When [`ClassicGroup::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let join = self.join_timer.map(JoinTimer::at);
        let pending = self.pending_members.values().min().copied();
        let sessions = self.members.values().filter_map(|member| member.expires_at).min();
        [join, self.sync_deadline, pending, sessions].into_iter().flatten().min()
    }

    /// Does everything that is due.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        self.expire_pending(now, effects);
        self.expire_sessions(now, effects);
        self.expire_sync(now, effects);
        if let Some(timer) = self.join_timer.filter(|timer| timer.at() <= now.tick) {
            self.join_timer = None;
            match timer {
                JoinTimer::Initial { delay, remaining, .. } => {
                    self.end_initial_delay(now, delay, remaining, effects);
                }
                JoinTimer::Complete { .. } => self.complete_join(now, effects),
            }
        }
    }

    /// Moves every deadline: the coordinator heard nobody for so long.
    pub fn postpone(&mut self, by: Duration) {
        for member in self.members.values_mut() {
            member.expires_at = member.expires_at.map(|at| at + by);
        }
        for at in self.pending_members.values_mut() {
            *at += by;
        }
        self.sync_deadline = self.sync_deadline.map(|at| at + by);
        self.join_timer = self.join_timer.map(|timer| match timer {
            JoinTimer::Initial { at, delay, remaining } => {
                JoinTimer::Initial { at: at + by, delay, remaining }
            }
            JoinTimer::Complete { at } => JoinTimer::Complete { at: at + by },
        });
    }

    fn expire_pending(&mut self, now: Now, effects: &mut Effects) {
        let before = self.pending_members.len();
        self.pending_members.retain(|_, at| *at > now.tick);
        if self.pending_members.len() < before {
            self.maybe_complete_join(now, effects);
        }
    }

    fn expire_sessions(&mut self, now: Now, effects: &mut Effects) {
        let due: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.expires_at.is_some_and(|at| at <= now.tick))
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.expires_at.is_none_or(|at| at > now.tick) {
                // The expiry of another member has begun a generation, and this one's session with it.
                continue;
            }
            let waits = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
            if waits && !member.is_new {
                member.expires_at = None;
                continue;
            }
            self.remove_member(&id, effects);
            match self.state {
                State::CompletingRebalance | State::Stable => self.prepare_rebalance(now, effects),
                State::PreparingRebalance => self.maybe_complete_join(now, effects),
                State::Empty => {}
            }
        }
    }

    fn expire_sync(&mut self, now: Now, effects: &mut Effects) {
        if self.sync_deadline.is_none_or(|at| at > now.tick) {
            return;
        }
        self.sync_deadline = None;
        for id in std::mem::take(&mut self.pending_sync) {
            self.remove_member(&id, effects);
        }
        self.prepare_rebalance(now, effects);
    }
}

impl JoinTimer {
    pub(super) fn at(self) -> Duration {
        match self {
            Self::Initial { at, .. } | Self::Complete { at } => at,
        }
    }
}
