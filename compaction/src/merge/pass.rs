//! One pass over a unit: looks up what the index refers to of its objects, and moves it into outputs.
//!
//! What can't be read or looked up is left where it is, and counted; the rest of the unit is merged all the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::StreamExt;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::StoreError;
use penstock_metadata::merging::{Source, Window, WindowPage, is_sealed};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_types::{ObjectId, Offset, TopicPartition};

use super::class::Class;
use super::draft::{Built, Draft, pieces};
use super::inputs::{Inputs, Reading};
use super::{Merge, MergeError, MergeParts};
use crate::again;

/// Partitions that are looked up at a time: that mostly waits for the store.
const LOOK_UPS: usize = 8;
/// Bytes that are checked and copied before others get their turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// What a pass did, in batches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Passed {
    /// That the index referred to, as far as could be told.
    found: u64,
    /// That refer to an output now.
    swapped: u64,
    /// That can't be copied, and stay where they are.
    pub(super) unreadable: u64,
    /// Whether some of these may be readable later: the bucket refused to give them, or the store to look them up.
    pub(super) is_refused: bool,
    /// The objects that can't be opened.
    pub(super) lost: Vec<ObjectId>,
}

impl Passed {
    /// Batches that may still refer to the unit's objects, though they could be merged.
    pub(super) fn left(&self) -> u64 {
        self.found.saturating_sub(self.swapped + self.unreadable)
    }

    fn not_readable(&mut self, batches: u64) {
        self.found += batches;
        self.unreadable += batches;
    }
}

impl Merge {
    pub(super) async fn pass(&self, unit: &Unit, sources: &[Source]) -> Result<Passed, MergeError> {
        let refused = AtomicBool::new(false);
        let MergeParts { bucket, topics, .. } = &self.parts;
        let reading = Reading { bucket, pace: &self.pace, stats: &self.stats, refused: &refused };
        let inputs = Inputs::open(reading, sources, unit.level == 0).await?;
        let mut pass =
            Pass { merge: self, unit, inputs, reading, draft: Draft::default(), passed: Passed::default() };
        for lost in &pass.inputs.lost {
            pass.passed.not_readable(lost.alive);
            pass.passed.lost.push(lost.object);
        }
        // The objects were listed after their topics were created: those that aren't known are deleted.
        topics.refresh().await?;
        for partitions in self.by_class(&pass.inputs).values() {
            let mut looks = futures::stream::iter(partitions.iter().copied())
                .map(|partition| async move { (partition, self.look_up(unit, partition).await) })
                .buffered(LOOK_UPS);
            while let Some((partition, looked)) = looks.next().await {
                pass.partition(partition, looked).await?;
            }
            drop(looks);
            pass.write().await?;
        }
        pass.passed.is_refused |= refused.load(Ordering::Relaxed);
        Ok(pass.passed)
    }

    /// The partitions of topics that are there, by what lies together, each ascending.
    fn by_class(&self, inputs: &Inputs) -> BTreeMap<Class, Vec<TopicPartition>> {
        let mut by_class: BTreeMap<Class, Vec<TopicPartition>> = BTreeMap::new();
        for partition in inputs.partitions.keys() {
            if let Some(topic) = self.parts.topics.by_id(partition.topic) {
                by_class.entry(Class::of(&topic.config)).or_default().push(*partition);
            }
        }
        by_class
    }

    /// The beginning of what the index has of a partition in the unit.
    async fn look_up(
        &self,
        unit: &Unit,
        partition: TopicPartition,
    ) -> Result<(Window, Option<WindowPage>), StoreError> {
        let MergeParts { store, keyspace, .. } = &self.parts;
        self.seal(unit, partition).await?;
        let mut window = Window::of(partition, unit.begins, unit.last);
        let first = again!(window.next(store, keyspace))?;
        Ok((window, first))
    }

    /// Makes sure that the index has all that a partition has in the unit.
    async fn seal(&self, unit: &Unit, partition: TopicPartition) -> Result<(), StoreError> {
        let MergeParts { store, keyspace, .. } = &self.parts;
        while !again!(is_sealed(store, keyspace, partition, unit.last))? {
            let sealed = again!(seal_partition(store, keyspace, partition, SealDue::NOW))?;
            if sealed.rows == 0 {
                // The topic has gone.
                break;
            }
        }
        Ok(())
    }
}

/// A pass under way.
struct Pass<'a> {
    merge: &'a Merge,
    unit: &'a Unit,
    inputs: Inputs,
    reading: Reading<'a>,
    draft: Draft,
    passed: Passed,
}

impl Pass<'_> {
    /// Adds what a partition has to the output in the making, and writes that whenever it is full.
    async fn partition(
        &mut self,
        partition: TopicPartition,
        looked: Result<(Window, Option<WindowPage>), StoreError>,
    ) -> Result<(), MergeError> {
        let MergeParts { store, keyspace, .. } = &self.merge.parts;
        let object_bytes = self.merge.settings.object_bytes;
        let Some((mut window, mut next)) = self.or_left(partition, looked)? else { return Ok(()) };
        // Rather than in its middle the output is cut here.
        let most = self.inputs.partitions.get(&partition).copied().unwrap_or(0);
        if self.draft.is_full(most, object_bytes) {
            self.write().await?;
        }
        let mut drafted = Offset::ZERO;
        while let Some(page) = next {
            let found = pieces(partition, &page, &self.inputs, &mut drafted);
            drop(page);
            if let Some((place, pieces)) = found {
                for piece in pieces {
                    if self.draft.is_full(piece.length, object_bytes) {
                        self.write().await?;
                    }
                    self.draft.add(place, piece);
                }
            }
            let looked = again!(window.next(store, keyspace));
            next = self.or_left(partition, looked)?.flatten();
        }
        Ok(())
    }

    /// A partition that can't be looked up for good is left as it is: at least one batch of it.
    fn or_left<T>(
        &mut self,
        partition: TopicPartition,
        looked: Result<T, StoreError>,
    ) -> Result<Option<T>, MergeError> {
        match looked {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_retryable() => Err(error.into()),
            Err(error) => {
                tracing::error!(%partition, %error, "where a partition's batches are can't be looked up; it is not merged");
                self.passed.not_readable(1);
                self.passed.is_refused = true;
                Ok(None)
            }
        }
    }

    /// Makes an output of the draft.
    async fn write(&mut self) -> Result<(), MergeError> {
        let draft = std::mem::take(&mut self.draft);
        if draft.pieces.is_empty() {
            return Ok(());
        }
        if self.merge.turns.is_interrupted() {
            return Err(MergeError::Paused);
        }
        self.passed.found += draft.batches();
        let built = self.build(&draft).await?;
        self.passed.unreadable += built.unreadable;
        if built.copies.is_empty() {
            return Ok(());
        }
        let swaps = draft.swaps(&built.section_ends, self.merge.settings.swap_bytes);
        let bytes = draft.bytes;
        // The sources of a level above are held no longer than they are needed.
        drop(draft);
        self.passed.swapped += self.merge.output(self.unit, built, swaps).await?;
        self.merge.did(bytes);
        Ok(())
    }

    /// Reads what a draft is made of, and copies it.
    async fn build(&self, draft: &Draft) -> Result<Built, MergeError> {
        let bytes = self.inputs.read(self.reading, &draft.sources()).await?;
        let mut built = Built::default();
        let mut turn = 0;
        for (piece, bytes) in draft.pieces.iter().zip(&bytes) {
            built.copy(piece, bytes.as_ref());
            turn += piece.length;
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(built)
    }
}
