//! Runs a transaction until it has an outcome: retries what the seam calls retryable, under a bound of attempts and
//! of time, with pauses that grow.
//!
//! A commit whose outcome is unknown is run again only if the caller says that a second run is harmless
//! ([`OnUnknown::RunAgain`]): either the body finds by its own serializable reads that the first run happened, or
//! the two runs can't both land and writing twice is writing once. Whoever can't say so is told that it may have
//! happened, and settles it.
//!
//! Deliberately absent: any knowledge of what the transaction does.

use std::time::Duration;

use penstock_types::pause;
use tokio::time::Instant;

use crate::codec::Corrupt;
use crate::kv::{Committed, Outcome, Priority, Store, StoreError, Transaction};

/// How long and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// At most that many runs; at least one.
    pub attempts: u32,
    /// No run begins later than that after the first, and none is waited for any longer.
    pub deadline: Duration,
    /// The pause after the first failure; each further one doubles, up to `longest_pause`. A conflict is run again
    /// at once the first time.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How important it is to the store.
    pub priority: Priority,
}

impl Policy {
    /// For what a client waits for: gives up after `deadline`.
    pub const fn interactive(deadline: Duration) -> Self {
        Self {
            attempts: 100,
            deadline,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(100),
            priority: Priority::Default,
        }
    }

    /// For jobs: yields to clients, gives up after `deadline`.
    pub const fn background(deadline: Duration) -> Self {
        Self { priority: Priority::Batch, ..Self::interactive(deadline) }
    }
}

/// What to do when a commit's outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    /// Run the body again: it is harmless (see the module).
    RunAgain,
    /// Tell the caller.
    Report,
}

/// Why one run of a body ended without a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abort<E> {
    /// The store failed; the run may be repeated.
    Store(StoreError),
    /// The body refuses: not repeated.
    Refused(E),
}

impl<E> From<StoreError> for Abort<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E> From<Corrupt> for Abort<E> {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// Why a transaction has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactError<E> {
    /// The body refused. Nothing was written by the run that refused, and of earlier runs only what the body
    /// tolerates under [`OnUnknown::RunAgain`].
    #[error("the transaction was refused")]
    Refused(E),
    /// The store failed for good, or for longer than the policy allows.
    #[error("{error} (after {attempts} attempts)")]
    Store {
        /// The last failure.
        error: StoreError,
        /// Runs begun.
        attempts: u32,
        /// Whether any of the runs may have been committed.
        outcome: Outcome,
    },
}

impl<E> TransactError<E> {
    /// Whether the transaction left a trace.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) => Outcome::DidNotHappen,
            Self::Store { outcome, .. } => *outcome,
        }
    }
}

/// Runs `body` and commits what it did, as often as `policy` allows. The body gets a new transaction each time and
/// must not carry anything from one run into the next.
///
/// Cancellation: dropping the future may leave a commit whose outcome is unknown.
pub async fn transact<T, E>(
    store: &dyn Store,
    policy: Policy,
    on_unknown: OnUnknown,
    mut body: impl AsyncFnMut(&mut dyn Transaction) -> Result<T, Abort<E>>,
) -> Result<(T, Committed), TransactError<E>> {
    let until = Instant::now() + policy.deadline;
    let mut pauses = Pauses { next: policy.first_pause, longest: policy.longest_pause, conflicts: 0 };
    let mut attempts = 0;
    let mut outcome = Outcome::DidNotHappen;
    loop {
        attempts += 1;
        let run = tokio::time::timeout_at(until, run_once(store, policy.priority, &mut body)).await;
        let error = match run {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Abort::Refused(refusal))) => return Err(TransactError::Refused(refusal)),
            Ok(Err(Abort::Store(error))) => error,
            // The run was dropped, maybe inside its commit.
            Err(_) => {
                let error = StoreError::Unavailable { reason: "no answer within the deadline".to_owned() };
                return Err(TransactError::Store { error, attempts, outcome: Outcome::MayHaveHappened });
            }
        };
        if error.outcome() == Outcome::MayHaveHappened {
            outcome = Outcome::MayHaveHappened;
        }
        let settled = error.outcome() == Outcome::DidNotHappen || on_unknown == OnUnknown::RunAgain;
        let wait = pauses.after(&error);
        if !error.is_retryable() || !settled || attempts >= policy.attempts || Instant::now() + wait >= until {
            return Err(TransactError::Store { error, attempts, outcome });
        }
        if !wait.is_zero() {
            pause(wait).await;
        }
    }
}

async fn run_once<T, E>(
    store: &dyn Store,
    priority: Priority,
    body: &mut impl AsyncFnMut(&mut dyn Transaction) -> Result<T, Abort<E>>,
) -> Result<(T, Committed), Abort<E>> {
    let mut transaction = store.begin(priority);
    let value = body(&mut *transaction).await?;
    let committed = transaction.commit().await?;
    Ok((value, committed))
}

struct Pauses {
    next: Duration,
    longest: Duration,
    conflicts: u32,
}

impl Pauses {
    fn after(&mut self, error: &StoreError) -> Duration {
        if matches!(error, StoreError::Conflict | StoreError::TooOld) {
            self.conflicts += 1;
            if self.conflicts == 1 {
                return Duration::ZERO;
            }
        }
        let wait = self.next;
        self.next = (self.next * 2).min(self.longest);
        wait
    }
}
