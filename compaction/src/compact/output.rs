//! A draft on its way: announced, put, and swapped into the index, from the log's start on; or given up.

use std::collections::VecDeque;

use penstock_metadata::burial::bury;
use penstock_metadata::keys::merge_queue::LAST_LEVEL;
use penstock_metadata::log_compaction::{Run, SwapError, Swapped, swap};
use penstock_metadata::merging::Output;
use penstock_storage::object::DataObject;
use penstock_types::ObjectId;

use super::draft::{Draft, Step};
use super::{CompactError, Compaction, CompactionParts, add};
use crate::again;
use crate::again::is_too_much;
use crate::outputs::Outputs;

impl Compaction {
    /// Makes an output of a draft, if it has bytes, and changes the index by it.
    ///
    /// # Errors
    /// After the first swap that fails; those before it have happened, and those behind it have not.
    pub(super) async fn write(&self, run: &Run, draft: Draft) -> Result<(), CompactError> {
        if draft.is_empty() {
            return Ok(());
        }
        if self.turns.is_interrupted() {
            return Err(CompactError::Paused);
        }
        let copied = draft.copied;
        let (builder, steps) = draft.steps(self.settings.swap_bytes);
        if builder.body_length() == 0 {
            return self.swap_all(run, None, 0, steps, &mut 0).await;
        }
        let section_end = builder.body_length();
        let (output, object) = self.outputs().announce(builder, LAST_LEVEL, false).await?;
        let mut batches = 0;
        let early = penstock_types::planted!("compact-swap-before-put");
        let mut swapped = match early {
            true => self.swap_all(run, Some(&output), section_end, steps.clone(), &mut batches).await,
            false => Ok(()),
        };
        let put = self.put(&output, &object).await;
        drop(object);
        if !early {
            swapped = match put {
                Ok(()) => self.swap_all(run, Some(&output), section_end, steps, &mut batches).await,
                Err(error) => Err(error),
            };
        }
        if batches == 0 {
            add(&self.stats.given_up, u64::from(self.outputs().give_up(output.id).await));
        }
        add(&self.stats.copied, copied);
        swapped
    }

    fn outputs(&self) -> Outputs<'_> {
        let CompactionParts { store, keyspace, incarnation, bucket, randomness, .. } = &self.parts;
        let (incarnation, randomness, pace) = (*incarnation, &**randomness, &self.pace);
        Outputs { store, keyspace, incarnation, bucket, randomness, pace }
    }

    async fn put(&self, output: &Output, object: &DataObject) -> Result<(), CompactError> {
        self.outputs().put(output, object).await?;
        add(&self.stats.outputs, 1);
        add(&self.stats.written_bytes, output.size);
        Ok(())
    }

    /// One swap after the other: none begins before the one below it is committed. Those that take too long are made in
    /// smaller steps. `batches`: how many came to refer to the output.
    async fn swap_all(
        &self,
        run: &Run,
        output: Option<&Output>,
        section_end: u64,
        steps: Vec<Step>,
        batches: &mut u64,
    ) -> Result<(), CompactError> {
        let CompactionParts { store, keyspace, incarnation, collected, .. } = &self.parts;
        let mut left = VecDeque::from(steps);
        while let Some(step) = left.pop_front() {
            let swapped = match self.swap(run, output, section_end, &step).await {
                Ok(swapped) => swapped,
                Err(SwapError::Store(error)) if is_too_much(&error) && step.is_divisible() => {
                    if let Ok((first, second)) = step.halves() {
                        left.push_front(second);
                        left.push_front(first);
                    }
                    continue;
                }
                Err(SwapError::RunOver) => return Err(CompactError::RunOver),
                Err(SwapError::OutputGone) => return Err(CompactError::TooLate),
                Err(SwapError::Disturbed) => return Err(CompactError::Disturbed),
                Err(SwapError::Store(error)) => return Err(error.into()),
            };
            *batches += swapped.batches;
            add(&self.stats.gone, swapped.gone);
            let objects: Vec<ObjectId> = swapped.dead.objects().collect();
            collected.buried(again!(bury(store, keyspace, *incarnation, &objects))?);
        }
        Ok(())
    }

    async fn swap(
        &self,
        run: &Run,
        output: Option<&Output>,
        section_end: u64,
        step: &Step,
    ) -> Result<Swapped, SwapError> {
        let CompactionParts { store, keyspace, incarnation, .. } = &self.parts;
        let Some((changes, stretch)) = step.changes(section_end) else { return Ok(Swapped::default()) };
        again!(async {
            match swap(store, keyspace, *incarnation, run, output, &changes, stretch).await {
                Ok(swapped) => Ok(Ok(swapped)),
                // The same again would be too much again.
                Err(SwapError::Store(error)) if !(is_too_much(&error) && step.is_divisible()) => Err(error),
                Err(refused) => Ok(Err(refused)),
            }
        })?
    }
}
