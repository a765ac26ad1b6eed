//! An output on its way: announced, put, and swapped into the index; or given up.

use std::collections::VecDeque;

use penstock_metadata::keys::merge_queue::LAST_LEVEL;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::merging::{Copies, Output, Segment, SwapError, swap};
use penstock_storage::object::DataObject;

use super::draft::Built;
use super::{Merge, MergeError, MergeParts, add};
use crate::again;
use crate::again::is_too_much;
use crate::outputs::Outputs;

impl Merge {
    /// Writes an output, and makes the index refer to it: how many batches of it do. What nothing came to refer to is given up
    /// at once, rather than left to the sweeper.
    pub(super) async fn output(
        &self,
        unit: &Unit,
        built: Built,
        swaps: Vec<Vec<Segment>>,
    ) -> Result<u64, MergeError> {
        let Built { builder, copies, .. } = built;
        let (level, sections) = (unit.level + 1, builder.section_count() as u64);
        let is_long = builder.body_length() >= self.settings.section_bytes.saturating_mul(sections);
        let queues = level < LAST_LEVEL && !is_long;
        let (output, object) = self.outputs().announce(builder, level, queues).await?;
        let early = penstock_types::planted!("swap-before-put");
        let mut swapped =
            if early { self.swap_all(unit, &output, &copies, swaps.clone()).await } else { Ok(0) };
        let put = self.put(&output, &object).await;
        if !early {
            swapped = match put {
                Ok(()) => self.swap_all(unit, &output, &copies, swaps).await,
                Err(error) => Err(error),
            };
        }
        if !matches!(swapped, Ok(batches) if batches > 0) {
            add(&self.stats.given_up, u64::from(self.outputs().give_up(output.id).await));
        }
        swapped
    }

    fn outputs(&self) -> Outputs<'_> {
        let MergeParts { store, keyspace, incarnation, bucket, randomness, .. } = &self.parts;
        let (incarnation, randomness, pace) = (*incarnation, &**randomness, &self.pace);
        Outputs { store, keyspace, incarnation, bucket, randomness, pace }
    }

    async fn put(&self, output: &Output, object: &DataObject) -> Result<(), MergeError> {
        self.outputs().put(output, object).await?;
        add(&self.stats.outputs, 1);
        add(&self.stats.written_bytes, output.size);
        Ok(())
    }

    /// Makes values of the index refer to an output: how many batches. Swaps that take too long are made in smaller steps.
    async fn swap_all(
        &self,
        unit: &Unit,
        output: &Output,
        copies: &Copies,
        swaps: Vec<Vec<Segment>>,
    ) -> Result<u64, MergeError> {
        let mut swapped = 0;
        let mut left = VecDeque::from(swaps);
        while let Some(mut segments) = left.pop_front() {
            match self.swap(unit, output, copies, &segments).await {
                Ok(Some(batches)) => swapped += batches,
                Ok(None) => break,
                Err(MergeError::Store(error)) if is_too_much(&error) && segments.len() > 1 => {
                    left.push_front(segments.split_off(segments.len() / 2));
                    left.push_front(segments);
                }
                // What refers to it already stays: the output is alive.
                Err(error) => return Err(error),
            }
        }
        Ok(swapped)
    }

    /// One step of that: how many batches, or `None` if the output takes no more.
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
                // The same again would be too much again.
                Err(SwapError::Store(error)) if !(is_too_much(&error) && segments.len() > 1) => Err(error),
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
