//! The read path: validated views, a plan within the fetch's limits, bytes from the cache, an answer without copies.
//!
//! # Invariants
//! - A fetch shows what was committed, by any agent, before it arrived: views are validated by the feed.
//! - Nothing at or above the high watermark (read_committed: the last stable offset) of the same view is sent.
//! - `min_bytes`, `max_wait`, `max_bytes`, each partition's limit and "at least one batch a request" hold as in Kafka.
//! - A long poll that waits wakes on a commit of any agent; it subscribes before it looks, and never polls.
//! - A long poll doesn't hold up the agent's end: it is answered with what there is.
//!
//! Deliberately absent: Kafka's wire messages (`api::fetch`).

pub mod session;

mod assemble;
mod offsets;
mod plan;
#[cfg(test)]
mod properties;

pub use offsets::{ListedOffset, OffsetQuery};
pub use plan::{FetchLimits, PlannedPartition};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, select_all};
use penstock_metadata::feed_watch::{FeedWatch, Subscription};
use penstock_metadata::fold::AbortedTransaction;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::StoreError;
use penstock_metadata::lookup::{LogReader, Plan};
use penstock_metadata::view::{PartitionView, ViewError};
use penstock_metadata::views::Views;
use penstock_storage::cache::{Cache, ReadError};
use penstock_types::{LeaderEpoch, NodeId, Offset, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A permit of the memory budget stands for that many bytes.
const PERMIT_BYTES: u64 = 1024;
/// How often an answer is looked up anew because an object had gone meanwhile.
const LOOKS: usize = 4;

/// Which records a consumer may see (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    /// All that is committed to the log.
    ReadUncommitted,
    /// Only what lies below the last stable offset.
    ReadCommitted,
}

/// A partition that a fetch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchTarget {
    /// Which.
    pub partition: TopicPartition,
    /// From which offset on; as the client sent it.
    pub offset: i64,
    /// Bytes that the client wants of it.
    pub max_bytes: u64,
    /// The leader epoch that the client believes in, if it says.
    pub current_leader_epoch: Option<i32>,
    /// The epoch of the last record that it has, if it says (KIP-595).
    pub last_fetched_epoch: Option<i32>,
    /// Where the client is to read instead (KIP-392): it is told of the offsets here, and nothing is read.
    pub elsewhere: Option<NodeId>,
}

/// A fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// The partitions, in the order in which they get their share.
    pub targets: Vec<FetchTarget>,
    /// The answer waits until there are so many bytes.
    pub min_bytes: u64,
    /// It holds no more than these, but for one batch.
    pub max_bytes: u64,
    /// It waits no longer than that.
    pub max_wait: Duration,
    /// What the consumer may see.
    pub isolation: IsolationLevel,
}

/// Why a partition can't be fetched, or its offsets told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PartitionError {
    /// The offset is below the log start or above the end.
    #[error("the offset is out of range")]
    OffsetOutOfRange,
    /// The client's leader epoch is older than ours.
    #[error("the client's leader epoch is older than ours")]
    FencedLeaderEpoch,
    /// The client's leader epoch is newer than ours.
    #[error("the client's leader epoch is newer than ours")]
    UnknownLeaderEpoch,
    /// The records or their places can't be read now.
    #[error("the records can't be read now: {0}")]
    Unavailable(String),
}

impl From<ViewError> for PartitionError {
    fn from(error: ViewError) -> Self {
        if let ViewError::Disagree { .. } = &error {
            tracing::error!(%error, "a partition's metadata contradicts itself; it is not served");
        }
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for PartitionError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What a fetch found in a partition.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    /// The high watermark.
    pub high_watermark: Offset,
    /// The last stable offset.
    pub last_stable_offset: Offset,
    /// The log start offset.
    pub log_start: Offset,
    /// For read_committed: the aborted transactions that touch the records.
    pub aborted: Vec<AbortedTransaction>,
    /// Record batches, in pieces.
    pub records: Vec<Bytes>,
    /// Their bytes.
    pub bytes: u64,
    /// Where the client is to read instead (KIP-392).
    pub preferred: Option<NodeId>,
}

/// An answer: one result per target, in their order, and the memory that it holds until it is sent.
#[derive(Debug)]
pub struct Fetched {
    /// Per target.
    pub partitions: Vec<Result<FetchedPartition, PartitionError>>,
    /// To be dropped when the answer has been sent.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// What the read path works with.
#[derive(Debug, Clone)]
pub struct FetchParts {
    /// Views.
    pub views: Arc<Views>,
    /// Reads below the seal.
    pub log: LogReader,
    /// Wake-ups.
    pub feed: Arc<FeedWatch>,
    /// Bytes.
    pub cache: Arc<Cache>,
}

/// Bounds of the read path.
#[derive(Debug, Clone, Copy)]
pub struct FetchSettings {
    /// The largest answer.
    pub max_bytes: u64,
    /// Bytes of all answers that are being put together or sent.
    pub memory_bytes: u64,
}

/// Counters of the read path.
#[derive(Debug, Default)]
pub struct FetchStats {
    /// Fetches answered.
    pub fetches: AtomicU64,
    /// Bytes of record batches.
    pub bytes: AtomicU64,
    /// Fetches that waited for records.
    pub waits: AtomicU64,
    /// Wake-ups of waiting fetches.
    pub wakes: AtomicU64,
    /// Answers looked up anew because an object had gone.
    pub relooks: AtomicU64,
}

/// The read path of one agent.
#[derive(Debug)]
pub struct Fetch {
    parts: FetchParts,
    settings: FetchSettings,
    memory: Arc<Semaphore>,
    stats: FetchStats,
    stopping: CancellationToken,
}

type Planned = Result<PlannedPartition, PartitionError>;

impl Fetch {
    /// A read path.
    pub fn new(parts: FetchParts, settings: FetchSettings) -> Arc<Self> {
        let permits = usize::try_from(settings.memory_bytes / PERMIT_BYTES).unwrap_or(usize::MAX);
        let memory = Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        let stopping = CancellationToken::new();
        Arc::new(Self { parts, settings, memory, stats: FetchStats::default(), stopping })
    }

    /// Counters.
    pub fn stats(&self) -> &FetchStats {
        &self.stats
    }

    /// Answers every fetch that waits with what there is; from now on none waits. Consumers ask for up to minutes,
    /// longer than an agent may take to stop. Idempotent.
    pub fn shutdown(&self) {
        self.stopping.cancel();
    }

    /// Answers a fetch, at once or when there is enough. Safe to cancel. `immediate` makes it not wait: something
    /// else in the answer (an error of another partition) is worth telling.
    pub async fn fetch(&self, request: &FetchRequest, immediate: bool) -> Fetched {
        let deadline = Instant::now() + request.max_wait;
        let slots: BTreeSet<Slot> = request.targets.iter().map(|target| Slot::of(target.partition)).collect();
        // Before the first look, so that nothing committed after it is missed.
        let waits = !(immediate || request.max_wait.is_zero() || request.targets.is_empty());
        let mut subscriptions: Vec<Subscription> = Vec::new();
        if waits && request.min_bytes > 0 {
            subscriptions = slots.into_iter().map(|slot| self.parts.feed.subscribe(slot)).collect();
        }
        let mut looks = 0;
        let mut waited = false;
        loop {
            let plan = self.plan(request).await;
            let bytes: u64 = plan.iter().flatten().map(PlannedPartition::bytes).sum();
            let enough = bytes >= request.min_bytes || plan.iter().any(Result::is_err);
            let over = Instant::now() >= deadline || self.stopping.is_cancelled();
            let done = enough || subscriptions.is_empty() || over;
            if !done {
                if !waited {
                    waited = true;
                    self.stats.waits.fetch_add(1, Ordering::Relaxed);
                }
                drop(plan);
                tokio::select! {
                    biased;
                    () = self.stopping.cancelled() => {}
                    () = wait_for_change(&mut subscriptions, deadline) => {}
                }
                self.stats.wakes.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            looks += 1;
            match self.read(plan, bytes, looks < LOOKS).await {
                Some(fetched) => return fetched,
                None => {
                    self.stats.relooks.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Looks up which batches go into the answer.
    async fn plan(&self, request: &FetchRequest) -> Vec<Planned> {
        let partitions: Vec<TopicPartition> = request.targets.iter().map(|target| target.partition).collect();
        let views = match self.parts.views.validated(&partitions).await {
            Ok(views) => views,
            Err(error) => {
                return partitions.iter().map(|_| Err(PartitionError::from(error.clone()))).collect();
            }
        };
        let max_bytes = request.max_bytes.min(self.settings.max_bytes);
        let mut limits = FetchLimits::new(max_bytes);
        let mut plan = Vec::with_capacity(views.len());
        for (target, view) in request.targets.iter().zip(views) {
            let planned = match view {
                Ok(view) => self.plan_partition(target, &view, request.isolation, &limits).await,
                Err(error) => Err(error.into()),
            };
            if let Ok(planned) = &planned {
                limits.take(planned.bytes());
            }
            plan.push(planned);
        }
        plan
    }

    async fn plan_partition(
        &self,
        target: &FetchTarget,
        view: &Arc<PartitionView>,
        isolation: IsolationLevel,
        limits: &FetchLimits,
    ) -> Planned {
        check_epochs(target)?;
        let (high_watermark, last_stable_offset, log_start, sealed) =
            view.read(|tail| (tail.high_watermark(), tail.last_stable_offset(), tail.log_start, tail.sealed));
        let offset = Offset::new(target.offset)
            .filter(|offset| (log_start..=high_watermark).contains(offset))
            .ok_or(PartitionError::OffsetOutOfRange)?;
        let end = match isolation {
            IsolationLevel::ReadUncommitted => high_watermark,
            IsolationLevel::ReadCommitted => last_stable_offset,
        };
        let Plan { batches, ahead } = match limits.of_partition(target.max_bytes, end) {
            Some(limits) if offset < end && target.elsewhere.is_none() => {
                self.parts.log.plan_ahead(view, offset, limits).await?
            }
            _ => Plan::default(),
        };
        // What should be there is not: deleted since the view was validated, or compacted away.
        if batches.first().is_some_and(|first| first.base_offset > offset)
            && offset < view.fresh_log_start().await?
        {
            return Err(PartitionError::OffsetOutOfRange);
        }
        let reached = batches.last().map_or(offset, penstock_metadata::fold::BatchEntry::end_offset);
        let aborted = match isolation {
            IsolationLevel::ReadCommitted if target.elsewhere.is_none() => {
                self.parts.log.aborted(view, offset, reached).await?
            }
            _ => Vec::new(),
        };
        let preferred = target.elsewhere;
        Ok(PlannedPartition {
            high_watermark,
            last_stable_offset,
            log_start,
            sealed,
            batches,
            ahead,
            aborted,
            preferred,
        })
    }

    /// Reads the bytes of a plan; `None` if an object had gone and it is worth looking again.
    async fn read(&self, plan: Vec<Planned>, bytes: u64, again: bool) -> Option<Fetched> {
        let most = (self.settings.memory_bytes / PERMIT_BYTES).max(1);
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES).min(most)).unwrap_or(u32::MAX);
        let memory = match permits {
            0 => None,
            permits => Arc::clone(&self.memory).acquire_many_owned(permits).await.ok(),
        };
        let reads = plan.into_iter().map(|planned| async {
            let planned = planned?;
            match assemble::records(&self.parts.cache, &planned).await {
                Ok(records) => Ok(Ok(planned.with_records(records))),
                Err(assemble::AssembleError::Read(error @ ReadError::Gone { .. })) => Ok(Err(error)),
                Err(error) => {
                    if let assemble::AssembleError::Mismatch { .. } = &error {
                        tracing::error!(%error, "what the bucket holds is not what the metadata says");
                    }
                    Err(PartitionError::Unavailable(error.to_string()))
                }
            }
        });
        let results: Vec<Result<Result<FetchedPartition, ReadError>, PartitionError>> = join_all(reads).await;
        if again && results.iter().any(|result| matches!(result, Ok(Err(_)))) {
            return None;
        }
        let partitions: Vec<_> = results
            .into_iter()
            .map(|result| match result {
                Ok(Ok(fetched)) => Ok(fetched),
                Ok(Err(gone)) => {
                    tracing::error!(error = %gone, "an object that the metadata names is not in the bucket");
                    Err(PartitionError::Unavailable(gone.to_string()))
                }
                Err(error) => Err(error),
            })
            .collect();
        let sent: u64 = partitions.iter().flatten().map(|fetched| fetched.bytes).sum();
        self.stats.fetches.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes.fetch_add(sent, Ordering::Relaxed);
        Some(Fetched { partitions, memory })
    }
}

/// Leader epochs are constants here: no election ever moves data (KIP-320).
fn check_epochs(target: &FetchTarget) -> Result<(), PartitionError> {
    check_leader_epoch(target.current_leader_epoch)?;
    match target.last_fetched_epoch {
        Some(epoch) if epoch > LeaderEpoch::FIRST.get() => Err(PartitionError::OffsetOutOfRange),
        _ => Ok(()),
    }
}

/// Compares the epoch that a client believes in with the partition's.
pub(crate) fn check_leader_epoch(current: Option<i32>) -> Result<(), PartitionError> {
    match current {
        Some(epoch) if epoch > LeaderEpoch::FIRST.get() => Err(PartitionError::UnknownLeaderEpoch),
        Some(epoch) if epoch < LeaderEpoch::FIRST.get() => Err(PartitionError::FencedLeaderEpoch),
        _ => Ok(()),
    }
}

async fn wait_for_change(subscriptions: &mut [Subscription], deadline: Instant) {
    let changes = subscriptions.iter_mut().map(|subscription| Box::pin(subscription.changed()));
    // Whichever changes first, or the deadline; a watcher that ended counts as a change, and the next look tells.
    let _ = tokio::time::timeout_at(deadline, select_all(changes)).await;
}
