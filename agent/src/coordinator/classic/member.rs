//! Members of a group, and the sums that the group keeps over them.

use std::time::Duration;

use bytes::Bytes;

use super::{CallId, ClassicGroup, Effects, JoinAnswer, JoinCall, JoinedMember, Now, SyncAnswer};
use crate::coordinator::error::Refusal;

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<CallId>,
    pub(super) awaiting_sync: Option<CallId>,
    /// Whether it has never got a generation: then waiting doesn't count as a sign of life.
    pub(super) is_new: bool,
    /// When its session ends; `None` after it ended while the member waited for an answer.
    pub(super) expires_at: Option<Duration>,
}

impl Member {
    pub(super) fn joining(call: &JoinCall) -> Self {
        Self {
            instance_id: call.instance_id.clone(),
            client_id: call.client_id.clone(),
            client_host: call.client_host.clone(),
            session_timeout: call.session_timeout,
            rebalance_timeout: call.rebalance_timeout,
            protocols: call.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
            expires_at: None,
        }
    }

    /// Its subscription for an assignor.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    /// Bytes that it takes when stored, about.
    pub(super) fn bytes(&self) -> usize {
        let protocols: usize =
            self.protocols.iter().map(|(name, metadata)| name.len() + metadata.len() + 16).sum();
        let instance = self.instance_id.as_ref().map_or(0, String::len);
        protocols + self.assignment.len() + self.client_id.len() + self.client_host.len() + instance + 128
    }
}

impl ClassicGroup {
    /// Takes a member in and answers none of its calls.
    pub(super) fn add_member(&mut self, id: &str, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.to_owned());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        self.pending_members.remove(id);
        self.count_in(&member);
        let replaced = self.members.insert(id.to_owned(), member);
        assert!(replaced.is_none(), "member {id} is already there");
    }

    /// Takes a member (or an id handed out) away. What it waits for is refused: it may join anew.
    pub(super) fn remove_member(&mut self, id: &str, effects: &mut Effects) {
        if let Some(member) = self.members.remove(id) {
            self.count_out(&member);
            if let Some(call) = member.awaiting_join {
                effects.join(call, JoinAnswer::refused("", Refusal::UnknownMemberId));
            }
            if let Some(call) = member.awaiting_sync {
                effects.sync(call, SyncAnswer::refused(Refusal::UnknownMemberId));
            }
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(id);
        self.pending_sync.remove(id);
    }

    /// Keeps the sums over members right while one is changed.
    pub(super) fn change_member(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        let mut member = self.members.remove(id).expect("the caller found the member");
        self.count_out(&member);
        change(&mut member);
        self.count_in(&member);
        self.members.insert(id.to_owned(), member);
    }

    /// Lets a member wait in JoinGroup with what it brings. An earlier call of it that still waits is sent away.
    pub(super) fn await_join(&mut self, id: &str, call: CallId, join: &JoinCall, effects: &mut Effects) {
        let mut earlier = None;
        self.change_member(id, |member| {
            member.protocols = join.protocols.clone();
            member.rebalance_timeout = join.rebalance_timeout;
            member.session_timeout = join.session_timeout;
            earlier = member.awaiting_join.replace(call);
        });
        if let Some(earlier) = earlier {
            effects.join(earlier, JoinAnswer::refused(id, Refusal::RebalanceInProgress));
        }
    }

    /// Ends a member's wait in JoinGroup.
    pub(super) fn answer_join(&mut self, id: &str, answer: JoinAnswer, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(call) = member.awaiting_join.take() {
            self.awaiting_join -= 1;
            effects.join(call, answer);
        }
    }

    /// The group's generation for one member; with the members if it leads.
    pub(super) fn generation_for(&self, id: &str) -> JoinAnswer {
        JoinAnswer {
            error: None,
            member_id: id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if self.is_leader(id) { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let joined = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.iter().map(joined).collect()
    }

    /// Begins a member's session anew.
    pub(super) fn reset_session(&mut self, now: Now, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.expires_at = Some(now.tick + member.session_timeout);
        }
    }

    fn count_in(&mut self, member: &Member) {
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.bytes += member.bytes();
        for (name, _) in &member.protocols {
            *self.protocol_support.entry(name.clone()).or_default() += 1;
        }
    }

    fn count_out(&mut self, member: &Member) {
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.bytes -= member.bytes();
        for (name, _) in &member.protocols {
            let count = self.protocol_support.get_mut(name).expect("a member's protocols are counted");
            *count -= 1;
            if *count == 0 {
                self.protocol_support.remove(name);
            }
        }
    }
}
