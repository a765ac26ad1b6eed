//! Uploads: retried under the caller's deadline, and hedged past the tail latency of their size.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use object_store::path::Path;
use object_store::{PutMode, PutOptions, PutPayload};
use penstock_types::{pause, pause_until};
use tokio::time::{Instant, timeout};

use super::retry::Backoff;
use super::stats::BucketStats;
use super::{Bucket, BucketError, Failure, Operation, Outcome};

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOutcome {
    /// The store's tag of this version of the object, if it has tags.
    pub etag: Option<String>,
    /// Requests sent.
    pub attempts: u32,
    /// Whether a second copy was sent while the first was on its way.
    pub hedged: bool,
    /// From the first request to the answer.
    pub elapsed: Duration,
}

/// An answered request.
struct Answer {
    hedge: bool,
    latency: Duration,
    result: Result<Option<String>, Failure>,
}

/// What an upload has behind it.
struct Progress {
    begun: Instant,
    haste: Haste,
    attempts: u32,
    hedged: bool,
    outcome: Outcome,
}

/// How urgent an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Clients wait for it.
    Hedged,
    /// Nobody does.
    Unhurried,
}

/// How much longer than others an unhurried request may take.
const PATIENCE: u32 = 8;

impl Bucket {
    /// Writes the object `key`, whole, from `chunks` without copying them. Returns once it is durable.
    ///
    /// The same key must always get the same bytes: the request may be sent more than once, and one that was given
    /// up may still land after this returned, whatever it returned. Dropping the future may leave the object
    /// written.
    ///
    /// # Errors
    /// After a failure that doesn't pass by itself, or at `deadline`.
    pub async fn put(
        &self,
        key: &str,
        chunks: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<PutOutcome, BucketError> {
        self.hedging.earn();
        self.put_with(key, chunks, deadline, Haste::Hedged).await
    }

    /// The same for what no client waits for: it is never sent twice at a time, takes nothing from the budget for that nor
    /// adds to it, doesn't count among the latencies, and each request may take longer before it is given up.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn put_unhurried(
        &self,
        key: &str,
        chunks: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<PutOutcome, BucketError> {
        self.put_with(key, chunks, deadline, Haste::Unhurried).await
    }

    async fn put_with(
        &self,
        key: &str,
        chunks: Vec<Bytes>,
        deadline: Instant,
        haste: Haste,
    ) -> Result<PutOutcome, BucketError> {
        let location = self.location(Operation::Put, key)?;
        let payload: PutPayload = chunks.into_iter().collect();
        let bytes = payload.content_length() as u64;
        let mut backoff = Backoff::new(&self.options);
        let mut progress = Progress {
            begun: Instant::now(),
            haste,
            attempts: 0,
            hedged: false,
            outcome: Outcome::DidNotHappen,
        };
        loop {
            let failure = match self.put_round(&location, &payload, bytes, deadline, &mut progress).await {
                Ok(etag) => return Ok(self.put_succeeded(bytes, etag, &progress)),
                Err(failure) => failure,
            };
            let wait = backoff.next(&*self.randomness);
            if !failure.class.is_retriable() || Instant::now() + wait >= deadline {
                let failure = Failure { outcome: progress.outcome, ..failure };
                return Err(failure.into_error(Operation::Put, key, progress.attempts));
            }
            tracing::debug!(key, class = %failure.class, ?wait, "upload failed, trying again");
            BucketStats::add(&self.stats.retries, 1);
            pause(wait).await;
        }
    }

    fn put_succeeded(&self, bytes: u64, etag: Option<String>, progress: &Progress) -> PutOutcome {
        let elapsed = progress.begun.elapsed();
        BucketStats::add(&self.stats.puts, 1);
        BucketStats::add(&self.stats.put_bytes, bytes);
        if progress.haste == Haste::Hedged {
            self.stats.put_latency.record(elapsed);
        }
        PutOutcome { etag, attempts: progress.attempts, hedged: progress.hedged, elapsed }
    }

    /// One request and, if it is slow and the budget allows, a second one beside it: the first success wins, and
    /// the other is dropped. Fails when no request is left.
    async fn put_round(
        &self,
        location: &Path,
        payload: &PutPayload,
        bytes: u64,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Option<String>, Failure> {
        let mut requests = FuturesUnordered::new();
        let haste = progress.haste;
        let send = |hedge| {
            let patience = if haste == Haste::Hedged { 1 } else { PATIENCE };
            let limit = self.options.attempt_timeout(bytes).saturating_mul(patience);
            let limit = limit.min(deadline.saturating_duration_since(Instant::now()));
            self.put_once(location, payload.clone(), limit, hedge)
        };
        requests.push(send(false));
        progress.attempts += 1;
        let delay = self.hedging.delay(bytes).filter(|_| haste == Haste::Hedged);
        let hedge_at = pause_until(Instant::now() + delay.unwrap_or(Duration::ZERO));
        tokio::pin!(hedge_at);
        let mut may_hedge = delay.is_some();
        loop {
            tokio::select! {
                biased;
                Some(answer) = requests.next() => match answer.result {
                    Ok(etag) => {
                        if haste == Haste::Hedged {
                            self.hedging.record(bytes, answer.latency);
                        }
                        BucketStats::add(&self.stats.hedge_wins, u64::from(answer.hedge));
                        return Ok(etag);
                    }
                    Err(failure) => {
                        self.stats.failed(&failure);
                        progress.outcome = progress.outcome.or(failure.outcome);
                        if requests.is_empty() || !failure.class.is_retriable() {
                            // What is dropped with this may land yet.
                            if !requests.is_empty() {
                                progress.outcome = Outcome::MayHaveHappened;
                            }
                            return Err(failure);
                        }
                    }
                },
                () = &mut hedge_at, if may_hedge => {
                    may_hedge = false;
                    if self.hedging.take() {
                        BucketStats::add(&self.stats.hedges, 1);
                        progress.hedged = true;
                        progress.attempts += 1;
                        requests.push(send(true));
                    }
                }
            }
        }
    }

    async fn put_once(&self, location: &Path, payload: PutPayload, limit: Duration, hedge: bool) -> Answer {
        let begun = Instant::now();
        BucketStats::add(&self.stats.put_requests, 1);
        let options = PutOptions { mode: PutMode::Overwrite, ..PutOptions::default() };
        let result = match timeout(limit, self.store.put_opts(location, payload, options)).await {
            Ok(Ok(done)) => Ok(done.e_tag),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(Failure::timeout(limit)),
        };
        Answer { hedge, latency: begun.elapsed(), result }
    }
}
