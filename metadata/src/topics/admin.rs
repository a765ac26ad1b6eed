//! Changing topics and dynamic configuration: what all changes share.

use std::sync::Arc;
use std::time::Duration;

use penstock_types::{Clock, Incarnation, Offset, Randomness, TopicPartition};

use crate::keys::Keyspace;
use crate::kv::{Outcome, SharedStore, StoreError};
use crate::log_starts::{MoveError, NewStart, move_log_starts};
use crate::transact::{Policy, TransactError};

/// The most topics that one transaction changes.
pub(super) const TOPICS_AT_ONCE: usize = 500;
/// The most partitions that one request may make, as in Kafka.
pub const PARTITIONS_PER_REQUEST: u64 = 10_000;

/// Makes changes in the store. Catalogs learn of them at their next refresh.
#[derive(Debug, Clone)]
pub struct TopicAdmin {
    pub(super) store: SharedStore,
    pub(super) keyspace: Keyspace,
    pub(super) incarnation: Incarnation,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) randomness: Arc<dyn Randomness>,
}

impl TopicAdmin {
    /// Changes the topics in `keyspace`.
    pub fn new(
        store: SharedStore,
        keyspace: Keyspace,
        incarnation: Incarnation,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Self { store, keyspace, incarnation, clock, randomness }
    }

    /// Moves log starts, as [`crate::log_starts`] says; answers in the order asked for.
    pub async fn move_log_starts(
        &self,
        wanted: &[(TopicPartition, NewStart)],
        request: Request,
    ) -> Vec<Result<Offset, MoveError>> {
        move_log_starts(&self.store, &self.keyspace, self.incarnation, request.policy(), wanted).await
    }
}

/// How a request is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Only check, change nothing.
    pub validate_only: bool,
    /// How long to try.
    pub deadline: Duration,
}

impl Request {
    /// Bounds of a client's time-out.
    const SHORTEST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);

    /// A request whose client waits for `timeout_ms`.
    pub fn new(validate_only: bool, timeout_ms: i32) -> Self {
        let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        Self { validate_only, deadline: asked.clamp(Self::SHORTEST, Self::LONGEST) }
    }

    pub(super) fn policy(self) -> Policy {
        Policy::interactive(self.deadline)
    }
}

/// The store did not carry a change out, or may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ChangeFailed {
    /// The last failure.
    pub error: StoreError,
    /// Whether the change may have happened all the same.
    pub outcome: Outcome,
}

/// What a transaction's end means for the change that it carried. A body that never refuses.
pub(super) fn changed<T, C>(
    result: Result<(T, C), TransactError<std::convert::Infallible>>,
) -> Result<T, ChangeFailed> {
    match result {
        Ok((value, _)) => Ok(value),
        Err(TransactError::Refused(never)) => match never {},
        Err(TransactError::Store { error, outcome, .. }) => Err(ChangeFailed { error, outcome }),
    }
}
