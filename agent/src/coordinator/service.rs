//! Groups by name: finds a group's task or starts it, and what needs none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use penstock_config::GroupOptions;
use penstock_metadata::groups::{GroupError, Groups, StoredOffsets};
use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::group::{GROUP_ID_BYTES_MAX, StoredState};
use penstock_metadata::kv::SharedStore;
use penstock_types::{Clock, PartitionIndex, Randomness, TimestampMs, own};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::{Actor, Command, MAILBOX};
use super::classic::{
    Description, JoinAnswer, JoinCall, LeaveCall, LeaveOutcome, State, SyncAnswer, SyncCall, describe_stored,
};
use super::commits::{CommitAnswer, CommitCall};
use super::error::Refusal;
use super::moves::Ownership;
use super::stats::{GroupStats, Standing};
use super::topics::TopicLookup;

/// Groups in memory at most; past it groups that aren't loaded are refused with a retriable error.
pub const LOADED_GROUPS_MAX: usize = 100_000;
/// How often a call looks for its group's task, which may just be going.
const FINDS: usize = 5;
/// Groups of one page of a listing.
const LIST_PAGE: usize = 1_000;

/// What a coordinator is made of.
#[derive(Debug)]
pub struct GroupCoordinatorParts {
    /// The metadata store.
    pub store: SharedStore,
    /// This cluster's keys in it.
    pub keyspace: Keyspace,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for member ids and for the coordinator's own.
    pub randomness: Arc<dyn Randomness>,
    /// What it is set to.
    pub options: GroupOptions,
    /// Topics by name.
    pub topics: Arc<dyn TopicLookup>,
    /// Which groups are this agent's.
    pub ownership: Arc<dyn Ownership>,
}

/// What a coordinator and its tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) groups: Groups,
    pub(super) options: Arc<GroupOptions>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Instant,
    pub(super) cancel: CancellationToken,
    pub(super) ownership: Arc<dyn Ownership>,
    /// Rebalances that were completed.
    pub(super) rebalances: AtomicU64,
    loaded: Mutex<HashMap<Arc<str>, Handle>>,
}

#[derive(Debug, Clone)]
struct Handle {
    number: u64,
    /// The term of the ownership in which the task began.
    term: u64,
    commands: mpsc::Sender<Command>,
    standing: Arc<Standing>,
}

impl Shared {
    /// Whether the group is this agent's, and has been since `term`.
    pub(super) fn is_mine_since(&self, group: &str, term: u64) -> bool {
        self.ownership.is_mine(group) && self.ownership.term() == term
    }

    /// The groups that have a task.
    pub(super) fn loaded(&self) -> Vec<(Arc<str>, u64, mpsc::Sender<Command>)> {
        let loaded = self.loaded.lock();
        let of =
            |(group, handle): (&Arc<str>, &Handle)| (Arc::clone(group), handle.term, handle.commands.clone());
        loaded.iter().map(of).collect()
    }

    /// Forgets a group's task, unless another has taken its place.
    pub(super) fn forget(&self, group: &str, number: u64) {
        let mut loaded = self.loaded.lock();
        if loaded.get(group).is_some_and(|handle| handle.number == number) {
            loaded.remove(group);
        }
    }
}

/// A group as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// Its protocol type, empty for none.
    pub protocol_type: String,
    /// Its state.
    pub state: State,
}

/// What became of an OffsetDelete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeletion {
    /// Topics whose offsets stay, since members consume them.
    pub subscribed: BTreeSet<String>,
}

/// The coordinator of this agent's groups.
#[derive(Debug)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
    randomness: Arc<dyn Randomness>,
    topics: Arc<dyn TopicLookup>,
    tasks: TaskTracker,
    next_number: AtomicU64,
}

impl GroupCoordinator {
    /// Starts a coordinator, inside a runtime. It owns tasks: end it with [`GroupCoordinator::shutdown`].
    pub fn new(parts: GroupCoordinatorParts) -> Arc<Self> {
        let GroupCoordinatorParts { store, keyspace, clock, randomness, options, topics, ownership } = parts;
        let groups = Groups::new(store, keyspace, randomness.next_u64(), options.commit_timeout);
        let coordinator = Arc::new(Self {
            shared: Arc::new(Shared {
                groups,
                options: Arc::new(options),
                clock,
                started: Instant::now(),
                cancel: CancellationToken::new(),
                ownership,
                rebalances: AtomicU64::new(0),
                loaded: Mutex::new(HashMap::new()),
            }),
            randomness,
            topics,
            tasks: TaskTracker::new(),
            next_number: AtomicU64::new(0),
        });
        coordinator.tasks.spawn(own(Arc::clone(&coordinator).expire_offsets()));
        coordinator
    }

    /// Refuses every call that waits and all further ones, and waits for all tasks. What is stored stays: the next
    /// coordinator goes on with it. Idempotent.
    pub async fn shutdown(&self) {
        self.shared.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The groups that have a task, by state, their members, and rebalances so far.
    pub fn stats(&self) -> GroupStats {
        let mut stats = GroupStats::new(self.shared.rebalances.load(Ordering::Relaxed));
        self.shared.loaded.lock().values().for_each(|handle| stats.add(&handle.standing));
        stats
    }

    /// What it is set to.
    pub fn options(&self) -> &GroupOptions {
        &self.shared.options
    }

    /// Topics by name.
    pub fn topics(&self) -> &dyn TopicLookup {
        &*self.topics
    }

    /// The wall clock.
    pub fn now_ms(&self) -> TimestampMs {
        self.shared.clock.now_ms()
    }

    /// Randomness for the id of a member that joins.
    pub fn fresh_id(&self) -> uuid::Uuid {
        self.randomness.uuid()
    }

    /// JoinGroup. Waits for the rebalance.
    pub async fn join(&self, group: &str, join: JoinCall) -> JoinAnswer {
        let member_id = join.member_id.clone();
        if let Err(refusal) = validate_named(group) {
            return JoinAnswer::refused(&member_id, refusal);
        }
        let make = |answer| Command::Join(Box::new(join), answer);
        self.call(group, make).await.unwrap_or_else(|refusal| JoinAnswer::refused(&member_id, refusal))
    }

    /// SyncGroup. Waits for the leader.
    pub async fn sync(&self, group: &str, sync: SyncCall) -> SyncAnswer {
        if let Err(refusal) = validate_named(group) {
            return SyncAnswer::refused(refusal);
        }
        let make = |answer| Command::Sync(sync, answer);
        self.call(group, make).await.unwrap_or_else(SyncAnswer::refused)
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// As Kafka's.
    pub async fn heartbeat(
        &self,
        group: &str,
        generation: i32,
        member_id: String,
        instance_id: Option<String>,
    ) -> Result<(), Refusal> {
        validate_named(group)?;
        let make = |answer| Command::Heartbeat { generation, member_id, instance_id, answer };
        self.call(group, make).await?
    }

    /// LeaveGroup; one outcome for each member.
    ///
    /// # Errors
    /// As Kafka's, where they concern the whole call.
    pub async fn leave(&self, group: &str, leaving: Vec<LeaveCall>) -> Result<Vec<LeaveOutcome>, Refusal> {
        validate_named(group)?;
        self.call(group, |answer| Command::Leave(leaving, answer)).await?
    }

    /// OffsetCommit; one answer for each entry.
    ///
    /// # Errors
    /// As Kafka's, where they concern the whole call. After CoordinatorNotAvailable it may have happened.
    pub async fn commit_offsets(&self, group: &str, commit: CommitCall) -> CommitAnswer {
        // Kafka lets consumers outside of group management commit under the empty id.
        validate_length(group)?;
        self.call(group, |answer| Command::Commit(commit, answer)).await?
    }

    /// Offsets of the given partitions (`None`: all that the group has), as stored now. A group that was never used
    /// has none.
    ///
    /// # Errors
    /// The store's.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        partitions: Option<&[(&str, PartitionIndex)]>,
    ) -> Result<StoredOffsets, Refusal> {
        validate_length(group)?;
        let fetched = match partitions {
            Some(partitions) => self.shared.groups.fetch_offsets(group, partitions).await,
            None => self.shared.groups.fetch_all_offsets(group).await,
        };
        fetched.map_err(|error| refuse(&error))
    }

    /// OffsetDelete.
    ///
    /// # Errors
    /// As Kafka's, where they concern the whole call.
    pub async fn delete_offsets(
        &self,
        group: &str,
        topics: BTreeMap<String, BTreeSet<PartitionIndex>>,
    ) -> Result<OffsetDeletion, Refusal> {
        validate_named(group)?;
        self.check_mine(group)?;
        if self.is_missing(group).await? {
            return Err(Refusal::GroupIdNotFound);
        }
        let subscribed = self.call(group, |answer| Command::DeleteOffsets(topics, answer)).await??;
        Ok(OffsetDeletion { subscribed })
    }

    /// DeleteGroups, for one group: with its offsets.
    ///
    /// # Errors
    /// As Kafka's.
    pub async fn delete(&self, group: &str) -> Result<(), Refusal> {
        // Kafka may have made the group of the empty id, by a commit, and deletes it all the same.
        validate_length(group)?;
        self.check_mine(group)?;
        if self.is_missing(group).await? {
            return Err(Refusal::GroupIdNotFound);
        }
        self.call(group, Command::Delete).await?
    }

    /// DescribeGroups, for one group. Doesn't load it.
    ///
    /// # Errors
    /// [`Refusal::GroupIdNotFound`], or the store's.
    pub async fn describe(&self, group: &str) -> Result<Description, Refusal> {
        validate_length(group)?;
        self.check_mine(group)?;
        if self.is_loaded(group) {
            return self.call(group, Command::Describe).await?;
        }
        let stored = self.shared.groups.read(group).await.map_err(|error| refuse(&error))?;
        stored.map(describe_stored).ok_or(Refusal::GroupIdNotFound)
    }

    /// ListGroups: the groups of this agent, by id. Those in use as they are in memory.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self) -> Result<Vec<ListedGroup>, Refusal> {
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.shared.groups.list(after.as_deref(), LIST_PAGE).await;
            let page = page.map_err(|error| refuse(&error))?;
            for (group, header) in page.groups.iter().filter(|(group, _)| self.is_mine(group)) {
                listed.push(ListedGroup {
                    group: group.clone(),
                    protocol_type: header.protocol_type.clone().unwrap_or_default(),
                    state: match header.state {
                        StoredState::Empty => State::Empty,
                        StoredState::CompletingRebalance => State::CompletingRebalance,
                        StoredState::Stable => State::Stable,
                    },
                });
            }
            match page.groups.into_iter().next_back() {
                Some((last, _)) if page.more => after = Some(last),
                _ => break,
            }
        }
        for group in &mut listed {
            if self.is_loaded(&group.group)
                && let Ok(Ok(described)) = self.call(&group.group, Command::Describe).await
            {
                group.state = described.state;
                group.protocol_type = described.protocol_type;
            }
        }
        Ok(listed)
    }

    /// The ids of all groups of the cluster, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn all(&self) -> Result<Vec<String>, Refusal> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let page = self.shared.groups.list(all.last().map(String::as_str), LIST_PAGE).await;
            let page = page.map_err(|error| refuse(&error))?;
            all.extend(page.groups.into_iter().map(|(group, _)| group));
            if !page.more {
                return Ok(all);
            }
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether this agent coordinates the group, as far as it knows.
    pub fn is_mine(&self, group: &str) -> bool {
        self.shared.ownership.is_mine(group)
    }

    fn check_mine(&self, group: &str) -> Result<(), Refusal> {
        if self.is_mine(group) { Ok(()) } else { Err(Refusal::NotCoordinator) }
    }

    pub(super) fn is_loaded(&self, group: &str) -> bool {
        self.shared.loaded.lock().contains_key(group)
    }

    /// Whether there is no such group: then no task is started for it.
    async fn is_missing(&self, group: &str) -> Result<bool, Refusal> {
        if self.is_loaded(group) {
            return Ok(false);
        }
        let stored = self.shared.groups.read(group).await.map_err(|error| refuse(&error))?;
        Ok(stored.is_none())
    }

    /// Hands a call to the group's task and waits for the answer.
    async fn call<T>(
        &self,
        group: &str,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        self.check_mine(group)?;
        let (answer, answered) = oneshot::channel();
        self.send(group, make(answer)).await?;
        // A task answers every call that it took, unless it panicked.
        answered.await.map_err(|_| Refusal::UnknownServerError)
    }

    pub(super) async fn send(&self, group: &str, mut command: Command) -> Result<(), Refusal> {
        for _ in 0..FINDS {
            let handle = self.find(group)?;
            match handle.commands.send(command).await {
                Ok(()) => return Ok(()),
                Err(mpsc::error::SendError(unsent)) => command = unsent,
            }
            self.shared.forget(group, handle.number);
        }
        Err(Refusal::CoordinatorNotAvailable)
    }

    /// The group's task, started if need be.
    fn find(&self, group: &str) -> Result<Handle, Refusal> {
        if self.shared.cancel.is_cancelled() {
            return Err(Refusal::CoordinatorNotAvailable);
        }
        let mut loaded = self.shared.loaded.lock();
        if let Some(handle) = loaded.get(group) {
            return Ok(handle.clone());
        }
        if loaded.len() >= LOADED_GROUPS_MAX {
            return Err(Refusal::CoordinatorLoadInProgress);
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (commands, received) = mpsc::channel(MAILBOX);
        let standing = Arc::new(Standing::default());
        let term = self.shared.ownership.term();
        let handle = Handle { number, term, commands, standing: Arc::clone(&standing) };
        let group: Arc<str> = group.into();
        loaded.insert(Arc::clone(&group), handle.clone());
        drop(loaded);
        let actor = Actor::new(Arc::clone(&self.shared), group, (number, term), received, standing);
        self.tasks.spawn(own(actor.run()));
        Ok(handle)
    }
}

fn refuse(error: &GroupError) -> Refusal {
    tracing::warn!(%error, "a group's rows can't be read");
    Refusal::from(error)
}

fn validate_named(group: &str) -> Result<(), Refusal> {
    if group.is_empty() { Err(Refusal::InvalidGroupId) } else { validate_length(group) }
}

fn validate_length(group: &str) -> Result<(), Refusal> {
    if group.len() > GROUP_ID_BYTES_MAX { Err(Refusal::InvalidGroupId) } else { Ok(()) }
}
