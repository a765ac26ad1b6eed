//! The thread that commits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::disk::{DiskRows, DiskView};
use super::stats::Counters;
use super::{RESERVE, Shared, closed};
use crate::kv::resolver::{Commit, Resolver, Wake, Writes};
use crate::kv::{Committed, StoreError};

/// Commits of a group at most: well within the 65,536 that the stamps of one version tell apart.
const GROUP_COMMITS: usize = 4_096;
/// A group takes no further commit past that many bytes.
const GROUP_BYTES: usize = 16 << 20;

/// What the committer is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// To commit; `now` is the version of the moment.
    Commit { now: u64, commit: Commit, answer: oneshot::Sender<Result<Committed, StoreError>> },
    /// To raise the ceiling above `now`.
    Reserve { now: u64, answer: Option<oneshot::Sender<()>> },
    /// To end.
    Close,
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    rows: DiskRows,
    queue: mpsc::Receiver<Request>,
    resolver: Resolver,
    on_fatal: fn(&str),
}

/// Requests taken from the queue together.
#[derive(Default)]
struct Group {
    now: u64,
    bytes: usize,
    commits: Vec<(Commit, oneshot::Sender<Result<Committed, StoreError>>)>,
    reserves: Vec<oneshot::Sender<()>>,
    closes: bool,
}

impl Group {
    fn add(&mut self, request: Request) {
        match request {
            Request::Commit { now, commit, answer } => {
                self.now = self.now.max(now);
                self.bytes += commit.bytes;
                self.commits.push((commit, answer));
            }
            Request::Reserve { now, answer } => {
                self.now = self.now.max(now);
                self.reserves.extend(answer);
            }
            Request::Close => self.closes = true,
        }
    }

    fn is_full(&self) -> bool {
        self.closes || self.commits.len() >= GROUP_COMMITS || self.bytes >= GROUP_BYTES
    }
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        rows: DiskRows,
        queue: mpsc::Receiver<Request>,
        on_fatal: fn(&str),
    ) -> Self {
        Self { shared, rows, queue, resolver: Resolver::default(), on_fatal }
    }

    /// Commits until the store closes.
    pub(super) fn run(mut self) {
        let on_fatal = self.on_fatal;
        let shared = Arc::clone(&self.shared);
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let fatal = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some("the committer panicked".to_owned()),
        };
        if let Some(reason) = fatal {
            shared.published.lock().close();
            shared.watches.close();
            tracing::error!(%reason, "the metadata store can't write: the process ends, restart it");
            on_fatal(&reason);
        }
    }

    fn serve(&mut self) -> Result<(), String> {
        while let Some(request) = self.queue.blocking_recv() {
            let mut group = Group::default();
            group.add(request);
            while !group.is_full() {
                let Ok(request) = self.queue.try_recv() else { break };
                group.add(request);
            }
            let closes = group.closes;
            self.commit(group)?;
            if closes || self.shared.published.lock().is_closed() {
                break;
            }
        }
        self.refuse_rest();
        Ok(())
    }

    fn refuse_rest(&mut self) {
        self.queue.close();
        while let Ok(request) = self.queue.try_recv() {
            if let Request::Commit { answer, .. } = request {
                let _ = answer.send(Err(closed()));
            }
        }
    }

    fn commit(&mut self, group: Group) -> Result<(), String> {
        let begun = self.shared.published.lock().begin_group(group.now);
        let Some((version, latest)) = begun else {
            for (_, answer) in group.commits {
                let _ = answer.send(Err(closed()));
            }
            return Ok(());
        };
        let (writes, results) = self.resolve(version, &latest, group.commits);
        drop(latest);
        let ceiling = self.shared.published.lock().ceiling();
        let raised = (ceiling < version.saturating_add(RESERVE / 2)).then(|| version.saturating_add(RESERVE));
        let writes = self.write(version, writes, raised)?;
        if !results.is_empty() {
            self.shared.counters.group_of(results.len());
        }
        if !writes.is_empty() {
            self.shared.watches.changed(&writes, || Some(Wake::NOW));
        }
        for (result, answer) in results {
            let counters = &self.shared.counters;
            let counter = if result.is_ok() { &counters.commits } else { &counters.refused };
            Counters::add(counter, 1);
            // Its maker may be gone.
            let _ = answer.send(result);
        }
        for answer in group.reserves {
            let _ = answer.send(());
        }
        Ok(())
    }

    /// The group's rows, and what to answer to each of its commits.
    #[expect(clippy::type_complexity, reason = "an answer and whom it goes to")]
    fn resolve(
        &mut self,
        version: u64,
        latest: &Arc<DiskView>,
        commits: Vec<(Commit, oneshot::Sender<Result<Committed, StoreError>>)>,
    ) -> (Writes, Vec<(Result<Committed, StoreError>, oneshot::Sender<Result<Committed, StoreError>>)>) {
        self.resolver.begin_group(version);
        let mut writes = Writes::new();
        let mut results = Vec::with_capacity(commits.len());
        let mut failure = None;
        for (order, (commit, answer)) in commits.into_iter().enumerate() {
            let order = u16::try_from(order).expect("a group is cut to fit");
            let result = match &failure {
                Some(error) => Err(StoreError::clone(error)),
                None => self
                    .resolver
                    .resolve(version, order, commit, &mut writes, latest.as_ref())
                    .unwrap_or_else(|error| {
                        failure = Some(error.clone());
                        Err(error)
                    }),
            };
            results.push((result, answer));
        }
        if let Some(error) = failure {
            // A row could not be read: of the group's rows some are missing, so none is written.
            writes.clear();
            for (result, _) in &mut results {
                *result = Err(error.clone());
            }
        }
        (writes, results)
    }

    /// Writes, waits for stable storage and publishes.
    fn write(&mut self, version: u64, writes: Writes, ceiling: Option<u64>) -> Result<Arc<Writes>, String> {
        let writes = Arc::new(writes);
        if writes.is_empty() && ceiling.is_none() {
            self.shared.published.lock().end_group_without_rows(version);
            return Ok(writes);
        }
        let begun = Instant::now();
        self.rows.write(&writes, ceiling).map_err(|error| error.to_string())?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let view = self.rows.view();
        let counters = &self.shared.counters;
        Counters::add(&counters.write_microseconds, took);
        let bytes = writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
        Counters::add(&counters.bytes, bytes.sum::<usize>() as u64);
        Counters::add(&counters.fsyncs, 1);
        Counters::add(&counters.groups, u64::from(!writes.is_empty()));
        Counters::add(&counters.rows, writes.len() as u64);
        let mut published = self.shared.published.lock();
        if let Some(ceiling) = ceiling {
            published.raise_ceiling(ceiling);
            self.shared.reserve_asked.store(false, Ordering::Relaxed);
        }
        published.publish(version, view, Arc::clone(&writes));
        Ok(writes)
    }
}
