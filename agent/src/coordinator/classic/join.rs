//! JoinGroup.

use super::member::Member;
use super::{
    CallId, ClassicGroup, Effects, GROUP_BYTES_MAX, JoinAnswer, JoinCall, NEW_MEMBER_JOIN_TIMEOUT, Now,
    PENDING_MEMBERS_MAX, State,
};
use crate::coordinator::error::Refusal;

/// Bytes of `client.id` or `group.instance.id` that become part of a member id.
const ID_PREFIX_BYTES: usize = 255;

impl ClassicGroup {
    /// A member joins, or joins again.
    pub fn join(&mut self, now: Now, call: CallId, mut join: JoinCall, effects: &mut Effects) {
        keep_first_of_each_name(&mut join);
        match self.try_join(now, call, &join, effects) {
            Ok(()) => {}
            Err((refusal, member_id)) => effects.join(call, JoinAnswer::refused(member_id, refusal)),
        }
    }

    fn try_join<'a>(
        &mut self,
        now: Now,
        call: CallId,
        join: &'a JoinCall,
        effects: &mut Effects,
    ) -> Result<(), (Refusal, &'a str)> {
        let id = join.member_id.as_str();
        let options = &self.options;
        if join.session_timeout < options.min_session_timeout
            || join.session_timeout > options.max_session_timeout
        {
            return Err((Refusal::InvalidSessionTimeout, id));
        }
        if !self.exists && !id.is_empty() {
            return Err((Refusal::UnknownMemberId, id));
        }
        if !self.accepts(join) {
            self.remove_member(id, effects);
            return Err((Refusal::GroupMaxSizeReached, ""));
        }
        if !self.supports(join) {
            return Err((Refusal::InconsistentGroupProtocol, id));
        }
        if id.is_empty() {
            self.join_new(now, call, join, effects)
        } else {
            self.join_known(now, call, join, effects)
        }
    }

    fn join_new<'a>(
        &mut self,
        now: Now,
        call: CallId,
        join: &'a JoinCall,
        effects: &mut Effects,
    ) -> Result<(), (Refusal, &'a str)> {
        self.create(now, effects);
        let prefix = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let id = format!("{}-{}", truncated(prefix, ID_PREFIX_BYTES), join.fresh_id);
        if let Some(instance_id) = &join.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(existing) => self.replace_static(now, call, join, &existing, &id, effects),
                None => self.admit(now, call, join, &id, effects),
            }
        } else if join.requires_known_member_id {
            self.pending_members.insert(id.clone(), now.tick + join.session_timeout);
            effects.join(call, JoinAnswer::refused(&id, Refusal::MemberIdRequired));
        } else {
            self.admit(now, call, join, &id, effects);
        }
        Ok(())
    }

    fn join_known<'a>(
        &mut self,
        now: Now,
        call: CallId,
        join: &'a JoinCall,
        effects: &mut Effects,
    ) -> Result<(), (Refusal, &'a str)> {
        let id = join.member_id.as_str();
        if self.pending_members.contains_key(id) {
            if join.instance_id.is_some() {
                return Err((Refusal::UnknownServerError, id));
            }
            self.admit(now, call, join, id, effects);
            return Ok(());
        }
        self.validate_member(id, join.instance_id.as_deref()).map_err(|refusal| (refusal, id))?;
        let unchanged = self.members.get(id).is_some_and(|member| member.protocols == join.protocols);
        match self.state {
            State::Empty => return Err((Refusal::UnknownMemberId, id)),
            // It may not have got the answer to its first call.
            State::CompletingRebalance if unchanged => effects.join(call, self.generation_for(id)),
            // A leader joins again when something that only it sees has changed, such as a topic's partitions.
            State::Stable if unchanged && !self.is_leader(id) => effects.join(call, self.generation_for(id)),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.await_join(id, call, join, effects);
                self.rebalance(now, effects);
            }
        }
        Ok(())
    }

    /// Takes a new member in; it waits for the rebalance.
    fn admit(&mut self, now: Now, call: CallId, join: &JoinCall, id: &str, effects: &mut Effects) {
        if self.state == State::PreparingRebalance && self.previous_state == State::Empty {
            self.new_member_added = true;
        }
        let mut member = Member::joining(join);
        member.awaiting_join = Some(call);
        // It can't send heartbeats before it has its answer. One that went away would stay for ever.
        member.expires_at = Some(now.tick + NEW_MEMBER_JOIN_TIMEOUT);
        self.add_member(id, member, &join.protocol_type);
        self.rebalance(now, effects);
    }

    /// Whether there is room for it.
    fn accepts(&self, join: &JoinCall) -> bool {
        let max = self.options.max_size;
        let member = self.members.get(&join.member_id);
        if member.is_none() {
            let brought: usize =
                join.protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum();
            if self.bytes.saturating_add(brought) > GROUP_BYTES_MAX {
                return false;
            }
            if self.pending_members.len() >= PENDING_MEMBERS_MAX && join.member_id.is_empty() {
                return false;
            }
        }
        match self.state {
            State::Empty => true,
            // By the number of those that wait: so that a group above its bound sends the last ones away.
            State::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || self.awaiting_join < max
            }
            State::CompletingRebalance | State::Stable => member.is_some() || self.members.len() < max,
        }
    }

    /// Whether it has the group's protocol type and an assignor that all members know.
    fn supports(&self, join: &JoinCall) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let known_to_all = |name: &String| self.protocol_support.get(name) == Some(&self.members.len());
        self.protocol_type.as_deref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| known_to_all(name) || self.members.is_empty())
    }
}

fn keep_first_of_each_name(join: &mut JoinCall) {
    let mut seen = std::collections::BTreeSet::new();
    join.protocols.retain(|(name, _)| seen.insert(name.clone()));
}

/// The start of a text, cut between characters.
fn truncated(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
