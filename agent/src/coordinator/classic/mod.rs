//! A classic group's rebalance protocol as a pure state machine: calls and time go in, answers and the wish to be
//! stored come out ([`Effects`]).
//!
//! ```text
//!  Empty ──join──▶ PreparingRebalance ──all joined, or time-out──▶ CompletingRebalance ──leader's sync──▶ Stable
//!    ▲                    │  ▲ ▲                                        │                               │
//!    └── nobody is left ──┘  │ └──── join, leave, expiry ───────────────┘                               │
//!                            └──── join of a leader or with other metadata, leave, expiry ──────────────┘
//! ```
//! Invariants:
//! - A generation has one set of members and one leader; generations only grow.
//! - What members learn of a generation (its number, their assignment) is stored first: [`Effects::store`] is carried
//!   out before any answer is given. A rebalance that is being prepared isn't stored.
//! - Every call that waits gets exactly one answer.
//! - Memory is bounded: members and what they carry by [`GROUP_BYTES_MAX`], ids handed out but not yet used by
//!   [`PENDING_MEMBERS_MAX`].
//!
//! Behaviour, errors and their order of precedence are those of Apache Kafka 4.1's group coordinator. Deliberately
//! absent: clocks, randomness, the store, the wire; what an assignment means (only the topics of a `consumer`
//! subscription are read, for OffsetDelete and expiry).

mod call;
mod join;
mod leave;
mod member;
mod offsets;
mod rebalance;
mod snapshot;
mod statics;
mod subscription;
mod sync;
mod timers;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use penstock_config::GroupOptions;
pub use penstock_metadata::keys::group::GROUP_BYTES_MAX;
use penstock_types::TimestampMs;

pub use call::{
    CallId, Effects, JoinAnswer, JoinCall, JoinedMember, LeaveCall, LeaveOutcome, Now, Reply, Store,
    SyncAnswer, SyncCall,
};
pub use offsets::OffsetExpiry;
pub use snapshot::{DescribedMember, Description, describe_stored};

use super::error::Refusal;
use member::Member;

/// Member ids handed out (KIP-394) and not yet used, at most, per group.
pub const PENDING_MEMBERS_MAX: usize = 10_000;
/// How long a member that has never joined may wait in its first JoinGroup.
pub const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No members; maybe offsets.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// Members have joined and wait for the leader's assignment.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
}

impl State {
    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// When and why the join phase goes on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinTimer {
    /// The first rebalance waits for more members: for `delay`, and further within `remaining`.
    Initial { at: Duration, delay: Duration, remaining: Duration },
    /// Whoever hasn't joined by then is left behind.
    Complete { at: Duration },
}

/// A classic group.
#[derive(Debug, Clone)]
pub struct ClassicGroup {
    options: Arc<GroupOptions>,
    /// Whether the group was ever created (it is listed, and deleted explicitly or by expiry).
    exists: bool,
    state: State,
    previous_state: State,
    state_since_ms: TimestampMs,
    generation: i32,
    protocol_type: Option<String>,
    protocol_name: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member id by `group.instance.id`.
    static_members: BTreeMap<String, String>,
    /// Ids that were handed out, and until when.
    pending_members: BTreeMap<String, Duration>,
    /// Members that have not yet asked for the generation's assignment.
    pending_sync: BTreeSet<String>,
    /// How many members know each protocol.
    protocol_support: BTreeMap<String, usize>,
    /// How many members wait in JoinGroup.
    awaiting_join: usize,
    /// Bytes of all members.
    bytes: usize,
    /// Whether somebody came since the initial delay began.
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_deadline: Option<Duration>,
    /// The topics that members subscribed to, if they are consumers and it can be told.
    subscribed_topics: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    /// A group that doesn't exist yet.
    pub fn new(options: Arc<GroupOptions>) -> Self {
        Self {
            options,
            exists: false,
            state: State::Empty,
            previous_state: State::Empty,
            state_since_ms: 0,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            protocol_support: BTreeMap::new(),
            awaiting_join: 0,
            bytes: 0,
            new_member_added: false,
            join_timer: None,
            sync_deadline: None,
            subscribed_topics: None,
        }
    }

    /// Whether the group was ever created.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Creates the group, if need be, as one that only holds offsets.
    pub fn create(&mut self, now: Now, effects: &mut Effects) {
        if !self.exists {
            self.exists = true;
            self.state_since_ms = now.wall_ms;
            effects.store_new();
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is lost (beyond what the store holds) if the group is forgotten now.
    pub fn is_idle(&self) -> bool {
        self.state == State::Empty && self.pending_members.is_empty()
    }

    /// A member's sign of life.
    ///
    /// # Errors
    /// As Kafka's Heartbeat.
    pub fn heartbeat(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), Refusal> {
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(Refusal::UnknownMemberId),
            State::PreparingRebalance => {
                self.reset_session(now, member_id);
                Err(Refusal::RebalanceInProgress)
            }
            State::CompletingRebalance | State::Stable => {
                self.reset_session(now, member_id);
                Ok(())
            }
        }
    }

    /// Whether the member belongs to the group, under that instance id.
    fn validate_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), Refusal> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(Refusal::UnknownMemberId),
                Some(existing) if existing != member_id => return Err(Refusal::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(Refusal::UnknownMemberId) }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn transition(&mut self, to: State, now: Now) {
        self.previous_state = self.state;
        self.state = to;
        self.state_since_ms = now.wall_ms;
    }
}
