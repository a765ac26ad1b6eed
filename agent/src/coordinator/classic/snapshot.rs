//! To the stored form and back; what DescribeGroups shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_config::GroupOptions;
use penstock_metadata::groups::StoredGroup;
use penstock_metadata::keys::group::{GroupHeader, GroupKind, StoredMember, StoredState};
use penstock_types::TimestampMs;

use super::member::Member;
use super::{ClassicGroup, Effects, Now, State, Store};

/// A member as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Its subscription; empty unless the group is stable.
    pub metadata: Bytes,
    /// What was assigned to it.
    pub assignment: Bytes,
}

/// A group as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its state.
    pub state: State,
    /// Its protocol type, empty for none.
    pub protocol_type: String,
    /// The assignor; empty unless the group is stable.
    pub protocol_name: String,
    /// Its members by id.
    pub members: Vec<DescribedMember>,
}

impl ClassicGroup {
    /// The group as another coordinator left it: every member gets a full session, nobody has to join again.
    pub fn restore(options: Arc<GroupOptions>, stored: StoredGroup, now: Now, effects: &mut Effects) -> Self {
        let mut group = Self::new(options);
        let StoredGroup { header, members } = stored;
        group.exists = true;
        group.generation = header.generation;
        group.leader.clone_from(&header.leader);
        for (id, member) in members {
            let member = restored(member, now);
            group.add_member(&id, member, header.protocol_type.as_deref().unwrap_or_default());
        }
        if !group.leader.as_ref().is_some_and(|leader| group.members.contains_key(leader)) {
            group.leader = group.members.keys().next().cloned();
        }
        group.state = match header.state {
            _ if group.members.is_empty() => State::Empty,
            StoredState::Stable => State::Stable,
            StoredState::CompletingRebalance | StoredState::Empty => State::CompletingRebalance,
        };
        group.previous_state = group.state;
        group.state_since_ms = header.state_since_ms;
        group.protocol_type = header.protocol_type;
        group.protocol_name = header.protocol_name;
        group.compute_subscribed_topics();
        if group.state == State::CompletingRebalance {
            group.pending_sync = group.members.keys().cloned().collect();
            group.sync_deadline = Some(now.tick + group.rebalance_timeout());
        }
        if group.members.len() > group.options.max_size {
            // The bound was lowered: a rebalance sends the last ones away and lets them commit first.
            group.prepare_rebalance(now, effects);
        }
        group
    }

    /// What to store.
    pub fn snapshot(&self, store: Store) -> StoredGroup {
        if store == Store::New {
            let header = GroupHeader { generation: self.generation, ..GroupHeader::new(self.state_since_ms) };
            return StoredGroup { header, members: BTreeMap::new() };
        }
        let state = match self.state {
            _ if self.members.is_empty() => StoredState::Empty,
            State::Stable => StoredState::Stable,
            // A generation that began, and whose next rebalance began, in one event.
            State::Empty | State::PreparingRebalance | State::CompletingRebalance => {
                StoredState::CompletingRebalance
            }
        };
        let header = GroupHeader {
            kind: GroupKind::Classic,
            generation: self.generation,
            state,
            state_since_ms: self.state_since_ms,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
        };
        let members = self.members.iter().map(|(id, member)| (id.clone(), stored(member))).collect();
        StoredGroup { header, members }
    }

    /// The group as DescribeGroups shows it.
    pub fn describe(&self) -> Description {
        let stable = self.state == State::Stable;
        let protocol_name = self.protocol_name.clone().filter(|_| stable).unwrap_or_default();
        let described = |(id, member): (&String, &Member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(&protocol_name) } else { Bytes::new() },
            assignment: member.assignment.clone(),
        };
        Description {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.iter().map(described).collect(),
            protocol_name,
        }
    }
}

fn restored(stored: StoredMember, now: Now) -> Member {
    let session_timeout = Duration::from_millis(u64::from(stored.session_timeout_ms));
    Member {
        instance_id: stored.instance_id,
        client_id: stored.client_id,
        client_host: stored.client_host,
        session_timeout,
        rebalance_timeout: Duration::from_millis(u64::from(stored.rebalance_timeout_ms)),
        protocols: stored.protocols,
        assignment: stored.assignment,
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
        expires_at: Some(now.tick + session_timeout),
    }
}

fn stored(member: &Member) -> StoredMember {
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    StoredMember {
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        session_timeout_ms: ms(member.session_timeout),
        rebalance_timeout_ms: ms(member.rebalance_timeout),
        protocols: member.protocols.clone(),
        assignment: member.assignment.clone(),
    }
}

/// What a stored group would be described as, without a coordinator.
pub fn describe_stored(stored: StoredGroup) -> Description {
    let now = Now { tick: Duration::ZERO, wall_ms: TimestampMs::default() };
    let options = Arc::new(GroupOptions { max_size: usize::MAX, ..GroupOptions::default() });
    ClassicGroup::restore(options, stored, now, &mut Effects::default()).describe()
}
