//! Reading the log: from an offset, a timestamp or a position in the store's order to batches, through the packed
//! index below the seal and the tail view above it.

use penstock_types::{BatchPosition, ObjectId, Offset, TimestampMs};

use crate::fold::{AbortedTransaction, BatchEntry, BatchSource, LogEntry};
use crate::keys::index::{self, PackedIndex};
use crate::keys::{Keyspace, aborted};
use crate::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, single_key};
use crate::view::PartitionView;

/// Bounds of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanLimits {
    /// No batch that begins at or above it: the high watermark or the last stable offset.
    pub end: Offset,
    /// Bytes of batches.
    pub max_bytes: u64,
    /// Whether one batch is planned even if it alone is larger than `max_bytes`.
    pub at_least_one: bool,
}

/// What a reader will find behind its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// The object of the last batch planned.
    pub object: ObjectId,
    /// Up to where in it the bytes of this partition go on behind that batch, as far as is known.
    pub end: u64,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The batches, ascending.
    pub batches: Vec<BatchEntry>,
    /// What follows, where the last of them lies below the seal.
    pub ahead: Option<Ahead>,
}

/// Reads the log of the partitions of one cluster.
#[derive(Debug, Clone)]
pub struct LogReader {
    store: SharedStore,
    keyspace: Keyspace,
}

/// Takes batches until a limit is reached. Pure.
#[derive(Debug)]
struct Planner {
    limits: PlanLimits,
    bytes: u64,
    batches: Vec<BatchEntry>,
    full: bool,
}

impl Planner {
    fn take(&mut self, batch: BatchEntry) {
        if self.full || batch.base_offset >= self.limits.end {
            self.full = true;
            return;
        }
        let bytes = self.bytes + u64::from(batch.facts.length);
        let exempt = self.batches.is_empty() && self.limits.at_least_one;
        if bytes > self.limits.max_bytes && !exempt {
            self.full = true;
            return;
        }
        self.bytes = bytes;
        self.batches.push(batch);
    }
}

impl LogReader {
    /// A reader of the cluster's log.
    pub fn new(store: SharedStore, keyspace: Keyspace) -> Self {
        Self { store, keyspace }
    }

    /// The batches from the one that holds `offset` on, within `limits`. Reads the index only where `offset` is below
    /// the view's seal.
    pub async fn plan(
        &self,
        view: &PartitionView,
        offset: Offset,
        limits: PlanLimits,
    ) -> Result<Vec<BatchEntry>, StoreError> {
        Ok(self.plan_ahead(view, offset, limits).await?.batches)
    }

    /// As [`LogReader::plan`], with what a reader who goes on will find behind it.
    pub async fn plan_ahead(
        &self,
        view: &PartitionView,
        offset: Offset,
        limits: PlanLimits,
    ) -> Result<Plan, StoreError> {
        let mut planner = Planner { limits, bytes: 0, batches: Vec::new(), full: false };
        let mut ahead = None;
        let mut next = offset;
        loop {
            let sealed = view.read(|tail| {
                if next >= tail.sealed {
                    for batch in tail.batches_from(next) {
                        planner.take(batch);
                        if planner.full {
                            break;
                        }
                    }
                    planner.full = true;
                }
                tail.sealed
            });
            if planner.full {
                return Ok(Plan { batches: planner.batches, ahead });
            }
            let Some(packed) = self.packed_at(view, next).await? else {
                // Nothing below the seal from here on (expired or compacted away): go on above it.
                next = sealed;
                continue;
            };
            let batches = packed.entries.iter().flat_map(LogEntry::batches);
            let too_far = i64::from(penstock_types::planted!("lookup-skips-a-record"));
            for batch in batches.skip_while(|batch| batch.end_offset() <= next.plus(too_far)) {
                planner.take(batch);
            }
            ahead = planner.batches.last().and_then(|last| ahead_of(last, &packed)).or(ahead);
            next = packed.last_offset().map_or(sealed, |last| last.plus(1)).max(next);
        }
    }

    /// The aborted transactions that touch the offsets from `from` to `to`, by the offset of their marker.
    pub async fn aborted(
        &self,
        view: &PartitionView,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, StoreError> {
        let touches = |aborted: &AbortedTransaction| aborted.last_offset >= from && aborted.first_offset < to;
        let (sealed, tail) =
            view.read(|tail| (tail.sealed, tail.aborted.iter().copied().filter(touches).collect::<Vec<_>>()));
        let mut found =
            if from < sealed { self.aborted_below(view, from, sealed).await? } else { Vec::new() };
        found.retain(touches);
        found.extend(tail);
        Ok(found)
    }

    /// The aborted transactions of the sealed log whose markers stand at `from` or behind it.
    async fn aborted_below(
        &self,
        view: &PartitionView,
        from: Offset,
        sealed: Offset,
    ) -> Result<Vec<AbortedTransaction>, StoreError> {
        let mut found = Vec::new();
        let mut range = aborted::from_offset(&self.keyspace, view.partition, from);
        loop {
            let mut transaction = self.store.begin(Priority::Default);
            let page = transaction.range(range.clone(), RangeOptions::page(500, Isolation::Snapshot)).await?;
            for row in &page.rows {
                found.push(aborted::decode(&self.keyspace, row)?);
            }
            match page.rows.last() {
                Some(last) if page.more => range.start = single_key(&last.key).end,
                _ => break,
            }
        }
        found.retain(|aborted| aborted.last_offset < sealed);
        Ok(found)
    }

    /// The index value that holds `offset`, or the next one.
    async fn packed_at(
        &self,
        view: &PartitionView,
        offset: Offset,
    ) -> Result<Option<PackedIndex>, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let range = index::from_offset(&self.keyspace, view.partition, offset);
        let page = transaction.range(range, RangeOptions::page(1, Isolation::Snapshot)).await?;
        match page.rows.first() {
            Some(row) => Ok(Some(PackedIndex::decode(&row.value)?)),
            None => Ok(None),
        }
    }

    /// The first offset at or behind `from` whose index value (or tail entry) satisfies `reached`, which must be
    /// monotone along the log: bisects over the packed index.
    async fn bisect(
        &self,
        view: &PartitionView,
        from: Offset,
        reached: impl Fn(&PackedIndex) -> bool,
    ) -> Result<Option<PackedIndex>, StoreError> {
        let mut low = from.get();
        let mut high = view.read(|tail| tail.sealed).get();
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.packed_at(view, Offset::at(middle)).await? {
                Some(packed) if !reached(&packed) => {
                    low = packed.last_offset().map_or(high, |last| last.get() + 1);
                }
                Some(packed) => {
                    // It may begin below `middle`: what lies before it is still open.
                    let first = packed.entries.first().map_or(middle, |entry| entry.base_offset.get());
                    high = first.min(middle);
                    found = Some(packed);
                }
                None => high = middle,
            }
        }
        Ok(found)
    }

    /// The offset of the batch appended at `at`; `None` where it is gone.
    pub async fn offset_of(
        &self,
        view: &PartitionView,
        at: BatchPosition,
    ) -> Result<Option<Offset>, StoreError> {
        let (log_start, in_tail) = view.read(|tail| {
            let before = tail.entries.partition_point(|entry| entry.at <= at);
            let entry = before.checked_sub(1).and_then(|index| tail.entries.get(index));
            (tail.log_start, entry.and_then(|entry| find_batch(entry, at)))
        });
        if in_tail.is_some() {
            return Ok(in_tail);
        }
        let reached =
            |packed: &PackedIndex| packed.entries.last().is_some_and(|last| last_position(last) >= at);
        let Some(packed) = self.bisect(view, log_start, reached).await? else { return Ok(None) };
        Ok(packed.entries.iter().find_map(|entry| find_batch(entry, at)))
    }

    /// Calls `look` with batches that may hold a record at or after `timestamp`, ascending from the log start, until
    /// it says that it found what it sought.
    pub async fn first_batch_at_or_after(
        &self,
        view: &PartitionView,
        timestamp: TimestampMs,
        from: Offset,
    ) -> Result<Option<BatchEntry>, StoreError> {
        let fits = |batch: &BatchEntry| batch.facts.max_timestamp >= timestamp && batch.end_offset() > from;
        let reached = |packed: &PackedIndex| {
            packed.max_timestamp_so_far >= timestamp && packed.last_offset().is_some_and(|last| last >= from)
        };
        let mut packed = self.bisect(view, from, reached).await?;
        while let Some(value) = packed {
            if let Some(batch) = value.entries.iter().flat_map(LogEntry::batches).find(&fits) {
                return Ok(Some(batch));
            }
            // The running maximum came from below `from`: look on, value by value.
            let Some(last) = value.last_offset() else { break };
            packed = self.packed_at(view, last.plus(1)).await?;
        }
        Ok(view.read(|tail| tail.batches_from(from.max(tail.sealed)).find(&fits)))
    }
}

/// How far the bytes of the partition go on behind `last` in its object, by an index value that holds it or what follows it.
fn ahead_of(last: &BatchEntry, packed: &PackedIndex) -> Option<Ahead> {
    let BatchSource::Object { object, position } = last.source else { return None };
    let mut end = position + u64::from(last.facts.length);
    let behind = packed.entries.iter().flat_map(LogEntry::batches);
    for batch in behind.skip_while(|batch| batch.base_offset < last.end_offset()) {
        if batch.source != (BatchSource::Object { object, position: end }) {
            return Some(Ahead { object, end });
        }
        end += u64::from(batch.facts.length);
    }
    // To the value's last batch: what is known of its section holds for this one.
    let section_end = packed.section_end.filter(|section_end| *section_end > end);
    Some(Ahead { object, end: section_end.unwrap_or(end) })
}

fn last_position(entry: &LogEntry) -> BatchPosition {
    entry.batches().last().map_or(entry.at, |batch| batch.at)
}

fn find_batch(entry: &LogEntry, at: BatchPosition) -> Option<Offset> {
    entry.batches().find(|batch| batch.at == at).map(|batch| batch.base_offset)
}
