//! An output in the making, and what becomes of batches with it. Pure.

use bytes::Bytes;
use penstock_metadata::keys::log::BatchFacts;
use penstock_metadata::log_compaction::{Changes, Fate, Stretch};
use penstock_storage::object::{MergedBuilder, MergedError};
use penstock_types::{BatchPosition, Offset, TopicPartition};

use super::scan::Found;
use crate::facts::known;

/// Unchanged batches between two rewritten ones are copied with them if they have fewer bytes.
pub(super) const ISLAND_BYTES: u64 = 256 * 1024;
/// Changes of one draft: so many take some 40 MB beside the bytes.
const MOST_CHANGES: usize = 250_000;

/// What becomes of a batch.
#[derive(Debug, Clone, Copy)]
struct Change {
    first: Offset,
    last: Offset,
    at: BatchPosition,
    before: BatchFacts,
    fate: Fate,
    index: (u64, u64),
}

/// Changes of one swap, ascending.
#[derive(Debug, Clone)]
pub(super) struct Step(Vec<Change>);

impl Step {
    /// What is swapped, and where.
    pub(super) fn changes(&self, section_end: u64) -> Option<(Changes, Stretch)> {
        let stretch = Stretch { first: self.0.first()?.first, last: self.0.last()?.last, section_end };
        let mut changes = Changes::default();
        self.0.iter().for_each(|change| changes.add(change.at, change.before, change.fate));
        Some((changes, stretch))
    }

    /// Its two halves, if it has them.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.0.len() < 2 {
            return Err(self);
        }
        let second = self.0.split_off(self.0.len() / 2);
        Ok((self, Self(second)))
    }

    /// Whether it can be made in smaller steps.
    pub(super) fn is_divisible(&self) -> bool {
        self.0.len() > 1
    }
}

/// An output in the making.
#[derive(Debug)]
pub(super) struct Draft {
    partition: TopicPartition,
    pub(super) builder: MergedBuilder,
    changes: Vec<Change>,
    /// Unchanged batches behind the last rewritten one, while they are few.
    island: Vec<(Found, Bytes)>,
    island_bytes: u64,
    pub(super) copied: u64,
}

impl Draft {
    pub(super) fn new(partition: TopicPartition) -> Self {
        let builder = MergedBuilder::new();
        Self { partition, builder, changes: Vec::new(), island: Vec::new(), island_bytes: 0, copied: 0 }
    }

    /// A batch leaves the log.
    pub(super) fn goes(&mut self, found: &Found) {
        self.change(found, Fate::Gone);
    }

    /// A marker gets a delete horizon, or a batch another fate.
    pub(super) fn change(&mut self, found: &Found, fate: Fate) {
        let batch = &found.batch;
        let last = Offset::at(batch.end_offset().get() - 1);
        let (first, at, before, index) = (batch.base_offset, batch.at, batch.facts, found.index);
        self.changes.push(Change { first, last, at, before, fate, index });
    }

    /// A batch stays as it is: unless few do so between two that don't.
    pub(super) fn stays(&mut self, found: &Found, bytes: &Bytes) {
        if self.builder.body_length() == 0 {
            return;
        }
        self.island_bytes = self.island_bytes.saturating_add(bytes.len() as u64);
        if self.island_bytes < ISLAND_BYTES {
            // A slice would hold all that was read with it.
            self.island.push((*found, Bytes::copy_from_slice(bytes)));
        } else {
            self.island.clear();
        }
    }

    /// A batch is replaced by `bytes`, of which the log is to say `facts`.
    pub(super) fn rewritten(
        &mut self,
        found: &Found,
        bytes: &Bytes,
        facts: BatchFacts,
    ) -> Result<(), MergedError> {
        self.copied += self.island.len() as u64;
        for (island, bytes) in std::mem::take(&mut self.island) {
            self.moved(&island, &bytes, island.batch.facts)?;
        }
        self.island_bytes = 0;
        self.moved(found, bytes, facts)
    }

    fn moved(&mut self, found: &Found, bytes: &Bytes, facts: BatchFacts) -> Result<(), MergedError> {
        let mut batch = found.batch;
        batch.facts = facts;
        let position = self.builder.add(self.partition, bytes, &[known(&batch)])?;
        self.change(found, Fate::Moved { position, facts });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it is to be written before anything is added.
    pub(super) fn is_full(&self, object_bytes: u64) -> bool {
        self.builder.body_length() >= object_bytes || self.changes.len() >= MOST_CHANGES
    }

    /// The swaps of about `swap_bytes` of the index each, in the order in which they must be made: that of the log.
    pub(super) fn steps(mut self, swap_bytes: u64) -> (MergedBuilder, Vec<Step>) {
        self.changes.sort_by_key(|change| change.first);
        let disorder = penstock_types::planted!("compact-out-of-order");
        let swap_bytes = if disorder { 0 } else { swap_bytes };
        let mut steps: Vec<Step> = Vec::new();
        let mut begins = 0;
        for change in self.changes {
            let is_same = |step: &Step| step.0.last().is_some_and(|last| last.index == change.index);
            match steps.last_mut() {
                Some(step) if is_same(step) || change.index.1.saturating_sub(begins) <= swap_bytes => {
                    step.0.push(change);
                }
                _ => {
                    begins = change.index.0;
                    steps.push(Step(vec![change]));
                }
            }
        }
        if disorder {
            steps.reverse();
        }
        (self.builder, steps)
    }
}
