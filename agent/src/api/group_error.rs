//! A group coordinator's refusals as Kafka's error codes.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::coordinator::Refusal;

/// The wire's code.
pub(crate) fn code(refusal: Refusal) -> i16 {
    let error = match refusal {
        Refusal::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        Refusal::CoordinatorLoadInProgress => ResponseError::CoordinatorLoadInProgress,
        Refusal::NotCoordinator => ResponseError::NotCoordinator,
        Refusal::InvalidGroupId => ResponseError::InvalidGroupId,
        Refusal::GroupIdNotFound => ResponseError::GroupIdNotFound,
        Refusal::NonEmptyGroup => ResponseError::NonEmptyGroup,
        Refusal::GroupMaxSizeReached => ResponseError::GroupMaxSizeReached,
        Refusal::GroupSubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        Refusal::InconsistentGroupProtocol => ResponseError::InconsistentGroupProtocol,
        Refusal::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        Refusal::MemberIdRequired => ResponseError::MemberIdRequired,
        Refusal::UnknownMemberId => ResponseError::UnknownMemberId,
        Refusal::FencedInstanceId => ResponseError::FencedInstanceId,
        Refusal::IllegalGeneration => ResponseError::IllegalGeneration,
        Refusal::RebalanceInProgress => ResponseError::RebalanceInProgress,
        Refusal::OffsetMetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        Refusal::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
        Refusal::UnknownServerError => ResponseError::UnknownServerError,
    };
    error.code()
}

/// The wire's code of an outcome; 0 for success.
pub(crate) fn outcome_code(outcome: Result<(), Refusal>) -> i16 {
    outcome.map_or_else(code, |()| 0)
}

/// Text for the wire.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Text from the wire.
pub(crate) fn owned(text: Option<&StrBytes>) -> Option<String> {
    text.map(ToString::to_string)
}

/// An answer that can't be encoded closes the connection.
#[cfg(test)]
pub(crate) fn assert_encodes<M: kafka_protocol::protocol::Encodable + std::fmt::Debug>(
    message: &M,
    version: i16,
) {
    let mut bytes = bytes::BytesMut::new();
    if let Err(error) = message.encode(&mut bytes, version) {
        panic!("version {version} of {message:?}: {error:#}");
    }
}
