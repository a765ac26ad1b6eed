//! The background jobs of an agent: owned, watched while the agent runs, joined when it stops.
//!
//! A job meets what passes by itself (a conflict, an outage of a store) with another round of its own. So a job that
//! ends while the agent runs has broken an invariant, and the agent ends with it: the process starts anew, instead of
//! going on without the job. (Where a panic anywhere ends the process, it doesn't come to this.)

use std::collections::HashMap;
use std::future::Future;

use penstock_types::own;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::AgentFailure;

/// The jobs.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Jobs {
    /// Starts a job that runs until the token that it is given is cancelled.
    pub(super) fn spawn<F>(&mut self, name: &'static str, job: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.tasks.spawn(own(job(self.stop.clone())));
        self.names.insert(task.id(), name);
    }

    /// Waits until a job ends. Cancel-safe.
    pub(super) async fn failed(&mut self) -> AgentFailure {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.failure(ended),
            None => std::future::pending().await,
        }
    }

    /// Ends all jobs and waits for them.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if ended.is_err() {
                tracing::error!("{}", self.failure(ended));
            }
        }
    }

    fn failure(&self, ended: Result<(Id, ()), JoinError>) -> AgentFailure {
        let (id, reason) = match ended {
            Ok((id, ())) => (id, "it stopped".to_owned()),
            Err(error) => (error.id(), error.to_string()),
        };
        AgentFailure::Job { name: self.names.get(&id).copied().unwrap_or("unknown"), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_is_told_with_its_values() {
        let mut jobs = Jobs::default();
        jobs.spawn("good", |stop| async move { stop.cancelled().await });
        jobs.spawn("bad", |_| async { panic!("a row at {} is folded behind {}", 7, 9) });
        let failure = jobs.failed().await;
        assert!(matches!(failure, AgentFailure::Job { name: "bad", .. }), "{failure:?}");
        let line = failure.to_string();
        assert!(line.contains("job bad") && line.contains("a row at 7 is folded behind 9"), "{line}");
        jobs.stop().await;
    }

    #[tokio::test]
    async fn a_job_that_returns_early_is_a_failure_and_a_stopped_one_is_not() {
        let mut jobs = Jobs::default();
        jobs.spawn("short", |_| async {});
        let short = AgentFailure::Job { name: "short", reason: "it stopped".to_owned() };
        assert_eq!(jobs.failed().await, short);
        jobs.spawn("good", |stop| async move { stop.cancelled().await });
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), jobs.failed()).await;
        assert!(waits.is_err(), "a good job runs on: {waits:?}");
        jobs.stop().await;
    }
}
