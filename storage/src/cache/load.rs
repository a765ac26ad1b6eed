//! Loads: which requests a read needs, how many run at once, and what a lagging reader will want next.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use penstock_types::{ObjectId, own};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::entry::{BlockKey, Entry};
use super::flight::{Flight, Flights, LoadResult, LoadedRun, Wait};
use super::{CacheOptions, ReadError, ReadKind, Shared};
use crate::bucket::ErrorClass;

/// Starts loads and owns their tasks.
#[derive(Debug)]
pub(super) struct Loader {
    /// A permit a block.
    tail_permits: Arc<Semaphore>,
    lagging_permits: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

/// Which budget a load goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Budget {
    Tail,
    Lagging,
}

impl Loader {
    pub(super) fn new(options: &CacheOptions) -> Self {
        let permits = |bytes: u64| Arc::new(Semaphore::new((bytes / options.block_bytes).max(1) as usize));
        Self {
            tail_permits: permits(options.tail_loading_bytes),
            lagging_permits: permits(options.lagging_loading_bytes),
            tasks: Mutex::default(),
        }
    }

    /// Starts what is needed for the blocks of `blocks` that aren't `found`, and, for a lagging reader, what comes
    /// behind them. Answers what to wait for.
    pub(super) fn request(
        &self,
        shared: &Arc<Shared>,
        object: ObjectId,
        blocks: Range<u32>,
        found: &[Option<Arc<Entry>>],
        kind: ReadKind,
    ) -> Result<Vec<Wait>, ReadError> {
        let options = &shared.options;
        let missing = blocks.clone().zip(found).filter(|(_, entry)| entry.is_none()).map(|(block, _)| block);
        let (budget, longest, section_end) = match kind {
            ReadKind::Tail => (Budget::Tail, options.blocks_in(options.tail_load_bytes), 0),
            ReadKind::Lagging { section_end } => {
                (Budget::Lagging, options.blocks_in(options.lagging_load_bytes), section_end)
            }
        };
        let mut waits = Vec::new();
        if found.iter().any(Option::is_none) {
            let missing = missing.chain(beyond(shared, object, &blocks, found, longest, section_end));
            let longest = if budget == Budget::Lagging { longest + slack(options, longest) } else { longest };
            let (joined, flights) =
                Flights::join_or_plan(shared, object, missing, longest, options.most_blocks_loading)?;
            waits = joined;
            for flight in flights {
                self.start(shared, flight, budget, None);
            }
        }
        if budget == Budget::Lagging {
            self.read_ahead(shared, object, blocks.end, section_end);
        }
        Ok(waits)
    }

    /// Loads what a lagging reader will ask for next, if there is room for it now.
    fn read_ahead(&self, shared: &Arc<Shared>, object: ObjectId, from: u32, section_end: u64) {
        let options = &shared.options;
        let window = options.blocks_in(options.readahead_bytes);
        let section = options.blocks_until(section_end);
        let end = from.saturating_add(window).min(section);
        if from >= end || options.readahead_bytes == 0 {
            return;
        }
        let there = |block| {
            let key = BlockKey { object, block };
            shared.is_cached(&key) || shared.flights.contains(&key)
        };
        // Only once the window is half used up, and then as much as one request may bring, so that requests are large.
        let Some(first) = (from..end).find(|block| !there(*block)) else { return };
        let longest = options.blocks_in(options.lagging_load_bytes);
        if first - from > window / 2 {
            return;
        }
        let end = reach(options, first, longest, section);
        let end = (first..end).find(|block| there(*block)).unwrap_or(end);
        let Ok(permit) = self.lagging_permits.clone().try_acquire_many_owned(end - first) else { return };
        let longest = longest + slack(options, longest);
        let plan = Flights::join_or_plan(shared, object, first..end, longest, options.most_blocks_loading);
        let Ok((_, flights)) = plan else { return };
        let mut permit = Some(permit);
        for flight in flights {
            shared.stats.readahead_loads.fetch_add(1, Ordering::Relaxed);
            self.start(shared, flight, Budget::Lagging, permit.take());
        }
    }

    fn start(
        &self,
        shared: &Arc<Shared>,
        flight: Flight,
        budget: Budget,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let permits = match budget {
            Budget::Tail => &self.tail_permits,
            Budget::Lagging => &self.lagging_permits,
        };
        let load = run(shared.clone(), flight, budget, permits.clone(), permit);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(own(load));
    }
}

/// A lagging reader's request is made as large as one may be: the blocks behind those it needs, as long as they lie
/// in its section and aren't there yet.
fn beyond(
    shared: &Shared,
    object: ObjectId,
    blocks: &Range<u32>,
    found: &[Option<Arc<Entry>>],
    longest: u32,
    section_end: u64,
) -> Range<u32> {
    let none = blocks.end..blocks.end;
    if section_end == 0 || found.last().is_none_or(Option::is_some) {
        return none;
    }
    let needed = found.iter().rev().take_while(|entry| entry.is_none()).count() as u32;
    let section = shared.options.blocks_until(section_end);
    let end = reach(&shared.options, blocks.end - needed, longest, section);
    let there = |block: &u32| {
        let key = BlockKey { object, block: *block };
        shared.is_cached(&key) || shared.flights.contains(&key)
    };
    let end = (blocks.end..end).find(there).unwrap_or(end);
    if end > blocks.end { blocks.end..end } else { none }
}

/// How much longer than others a request may be that reaches its section's end.
fn slack(options: &CacheOptions, longest: u32) -> u32 {
    let most = options.blocks_in(options.lagging_loading_bytes);
    (longest / 8).max(1).min(most.saturating_sub(longest))
}

/// Up to where one request from `first` goes: what little would be left of the section isn't left to another one, since
/// sections begin anywhere in a block.
fn reach(options: &CacheOptions, first: u32, longest: u32, section: u32) -> u32 {
    let end = first.saturating_add(longest).min(section);
    if section - end <= slack(options, longest) { section } else { end }
}

/// One load from waiting for its permits to answering everybody. Ends within the load's time-out.
async fn run(
    shared: Arc<Shared>,
    flight: Flight,
    budget: Budget,
    permits: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
) {
    let limit = shared.options.load_timeout;
    let loading = async {
        let _permit = match permit {
            Some(permit) => Some(permit),
            None => {
                let most = shared.options.blocks_in(match budget {
                    Budget::Tail => shared.options.tail_loading_bytes,
                    Budget::Lagging => shared.options.lagging_loading_bytes,
                });
                permits.acquire_many_owned((flight.blocks.len() as u32).min(most)).await.ok()
            }
        };
        load(&shared, &flight, budget).await
    };
    let result = timeout(limit, loading).await.unwrap_or_else(|_| {
        Err(ReadError::Unavailable {
            object: flight.object,
            class: ErrorClass::Timeout,
            detail: format!("no answer within {} ms", limit.as_millis()),
        })
    });
    if let Err(error) = &result {
        shared.stats.load_failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(object = %flight.object, blocks = ?flight.blocks, %error, "load failed");
        if penstock_types::planted!("load-failure-untold") {
            std::future::pending::<()>().await;
        }
    }
    flight.land(result);
}

async fn load(shared: &Shared, flight: &Flight, budget: Budget) -> LoadResult {
    let object = flight.object;
    // Another load may have ended between the reader's look into the cache and its joining here.
    let mut there = Vec::with_capacity(flight.blocks.len());
    for block in flight.blocks.clone() {
        there.push(shared.cached(BlockKey { object, block }).await);
    }
    let Some(first_missing) = there.iter().position(Option::is_none) else {
        let entries = there.into_iter().flatten().collect();
        return Ok(Arc::new(LoadedRun { first: flight.blocks.start, entries }));
    };
    let last_missing = there.iter().rposition(Option::is_none).unwrap_or(first_missing);
    let first = flight.blocks.start + first_missing as u32;
    let end = flight.blocks.start + last_missing as u32 + 1;
    let block_bytes = shared.options.block_bytes;
    let range = u64::from(first) * block_bytes..u64::from(end) * block_bytes;
    shared.stats.loads.fetch_add(1, Ordering::Relaxed);
    let loaded = shared.source.load(object, range, block_bytes).await?;
    let mut entries: Vec<Arc<Entry>> = there.drain(..first_missing).flatten().collect();
    let after: Vec<Arc<Entry>> = there.drain(last_missing + 1 - first_missing..).flatten().collect();
    let store = match budget {
        Budget::Tail => &shared.tail,
        Budget::Lagging => &shared.lagging,
    };
    for (block, data) in (first..end).zip(loaded.blocks) {
        shared.stats.loaded_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        let start = u64::from(block) * block_bytes;
        let entry = Arc::new(Entry::block(start, data, loaded.object_bytes, &shared.held_bytes));
        entries.push(entry.clone());
        shared.keep(store, BlockKey { object, block }, entry).await;
    }
    entries.extend(after);
    Ok(Arc::new(LoadedRun { first: flight.blocks.start, entries }))
}
