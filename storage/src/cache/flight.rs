//! Blocks on their way: one load per block, and an answer for everybody who waits for it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use penstock_types::ObjectId;
use tokio::sync::watch;

use super::ReadError;
use super::entry::{BlockKey, Entry};
use crate::bucket::ErrorClass;

/// The blocks that one load brought.
#[derive(Debug)]
pub(super) struct LoadedRun {
    pub(super) first: u32,
    /// Fewer than asked for if the object ends before.
    pub(super) entries: Vec<Arc<Entry>>,
}

impl LoadedRun {
    pub(super) fn block(&self, block: u32) -> Option<Arc<Entry>> {
        self.entries.get(block.checked_sub(self.first)? as usize).cloned()
    }
}

pub(super) type LoadResult = Result<Arc<LoadedRun>, ReadError>;

/// Somebody's wait for a load.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    answer: watch::Receiver<Option<LoadResult>>,
}

impl Wait {
    /// The load's result.
    pub(super) async fn finished(mut self, object: ObjectId) -> LoadResult {
        match self.answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(ReadError::Busy)),
            // The load was dropped without an answer: it panicked, or the cache is being closed.
            Err(_) => Err(ReadError::Unavailable {
                object,
                class: ErrorClass::Other,
                detail: "the load ended without an answer".to_owned(),
            }),
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.answer.same_channel(&other.answer)
    }
}

/// The blocks that are being loaded or wait for it.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_block: Mutex<HashMap<BlockKey, Wait>>,
}

/// A load's side of it: answers, or, dropped early, makes room for another load.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<super::Shared>,
    pub(super) object: ObjectId,
    pub(super) blocks: Range<u32>,
    answer: watch::Sender<Option<LoadResult>>,
}

impl Flights {
    pub(super) fn len(&self) -> usize {
        self.by_block.lock().len()
    }

    pub(super) fn contains(&self, key: &BlockKey) -> bool {
        self.by_block.lock().contains_key(key)
    }

    /// Joins the loads of `wanted` that are under way, and plans loads for the others, of at most `longest`
    /// neighbouring blocks each. A plan is a promise: it must be carried out or dropped.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if more than `most` blocks would be on their way.
    pub(super) fn join_or_plan(
        shared: &Arc<super::Shared>,
        object: ObjectId,
        wanted: impl Iterator<Item = u32>,
        longest: u32,
        most: usize,
    ) -> Result<(Vec<Wait>, Vec<Flight>), ReadError> {
        let mut by_block = shared.flights.by_block.lock();
        let mut waits: Vec<Wait> = Vec::new();
        let mut runs: Vec<Range<u32>> = Vec::new();
        let mut planned = 0;
        for block in wanted {
            if let Some(wait) = by_block.get(&BlockKey { object, block }) {
                if !waits.iter().any(|other| other.is_same(wait)) {
                    waits.push(wait.clone());
                }
                continue;
            }
            planned += 1;
            match runs.last_mut() {
                Some(run) if run.end == block && run.len() < longest as usize => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        if by_block.len() + planned > most {
            return Err(ReadError::Busy);
        }
        let mut flights = Vec::with_capacity(runs.len());
        for blocks in runs {
            let (answer, receiver) = watch::channel(None);
            let wait = Wait { answer: receiver };
            for block in blocks.clone() {
                by_block.insert(BlockKey { object, block }, wait.clone());
            }
            waits.push(wait);
            flights.push(Flight { flights: shared.clone(), object, blocks, answer });
        }
        Ok((waits, flights))
    }
}

impl Flight {
    /// Answers everybody who waits. What was loaded must be in the cache by now, so that nobody who comes later
    /// finds it neither there nor here.
    pub(super) fn land(self, result: LoadResult) {
        self.answer.send_replace(Some(result));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut by_block = self.flights.flights.by_block.lock();
        for block in self.blocks.clone() {
            by_block.remove(&BlockKey { object: self.object, block });
        }
    }
}
