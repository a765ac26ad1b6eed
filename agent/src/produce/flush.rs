//! From the buffer to the bucket.

use std::sync::Arc;

use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::keys::object::Refusal;
use penstock_storage::object::{ObjectBuilder, object_key};
use penstock_types::{ObjectId, own};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::buffer::Flush;
use super::commit::Uploaded;
use super::policy::FlushPolicy;
use super::reply::AppendError;
use super::{Produce, count};

impl Produce {
    /// Flushes until the agent stops and nothing is left.
    pub(super) async fn flush_loop(self: Arc<Self>) {
        let mut policy = FlushPolicy::new(self.settings.flush, Instant::now());
        while let Some((slot, number, flush)) = self.next_flush(&mut policy).await {
            policy.spend(Instant::now());
            let upload = Arc::clone(&self).upload(number, flush, slot);
            self.tasks.spawn(own(upload));
        }
    }

    /// Waits until a flush is due and an upload slot free; `None` once the agent is stopping and nothing waits.
    async fn next_flush(&self, policy: &mut FlushPolicy) -> Option<(OwnedSemaphorePermit, u64, Flush)> {
        loop {
            let arrived = self.arrived.notified();
            let Some(waiting) = self.buffer.lock().waiting(&self.bounds) else {
                if self.stopping.is_cancelled() {
                    return None;
                }
                arrived.await;
                continue;
            };
            // A stopping agent waits neither for its interval nor for its budget: what is buffered is a few objects, and
            // what isn't stored by the deadline of the stop its producers have to send again.
            let due = match self.stopping.is_cancelled() {
                true => Instant::now(),
                false => policy.due(waiting, Instant::now()),
            };
            if due > Instant::now() {
                // More may arrive and fill the object, or the agent may stop: then look again.
                let _ = tokio::time::timeout_at(due, arrived).await;
                continue;
            }
            let slot = Arc::clone(&self.uploads).acquire_owned().await.ok()?;
            // Under one lock: a batch is always either in the buffer or in an object with a number, so that the
            // failure of an earlier object finds it.
            let mut buffer = self.buffer.lock();
            if let Some(mut flush) = buffer.take(&self.bounds) {
                let partitions = std::mem::take(&mut flush.partitions);
                let number = self.lane.lock().begin(partitions, flush.metadata_bytes);
                return Some((slot, number, flush));
            }
        }
    }

    async fn upload(self: Arc<Self>, number: u64, flush: Flush, slot: OwnedSemaphorePermit) {
        let begun = Instant::now();
        let id = ObjectId::new(self.parts.incarnation, flush.version, self.parts.randomness.next_u64());
        let mut builder = ObjectBuilder::new();
        let mut batches = Vec::with_capacity(flush.batches.len());
        let mut tickets = Vec::with_capacity(flush.batches.len());
        let mut body_bytes = 0;
        for pending in flush.batches {
            let position = body_bytes;
            body_bytes += pending.length_bytes();
            builder.add(pending.batch.partition, &pending.batch.batch);
            let (partition, facts) = (pending.batch.partition, pending.batch.facts);
            let refused = pending.behind.then_some(Refusal::TryAgain);
            batches.push(BatchToCommit { partition, position, facts, refused });
            tickets.push(pending.ticket);
        }
        let built = builder.finish(id);
        count(&self.stats.flushes, 1);
        count(&self.stats.flushed_bytes, body_bytes);
        let size = built.length();
        let object = Uploaded { object: ObjectToCommit { id, size, batches }, tickets, begun };
        let deadline = begun + self.settings.deadline;
        if penstock_types::planted!("commit-before-upload") {
            self.uploaded(number, object);
            self.pump();
            let _ = self.parts.bucket.put(&object_key(id), built.chunks().to_vec(), deadline).await;
            return;
        }
        let put = self.parts.bucket.put(&object_key(id), built.chunks().to_vec(), deadline).await;
        match put {
            Ok(_) => {
                self.parts.cache.insert_written(id, built.chunks()).await;
                drop(built);
                self.uploaded(number, object);
            }
            Err(_) if penstock_types::planted!("failed-upload-committed") => self.uploaded(number, object),
            Err(error) => {
                tracing::warn!(object = %id, %error, "an upload failed; its producers are told to try again");
                self.fail(number, object, AppendError::NotStored);
            }
        }
        drop(slot);
        if penstock_types::planted!("pump-forgotten") && self.parts.randomness.below(8) == 0 {
            return;
        }
        self.pump();
    }
}
