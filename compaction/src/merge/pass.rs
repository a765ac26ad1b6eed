//! One pass over a unit: looks up what the index refers to of its objects, and moves it into outputs.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use penstock_metadata::keys::merge_queue::LAST_LEVEL;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::{Priority, StoreError};
use penstock_metadata::merging::{
    AnnounceError, Copies, Output, Segment, SwapError, Window, WindowPage, announce, is_sealed, swap,
};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_storage::object::{MergedBuilder, object_key};
use penstock_types::{ObjectId, TopicPartition};
use tokio::time::Instant;

use super::class::Class;
use super::draft::{Built, Draft, pieces};
use super::inputs::{Inputs, Reading};
use super::{Merge, MergeError, MergeParts, add};
use crate::again;

/// Partitions that are looked up at a time: that mostly waits for the store.
const LOOK_UPS: usize = 16;
/// How long an upload may take.
const PUT_DEADLINE: Duration = Duration::from_secs(300);
/// Bytes that are checked and copied before others get their turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// What a pass did, in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passed {
    /// That the index referred to.
    found: u64,
    /// That refer to an output now.
    swapped: u64,
    /// That can't be copied, and stay where they are.
    unreadable: u64,
}

impl Passed {
    /// Batches that may still refer to the unit's objects, though they could be merged.
    pub(super) fn left(&self) -> u64 {
        self.found.saturating_sub(self.swapped + self.unreadable)
    }
}

impl Merge {
    pub(super) async fn pass(&self, unit: &Unit, sources: &[(ObjectId, u64)]) -> Result<Passed, MergeError> {
        let MergeParts { store, keyspace, .. } = &self.parts;
        let inputs = Inputs::open(self.reading(), sources, unit.level == 0).await?;
        let mut passed = Passed::default();
        for partitions in self.by_class(&inputs).values() {
            let mut draft = Draft::default();
            let mut looks = futures::stream::iter(partitions.iter().copied())
                .map(|partition| self.look_up(unit, partition))
                .buffered(LOOK_UPS);
            while let Some((partition, mut window, first)) = looks.try_next().await? {
                // Rather than in its middle the output is cut here.
                let most = inputs.partitions.get(&partition).copied().unwrap_or(0);
                if draft.bytes > 0 && draft.bytes + most > self.settings.object_bytes {
                    self.write(unit, &inputs, std::mem::take(&mut draft), &mut passed).await?;
                }
                let mut next = first;
                while let Some(page) = next {
                    let found = pieces(partition, &page, &inputs);
                    drop(page);
                    for (place, piece) in found
                        .into_iter()
                        .flat_map(|(place, pieces)| pieces.into_iter().map(move |piece| (place, piece)))
                    {
                        if draft.bytes > 0 && draft.bytes + piece.length > self.settings.object_bytes {
                            self.write(unit, &inputs, std::mem::take(&mut draft), &mut passed).await?;
                        }
                        draft.add(place, piece);
                    }
                    next = again!(window.next(store, keyspace))?;
                }
            }
            drop(looks);
            self.write(unit, &inputs, draft, &mut passed).await?;
        }
        Ok(passed)
    }

    fn reading(&self) -> Reading<'_> {
        Reading { bucket: &self.parts.bucket, pace: &self.pace, stats: &self.stats }
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
    ) -> Result<(TopicPartition, Window, Option<WindowPage>), StoreError> {
        let MergeParts { store, keyspace, .. } = &self.parts;
        self.seal(unit, partition).await?;
        let mut window = Window::of(partition, unit.begins, unit.last);
        let first = again!(window.next(store, keyspace))?;
        Ok((partition, window, first))
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

    /// Makes an output of a draft.
    async fn write(
        &self,
        unit: &Unit,
        inputs: &Inputs,
        draft: Draft,
        passed: &mut Passed,
    ) -> Result<(), MergeError> {
        if draft.pieces.is_empty() {
            return Ok(());
        }
        passed.found += draft.batches();
        let built = self.build(inputs, &draft).await?;
        passed.unreadable += built.unreadable;
        add(&self.stats.unreadable, built.unreadable);
        if built.copies.is_empty() {
            return Ok(());
        }
        let swaps = draft.swaps(&built.section_ends, self.settings.swap_bytes);
        let bytes = draft.bytes;
        // The sources of a level above are held no longer than they are needed.
        drop(draft);
        let Built { builder, copies, .. } = built;
        let output = self.put(unit, builder).await?;
        for segments in swaps {
            match self.swap(unit, &output, &copies, &segments).await? {
                Some(batches) => passed.swapped += batches,
                None => break,
            }
        }
        self.did(bytes);
        Ok(())
    }

    /// Reads what a draft is made of, and copies it.
    async fn build(&self, inputs: &Inputs, draft: &Draft) -> Result<Built, MergeError> {
        let bytes = inputs.read(self.reading(), &draft.sources()).await?;
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

    /// Announces an output, and puts it into the bucket.
    async fn put(&self, unit: &Unit, builder: MergedBuilder) -> Result<Output, MergeError> {
        let MergeParts { store, keyspace, incarnation, bucket, randomness, .. } = &self.parts;
        let version = again!(async { store.begin(Priority::Batch).read_version().await })?;
        let id = ObjectId::new(*incarnation, version, randomness.next_u64());
        let sections = u32::try_from(builder.section_count()).unwrap_or(u32::MAX);
        let body = builder.body_length();
        let object = builder.finish(id);
        let level = unit.level + 1;
        let is_long = body >= self.settings.section_bytes.saturating_mul(u64::from(sections));
        let output =
            Output { id, size: object.length(), level, sections, queues: level < LAST_LEVEL && !is_long };
        again!(async {
            match announce(store, keyspace, *incarnation, &output).await {
                Ok(()) => Ok(Ok(())),
                Err(AnnounceError::BelowCutoff) => Ok(Err(MergeError::TooLate)),
                Err(AnnounceError::Store(error)) => Err(error),
            }
        })??;
        self.pace.take(1, output.size).await;
        let put = bucket.put(&object_key(id), object.chunks().to_vec(), Instant::now() + PUT_DEADLINE).await;
        if !penstock_types::planted!("failed-output-swapped") {
            put?;
        }
        add(&self.stats.outputs, 1);
        add(&self.stats.written_bytes, output.size);
        Ok(output)
    }

    /// Makes some values of the index refer to an output: how many batches, or `None` if it takes no more.
    async fn swap(
        &self,
        unit: &Unit,
        output: &Output,
        copies: &Copies,
        segments: &[Segment],
    ) -> Result<Option<u64>, MergeError> {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        let swapped = again!(async {
            match swap(store, keyspace, *incarnation, unit, output, copies, segments).await {
                Ok(swapped) => Ok(Ok(swapped)),
                Err(SwapError::Store(error)) => Err(error),
                Err(refused) => Ok(Err(refused)),
            }
        })?;
        match swapped {
            Ok(swapped) => {
                add(&self.stats.batches, swapped.batches);
                add(&self.stats.joined, swapped.joined);
                Ok(Some(swapped.batches))
            }
            Err(SwapError::UnitEnded) => Err(MergeError::Ended),
            Err(SwapError::OutputGone) => {
                tracing::debug!(object = %output.id, "an output was given up; what is left of it is merged again");
                Ok(None)
            }
            Err(SwapError::Store(error)) => Err(error.into()),
        }
    }
}
