//! What topics and options refuse, as Kafka's error codes and messages: one exhaustive match per error.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use penstock_metadata::kv::StoreError;
use penstock_metadata::topics::{
    AlterBrokerError, AlterTopicError, ChangeFailed, CreatePartitionsError, CreateTopicError,
    DeleteTopicError,
};

/// What a client is told of something that wasn't done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The error.
    pub(crate) error: ResponseError,
    /// The message; `None` where Kafka has none.
    pub(crate) message: Option<String>,
}

impl Refusal {
    /// An error with a message.
    pub(crate) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()) }
    }

    /// An error without a message.
    pub(crate) fn bare(error: ResponseError) -> Self {
        Self { error, message: None }
    }

    /// The code on the wire.
    pub(crate) fn code(&self) -> i16 {
        self.error.code()
    }

    /// The message on the wire.
    pub(crate) fn text(&self) -> Option<StrBytes> {
        self.message.as_deref().map(text)
    }
}

/// A text on the wire.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Kafka's error for a store that failed under a change: a retriable one, since it may have happened, unless
/// repeating it can't help.
pub(crate) fn store_error(error: &StoreError) -> ResponseError {
    match error {
        StoreError::Conflict
        | StoreError::TooOld
        | StoreError::FutureVersion
        | StoreError::CommitUnknown
        | StoreError::Throttled
        | StoreError::Unavailable { .. } => ResponseError::RequestTimedOut,
        StoreError::TooLarge { .. } => ResponseError::InvalidRequest,
        StoreError::Failed { .. } => ResponseError::UnknownServerError,
    }
}

impl From<&ChangeFailed> for Refusal {
    fn from(failed: &ChangeFailed) -> Self {
        Self::new(store_error(&failed.error), failed.to_string())
    }
}

impl From<&CreateTopicError> for Refusal {
    fn from(refused: &CreateTopicError) -> Self {
        let error = match refused {
            CreateTopicError::Name(_) | CreateTopicError::Collides { .. } => {
                ResponseError::InvalidTopicException
            }
            CreateTopicError::Internal { .. } | CreateTopicError::AssignmentAndNumber { .. } => {
                ResponseError::InvalidRequest
            }
            CreateTopicError::Exists { .. } => ResponseError::TopicAlreadyExists,
            CreateTopicError::Partitions => ResponseError::InvalidPartitions,
            CreateTopicError::ReplicationFactor => ResponseError::InvalidReplicationFactor,
            CreateTopicError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
            CreateTopicError::Config(_)
            | CreateTopicError::NullConfig { .. }
            | CreateTopicError::ConfigSize { .. } => ResponseError::InvalidConfig,
            CreateTopicError::Failed(failed) => return failed.into(),
        };
        Self::new(error, refused.to_string())
    }
}

impl From<&DeleteTopicError> for Refusal {
    fn from(refused: &DeleteTopicError) -> Self {
        match refused {
            DeleteTopicError::NotFound { .. } => {
                Self::new(ResponseError::UnknownTopicId, "This server does not host this topic ID.")
            }
            DeleteTopicError::Failed(failed) => failed.into(),
        }
    }
}

impl From<&CreatePartitionsError> for Refusal {
    fn from(refused: &CreatePartitionsError) -> Self {
        let error = match refused {
            CreatePartitionsError::NotFound { .. } => {
                return Self::bare(ResponseError::UnknownTopicOrPartition);
            }
            CreatePartitionsError::AlreadyHas { .. } | CreatePartitionsError::NotAnIncrease { .. } => {
                ResponseError::InvalidPartitions
            }
            CreatePartitionsError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
            CreatePartitionsError::Failed(failed) => return failed.into(),
        };
        Self::new(error, refused.to_string())
    }
}

impl From<&AlterTopicError> for Refusal {
    fn from(refused: &AlterTopicError) -> Self {
        let error = match refused {
            AlterTopicError::NotFound { .. } => ResponseError::UnknownTopicOrPartition,
            AlterTopicError::Alter(_) | AlterTopicError::Config(_) | AlterTopicError::Size { .. } => {
                ResponseError::InvalidConfig
            }
            AlterTopicError::Failed(failed) => return failed.into(),
        };
        Self::new(error, refused.to_string())
    }
}

impl From<&AlterBrokerError> for Refusal {
    fn from(refused: &AlterBrokerError) -> Self {
        let error = match refused {
            AlterBrokerError::Alter(_) | AlterBrokerError::Unknown { .. } | AlterBrokerError::Size { .. } => {
                ResponseError::InvalidConfig
            }
            AlterBrokerError::ReadOnly { .. } | AlterBrokerError::Config(_) => ResponseError::InvalidRequest,
            AlterBrokerError::Failed(failed) => return failed.into(),
        };
        Self::new(error, refused.to_string())
    }
}
