//! The task of one group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use penstock_metadata::groups::{Fence, GroupError, GroupWrite, StoredGroup};
use penstock_types::{PartitionIndex, TimestampMs, pause_until};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::classic::{
    CallId, ClassicGroup, Description, Effects, JoinAnswer, JoinCall, LeaveCall, LeaveOutcome, Now, Reply,
    Store, SyncAnswer, SyncCall,
};
use super::commits::{CommitAnswer, CommitCall, Commits, QueuedCommit};
use super::error::Refusal;
use super::service::Shared;
use super::stats::Standing;

/// Calls that may wait for a group's task.
pub(super) const MAILBOX: usize = 1_024;
/// How long a group without members stays in memory.
const IDLE: Duration = Duration::from_secs(30);
/// Calls that may be handled in a row before overdue timers are: calls that came first are heard first.
const CALLS_BEFORE_TIMERS: usize = 64;

/// A call to a group's task.
#[derive(Debug)]
pub(super) enum Command {
    Join(Box<JoinCall>, oneshot::Sender<JoinAnswer>),
    Sync(SyncCall, oneshot::Sender<SyncAnswer>),
    Heartbeat {
        generation: i32,
        member_id: String,
        instance_id: Option<String>,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    Leave(Vec<LeaveCall>, oneshot::Sender<Result<Vec<LeaveOutcome>, Refusal>>),
    Commit(CommitCall, oneshot::Sender<CommitAnswer>),
    DeleteOffsets(
        BTreeMap<String, BTreeSet<PartitionIndex>>,
        oneshot::Sender<Result<BTreeSet<String>, Refusal>>,
    ),
    Delete(oneshot::Sender<Result<(), Refusal>>),
    Describe(oneshot::Sender<Result<Description, Refusal>>),
    Expire(TimestampMs, oneshot::Sender<()>),
    /// The group may be another agent's now.
    Moved,
}

/// Who waits for an answer of the machine's.
#[derive(Debug)]
enum Waiting {
    Join(String, oneshot::Sender<JoinAnswer>),
    Sync(oneshot::Sender<SyncAnswer>),
}

/// What goes on after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next one.
    Go,
    /// The group is lost: everything that waits is refused.
    Stop(Refusal),
}

/// A group's task.
#[derive(Debug)]
pub(super) struct Actor {
    shared: Arc<Shared>,
    group: Arc<str>,
    number: u64,
    term: u64,
    commands: mpsc::Receiver<Command>,
    machine: ClassicGroup,
    fence: Fence,
    stored: Option<StoredGroup>,
    waiting: BTreeMap<CallId, Waiting>,
    next_call: u64,
    commits: Commits,
    standing: Arc<Standing>,
}

impl Actor {
    pub(super) fn new(
        shared: Arc<Shared>,
        group: Arc<str>,
        (number, term): (u64, u64),
        commands: mpsc::Receiver<Command>,
        standing: Arc<Standing>,
    ) -> Self {
        let machine = ClassicGroup::new(Arc::clone(&shared.options));
        Self {
            shared,
            group,
            number,
            term,
            commands,
            machine,
            fence: Fence::Absent,
            stored: None,
            waiting: BTreeMap::new(),
            next_call: 0,
            commits: Commits::default(),
            standing,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let refusal = match self.load().await {
            Ok(()) => {
                shared.cancel.run_until_cancelled(self.serve()).await.unwrap_or(Refusal::NotCoordinator)
            }
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "a group can't be loaded");
                Refusal::from(&error)
            }
        };
        self.shared.forget(&self.group, self.number);
        self.commands.close();
        // Commits that are under way end one way or the other; each is bounded in time.
        self.commits.refuse(refusal);
        if !self.commits.is_idle() {
            let _ = self.commits.finished().await;
        }
        let mut effects = Effects::default();
        self.machine.abandon(refusal, &mut effects);
        self.refuse_waiting(refusal);
        while let Some(command) = self.commands.recv().await {
            refuse(command, refusal);
        }
    }

    /// Claims the group and takes up where it was left.
    async fn load(&mut self) -> Result<(), GroupError> {
        let (fence, stored) = self.shared.groups.claim(&self.group).await?;
        self.fence = fence;
        if let Some(stored) = stored {
            let mut effects = Effects::default();
            let options = Arc::clone(&self.shared.options);
            self.machine = ClassicGroup::restore(options, stored.clone(), self.shared.now(), &mut effects);
            tracing::debug!(group = %self.group, members = stored.members.len(), "loaded a group");
            self.stored = Some(stored);
        }
        Ok(())
    }

    /// Serves calls until the group is lost or nobody needs it.
    async fn serve(&mut self) -> Refusal {
        let mut idle_since = Instant::now();
        let mut calls = 0;
        let mut generation = self.machine.generation();
        loop {
            let machine = &self.machine;
            self.standing.set(machine.exists().then(|| machine.state()), machine.member_count());
            if machine.generation() > generation {
                self.shared.rebalances.fetch_add(1, Ordering::Relaxed);
            }
            generation = machine.generation();
            let due = self.machine.next_deadline().map(|at| self.shared.started + at);
            if calls >= CALLS_BEFORE_TIMERS && due.is_some_and(|due| due <= Instant::now()) {
                calls = 0;
                if let Next::Stop(refusal) = self.tick().await {
                    return refusal;
                }
                continue;
            }
            let idle = self.machine.is_idle() && self.commits.is_idle();
            let forget_at = if self.machine.exists() { idle_since + IDLE } else { idle_since };
            let next = tokio::select! {
                biased;
                outcome = self.commits.finished() => self.commits_finished(outcome),
                command = self.commands.recv() => {
                    let Some(command) = command else { return Refusal::CoordinatorNotAvailable };
                    calls += 1;
                    idle_since = Instant::now();
                    self.handle(command).await
                }
                () = pause_until(due.unwrap_or(idle_since)), if due.is_some() => {
                    calls = 0;
                    self.tick().await
                }
                () = pause_until(forget_at), if idle => return self.retire().await,
            };
            if let Next::Stop(refusal) = next {
                return refusal;
            }
        }
    }

    /// Takes no new calls and serves those that have come: nothing is lost when an idle group is forgotten.
    async fn retire(&mut self) -> Refusal {
        self.shared.forget(&self.group, self.number);
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            if let Next::Stop(refusal) = self.handle(command).await {
                return refusal;
            }
        }
        match self.flush().await {
            Next::Go => Refusal::CoordinatorNotAvailable,
            Next::Stop(refusal) => refusal,
        }
    }

    /// Whether the group is this agent's now, and has been since the task began.
    fn is_mine(&self) -> bool {
        self.shared.is_mine_since(&self.group, self.term)
    }

    async fn handle(&mut self, command: Command) -> Next {
        if !self.is_mine() {
            // Also what came in time and waited here while the process was paused past its lease.
            refuse(command, Refusal::NotCoordinator);
            return Next::Stop(Refusal::NotCoordinator);
        }
        match command {
            Command::Join(join, answer) => self.join(*join, answer).await,
            Command::Sync(sync, answer) => self.sync(sync, answer).await,
            Command::Heartbeat { generation, member_id, instance_id, answer } => {
                let now = self.shared.now();
                let outcome = self.machine.heartbeat(now, &member_id, instance_id.as_deref(), generation);
                let _ = answer.send(outcome);
                Next::Go
            }
            Command::Leave(leaving, answer) => {
                let mut effects = Effects::default();
                let outcomes = self.machine.leave(self.shared.now(), &leaving, &mut effects);
                let next = self.apply(effects).await;
                let _ = answer.send(match next {
                    Next::Go => Ok(outcomes),
                    Next::Stop(refusal) => Err(refusal),
                });
                next
            }
            Command::Commit(commit, answer) => self.commit(commit, answer).await,
            Command::DeleteOffsets(topics, answer) => self.delete_offsets(topics, answer).await,
            Command::Delete(answer) => self.delete(answer).await,
            Command::Describe(answer) => {
                let exists = self.machine.exists();
                let _ = answer.send(exists.then(|| self.machine.describe()).ok_or(Refusal::GroupIdNotFound));
                Next::Go
            }
            // Away and back: somebody else may have had it in between.
            Command::Moved => Next::Stop(Refusal::NotCoordinator),
            Command::Expire(now_ms, answer) => {
                let next = self.expire(now_ms).await;
                let _ = answer.send(());
                next
            }
        }
    }

    async fn join(&mut self, join: JoinCall, answer: oneshot::Sender<JoinAnswer>) -> Next {
        let call = self.wait(Waiting::Join(join.member_id.clone(), answer));
        let mut effects = Effects::default();
        self.machine.join(self.shared.now(), call, join, &mut effects);
        self.apply(effects).await
    }

    async fn sync(&mut self, sync: SyncCall, answer: oneshot::Sender<SyncAnswer>) -> Next {
        let call = self.wait(Waiting::Sync(answer));
        let mut effects = Effects::default();
        self.machine.sync(self.shared.now(), call, sync, &mut effects);
        self.apply(effects).await
    }

    async fn tick(&mut self) -> Next {
        if !self.is_mine() {
            // Nobody could be heard: nobody's time is over.
            return Next::Stop(Refusal::NotCoordinator);
        }
        let mut effects = Effects::default();
        self.machine.tick(self.shared.now(), &mut effects);
        self.apply(effects).await
    }

    async fn commit(&mut self, call: CommitCall, answer: oneshot::Sender<CommitAnswer>) -> Next {
        if !self.machine.exists() {
            if call.generation >= 0 {
                let refusal = if call.knows_missing_groups {
                    Refusal::GroupIdNotFound
                } else {
                    Refusal::IllegalGeneration
                };
                let _ = answer.send(Err(refusal));
                return Next::Go;
            }
            let mut effects = Effects::default();
            self.machine.create(self.shared.now(), &mut effects);
            if let Next::Stop(refusal) = self.apply(effects).await {
                let _ = answer.send(Err(refusal));
                return Next::Stop(refusal);
            }
        }
        let now = self.shared.now();
        let admitted =
            self.machine.validate_commit(now, &call.member_id, call.instance_id.as_deref(), call.generation);
        let generation = match admitted {
            Ok(generation) => generation,
            Err(refusal) => {
                let _ = answer.send(Err(refusal));
                return Next::Go;
            }
        };
        let to_commit =
            |entry: &super::CommitEntry| entry.to_commit(generation, now.wall_ms, call.retention_ms);
        let commits = call.entries.iter().map(to_commit).collect();
        self.commits.push(QueuedCommit { commits, answer });
        self.commits.start(&self.shared.groups, &self.group, self.fence);
        if self.commits.is_full() { self.flush().await } else { Next::Go }
    }

    fn commits_finished(&mut self, outcome: Result<(), GroupError>) -> Next {
        match outcome {
            Ok(()) => {
                self.commits.start(&self.shared.groups, &self.group, self.fence);
                Next::Go
            }
            Err(error) => self.lost(&error),
        }
    }

    /// Waits for every commit that was admitted.
    async fn flush(&mut self) -> Next {
        while !self.commits.is_idle() {
            let outcome = self.commits.finished().await;
            if let Next::Stop(refusal) = self.commits_finished(outcome) {
                return Next::Stop(refusal);
            }
        }
        Next::Go
    }

    async fn delete_offsets(
        &mut self,
        topics: BTreeMap<String, BTreeSet<PartitionIndex>>,
        answer: oneshot::Sender<Result<BTreeSet<String>, Refusal>>,
    ) -> Next {
        if let Err(refusal) = self.machine.validate_offset_delete() {
            let _ = answer.send(Err(refusal));
            return Next::Go;
        }
        let subscribed: BTreeSet<String> =
            topics.keys().filter(|topic| self.machine.is_subscribed(topic)).cloned().collect();
        let next = self.flush().await;
        if let Next::Stop(refusal) = next {
            let _ = answer.send(Err(refusal));
            return next;
        }
        let chosen = |topic: &str, partition: PartitionIndex, _: &_| {
            !subscribed.contains(topic)
                && topics.get(topic).is_some_and(|partitions| partitions.contains(&partition))
        };
        match self.shared.groups.remove_offsets(&self.group, self.fence, &chosen).await {
            Ok(_) => {
                let _ = answer.send(Ok(subscribed));
                Next::Go
            }
            Err(error) => {
                let _ = answer.send(Err(Refusal::from(&error)));
                self.lost_if_fenced(&error)
            }
        }
    }

    async fn delete(&mut self, answer: oneshot::Sender<Result<(), Refusal>>) -> Next {
        if let Err(refusal) = self.machine.validate_delete() {
            let _ = answer.send(Err(refusal));
            return Next::Go;
        }
        let mut next = self.flush().await;
        if next == Next::Go {
            next = self.remove_group().await;
        }
        let _ = answer.send(match next {
            Next::Go => Ok(()),
            Next::Stop(refusal) => Err(refusal),
        });
        next
    }

    async fn remove_group(&mut self) -> Next {
        match self.shared.groups.delete(&self.group, self.fence).await {
            Ok(()) => {
                self.fence = Fence::Absent;
                self.stored = None;
                let mut effects = Effects::default();
                self.machine.abandon(Refusal::CoordinatorNotAvailable, &mut effects);
                self.deliver(effects);
                self.machine = ClassicGroup::new(Arc::clone(&self.shared.options));
                Next::Go
            }
            Err(error) => self.lost(&error),
        }
    }

    /// Removes what expired; the group itself when nothing is left.
    async fn expire(&mut self, now_ms: TimestampMs) -> Next {
        if !self.machine.exists() {
            return Next::Go;
        }
        if let Next::Stop(refusal) = self.flush().await {
            return Next::Stop(refusal);
        }
        let retention = i64::try_from(self.shared.options.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let rule = self.machine.offset_expiry();
        let machine = &self.machine;
        let expired = |topic: &str, _: PartitionIndex, offset: &super::expiry::Offset| {
            rule.is_some_and(|rule| {
                !machine.is_subscribed(topic) && super::expiry::is_expired(rule, offset, now_ms, retention)
            })
        };
        match self.shared.groups.remove_offsets(&self.group, self.fence, &expired).await {
            Ok(total) => {
                if total.removed > 0 {
                    tracing::info!(group = %self.group, offsets = total.removed, "removed expired offsets");
                }
                if total.left == 0 && self.machine.is_idle() { self.remove_group().await } else { Next::Go }
            }
            Err(error) => {
                tracing::warn!(group = %self.group, %error, "expired offsets were not removed");
                self.lost_if_fenced(&error)
            }
        }
    }

    /// Stores what the machine wants stored, then gives its answers.
    async fn apply(&mut self, effects: Effects) -> Next {
        if let Some(store) = effects.store {
            // Commits of the generation that ends go first.
            if let Next::Stop(refusal) = self.flush().await {
                return Next::Stop(refusal);
            }
            let began = Instant::now();
            if let Err(error) = self.store(store).await {
                return self.lost(&error);
            }
            // Nobody was heard meanwhile, so nobody's time has passed.
            self.machine.postpone(began.elapsed());
        }
        self.deliver(effects);
        Next::Go
    }

    async fn store(&mut self, store: Store) -> Result<(), GroupError> {
        let next = self.machine.snapshot(store);
        let none = BTreeMap::new();
        let before = self.stored.as_ref().map_or(&none, |stored| &stored.members);
        let changed = next.members.iter().filter(|(id, member)| before.get(*id) != Some(member));
        let write = GroupWrite {
            header: next.header.clone(),
            changed: changed.map(|(id, member)| (id.clone(), member.clone())).collect(),
            removed: before.keys().filter(|id| !next.members.contains_key(*id)).cloned().collect(),
        };
        self.fence = self.shared.groups.write(&self.group, self.fence, &write).await?;
        tracing::debug!(
            group = %self.group, generation = next.header.generation, state = ?next.header.state,
            members = next.members.len(), "stored a group"
        );
        self.stored = Some(next);
        Ok(())
    }

    fn deliver(&mut self, effects: Effects) {
        for (call, reply) in effects.replies {
            match (self.waiting.remove(&call), reply) {
                (Some(Waiting::Join(_, answer)), Reply::Join(reply)) => drop(answer.send(reply)),
                (Some(Waiting::Sync(answer)), Reply::Sync(reply)) => drop(answer.send(reply)),
                (waiting, reply) => panic!("an answer for nobody: {waiting:?}, {reply:?}"),
            }
        }
    }

    fn wait(&mut self, waiting: Waiting) -> CallId {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.waiting.insert(call, waiting);
        call
    }

    fn lost(&self, error: &GroupError) -> Next {
        tracing::warn!(group = %self.group, %error, "gave a group up");
        Next::Stop(Refusal::from(error))
    }

    fn lost_if_fenced(&self, error: &GroupError) -> Next {
        match error {
            GroupError::Fenced { .. } => self.lost(error),
            GroupError::Store { .. } => Next::Go,
        }
    }

    fn refuse_waiting(&mut self, refusal: Refusal) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            match waiting {
                Waiting::Join(member_id, answer) => {
                    let _ = answer.send(JoinAnswer::refused(&member_id, refusal));
                }
                Waiting::Sync(answer) => {
                    let _ = answer.send(SyncAnswer::refused(refusal));
                }
            }
        }
    }
}

fn refuse(command: Command, refusal: Refusal) {
    match command {
        Command::Join(join, answer) => drop(answer.send(JoinAnswer::refused(&join.member_id, refusal))),
        Command::Sync(_, answer) => drop(answer.send(SyncAnswer::refused(refusal))),
        Command::Heartbeat { answer, .. } => drop(answer.send(Err(refusal))),
        Command::Leave(_, answer) => drop(answer.send(Err(refusal))),
        Command::Commit(_, answer) => drop(answer.send(Err(refusal))),
        Command::DeleteOffsets(_, answer) => drop(answer.send(Err(refusal))),
        Command::Delete(answer) => drop(answer.send(Err(refusal))),
        Command::Describe(answer) => drop(answer.send(Err(refusal))),
        Command::Expire(_, answer) => drop(answer.send(())),
        Command::Moved => {}
    }
}

impl Shared {
    /// Now, for a machine.
    pub(super) fn now(&self) -> Now {
        Now { tick: self.started.elapsed(), wall_ms: self.clock.now_ms() }
    }
}
