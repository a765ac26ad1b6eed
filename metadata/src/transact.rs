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

/// Runs a body and commits what it did, as often as the policy allows: `transact!(store, policy, on_unknown,
/// async |transaction| { ... })` is a future of `Result<(T, Committed), TransactError<E>>`, for a body of
/// `Result<T, Abort<E>>`. The body gets a new transaction each time and must not carry anything from one run into the
/// next. (A macro, since the future of a function that takes such a closure can't be shown to be `Send`.)
///
/// Cancellation: dropping the future may leave a commit whose outcome is unknown.
#[macro_export]
macro_rules! transact {
    ($store:expr, $policy:expr, $on_unknown:expr, async |$transaction:ident| $body:expr) => {
        async {
            let mut runs = $crate::transact::Runs::new($policy, $on_unknown);
            loop {
                let mut transaction = runs.begin($store);
                let body = async {
                    let $transaction: &mut dyn $crate::kv::Transaction = &mut *transaction;
                    $body
                };
                let done = match runs.within(body).await {
                    Ok(value) => runs.commit(transaction).await.map(|committed| (value, committed)),
                    Err(abort) => Err(abort),
                };
                if let Some(result) = runs.settle(done).await {
                    break result;
                }
            }
        }
    };
}
pub use crate::transact;

/// The runs of one [`transact!`].
#[derive(Debug)]
pub struct Runs {
    policy: Policy,
    on_unknown: OnUnknown,
    until: Instant,
    pauses: Pauses,
    attempts: u32,
    outcome: Outcome,
    elapsed: bool,
}

impl Runs {
    /// None yet.
    pub fn new(policy: Policy, on_unknown: OnUnknown) -> Self {
        Self {
            policy,
            on_unknown,
            until: Instant::now() + policy.deadline,
            pauses: Pauses { next: policy.first_pause, longest: policy.longest_pause, conflicts: 0 },
            attempts: 0,
            outcome: Outcome::DidNotHappen,
            elapsed: false,
        }
    }

    /// Begins a run.
    pub fn begin(&mut self, store: &dyn Store) -> Box<dyn Transaction> {
        self.attempts += 1;
        store.begin(self.policy.priority)
    }

    /// Waits for `run` as long as there is time.
    pub async fn within<T, E>(
        &mut self,
        run: impl Future<Output = Result<T, Abort<E>>>,
    ) -> Result<T, Abort<E>> {
        if let Ok(done) = tokio::time::timeout_at(self.until, run).await {
            return done;
        }
        self.elapsed = true;
        Err(Abort::Store(StoreError::Unavailable { reason: "no answer within the deadline".to_owned() }))
    }

    /// Commits, as long as there is time.
    pub async fn commit<E>(&mut self, transaction: Box<dyn Transaction>) -> Result<Committed, Abort<E>> {
        let done = self.within(async { transaction.commit().await.map_err(Abort::Store) }).await;
        if self.elapsed {
            // The commit was dropped under way.
            self.outcome = Outcome::MayHaveHappened;
        }
        done
    }

    /// What a run comes to: a result, or (after a pause) another run.
    pub async fn settle<T, E>(
        &mut self,
        done: Result<(T, Committed), Abort<E>>,
    ) -> Option<Result<(T, Committed), TransactError<E>>> {
        let error = match done {
            Ok(done) => return Some(Ok(done)),
            Err(Abort::Refused(refusal)) => return Some(Err(TransactError::Refused(refusal))),
            Err(Abort::Store(error)) => error,
        };
        if error.outcome() == Outcome::MayHaveHappened {
            self.outcome = Outcome::MayHaveHappened;
        }
        let settled = error.outcome() == Outcome::DidNotHappen || self.on_unknown == OnUnknown::RunAgain;
        let wait = self.pauses.after(&error);
        let over = self.elapsed
            || !error.is_retryable()
            || !settled
            || self.attempts >= self.policy.attempts
            || Instant::now() + wait >= self.until;
        if over {
            let (attempts, outcome) = (self.attempts, self.outcome);
            return Some(Err(TransactError::Store { error, attempts, outcome }));
        }
        if !wait.is_zero() {
            pause(wait).await;
        }
        None
    }
}

#[derive(Debug)]
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
