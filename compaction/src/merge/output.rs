//! An output on its way: announced, put, and swapped into the index; or given up.

use std::collections::VecDeque;

use penstock_metadata::keys::merge_queue::LAST_LEVEL;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::kv::Priority;
use penstock_metadata::merging::{
    AnnounceError, Copies, Output, Segment, SwapError, announce, give_up, swap,
};
use penstock_storage::object::{DataObject, MergedBuilder, object_key};
use penstock_types::ObjectId;
use tokio::time::Instant;

use super::draft::Built;
use super::{Merge, MergeError, MergeParts, add};
use crate::again;
use crate::again::is_too_much;
use crate::pace::put_deadline;

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
        let (output, object) = self.announce(unit, builder).await?;
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
            self.give_up(output.id).await;
        }
        swapped
    }

    async fn give_up(&self, output: ObjectId) {
        let MergeParts { store, keyspace, incarnation, .. } = &self.parts;
        match again!(give_up(store, keyspace, *incarnation, output)) {
            Ok(given_up) => add(&self.stats.given_up, u64::from(given_up)),
            Err(error) => {
                tracing::debug!(object = %output, %error, "an output that is given up is left to the sweeper");
            }
        }
    }

    /// Announces an output, once the pace allows to put it: an intent that waits is swept.
    async fn announce(
        &self,
        unit: &Unit,
        builder: MergedBuilder,
    ) -> Result<(Output, DataObject), MergeError> {
        let MergeParts { store, keyspace, incarnation, randomness, .. } = &self.parts;
        let body = builder.body_length();
        self.pace.take(1, body).await;
        let version = again!(async { store.begin(Priority::Batch).read_version().await })?;
        let sections = u32::try_from(builder.section_count()).unwrap_or(u32::MAX);
        let id = ObjectId::new(*incarnation, version, randomness.next_u64());
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
        Ok((output, object))
    }

    async fn put(&self, output: &Output, object: &DataObject) -> Result<(), MergeError> {
        let (key, chunks) = (object_key(output.id), object.chunks().to_vec());
        self.parts.bucket.put_unhurried(&key, chunks, Instant::now() + put_deadline(output.size)).await?;
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
