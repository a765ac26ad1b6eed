//! The group's say in commits, deletions and expiry of offsets.

use penstock_types::TimestampMs;

use super::{ClassicGroup, Now, State};
use crate::coordinator::error::Refusal;

/// Since when an offset counts as unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetExpiry {
    /// Since the group lost its last member (or the client's own date).
    SinceMs(TimestampMs),
    /// Since its commit (or the client's own date).
    SinceCommit,
}

impl ClassicGroup {
    /// Whether offsets may be committed; the generation that the commit belongs to, `None` outside of group
    /// management. A member's commit is a sign of life.
    ///
    /// # Errors
    /// As Kafka's OffsetCommit.
    pub fn validate_commit(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<Option<i32>, Refusal> {
        if generation < 0 && self.state == State::Empty {
            return Ok(None);
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(Refusal::UnknownMemberId);
        }
        if penstock_types::planted!("old-generation-commits") && generation != self.generation {
            return Ok(Some(generation));
        }
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance => Err(Refusal::RebalanceInProgress),
            State::Empty | State::PreparingRebalance | State::Stable => {
                self.reset_session(now, member_id);
                Ok(Some(generation))
            }
        }
    }

    /// Whether offsets may be deleted.
    ///
    /// # Errors
    /// As Kafka's OffsetDelete.
    pub fn validate_offset_delete(&self) -> Result<(), Refusal> {
        if !self.exists {
            return Err(Refusal::GroupIdNotFound);
        }
        match self.state {
            State::Empty => Ok(()),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable
                if self.are_consumers() =>
            {
                Ok(())
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                Err(Refusal::NonEmptyGroup)
            }
        }
    }

    /// Whether the group may be deleted.
    ///
    /// # Errors
    /// As Kafka's DeleteGroups.
    pub fn validate_delete(&self) -> Result<(), Refusal> {
        if !self.exists {
            return Err(Refusal::GroupIdNotFound);
        }
        if self.state == State::Empty { Ok(()) } else { Err(Refusal::NonEmptyGroup) }
    }

    /// Whether a member consumes the topic, as far as can be told: then its offsets stay.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.are_consumers(),
        }
    }

    /// How offsets expire now; `None` if they don't.
    pub fn offset_expiry(&self) -> Option<OffsetExpiry> {
        match (&self.protocol_type, self.state) {
            (None, _) => Some(OffsetExpiry::SinceCommit),
            (Some(_), State::Empty) => Some(OffsetExpiry::SinceMs(self.state_since_ms)),
            (Some(_), State::Stable) if self.are_consumers() && self.subscribed_topics.is_some() => {
                Some(OffsetExpiry::SinceCommit)
            }
            (Some(_), State::PreparingRebalance | State::CompletingRebalance | State::Stable) => None,
        }
    }

    fn are_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }
}
