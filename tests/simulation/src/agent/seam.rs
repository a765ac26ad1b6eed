//! What an agent does to the world outside of it, counted: the points at which it can be killed, and the ways to the
//! stores, which can be cut.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::pause;
use penstock_types::simulated::Life;
use tokio::sync::Notify;

use crate::note;
use crate::trace;

/// The ways from an agent to the stores. They outlive its lives.
#[derive(Debug, Default)]
pub struct Ways {
    store_cut: AtomicBool,
    bucket_cut: AtomicBool,
    healed: Notify,
}

impl Ways {
    /// Cuts the agent from the metadata store.
    pub fn cut_store(&self) {
        self.store_cut.store(true, Ordering::Relaxed);
    }

    /// Cuts the agent from the bucket.
    pub fn cut_bucket(&self) {
        self.bucket_cut.store(true, Ordering::Relaxed);
    }

    /// Both ways are open again.
    pub fn heal(&self) {
        self.store_cut.store(false, Ordering::Relaxed);
        self.bucket_cut.store(false, Ordering::Relaxed);
        self.healed.notify_waiters();
    }

    /// Whether the store can't be reached.
    pub fn is_store_cut(&self) -> bool {
        self.store_cut.load(Ordering::Relaxed)
    }

    /// Whether the bucket can't be reached.
    pub fn is_bucket_cut(&self) -> bool {
        self.bucket_cut.load(Ordering::Relaxed)
    }

    /// Waits until the ways are open, at most so long.
    pub async fn wait(&self, most: Duration) {
        let healed = self.healed.notified();
        let _ = tokio::time::timeout(most, healed).await;
    }
}

/// A commit of the metadata store.
pub const COMMIT: &str = "store commit";
/// One that changes a group.
pub const GROUP_COMMIT: &str = "store commit of a group";
/// One of a job that deletes, merges or compacts.
pub const JOB_COMMIT: &str = "store commit of a job";
const COMMITS: [&str; 3] = [COMMIT, GROUP_COMMIT, JOB_COMMIT];

/// An operation to come: so many of a kind from now.
#[derive(Debug, Clone)]
pub struct At {
    /// The kind; any if empty.
    pub kind: &'static str,
    /// How many come first.
    pub left: u64,
}

impl At {
    /// Counts an operation of `kind`: whether it is the one.
    fn is_reached(&mut self, kind: &'static str) -> bool {
        let is_commit = self.kind == COMMIT && COMMITS.contains(&kind);
        let counts = self.kind.is_empty() || self.kind == kind || is_commit;
        let is_reached = counts && self.left == 0;
        if counts && !is_reached {
            self.left -= 1;
        }
        is_reached
    }
}

/// An agent is killed.
#[derive(Debug, Clone)]
pub struct Kill {
    /// When.
    pub at: At,
    /// Whether that operation still happens.
    pub after: bool,
}

/// An agent is held up.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Before which operation.
    pub at: At,
    /// For how long.
    pub time: Duration,
}

/// The seam of one life of an agent.
pub struct Seam {
    agent: usize,
    life: Arc<Life>,
    ways: Arc<Ways>,
    kill: Mutex<Option<Kill>>,
    hold: Mutex<Option<Hold>>,
    /// Told when the life is doomed.
    pub(super) doomed: Arc<Notify>,
}

impl Debug for Seam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seam").field("life", &self.life).finish_non_exhaustive()
    }
}

/// An operation under way.
#[derive(Debug)]
pub struct Operation {
    seam: Option<Arc<Seam>>,
}

impl Operation {
    /// It has happened; `false` if its maker doesn't live to see it.
    pub fn done(self) -> bool {
        if let Some(seam) = self.seam {
            seam.doom("after");
            return false;
        }
        true
    }
}

impl Seam {
    /// The seam of a life.
    pub fn new(agent: usize, life: Arc<Life>, ways: Arc<Ways>) -> Arc<Self> {
        let (kill, hold) = (Mutex::new(None), Mutex::new(None));
        Arc::new(Self { agent, life, ways, kill, hold, doomed: Arc::default() })
    }

    /// Whose it is.
    pub fn agent(&self) -> usize {
        self.agent
    }

    /// The life.
    pub fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// The agent's ways to the stores.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Whether the life has ended.
    pub fn is_dead(&self) -> bool {
        self.life.is_dead()
    }

    /// Kills the agent at an operation to come.
    pub fn kill_at(&self, kill: Kill) {
        *self.kill.lock() = Some(kill);
    }

    /// Holds the agent up at an operation to come.
    pub fn hold_at(&self, hold: Hold) {
        *self.hold.lock() = Some(hold);
    }

    /// No longer.
    pub fn spare(&self) {
        *self.kill.lock() = None;
        *self.hold.lock() = None;
    }

    /// For how long the agent stands still before an operation of `kind`, if it does.
    fn stands_still(&self, kind: &'static str) -> Option<Duration> {
        self.hold.lock().take_if(|hold| hold.at.is_reached(kind)).map(|hold| hold.time)
    }

    /// An operation begins; `None` if its maker doesn't live to make it.
    pub fn operation(self: &Arc<Self>, kind: &'static str) -> Option<Operation> {
        if self.is_dead() {
            return None;
        }
        trace::count(kind);
        let kill = self.kill.lock().take_if(|kill| kill.at.is_reached(kind));
        match kill {
            None => Some(Operation { seam: None }),
            Some(Kill { after: true, .. }) => Some(Operation { seam: Some(Arc::clone(self)) }),
            Some(_) => {
                self.doom("before");
                None
            }
        }
    }

    /// As [`Seam::operation`], for futures: one that its maker doesn't live to make never begins.
    pub async fn begin(self: &Arc<Self>, kind: &'static str) -> Operation {
        let Some(operation) = self.operation(kind) else { return std::future::pending().await };
        if let Some(time) = self.stands_still(kind) {
            note!(self.life.name(), "stands still for {time:?} before an operation: {kind}");
            trace::count("fault: agent paused before an operation");
            self.life.hold();
            let life = Arc::clone(&self.life);
            tokio::spawn(async move {
                pause(time).await;
                life.go_on();
            });
            // Whoever polls this task finds the life held.
            tokio::task::yield_now().await;
        }
        operation
    }

    /// Ends the life as `kill -9` does.
    pub fn doom(&self, when: &str) {
        if !self.is_dead() {
            note!(self.life.name(), "is killed {when} an operation");
            trace::count("fault: agent killed");
            self.life.doom();
            self.doomed.notify_one();
        }
    }
}

/// Ends an operation; never comes back if its maker doesn't live to see that.
pub async fn finish(operation: Operation) {
    if !operation.done() {
        std::future::pending::<()>().await;
    }
}
