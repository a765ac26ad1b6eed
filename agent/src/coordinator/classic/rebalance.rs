//! The join phase: when it begins, when it ends, who is in the next generation.

use std::time::Duration;

use bytes::Bytes;

use super::{ClassicGroup, Effects, JoinTimer, Now, State, subscription};
use crate::coordinator::error::Refusal;

impl ClassicGroup {
    /// Begins a rebalance, or ends the one under way if it waited for this only.
    pub(super) fn rebalance(&mut self, now: Now, effects: &mut Effects) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(now, effects),
            State::PreparingRebalance => self.maybe_complete_join(now, effects),
        }
    }

    /// Asks everybody to join again.
    pub(super) fn prepare_rebalance(&mut self, now: Now, effects: &mut Effects) {
        if self.state == State::CompletingRebalance {
            self.drop_assignments(now, Refusal::RebalanceInProgress, effects);
        }
        self.pending_sync.clear();
        self.sync_deadline = None;
        if self.state == State::Empty {
            let delay = self.options.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.transition(State::PreparingRebalance, now);
            if delay.is_zero() {
                return self.complete_join(now, effects);
            }
            self.join_timer = Some(JoinTimer::Initial { at: now.tick + delay, delay, remaining });
            return;
        }
        self.transition(State::PreparingRebalance, now);
        if self.all_joined() {
            self.complete_join(now, effects);
        } else {
            self.join_timer = Some(JoinTimer::Complete { at: now.tick + self.rebalance_timeout() });
        }
    }

    /// Ends the join phase if everybody has joined. The first rebalance waits for its delay all the same.
    pub(super) fn maybe_complete_join(&mut self, now: Now, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && self.previous_state != State::Empty && self.all_joined()
        {
            self.complete_join(now, effects);
        }
    }

    /// The initial delay is over: waits again if somebody came and there is time left.
    pub(super) fn end_initial_delay(
        &mut self,
        now: Now,
        delay: Duration,
        remaining: Duration,
        effects: &mut Effects,
    ) {
        if self.new_member_added && !remaining.is_zero() {
            self.new_member_added = false;
            let next = self.options.initial_rebalance_delay.min(remaining);
            self.join_timer = Some(JoinTimer::Initial {
                at: now.tick + next,
                delay: next,
                remaining: remaining.saturating_sub(delay),
            });
        } else {
            self.complete_join(now, effects);
        }
    }

    /// Begins the next generation with those who have joined, and static members.
    pub(super) fn complete_join(&mut self, now: Now, effects: &mut Effects) {
        self.join_timer = None;
        let left_behind: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in &left_behind {
            self.remove_member(id, effects);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, none of which has come back: until their sessions end.
            self.join_timer = Some(JoinTimer::Complete { at: now.tick + self.rebalance_timeout() });
            return;
        }
        self.new_member_added = false;
        let is_raised = self.generation < 1 || !penstock_types::planted!("generation-not-raised");
        self.generation = self.generation.checked_add(i32::from(is_raised)).unwrap_or(1);
        self.pending_sync.clear();
        effects.store_snapshot();
        if self.members.is_empty() {
            self.protocol_name = None;
            self.compute_subscribed_topics();
            self.transition(State::Empty, now);
            return;
        }
        self.protocol_name = self.select_protocol();
        self.compute_subscribed_topics();
        self.transition(State::CompletingRebalance, now);
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let answer = self.generation_for(&id);
            self.answer_join(&id, answer, effects);
            self.reset_session(now, &id);
            self.pending_sync.insert(id.clone());
            self.change_member(&id, |member| {
                member.is_new = false;
                // What was assigned in an earlier generation is void.
                if !penstock_types::planted!("old-assignment-given") {
                    member.assignment = Bytes::new();
                }
            });
        }
        self.sync_deadline = Some(now.tick + self.rebalance_timeout());
    }

    /// Whether a leader has joined; another one is chosen if the leader didn't.
    fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.awaiting_join.is_some());
        let Some((id, _)) = joined else { return false };
        self.leader = Some(id.clone());
        true
    }

    /// The assignor that most members prefer among those that all know; of equals the one that the leader prefers.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let known_to_all = |name: &str| self.protocol_support.get(name) == Some(&self.members.len());
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let candidates: Vec<&str> = leader
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| known_to_all(name))
            .collect();
        let mut votes = vec![0_usize; candidates.len()];
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .find_map(|(name, _)| candidates.iter().position(|candidate| candidate == name));
            if let Some(vote) = vote {
                votes[vote] += 1;
            }
        }
        let most = votes.iter().copied().max()?;
        let chosen = votes.iter().position(|votes| *votes == most)?;
        candidates.get(chosen).map(|name| (*name).to_owned())
    }

    pub(super) fn compute_subscribed_topics(&mut self) {
        self.subscribed_topics = self.subscriptions();
    }

    fn subscriptions(&self) -> Option<std::collections::BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let mut topics = std::collections::BTreeSet::new();
        if self.members.is_empty() {
            return Some(topics);
        }
        let protocol = self.protocol_name.as_deref()?;
        for member in self.members.values() {
            topics.extend(subscription::topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    fn all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_members.is_empty()
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }
}
