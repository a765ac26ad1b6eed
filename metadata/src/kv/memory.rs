//! The volatile store: the resolver over a map, in one process, with faults on demand. The reference for what a
//! store does, and the metadata store of tests and of the simulation.
//!
//! Invariants: no thread, no task, no timer of its own: under one runtime with one thread and one source of
//! randomness it behaves the same each time. Commits made at the same time (before any of them is polled again)
//! form a group that shares a version.
//!
//! Deliberately absent: durability.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use penstock_types::{Randomness, pause};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::resolver::{
    Commit, Engine, EngineTransaction, PendingWatch, Resolver, VersionClock, WINDOW, Wake, Watches, Writes,
    collect_page,
};
use super::{
    Committed, Durability, KeyRange, Page, Priority, RangeOptions, Row, Store, StoreError, Transaction,
};

mod faults;
mod rows;

use faults::FaultCounts;
pub use faults::{FaultKind, MemoryFaults};
use rows::VersionedRows;

/// The volatile store.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// An empty store without faults; `randomness` decides which faults strike once there are some.
    pub fn new(randomness: Arc<dyn Randomness>) -> Arc<Self> {
        Self::restored(&Contents::default(), 1, randomness)
    }

    /// A store that holds `contents`, as a backup restored into it: all of it was written at `version`, from which its
    /// versions go on, whatever they were where it was taken.
    pub fn restored(contents: &Contents, version: u64, randomness: Arc<dyn Randomness>) -> Arc<Self> {
        let mut rows = VersionedRows::default();
        rows.apply(version, &contents.0);
        let state = State {
            clock: VersionClock::starting_at(version),
            last_version: version,
            resolver: Resolver::default(),
            rows,
            waiting: Vec::new(),
            parked: Vec::new(),
        };
        Arc::new(Self {
            shared: Arc::new(Shared {
                randomness,
                faults: Mutex::default(),
                counts: FaultCounts::default(),
                state: Mutex::new(state),
                watches: Arc::default(),
            }),
        })
    }

    /// Which faults strike from now on.
    pub fn set_faults(&self, faults: MemoryFaults) {
        *self.shared.faults.lock() = faults;
    }

    /// Which faults strike.
    pub fn faults(&self) -> MemoryFaults {
        self.shared.faults.lock().clone()
    }

    /// How often each kind of fault has struck so far.
    pub fn faults_struck(&self) -> BTreeMap<FaultKind, u64> {
        self.shared.counts.all()
    }

    /// All rows, as every commit that was answered left them: a backup.
    pub fn contents(&self) -> Contents {
        let state = self.shared.state.lock();
        let rows = state.rows.all().map(|(key, value)| (key.clone(), Some(value)));
        Contents(rows.collect())
    }

    /// The highest version that was handed out.
    pub fn last_version(&self) -> u64 {
        self.shared.state.lock().last_version
    }

    /// How many commits of unknown outcome are still to land.
    pub fn parked_commits(&self) -> usize {
        self.shared.state.lock().parked.len()
    }

    /// Makes every parked commit land now, or fail where it conflicts; answers how many landed.
    pub fn land_parked_commits(&self) -> usize {
        self.shared.land_parked(true)
    }

    /// How many watches are armed.
    pub fn armed_watches(&self) -> usize {
        self.shared.watches.armed()
    }

    /// Moves the versions ahead, as a recovery of FoundationDB does.
    pub fn jump_versions(&self, by: u64) {
        self.shared.state.lock().clock.jump(by);
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        Box::new(EngineTransaction::new(Arc::clone(&self.shared), priority))
    }
}

/// The rows of a store at one moment.
#[derive(Debug, Clone, Default)]
pub struct Contents(Writes);

type Answer = oneshot::Sender<Result<Committed, StoreError>>;

#[derive(Debug)]
struct Shared {
    randomness: Arc<dyn Randomness>,
    faults: Mutex<MemoryFaults>,
    counts: FaultCounts,
    state: Mutex<State>,
    watches: Arc<Watches>,
}

#[derive(Debug)]
struct State {
    clock: VersionClock,
    /// The highest version handed out, for reading or as a commit's.
    last_version: u64,
    resolver: Resolver,
    rows: VersionedRows,
    /// Commits that the next of their makers to be polled resolves. As many as there are callers, and as few as
    /// fit in the stamps of one version at a time.
    waiting: Vec<(Commit, Answer)>,
    /// Commits whose makers were told that the outcome is unknown, and that land later.
    parked: Vec<(Instant, Commit)>,
}

/// The database at a version.
#[derive(Debug)]
struct View(u64);

impl Shared {
    /// Resolves commits as one group and makes their rows readable.
    fn commit_group(&self, group: Vec<(Commit, Option<Answer>)>, jump: u64) -> usize {
        let mut state = self.state.lock();
        let State { clock, last_version, resolver, rows, .. } = &mut *state;
        clock.jump(jump);
        let version = clock.now().max(*last_version + 1);
        resolver.begin_group(version);
        let mut writes = Writes::new();
        let mut results = Vec::with_capacity(group.len());
        for (order, (commit, answer)) in group.into_iter().enumerate() {
            let order = u16::try_from(order).expect("a group is cut to fit");
            let result = resolver
                .resolve(version, order, commit, &mut writes, rows)
                .expect("a map can always be read");
            results.push((result, answer));
        }
        *last_version = version;
        rows.apply(version, &writes);
        rows.forget(version.saturating_sub(WINDOW));
        drop(state);
        let faults = self.faults.lock().clone();
        self.watches.changed(&writes, || faults.wake(&*self.randomness, &self.counts));
        let mut committed = 0;
        for (result, answer) in results {
            committed += usize::from(result.is_ok());
            if let Some(answer) = answer {
                // Its maker may be gone.
                let _ = answer.send(result);
            }
        }
        committed
    }

    /// Resolves whatever waits.
    fn commit_waiting(&self, jump: u64) {
        loop {
            let group: Vec<(Commit, Option<Answer>)> = {
                let mut state = self.state.lock();
                let count = state.waiting.len().min(usize::from(u16::MAX));
                state.waiting.drain(..count).map(|(commit, answer)| (commit, Some(answer))).collect()
            };
            if group.is_empty() {
                return;
            }
            self.commit_group(group, jump);
        }
    }

    /// Makes parked commits land whose time has come (or all); answers how many did and had no conflict.
    fn land_parked(&self, all: bool) -> usize {
        let now = Instant::now();
        let mut landed = 0;
        loop {
            let next = {
                let mut state = self.state.lock();
                let due = state.parked.iter().position(|(at, _)| all || *at <= now);
                due.map(|index| state.parked.remove(index).1)
            };
            let Some(commit) = next else { return landed };
            landed += self.commit_group(vec![(commit, None)], 0);
        }
    }

    fn chance(&self, kind: FaultKind, probability: f64) -> bool {
        self.counts.strikes(&*self.randomness, kind, probability)
    }

    async fn latency(&self, range: &Option<Range<Duration>>) {
        if let Some(range) = range {
            pause(faults::between(&*self.randomness, range)).await;
        }
    }

    fn unavailable(&self, faults: &MemoryFaults) -> Result<(), StoreError> {
        if self.chance(FaultKind::Unavailable, faults.unavailable) {
            return Err(StoreError::Unavailable { reason: "a fault was asked for".to_owned() });
        }
        Ok(())
    }

    async fn before_read(&self, view: &View) -> Result<(), StoreError> {
        let faults = self.faults.lock().clone();
        self.latency(&faults.latency).await;
        self.unavailable(&faults)?;
        self.land_parked(false);
        let oldest = self.state.lock().clock.now().saturating_sub(WINDOW);
        if view.0 < oldest || self.chance(FaultKind::TooOld, faults.too_old) {
            Err(StoreError::TooOld)
        } else {
            Ok(())
        }
    }
}

impl Engine for Shared {
    type View = View;

    async fn open(&self, at: Option<u64>, priority: Priority) -> Result<(u64, View), StoreError> {
        let faults = self.faults.lock().clone();
        self.latency(&faults.latency).await;
        self.unavailable(&faults)?;
        if priority == Priority::Batch && self.chance(FaultKind::Throttled, faults.throttled) {
            return Err(StoreError::Throttled);
        }
        if self.chance(FaultKind::FutureVersion, faults.future_version) {
            return Err(StoreError::FutureVersion);
        }
        self.land_parked(false);
        let mut state = self.state.lock();
        let newest = state.clock.now().max(state.last_version);
        let version = at.unwrap_or(newest);
        if version > newest {
            return Err(StoreError::FutureVersion);
        }
        if version < newest.saturating_sub(WINDOW) {
            return Err(StoreError::TooOld);
        }
        state.last_version = state.last_version.max(version);
        Ok((version, View(version)))
    }

    async fn get(&self, view: &View, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.before_read(view).await?;
        Ok(self.state.lock().rows.get_at(key, view.0))
    }

    async fn range(&self, view: &View, range: &KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        self.before_read(view).await?;
        let state = self.state.lock();
        if let Some(written_at) = options.written_at {
            let wrong = written_at.get() != view.0 || state.rows.older_in(range, view.0).is_some();
            if wrong {
                let reason =
                    format!("a row of {range:?} was not last written at {written_at:?}, as was said");
                return Err(StoreError::Failed { reason });
            }
        }
        let rows = state.rows.range_at(range, view.0).map(Ok::<Row, StoreError>);
        if options.reverse { collect_page(rows.rev(), options) } else { collect_page(rows, options) }
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let faults = self.faults.lock().clone();
        self.latency(&faults.latency).await;
        self.unavailable(&faults)?;
        if self.chance(FaultKind::Conflict, faults.conflict) {
            return Err(StoreError::Conflict);
        }
        if self.chance(FaultKind::UnknownNotApplied, faults.unknown_not_applied) {
            return Err(StoreError::CommitUnknown);
        }
        if self.chance(FaultKind::UnknownAppliedLater, faults.unknown_applied_later) {
            let at = Instant::now() + faults::between(&*self.randomness, &faults.applied_later_after);
            self.state.lock().parked.push((at, commit));
            return Err(StoreError::CommitUnknown);
        }
        self.land_parked(false);
        let jump =
            if self.chance(FaultKind::VersionJump, faults.version_jump) { faults.version_jump_by } else { 0 };
        let unknown = self.chance(FaultKind::UnknownApplied, faults.unknown_applied);
        let (answer, mut answered) = oneshot::channel();
        self.state.lock().waiting.push((commit, answer));
        // Whoever commits at the same time joins the group here.
        tokio::task::yield_now().await;
        self.commit_waiting(jump);
        let result = answered.try_recv().expect("whoever took it from the queue has answered");
        self.latency(&faults.latency).await;
        if unknown { Err(StoreError::CommitUnknown) } else { result }
    }

    fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    fn arm(&self, view: &View, watches: Vec<PendingWatch>) {
        let faults = self.faults.lock().clone();
        for watch in watches {
            if let Some(wake) = faults.wake_unasked(&*self.randomness, &self.counts) {
                watch.resolve(wake);
                continue;
            }
            let saw = {
                let state = self.state.lock();
                let oldest = state.clock.now().saturating_sub(WINDOW);
                (view.0 >= oldest).then(|| state.rows.get_at(watch.key(), view.0))
            };
            let Some(saw) = saw else {
                watch.resolve(Wake { after: Duration::ZERO, result: Err(StoreError::TooOld) });
                continue;
            };
            let key = watch.key().to_vec();
            self.watches.arm(watch, saw, || Ok(self.state.lock().rows.get_at(&key, u64::MAX)));
        }
    }
}

#[cfg(test)]
mod tests;
