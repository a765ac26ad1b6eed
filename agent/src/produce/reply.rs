//! A produce request on its way: what came of each of its batches, and the memory that it holds.

use std::sync::Arc;

use parking_lot::Mutex;
use penstock_compaction::facts::facts_of;
use penstock_metadata::keys::log::BatchFacts;
use penstock_storage::batch::ValidatedBatch;
use penstock_types::{Offset, ProducerId, StoreVersion, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// Why a batch was not appended, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The topic or partition does not exist.
    #[error("the topic or partition does not exist")]
    UnknownTopic,
    /// The sequence does not follow.
    #[error("the sequence does not follow the producer's last one")]
    OutOfOrderSequence,
    /// The producer's epoch is older than one already seen.
    #[error("the producer's epoch is older than one already seen")]
    InvalidProducerEpoch,
    /// It is in the log already, and its offset is gone.
    #[error("the batch is in the log already")]
    DuplicateSequence,
    /// Not appended: the object store or the metadata store did not take it in time, or an earlier batch of the same
    /// producer failed. Send it again.
    #[error("the batch was not stored in time")]
    NotStored,
    /// Not appended, and sending it again won't help: the agent's own failure, which it has logged.
    #[error("the batch can't be stored")]
    Failed,
    /// The agent is stopping; the batch was not appended.
    #[error("the agent is stopping")]
    Stopping,
}

/// What came of a batch: its base offset (`None` if it was appended but its offset couldn't be found), or why it
/// isn't in the log.
pub type BatchResult = Result<Option<Offset>, AppendError>;

/// A validated batch, to be appended.
#[derive(Debug, Clone)]
pub struct IncomingBatch {
    /// Where it goes.
    pub partition: TopicPartition,
    /// The batch, as it will be stored.
    pub batch: ValidatedBatch,
    /// What the log will know of it.
    pub facts: BatchFacts,
}

impl IncomingBatch {
    /// A validated batch for `partition`.
    pub fn new(partition: TopicPartition, batch: ValidatedBatch) -> Self {
        let facts = facts_of(&batch.header, batch.bytes.len());
        Self { partition, batch, facts }
    }
}

/// A batch between admission and answer.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    pub(crate) batch: IncomingBatch,
    pub(crate) ticket: Ticket,
    /// When it was admitted.
    pub(crate) arrived: Instant,
    /// A version read before it was admitted.
    pub(crate) version: StoreVersion,
    /// Whether an earlier batch of its producer was turned away: then it is, too.
    pub(crate) behind: bool,
}

impl PendingBatch {
    /// Bytes of the batch.
    pub(crate) fn length_bytes(&self) -> u64 {
        u64::from(self.batch.facts.length)
    }

    /// The producer whose order in the partition it takes part in.
    pub(crate) fn lineage(&self) -> Option<Lineage> {
        self.batch.facts.producer.map(|producer| (self.batch.partition, producer.id))
    }
}

/// An idempotent producer in a partition: what must stay in order.
pub(crate) type Lineage = (TopicPartition, ProducerId);

/// The right to say what came of one batch of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    reply: Arc<Reply>,
    index: usize,
}

impl Ticket {
    /// Says it. When the last batch of the request is told, the request is answered and its memory given back.
    pub(crate) fn tell(self, result: BatchResult) {
        let mut inner = self.reply.inner.lock();
        inner.results[self.index] = result;
        inner.untold -= 1;
        if inner.untold > 0 {
            return;
        }
        let memory = inner.memory.take();
        if penstock_types::planted!("memory-not-given-back") && inner.results.iter().any(Result::is_err) {
            memory.into_iter().for_each(OwnedSemaphorePermit::forget);
        } else {
            drop(memory);
        }
        let results = std::mem::take(&mut inner.results);
        if let Some(sender) = inner.sender.take() {
            // The client may be gone; what it sent is stored all the same.
            let _ = sender.send(results);
        }
    }
}

#[derive(Debug)]
struct Reply {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    results: Vec<BatchResult>,
    untold: usize,
    sender: Option<oneshot::Sender<Vec<BatchResult>>>,
    memory: Option<OwnedSemaphorePermit>,
}

/// What came of a request's batches, in their order, once all are settled.
pub type Receipt = oneshot::Receiver<Vec<BatchResult>>;

/// Tickets for the `count` (at least 1) batches of a request that holds `memory`, and the receipt.
pub(crate) fn tickets(count: usize, memory: Option<OwnedSemaphorePermit>) -> (Vec<Ticket>, Receipt) {
    let (sender, receipt) = oneshot::channel();
    let inner =
        Inner { results: vec![Err(AppendError::Failed); count], untold: count, sender: Some(sender), memory };
    let reply = Arc::new(Reply { inner: Mutex::new(inner) });
    let tickets = (0..count).map(|index| Ticket { reply: Arc::clone(&reply), index }).collect();
    (tickets, receipt)
}
