//! A group's commits on their way to the store: in the order of their arrival, one transaction at a time, as many
//! commits to it as have come meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use penstock_metadata::groups::{CommitRefusal, Fence, GroupError, Groups, OffsetCommit};
use penstock_types::{PartitionIndex, TimestampMs, TopicId};
use tokio::sync::oneshot;

use super::error::Refusal;

/// Commits of one batch at most.
const BATCH_OFFSETS: usize = 2_000;
/// Offsets that may wait at most; past it the group takes no further calls.
pub(super) const QUEUED_OFFSETS_MAX: usize = 20_000;

/// An OffsetCommit.
#[derive(Debug)]
pub struct CommitCall {
    /// The generation that the member believes in; negative outside of group management.
    pub generation: i32,
    /// The member's id; empty outside of group management.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Whether the client understands that there is no such group (from version 9).
    pub knows_missing_groups: bool,
    /// How long the client wants the offsets to be kept (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub entries: Vec<CommitEntry>,
}

/// One partition of an OffsetCommit. The topic exists and has the partition, as far as the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitEntry {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the record before it, -1 for none.
    pub leader_epoch: i32,
    /// What the client keeps with it.
    pub metadata: String,
}

impl CommitEntry {
    pub(super) fn to_commit(
        &self,
        generation: Option<i32>,
        now_ms: TimestampMs,
        retention_ms: Option<i64>,
    ) -> OffsetCommit {
        OffsetCommit {
            generation,
            topic: self.topic.clone(),
            partition: self.partition,
            value: penstock_metadata::keys::group_offset::CommittedOffset {
                offset: self.offset,
                leader_epoch: self.leader_epoch,
                topic_id: self.topic_id,
                committed_at_ms: now_ms,
                expires_at_ms: retention_ms.map(|retention| now_ms.saturating_add(retention)),
                metadata: self.metadata.clone(),
            },
        }
    }
}

/// One answer for each entry, or one refusal for all.
pub(super) type CommitAnswer = Result<Vec<Result<(), Refusal>>, Refusal>;

/// A commit that was admitted.
#[derive(Debug)]
pub(super) struct QueuedCommit {
    pub(super) commits: Vec<OffsetCommit>,
    pub(super) answer: oneshot::Sender<CommitAnswer>,
}

type Running = Pin<Box<dyn Future<Output = Result<(), GroupError>> + Send>>;

/// The commits of one group.
#[derive(Default)]
pub(super) struct Commits {
    queued: VecDeque<QueuedCommit>,
    queued_offsets: usize,
    running: Option<Running>,
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commits")
            .field("queued", &self.queued.len())
            .field("running", &self.running.is_some())
            .finish_non_exhaustive()
    }
}

impl Commits {
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none() && self.queued.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued_offsets >= QUEUED_OFFSETS_MAX
    }

    pub(super) fn push(&mut self, commit: QueuedCommit) {
        self.queued_offsets += commit.commits.len();
        self.queued.push_back(commit);
    }

    /// Starts the next transaction, if none runs and something waits.
    pub(super) fn start(&mut self, groups: &Groups, group: &Arc<str>, fence: Fence) {
        if self.running.is_some() || self.queued.is_empty() {
            return;
        }
        let mut batch = Vec::new();
        let mut offsets = 0;
        while let Some(next) = self.queued.front() {
            if offsets > 0 && offsets + next.commits.len() > BATCH_OFFSETS {
                break;
            }
            offsets += next.commits.len();
            batch.extend(self.queued.pop_front());
        }
        self.queued_offsets -= offsets;
        self.running = Some(Box::pin(run(groups.clone(), Arc::clone(group), fence, batch)));
    }

    /// Waits for the running transaction; for ever, if none runs. Cancel-safe. The error is that the group is lost.
    pub(super) async fn finished(&mut self) -> Result<(), GroupError> {
        match &mut self.running {
            Some(running) => {
                let outcome = running.await;
                self.running = None;
                outcome
            }
            None => std::future::pending().await,
        }
    }

    /// Refuses what waits.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        for commit in self.queued.drain(..) {
            let _ = commit.answer.send(Err(refusal));
        }
        self.queued_offsets = 0;
    }
}

/// One batch. An error only if the group is another coordinator's; whoever waits is told in any case.
async fn run(
    groups: Groups,
    group: Arc<str>,
    fence: Fence,
    batch: Vec<QueuedCommit>,
) -> Result<(), GroupError> {
    let mut commits = Vec::new();
    let mut waiting = Vec::with_capacity(batch.len());
    for queued in batch {
        waiting.push((queued.commits.len(), queued.answer));
        commits.extend(queued.commits);
    }
    match groups.commit_offsets(&group, fence, &commits).await {
        Ok(answers) => {
            let mut answers = answers.into_iter().map(|answer| answer.map_err(refusal));
            for (count, answer) in waiting {
                let _ = answer.send(Ok(answers.by_ref().take(count).collect()));
            }
            Ok(())
        }
        Err(error) => {
            let refusal = Refusal::from(&error);
            if penstock_types::planted!("offsets-answered-unstored") {
                for (count, answer) in waiting.drain(..) {
                    let _ = answer.send(Ok(vec![Ok(()); count]));
                }
            }
            for (_, answer) in waiting {
                let _ = answer.send(Err(refusal));
            }
            match error {
                GroupError::Fenced { .. } => Err(error),
                // It may have happened; the client repeats it, which is harmless.
                GroupError::Store { .. } => {
                    tracing::warn!(group = %group, %error, "offsets were not committed");
                    Ok(())
                }
            }
        }
    }
}

fn refusal(refusal: CommitRefusal) -> Refusal {
    match refusal {
        CommitRefusal::OtherGeneration => Refusal::IllegalGeneration,
        CommitRefusal::HasMembers => Refusal::UnknownMemberId,
        CommitRefusal::TopicDeleted => Refusal::UnknownTopicOrPartition,
    }
}
