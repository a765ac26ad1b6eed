//! Tail views: the rows of a partition since its last seal, folded, in memory. A cache: only agents that serve
//! fetches of the partition keep one, and it can be rebuilt from the store at any time.
//!
//! Invariants: every page of a refresh reads the seal, the new rows, the counter and the log start at one version.
//! Where the seal has passed the view, the view restarts from the seal's state. A view that has reached its partition's
//! last row agrees with the counter, or nobody is served; one that agrees with a later counter, where nothing but appends
//! could have changed it, is as new as that.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use penstock_types::{BatchPosition, Offset, StoreVersion, TopicPartition};
use tokio::time::Instant;

use crate::codec::Corrupt;
use crate::fold::{AbortedTransaction, BatchEntry, FoldState, LogEntry};
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::log::LogRow;
use crate::keys::{Keyspace, log, log_start, seal};
use crate::kv::{Isolation, Page, Priority, RangeOptions, Row, SharedStore, StoreError};

/// Rows of one page of a refresh.
const PAGE_ROWS: usize = 2_000;

/// A partition's tail at one version of the store.
#[derive(Debug, Clone)]
pub struct TailView {
    /// The fold at its end.
    pub state: FoldState,
    /// Where the packed index ends and `entries` begin.
    pub sealed: Offset,
    /// The rows since the seal, ascending.
    pub entries: VecDeque<LogEntry>,
    /// Transactions aborted since the seal, by the offset of their marker.
    pub aborted: Vec<AbortedTransaction>,
    /// The log start offset.
    pub log_start: Offset,
    /// The version that all this was read at, or known to be the same at.
    pub version: StoreVersion,
    /// The changes of its stripe that were no appends, at that version.
    changes: i64,
}

impl TailView {
    fn from_seal(state: FoldState) -> Self {
        Self {
            sealed: state.next_offset,
            state,
            entries: VecDeque::new(),
            aborted: Vec::new(),
            log_start: Offset::ZERO,
            version: StoreVersion::ZERO,
            changes: 0,
        }
    }

    /// The high watermark: everything that is committed is replicated, so it is the end of the log.
    pub fn high_watermark(&self) -> Offset {
        self.state.next_offset
    }

    /// The last stable offset: no open transaction begins below it.
    pub fn last_stable_offset(&self) -> Offset {
        self.state.first_unstable_offset().max(self.log_start).min(self.state.next_offset)
    }

    /// The batches of the tail from the one that holds `offset` on.
    pub fn batches_from(&self, offset: Offset) -> impl Iterator<Item = BatchEntry> + '_ {
        let first = self.entries.partition_point(|entry| entry.end_offset() <= offset);
        self.entries
            .range(first..)
            .flat_map(LogEntry::batches)
            .skip_while(move |batch| batch.end_offset() <= offset)
    }
}

/// Why a view can't be refreshed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// The store can't be read now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store holds contradicts itself: serving it could show one offset with two records.
    #[error("partition {partition}: the fold ends at {folded}, the counter says {counter}")]
    Disagree {
        /// Which partition.
        partition: TopicPartition,
        /// Where the fold ends.
        folded: Offset,
        /// What the counter holds.
        counter: i64,
    },
}

impl From<Corrupt> for ViewError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Store(corrupt.into())
    }
}

/// A partition's view, shared: read under a short lock, refreshed by one task at a time.
#[derive(Debug)]
pub struct PartitionView {
    /// Which partition.
    pub partition: TopicPartition,
    store: SharedStore,
    keyspace: Keyspace,
    view: RwLock<TailView>,
    /// Held by whoever refreshes: the newest version that the view was read at, also where it did not reach the end.
    refreshing: tokio::sync::Mutex<StoreVersion>,
    last_used: Mutex<Instant>,
}

impl PartitionView {
    /// An empty view, older than every version.
    pub fn new(store: SharedStore, keyspace: Keyspace, partition: TopicPartition) -> Arc<Self> {
        Arc::new(Self {
            partition,
            store,
            keyspace,
            view: RwLock::new(TailView::from_seal(FoldState::default())),
            refreshing: tokio::sync::Mutex::new(StoreVersion::ZERO),
            last_used: Mutex::new(Instant::now()),
        })
    }

    /// Looks at the view; keep `look` short.
    pub fn read<T>(&self, look: impl FnOnce(&TailView) -> T) -> T {
        look(&self.view.read())
    }

    /// The version of the view.
    pub fn version(&self) -> StoreVersion {
        self.view.read().version
    }

    /// When it was last asked for.
    pub fn last_used(&self) -> Instant {
        *self.last_used.lock()
    }

    pub(crate) fn touch(&self) {
        *self.last_used.lock() = Instant::now();
    }

    /// Takes the view for as new as `version`, if what its stripe's counters were then says that nothing has changed for
    /// it. Says whether it did.
    pub(crate) fn confirm(&self, version: StoreVersion, counters: &Counters) -> bool {
        let mut view = self.view.write();
        let was_read = view.version != StoreVersion::ZERO;
        let unchanged =
            view.state.next_offset.get() == counters.of(self.partition) && view.changes == counters.changes();
        if was_read && unchanged {
            view.version = view.version.max(version);
        }
        was_read && unchanged
    }

    /// Makes the view at least as new as `at_least`. Callers that wait at the same time share one refresh.
    pub async fn ensure(&self, at_least: StoreVersion) -> Result<(), ViewError> {
        self.ensure_from(at_least, None).await
    }

    /// As [`PartitionView::ensure`], reading at `version`, which is `at_least` or later and was just read at; if that can't
    /// be read at any more, at a later one.
    pub async fn ensure_at(&self, at_least: StoreVersion, version: StoreVersion) -> Result<(), ViewError> {
        self.ensure_from(at_least, (version >= at_least).then_some(version)).await
    }

    async fn ensure_from(
        &self,
        at_least: StoreVersion,
        version: Option<StoreVersion>,
    ) -> Result<(), ViewError> {
        if self.version() >= at_least {
            return Ok(());
        }
        let mut newest = self.refreshing.lock().await;
        if self.version() >= at_least {
            return Ok(());
        }
        // A refresh that broke off may have come further: what is folded can't be held against an older counter.
        let version = version.filter(|version| *version >= *newest);
        self.refresh(version, &mut newest).await
    }

    /// Reads the store until the view agrees with the counter.
    async fn refresh(
        &self,
        mut version: Option<StoreVersion>,
        newest: &mut StoreVersion,
    ) -> Result<(), ViewError> {
        let mut attempts = 0;
        loop {
            match self.page(version, newest).await {
                Ok(true) => return Ok(()),
                Ok(false) => attempts = 0,
                Err(ViewError::Store(StoreError::TooOld | StoreError::FutureVersion)) if attempts < 5 => {
                    attempts += 1;
                    version = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one page at one version, a given one or the newest; says whether it reached the end.
    async fn page(
        &self,
        version: Option<StoreVersion>,
        newest: &mut StoreVersion,
    ) -> Result<bool, ViewError> {
        let mut transaction = self.store.begin(Priority::Default);
        if let Some(version) = version {
            transaction.set_read_version(version);
        }
        let version = transaction.read_version().await?;
        *newest = version.max(*newest);
        let keys = [
            seal::key(&self.keyspace, self.partition),
            log_start::key(&self.keyspace, self.partition),
            counters::key(&self.keyspace, Stripe::of(self.partition)),
        ];
        let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
        let sealed = seal::decode(values[0].as_deref())?;
        let log_start = log_start::decode(values[1].as_deref())?;
        let counters = Counters::decode(values[2].as_deref())?;
        let position = {
            let view = self.view.read();
            view.state.position.max(sealed.position)
        };
        let rows = log::rows_after(&self.keyspace, self.partition, &position);
        let page = transaction.range(rows, RangeOptions::page(PAGE_ROWS, Isolation::Snapshot)).await?;
        let rows = self.parse(&page)?;
        self.apply(sealed, log_start, rows, &counters, (!page.more).then_some(version))
    }

    fn parse(&self, page: &Page) -> Result<Vec<(BatchPosition, LogRow)>, Corrupt> {
        let parse = |row: &Row| {
            let (_, at) = log::parse_key(&self.keyspace, &row.key)?;
            Ok((at, LogRow::decode(&row.value)?))
        };
        page.rows.iter().map(parse).collect()
    }

    /// Folds a page into the view. `end` is the version, if the page reached the last row.
    fn apply(
        &self,
        sealed: FoldState,
        log_start: Offset,
        rows: Vec<(BatchPosition, LogRow)>,
        counters: &Counters,
        end: Option<StoreVersion>,
    ) -> Result<bool, ViewError> {
        let mut view = self.view.write();
        if sealed.position > view.state.position && !penstock_types::planted!("view-outlives-seal") {
            *view = TailView::from_seal(sealed);
        } else if sealed.next_offset > view.sealed {
            forget_sealed(&mut view, sealed.next_offset);
        }
        view.log_start = view.log_start.max(log_start);
        for (at, row) in rows {
            if at <= view.state.position {
                return Err(Corrupt { family: "log row", reason: "rows out of order" }.into());
            }
            let (entry, aborted) = view.state.fold(at, row);
            view.entries.push_back(entry);
            view.aborted.extend(aborted);
        }
        let Some(version) = end else { return Ok(false) };
        let (folded, counter) = (view.state.next_offset, counters.of(self.partition));
        if folded.get() != counter {
            *view = TailView::from_seal(FoldState::default());
            return Err(ViewError::Disagree { partition: self.partition, folded, counter });
        }
        view.version = version;
        view.changes = counters.changes();
        Ok(true)
    }

    /// The log starts at `start` or behind it: whoever moved it there says so.
    pub fn starts_at(&self, start: Offset) {
        let mut view = self.view.write();
        view.log_start = view.log_start.max(start);
    }

    /// The log start offset, fresh from the store.
    pub async fn fresh_log_start(&self) -> Result<Offset, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let key = log_start::key(&self.keyspace, self.partition);
        let value = transaction.get(&key, Isolation::Snapshot).await?;
        Ok(log_start::decode(value.as_deref())?)
    }
}

fn forget_sealed(view: &mut TailView, sealed: Offset) {
    while view.entries.front().is_some_and(|entry| entry.end_offset() <= sealed) {
        view.entries.pop_front();
    }
    if penstock_types::planted!("seal-forgets-too-much") {
        view.entries.pop_front();
    }
    view.sealed = sealed;
    view.aborted.retain(|aborted| aborted.last_offset >= sealed);
}
