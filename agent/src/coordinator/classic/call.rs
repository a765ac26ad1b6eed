//! What goes into the machine and what comes out.

use std::time::Duration;

use bytes::Bytes;
use penstock_types::TimestampMs;
use uuid::Uuid;

use crate::coordinator::error::Refusal;

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the coordinator's start; never goes back. Decides time-outs.
    pub tick: Duration,
    /// By the wall clock. Only stored, for the expiry of offsets.
    pub wall_ms: TimestampMs,
}

/// A call that may wait for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A JoinGroup.
#[derive(Debug, Clone)]
pub struct JoinCall {
    /// The member's id; empty for a member that has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id`.
    pub client_id: String,
    /// The client's address, as Kafka prints it (`/127.0.0.1`).
    pub client_host: String,
    /// How long the member may be silent.
    pub session_timeout: Duration,
    /// How long the member may take to join again.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, …
    pub protocol_type: String,
    /// The assignors that it knows in the order of its preference, with its subscription for each.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a new member is sent back to join again with the id that it is given (KIP-394, from version 4).
    pub requires_known_member_id: bool,
    /// Whether a leader can be told to skip assigning (KIP-814, from version 9).
    pub supports_skipping_assignment: bool,
    /// Random; becomes part of a new member's id.
    pub fresh_id: Uuid,
}

/// A SyncGroup.
#[derive(Debug, Clone)]
pub struct SyncCall {
    /// The generation that the member joined.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// What the member believes the group's protocol type to be (from version 5).
    pub protocol_type: Option<String>,
    /// What the member believes the assignor to be (from version 5).
    pub protocol_name: Option<String>,
    /// The leader's assignments by member id; empty from others.
    pub assignments: Vec<(String, Bytes)>,
}

/// One member's leave in a LeaveGroup.
#[derive(Debug, Clone)]
pub struct LeaveCall {
    /// The member's id; empty where an operator removes a static member by its instance id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

/// How one member's leave ended.
pub type LeaveOutcome = Result<(), Refusal>;

/// A member as its group's leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Its subscription for the chosen assignor.
    pub metadata: Bytes,
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// `None` for success.
    pub error: Option<Refusal>,
    /// The member's id.
    pub member_id: String,
    /// The generation; -1 with an error.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The chosen assignor.
    pub protocol_name: Option<String>,
    /// The leader's id; empty with an error.
    pub leader: String,
    /// Whether the leader must not assign anew.
    pub skip_assignment: bool,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    /// A refusal.
    pub fn refused(member_id: &str, error: Refusal) -> Self {
        Self {
            error: Some(error),
            member_id: member_id.to_owned(),
            generation: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAnswer {
    /// `None` for success.
    pub error: Option<Refusal>,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The chosen assignor.
    pub protocol_name: Option<String>,
    /// What was assigned to the member.
    pub assignment: Bytes,
}

impl SyncAnswer {
    /// A refusal.
    pub fn refused(error: Refusal) -> Self {
        Self { error: Some(error), protocol_type: None, protocol_name: None, assignment: Bytes::new() }
    }
}

/// An answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To a JoinGroup.
    Join(JoinAnswer),
    /// To a SyncGroup.
    Sync(SyncAnswer),
}

/// What is to be stored before any answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// That the group exists, without members.
    New,
    /// The group as it is: [`super::ClassicGroup::snapshot`].
    Snapshot,
}

/// What comes out of an event.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers to this and to earlier calls.
    pub replies: Vec<(CallId, Reply)>,
    /// What is to be stored first.
    pub store: Option<Store>,
}

impl Effects {
    pub(super) fn store_new(&mut self) {
        self.store.get_or_insert(Store::New);
    }

    pub(super) fn store_snapshot(&mut self) {
        self.store = Some(Store::Snapshot);
    }

    pub(super) fn join(&mut self, call: CallId, answer: JoinAnswer) {
        self.replies.push((call, Reply::Join(answer)));
    }

    pub(super) fn sync(&mut self, call: CallId, answer: SyncAnswer) {
        self.replies.push((call, Reply::Sync(answer)));
    }
}
