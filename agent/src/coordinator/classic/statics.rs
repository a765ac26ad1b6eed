//! A static member (KIP-345) that comes back under a new member id.

use bytes::Bytes;

use super::{CallId, ClassicGroup, Effects, JoinAnswer, JoinCall, Now, State, SyncAnswer};
use crate::coordinator::error::Refusal;

impl ClassicGroup {
    /// Gives the place of the member `old` to `new`, which has the same instance id. In a stable group that keeps its
    /// assignor nobody else notices.
    pub(super) fn replace_static(
        &mut self,
        now: Now,
        call: CallId,
        join: &JoinCall,
        old: &str,
        new: &str,
        effects: &mut Effects,
    ) {
        let former_leader = self.leader.clone().unwrap_or_default();
        self.rename_static(old, new, effects);
        self.await_join(new, call, join, effects);
        self.reset_session(now, new);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol_name => {
                let mut answer = self.generation_for(new);
                if join.supports_skipping_assignment {
                    answer.skip_assignment = self.is_leader(new);
                } else {
                    // A client that would assign anew must not: it is told of the leader that is no more.
                    answer.leader = former_leader;
                    answer.members = Vec::new();
                }
                self.answer_join(new, answer, effects);
                if let Some(member) = self.members.get_mut(new) {
                    member.is_new = false;
                }
                effects.store_snapshot();
            }
            // The leader may have been told of the old id, and would assign nothing to the new one.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(now, effects),
            State::Empty | State::PreparingRebalance => self.maybe_complete_join(now, effects),
        }
    }

    fn rename_static(&mut self, old: &str, new: &str, effects: &mut Effects) {
        self.answer_join(old, JoinAnswer::refused(old, Refusal::FencedInstanceId), effects);
        let mut member = self.members.remove(old).expect("a static member is a member");
        if let Some(call) = member.awaiting_sync.take() {
            effects.sync(
                call,
                SyncAnswer { assignment: Bytes::new(), ..SyncAnswer::refused(Refusal::FencedInstanceId) },
            );
        }
        // It has its place already, so its wait counts as a sign of life.
        member.is_new = false;
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), new.to_owned());
        }
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        self.pending_sync.remove(old);
        self.members.insert(new.to_owned(), member);
    }
}
