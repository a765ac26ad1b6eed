//! The durable store of one process: the resolver in front of `fjall`, many waiting commits to one fsync.
//!
//! One thread, the committer, takes all commits that wait, resolves them one after the other as one group at one
//! version, writes one batch, waits until it is on stable storage, publishes the version with a snapshot of that
//! state, and answers. A write that fails ends the process: what is on disk is then anybody's guess, and reading it
//! anew, by a restart, is the only cure.
//!
//! Invariants: reads go through published snapshots alone, so nothing is seen that a crash could take back; a
//! version read is never one of a group in flight, nor above the ceiling that is durably reserved; a restart begins
//! above the ceiling, so no version is ever given twice.
//!
//! Deliberately absent: more than one process (the directory is locked), copies of the data.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use penstock_types::pause;
use tokio::sync::{mpsc, oneshot};

use super::resolver::{
    Commit, Engine, EngineTransaction, PendingWatch, VersionClock, WINDOW, Wake, Watches, Writes, bounds,
    collect_page,
};
use super::{
    Committed, Durability, KeyRange, Page, Priority, RangeOptions, Row, Store, StoreError, Transaction,
    limits,
};

mod committer;
mod disk;
mod piles;
mod published;
mod stats;

use committer::{Committer, Request};
use disk::DiskView;
use published::Published;
use stats::Counters;
pub use stats::{EmbeddedStats, GROUP_SIZES};

/// How far ahead versions are reserved: a restart skips as many at most, an idle store writes twice in that time.
const RESERVE: u64 = 60 * limits::VERSIONS_PER_SECOND;

/// How long a transaction of [`Priority::Batch`] waits for the queue to shrink before it is refused.
const BATCH_PATIENCE: Duration = Duration::from_secs(1);

/// How often it looks.
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Bytes of the cache of blocks read from disk.
    pub cache_bytes: u64,
    /// Commits that wait at most; past it, callers wait to be let into the queue.
    pub queue_commits: usize,
    /// Threads that flush and compact.
    pub worker_threads: usize,
    /// Called, after a line in the log, when a write has failed. The default aborts the process; where it returns,
    /// the store refuses everything from then on.
    pub on_fatal: fn(&str),
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, queue_commits: 4_096, worker_threads: 1, on_fatal: abort }
    }
}

fn abort(_reason: &str) {
    std::process::abort();
}

/// Why the store can't be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another store of this one) has it open.
    #[error("the metadata directory {} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory can't be made, read or written.
    #[error("the metadata directory {} can't be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What is there is damaged, or is no metadata store.
    #[error("the metadata directory {} can't be read: {reason}", path.display())]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is none, where one was to be read.
    #[error("there is no metadata store in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("the metadata directory {} has format {found}, this release reads up to {supported}", path.display())]
    TooNew {
        /// The directory.
        path: PathBuf,
        /// The format there.
        found: u16,
        /// The highest format that can be read.
        supported: u16,
    },
}

/// The durable store of one process.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in the directory `path`, and makes it if it is not there. Blocks while it reads what was
    /// written last.
    pub fn open(path: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let disk = disk::open(path, &options, RESERVE)?;
        let (requests, queue) = mpsc::channel(options.queue_commits.max(1));
        let shared = Arc::new(Shared {
            clock: VersionClock::starting_at(disk.first_version),
            published: Mutex::new(Published::new(disk.first_version, disk.ceiling, disk.rows.view())),
            requests,
            reserve_asked: AtomicBool::new(false),
            watches: Arc::default(),
            counters: Counters::default(),
        });
        let committer = Committer::new(Arc::clone(&shared), disk.rows, queue, options.on_fatal);
        let thread = std::thread::Builder::new()
            .name("penstock-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Arc::new(Self { shared, committer: Mutex::new(Some(thread)) }))
    }

    /// Opens the store that is in `path` to be read: it writes nothing, and refuses every commit. Its versions begin
    /// where those that were handed out end, and mean nothing beyond this process. Blocks while it reads what was
    /// written last.
    pub fn open_to_read(path: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let (rows, version) = disk::open_to_read(path, &options)?;
        // Nobody takes requests: commits are refused as those of a closed store.
        let (requests, _) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            clock: VersionClock::starting_at(version),
            published: Mutex::new(Published::new(version, u64::MAX, rows.view())),
            requests,
            reserve_asked: AtomicBool::new(false),
            watches: Arc::default(),
            counters: Counters::default(),
        });
        Ok(Arc::new(Self { shared, committer: Mutex::new(None) }))
    }

    /// Ends the store: commits that wait are refused, one in flight is finished. Blocks until then. The directory is
    /// free for another process when the last transaction is dropped.
    pub fn close(&self) {
        let Some(thread) = self.committer.lock().take() else { return };
        self.shared.published.lock().close();
        // Full or closed: the committer looks at `published` behind each group.
        let _ = self.shared.requests.try_send(Request::Close);
        if thread.join().is_err() {
            tracing::error!("the metadata store's committer panicked");
        }
        self.shared.watches.close();
    }

    /// What the store did so far.
    pub fn stats(&self) -> EmbeddedStats {
        let (snapshots, bytes_on_disk) = {
            let published = self.shared.published.lock();
            (published.snapshots(), published.latest().map_or(0, |view| view.bytes_on_disk()))
        };
        let queued = self.shared.requests.max_capacity() - self.shared.requests.capacity();
        self.shared.counters.read(queued, snapshots, self.shared.watches.armed(), bytes_on_disk)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }

    fn begin(&self, priority: Priority) -> Box<dyn Transaction> {
        Box::new(EngineTransaction::new(Arc::clone(&self.shared), priority))
    }
}

/// What transactions and the committer share.
#[derive(Debug)]
struct Shared {
    clock: VersionClock,
    published: Mutex<Published>,
    requests: mpsc::Sender<Request>,
    /// Whether the committer was asked to raise the ceiling and has not yet.
    reserve_asked: AtomicBool,
    watches: Arc<Watches>,
    counters: Counters,
}

/// The database at a version.
#[derive(Debug)]
struct View {
    version: u64,
    rows: Arc<DiskView>,
}

/// The rows of a range among those that a group wrote.
fn rows_of<'a>(
    writes: &'a Writes,
    range: &KeyRange,
    reverse: bool,
) -> Box<dyn Iterator<Item = Result<Row, StoreError>> + 'a> {
    let row = |(key, value): (&Bytes, &Option<Bytes>)| {
        value.as_ref().map(|value| Ok(Row { key: key.clone(), value: value.clone() }))
    };
    let rows = writes.range::<[u8], _>(bounds(range)).filter_map(row);
    if reverse { Box::new(rows.rev()) } else { Box::new(rows) }
}

fn closed() -> StoreError {
    StoreError::Unavailable { reason: "the metadata store is closed".to_owned() }
}

impl Shared {
    /// A view of `at`, or of the newest version.
    fn view(&self, at: Option<u64>) -> Result<View, StoreError> {
        let now = self.clock.now();
        let mut published = self.published.lock();
        let version = published.hand_out(now, at)?;
        let rows = published.view_at(version)?;
        Ok(View { version, rows })
    }

    /// Makes sure that the versions of this moment may be handed out. Only after a pause of nearly the whole reserve
    /// does that take time.
    async fn reserve(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ceiling = self.published.lock().ceiling();
        if now < ceiling {
            if ceiling - now < RESERVE / 2 && !self.reserve_asked.swap(true, Ordering::Relaxed) {
                let asked = self.requests.try_send(Request::Reserve { now, answer: None });
                if asked.is_err() {
                    // A full queue raises the ceiling by itself.
                    self.reserve_asked.store(false, Ordering::Relaxed);
                }
            }
            return Ok(());
        }
        let (answer, reserved) = oneshot::channel();
        let request = Request::Reserve { now, answer: Some(answer) };
        self.requests.send(request).await.map_err(|_| closed())?;
        reserved.await.map_err(|_| closed())
    }

    /// Lets a background transaction wait while the queue is half full.
    async fn yield_to_clients(&self) -> Result<(), StoreError> {
        let mut waited = Duration::ZERO;
        while self.requests.capacity() < self.requests.max_capacity() / 2 {
            if waited >= BATCH_PATIENCE {
                return Err(StoreError::Throttled);
            }
            pause(BATCH_PAUSE).await;
            waited += BATCH_PAUSE;
        }
        Ok(())
    }

    fn check_age(&self, view: &View) -> Result<(), StoreError> {
        let oldest = self.clock.now().saturating_sub(WINDOW);
        if view.version < oldest { Err(StoreError::TooOld) } else { Ok(()) }
    }
}

impl Engine for Shared {
    type View = View;

    async fn open(&self, at: Option<u64>, priority: Priority) -> Result<(u64, View), StoreError> {
        if priority == Priority::Batch {
            self.yield_to_clients().await?;
        }
        self.reserve().await?;
        let view = self.view(at)?;
        Ok((view.version, view))
    }

    async fn get(&self, view: &View, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.check_age(view)?;
        // What a group wrote is what stands there at its version: a commit asks so for its own offsets.
        let written = self.published.lock().written_at(view.version);
        match written.as_deref().and_then(|writes| writes.get(key)) {
            Some(value) => Ok(value.clone()),
            None => view.rows.get(key),
        }
    }

    async fn range(&self, view: &View, range: &KeyRange, options: RangeOptions) -> Result<Page, StoreError> {
        self.check_age(view)?;
        if let Some(written_at) = options.written_at
            && let Some(writes) = self.published.lock().written_at(written_at.get())
        {
            return collect_page(rows_of(&writes, range, options.reverse), options);
        }
        collect_page(view.rows.range(range, options.reverse), options)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let (answer, answered) = oneshot::channel();
        let place = self.requests.reserve().await.map_err(|_| closed())?;
        place.send(Request::Commit { now: self.clock.now(), commit, answer });
        // Without an answer the committer ended with this commit in its hands.
        answered.await.unwrap_or(Err(StoreError::CommitUnknown))
    }

    fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    fn arm(&self, view: &View, watches: Vec<PendingWatch>) {
        for watch in watches {
            match view.rows.get(watch.key()) {
                Ok(saw) => {
                    let key = watch.key().to_vec();
                    self.watches.arm(watch, saw, || {
                        let latest = self.published.lock().latest().ok_or_else(closed)?;
                        latest.get(&key)
                    });
                }
                Err(error) => watch.resolve(Wake { after: Duration::ZERO, result: Err(error) }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
