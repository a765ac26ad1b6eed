//! SyncGroup: from the leader's assignment to every member's.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{CallId, ClassicGroup, Effects, GROUP_BYTES_MAX, Now, State, SyncAnswer, SyncCall};
use crate::coordinator::error::Refusal;

impl ClassicGroup {
    /// A member asks for its assignment; the leader brings all.
    pub fn sync(&mut self, now: Now, call: CallId, sync: SyncCall, effects: &mut Effects) {
        if let Err(refusal) = self.try_sync(now, call, sync, effects) {
            effects.sync(call, SyncAnswer::refused(refusal));
        }
    }

    fn try_sync(
        &mut self,
        now: Now,
        call: CallId,
        sync: SyncCall,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let id = sync.member_id.as_str();
        self.validate_member(id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &Option<String>| matches!((said, is), (Some(said), Some(is)) if said != is);
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol_name, &self.protocol_name)
        {
            return Err(Refusal::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(Refusal::UnknownMemberId),
            State::PreparingRebalance => Err(Refusal::RebalanceInProgress),
            State::CompletingRebalance
                if penstock_types::planted!("old-assignment-given")
                    && !self.is_leader(id)
                    && !self.assignment_of(id).assignment.is_empty() =>
            {
                effects.sync(call, self.assignment_of(id));
                Ok(())
            }
            State::CompletingRebalance => {
                self.await_sync(id, call, effects);
                self.synced(id);
                if self.is_leader(id) {
                    self.assign(now, sync.assignments, effects);
                }
                Ok(())
            }
            State::Stable => {
                self.synced(id);
                effects.sync(call, self.assignment_of(id));
                Ok(())
            }
        }
    }

    fn await_sync(&mut self, id: &str, call: CallId, effects: &mut Effects) {
        let member = self.members.get_mut(id).expect("a validated member");
        if let Some(earlier) = member.awaiting_sync.replace(call) {
            effects.sync(earlier, SyncAnswer::refused(Refusal::RebalanceInProgress));
        }
    }

    fn synced(&mut self, id: &str) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    /// The leader's assignments: from here on the group is stable.
    fn assign(&mut self, now: Now, assignments: Vec<(String, Bytes)>, effects: &mut Effects) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        assignments.retain(|id, _| self.members.contains_key(id));
        let bytes: usize = assignments.values().map(Bytes::len).sum();
        if self.bytes.saturating_add(bytes) > GROUP_BYTES_MAX {
            // More than can be stored: Kafka's answer to a record that is too large, and everybody joins again.
            self.drop_assignments(now, Refusal::UnknownServerError, effects);
            return self.prepare_rebalance(now, effects);
        }
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let assignment = assignments.remove(&id).unwrap_or_default();
            self.change_member(&id, |member| member.assignment = assignment);
            let answer = self.assignment_of(&id);
            self.answer_sync(now, &id, answer, effects);
        }
        self.transition(State::Stable, now);
        effects.store_snapshot();
    }

    /// Forgets what was assigned and refuses those that wait for it.
    pub(super) fn drop_assignments(&mut self, now: Now, refusal: Refusal, effects: &mut Effects) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.change_member(&id, |member| member.assignment = Bytes::new());
            self.answer_sync(now, &id, SyncAnswer::refused(refusal), effects);
        }
    }

    /// Ends a member's wait in SyncGroup. Its session may have ended while it waited, so it begins anew.
    fn answer_sync(&mut self, now: Now, id: &str, answer: SyncAnswer, effects: &mut Effects) {
        let waiting = self.members.get_mut(id).and_then(|member| member.awaiting_sync.take());
        if let Some(call) = waiting {
            effects.sync(call, answer);
            self.reset_session(now, id);
        }
    }

    fn assignment_of(&self, id: &str) -> SyncAnswer {
        SyncAnswer {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self.members.get(id).map_or_else(Bytes::new, |member| member.assignment.clone()),
        }
    }
}
