//! From the bucket to the log: which objects are committed together, and what is told to whom.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use penstock_metadata::append::ObjectToCommit;
use penstock_metadata::commit::ObjectOutcome;
use penstock_metadata::keys::object::{Fate, ObjectRow, Refusal};
use penstock_metadata::kv::{Outcome, StoreError};
use penstock_types::{BatchPosition, Offset, TopicPartition, own, pause};
use tokio::time::Instant;

use super::reply::{AppendError, BatchResult, Lineage, Ticket};
use super::{Produce, count};

/// The longest pause between two attempts at a commit.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An object in the bucket, to be committed.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) object: ObjectToCommit,
    /// One per batch, in the order of the object.
    pub(crate) tickets: Vec<Ticket>,
    /// When its flush began.
    pub(crate) begun: Instant,
}

/// Producers whose batches in the objects `numbers` fail, because an earlier one failed.
#[derive(Debug)]
pub(crate) struct Poison {
    numbers: Range<u64>,
    lineages: BTreeSet<Lineage>,
}

impl Uploaded {
    fn refuse(&mut self, lineages: &BTreeSet<Lineage>) {
        for batch in &mut self.object.batches {
            let lineage = batch.facts.producer.map(|producer| (batch.partition, producer.id));
            if lineage.is_some_and(|lineage| lineages.contains(&lineage)) {
                batch.refused = Some(Refusal::TryAgain);
            }
        }
    }

    fn lineages(&self) -> BTreeSet<Lineage> {
        let batches = self.object.batches.iter();
        batches.filter_map(|batch| Some((batch.partition, batch.facts.producer?.id))).collect()
    }
}

type Numbered = (u64, Uploaded);

/// Why a group was not committed: certainly.
struct GaveUp(AppendError);

impl Produce {
    /// The object `number` is in the bucket.
    pub(super) fn uploaded(&self, number: u64, mut object: Uploaded) {
        let mut lane = self.lane.lock();
        for poison in self.poisons.lock().iter() {
            if poison.numbers.contains(&number) {
                object.refuse(&poison.lineages);
            }
        }
        lane.uploaded(number, object);
    }

    /// The object `number` fails for good, and with it whatever is held behind it of its idempotent producers.
    pub(super) fn fail(&self, number: u64, object: Uploaded, error: AppendError) {
        count(&self.stats.failed_objects, 1);
        count(&self.stats.failed_batches, object.tickets.len() as u64);
        let lineages = object.lineages();
        // What comes from here on; what waits is removed or refused below.
        let batches = object.object.batches.iter();
        self.turn_away(batches.filter_map(|batch| Some((batch.partition, batch.facts.producer?))));
        let removed = {
            // The buffer first: what leaves it meanwhile would get a number behind the poison's.
            let mut buffer = self.buffer.lock();
            let mut lane = self.lane.lock();
            lane.ready_behind(number).for_each(|behind| behind.refuse(&lineages));
            let numbers = number + 1..lane.next_number();
            let mut poisons = self.poisons.lock();
            poisons.retain(|poison| lane.first_number().is_some_and(|first| poison.numbers.end > first));
            poisons.push(Poison { numbers, lineages: lineages.clone() });
            lane.finish(number);
            buffer.remove(&lineages)
        };
        let tickets = object.tickets.into_iter().chain(removed.into_iter().map(|batch| batch.ticket));
        tickets.for_each(|ticket| ticket.tell(Err(error)));
    }

    /// Starts the commit of every group that may be committed now.
    pub(super) fn pump(self: &Arc<Self>) {
        loop {
            let group = self.lane.lock().next_group();
            if group.is_empty() {
                return;
            }
            let commit = Arc::clone(self).commit_group(group);
            self.tasks.spawn(own(commit));
        }
    }

    async fn commit_group(self: Arc<Self>, group: Vec<Numbered>) {
        let (numbers, uploaded): (Vec<u64>, Vec<Uploaded>) = group.into_iter().unzip();
        let mut objects = Vec::with_capacity(uploaded.len());
        let mut rest = Vec::with_capacity(uploaded.len());
        for Uploaded { object, tickets, begun } in uploaded {
            objects.push(object);
            if penstock_types::planted!("acknowledged-before-commit") {
                tickets.into_iter().for_each(|ticket| ticket.tell(Ok(None)));
                rest.push((Vec::new(), begun));
                continue;
            }
            rest.push((tickets, begun));
        }
        let begun = rest.iter().map(|(_, begun)| *begun).min().unwrap_or_else(Instant::now);
        let settled = self.settle(&objects, begun).await;
        let group = numbers
            .into_iter()
            .zip(objects.into_iter().zip(rest))
            .map(|(number, (object, rest))| (number, Uploaded { object, tickets: rest.0, begun: rest.1 }));
        let mut answers = Vec::new();
        for ((number, object), outcome) in group.zip(settled) {
            match outcome {
                Ok(ObjectOutcome::Committed { row, offsets }) => {
                    self.lane.lock().finish(number);
                    // Without offsets the rows aren't known one by one: at least one a partition.
                    let mut partitions: Vec<TopicPartition> = offsets.keys().map(|(of, _)| *of).collect();
                    if partitions.is_empty() {
                        partitions = object.object.batches.iter().map(|batch| batch.partition).collect();
                        partitions.dedup();
                    }
                    partitions.into_iter().for_each(|of| self.parts.sealer.wrote(of, 1));
                    answers.push((object, row, offsets));
                }
                Ok(ObjectOutcome::BelowCutoff) => {
                    tracing::warn!(object = %object.object.id, "the object's id fell below the sweeper's cutoff");
                    self.fail(number, object, AppendError::NotStored);
                }
                Err(GaveUp(error)) => self.fail(number, object, error),
            }
        }
        self.pump();
        for (object, row, offsets) in answers {
            self.answer(object, &row, &offsets).await;
        }
    }

    /// Commits `objects` until it is known what came of each.
    async fn settle(&self, objects: &[ObjectToCommit], begun: Instant) -> Vec<Result<ObjectOutcome, GaveUp>> {
        match self.try_commit(objects, begun, true).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(StoreError::TooLarge { .. }) if objects.len() > 1 => {
                let mut outcomes = Vec::with_capacity(objects.len());
                for object in objects {
                    let one = self.try_commit(std::slice::from_ref(object), begun, false).await;
                    outcomes.push(match one {
                        Ok(mut one) => one.pop().ok_or(GaveUp(AppendError::Failed)),
                        Err(error) => Err(gave_up(&error)),
                    });
                }
                outcomes
            }
            Err(error) => objects.iter().map(|_| Err(gave_up(&error))).collect(),
        }
    }

    /// Attempts the commit until it succeeds, or certainly did not happen and is past its deadline or refused for
    /// good. Once an attempt may have happened there is no giving up. `first`: no commit of them was ever sent.
    async fn try_commit(
        &self,
        objects: &[ObjectToCommit],
        begun: Instant,
        mut first: bool,
    ) -> Result<Vec<ObjectOutcome>, StoreError> {
        let deadline = begun + self.settings.deadline * 2;
        let mut may_have_happened = false;
        let mut wait = Duration::from_millis(1);
        loop {
            let started = Instant::now();
            let attempt = if std::mem::take(&mut first) {
                self.parts.committer.first_attempt(objects).await
            } else {
                self.parts.committer.attempt(objects).await
            };
            let error = match attempt {
                Ok(outcomes) => {
                    count(&self.stats.commits, 1);
                    let newest = outcomes.iter().filter_map(|outcome| match outcome {
                        ObjectOutcome::Committed { row, .. } => Some(row.stamp.version()),
                        ObjectOutcome::BelowCutoff => None,
                    });
                    if let Some(version) = newest.max() {
                        self.learn_version(version, started);
                    }
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            if error.outcome() == Outcome::MayHaveHappened && penstock_types::planted!("unknown-given-up") {
                return Err(error);
            }
            if error.outcome() == Outcome::MayHaveHappened {
                count(&self.stats.commit_unknowns, 1);
                may_have_happened = true;
            }
            let hopeless = !error.is_retryable() || Instant::now() > deadline;
            if hopeless && !may_have_happened {
                return Err(error);
            }
            if !error.is_retryable() {
                tracing::error!(%error, "a commit that may have happened can't be settled; its partitions wait");
            }
            count(&self.stats.commit_retries, 1);
            if error != StoreError::Conflict {
                pause(wait).await;
                wait = (wait * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Tells each batch of a committed object what came of it.
    async fn answer(
        &self,
        object: Uploaded,
        row: &ObjectRow,
        offsets: &std::collections::BTreeMap<(TopicPartition, u32), Offset>,
    ) {
        let mut running: Option<(TopicPartition, Offset)> = None;
        for (index, (batch, ticket)) in object.object.batches.iter().zip(object.tickets).enumerate() {
            let result: BatchResult = match row.fate(index as u32) {
                Fate::Appended(at) => {
                    let records = i64::from(batch.facts.records);
                    count(&self.stats.appended_batches, 1);
                    count(&self.stats.appended_records, u64::from(batch.facts.records));
                    let known = match offsets.get(&(batch.partition, at.n)) {
                        Some(offset) => Some(*offset),
                        None => running.filter(|(of, _)| *of == batch.partition).map(|(_, offset)| offset),
                    };
                    let offset = match known {
                        Some(offset) => Some(offset),
                        // Appended, but its offset wasn't read in time: not finding it is no error of the append.
                        None => self.find_offset(batch.partition, at).await.ok().flatten(),
                    };
                    running = offset.map(|offset| (batch.partition, offset.plus(records)));
                    Ok(offset)
                }
                Fate::Duplicate(at) => {
                    count(&self.stats.duplicate_batches, 1);
                    match self.find_offset(batch.partition, at).await {
                        Ok(Some(offset)) if penstock_types::planted!("duplicate-gets-a-new-offset") => {
                            Ok(Some(offset.plus(i64::from(batch.facts.records))))
                        }
                        Ok(Some(offset)) => Ok(Some(offset)),
                        Ok(None) => Err(AppendError::DuplicateSequence),
                        Err(error) => {
                            tracing::debug!(%error, "a duplicate's offset can't be read");
                            Ok(None)
                        }
                    }
                }
                Fate::Refused(refusal) => {
                    count(&self.stats.failed_batches, 1);
                    Err(refusal_error(refusal))
                }
            };
            ticket.tell(result);
        }
    }

    /// The offset of the batch at `at`: through the fold, or the index; `None` where it is gone.
    async fn find_offset(
        &self,
        partition: TopicPartition,
        at: BatchPosition,
    ) -> Result<Option<Offset>, penstock_metadata::view::ViewError> {
        let views = self.parts.views.validated(&[partition]).await?;
        let Some(view) = views.into_iter().next() else { return Ok(None) };
        let view = view?;
        let found = self.parts.log.offset_of(&view, at).await?;
        let log_start = view.read(|tail| tail.log_start);
        Ok(found.filter(|offset| *offset >= log_start))
    }
}

fn gave_up(error: &StoreError) -> GaveUp {
    if error.is_retryable() {
        tracing::warn!(%error, "a commit was given up before it happened; its producers are told to try again");
        GaveUp(AppendError::NotStored)
    } else {
        tracing::error!(%error, "a commit was refused for good; its batches are not stored");
        GaveUp(AppendError::Failed)
    }
}

fn refusal_error(refusal: Refusal) -> AppendError {
    match refusal {
        Refusal::UnknownTopic => AppendError::UnknownTopic,
        Refusal::OutOfOrderSequence => AppendError::OutOfOrderSequence,
        Refusal::InvalidProducerEpoch => AppendError::InvalidProducerEpoch,
        Refusal::TryAgain => AppendError::NotStored,
    }
}
