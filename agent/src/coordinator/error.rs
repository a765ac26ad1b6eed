//! Why a group's coordinator refuses.

use penstock_metadata::groups::GroupError;
use penstock_metadata::kv::StoreError;

/// A refusal, by Kafka's names; the wire's codes are given in `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Nothing happened, or it may have and repeating it is right; ask again.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// As many groups as this coordinator can hold are loaded; ask again.
    #[error("the coordinator is loading")]
    CoordinatorLoadInProgress,
    /// Another coordinator has the group; look for it.
    #[error("this is not the group's coordinator")]
    NotCoordinator,
    /// The group's id is empty or too long.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// There is no such group.
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// The group has members.
    #[error("the group has members")]
    NonEmptyGroup,
    /// The group has as many members as it may.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// The members of the group consume the topic.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The member has no assignor, or protocol type, in common with the group.
    #[error("the group's protocol is another")]
    InconsistentGroupProtocol,
    /// The session time-out is out of range.
    #[error("the session time-out is out of range")]
    InvalidSessionTimeout,
    /// Join again with the id given.
    #[error("join again with the member id given")]
    MemberIdRequired,
    /// There is no such member.
    #[error("the member is unknown")]
    UnknownMemberId,
    /// Another member has taken the instance id.
    #[error("another member has taken the instance id")]
    FencedInstanceId,
    /// The group is in another generation.
    #[error("the generation is another")]
    IllegalGeneration,
    /// Join again.
    #[error("the group rebalances")]
    RebalanceInProgress,
    /// The commit's metadata is too long.
    #[error("the metadata of the commit is too long")]
    OffsetMetadataTooLarge,
    /// The topic or partition doesn't exist.
    #[error("the topic or partition is unknown")]
    UnknownTopicOrPartition,
    /// Something that should not be.
    #[error("the server failed")]
    UnknownServerError,
}

impl From<&GroupError> for Refusal {
    fn from(error: &GroupError) -> Self {
        match error {
            GroupError::Fenced { .. } => Self::NotCoordinator,
            GroupError::Store { error, .. } => match error {
                StoreError::Conflict
                | StoreError::TooOld
                | StoreError::FutureVersion
                | StoreError::CommitUnknown
                | StoreError::Throttled
                | StoreError::Unavailable { .. } => Self::CoordinatorNotAvailable,
                StoreError::TooLarge { .. } | StoreError::Failed { .. } => Self::UnknownServerError,
            },
        }
    }
}
