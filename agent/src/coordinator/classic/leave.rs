//! LeaveGroup, and the end of a coordinator's time with the group.

use super::{ClassicGroup, Effects, JoinAnswer, LeaveCall, LeaveOutcome, Now, State, SyncAnswer};
use crate::coordinator::error::Refusal;

impl ClassicGroup {
    /// Members leave, or are removed by an operator; one outcome each.
    pub fn leave(&mut self, now: Now, leaving: &[LeaveCall], effects: &mut Effects) -> Vec<LeaveOutcome> {
        let outcomes: Vec<_> = leaving.iter().map(|leave| self.leave_one(leave, effects)).collect();
        if outcomes.iter().any(Result::is_ok) {
            match self.state {
                State::CompletingRebalance | State::Stable => self.prepare_rebalance(now, effects),
                State::PreparingRebalance => self.maybe_complete_join(now, effects),
                State::Empty => {}
            }
        }
        outcomes
    }

    fn leave_one(&mut self, leave: &LeaveCall, effects: &mut Effects) -> LeaveOutcome {
        let id = leave.member_id.as_str();
        let instance_id = leave.instance_id.as_deref();
        if id.is_empty() {
            let member = instance_id.and_then(|instance_id| self.static_members.get(instance_id)).cloned();
            let member = member.ok_or(Refusal::UnknownMemberId)?;
            self.remove_member(&member, effects);
            return Ok(());
        }
        if !self.pending_members.contains_key(id) {
            self.validate_member(id, instance_id)?;
        }
        self.remove_member(id, effects);
        Ok(())
    }

    /// Refuses every call that waits: this coordinator no longer has the group.
    pub fn abandon(&mut self, refusal: Refusal, effects: &mut Effects) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.answer_join(&id, JoinAnswer::refused(&id, refusal), effects);
            if let Some(call) = self.members.get_mut(&id).and_then(|member| member.awaiting_sync.take()) {
                effects.sync(call, SyncAnswer::refused(refusal));
            }
        }
    }
}
