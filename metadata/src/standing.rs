//! Commits without reads: of objects that were never sent in a commit before, and have no idempotent batches.
//!
//! Such an object has no row, and no producer's state decides about it. What else a commit reads (the cutoff, the metadata
//! version) is what the agent read up to a second ago: the commit takes that version for its read version and adds the
//! same read conflicts, so it succeeds only if nothing of it has changed since. Whatever doesn't pass (a refusal, a conflict)
//! is attempted as always, from fresh reads: a version that old never refuses anybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::{LeaderEpoch, StoreVersion, TopicPartition};
use tokio::time::Instant;

use crate::append::{Append, ObjectToCommit, PartitionGround};
use crate::commit::{Attempt, Committer, ObjectOutcome, TopicGround};
use crate::keys::cluster::{Cutoff, cutoff_key};
use crate::keys::object;
use crate::kv::{Priority, StoreError, single_key};

/// How old what was read may be: a store refuses what is older than five seconds.
const MOST_AGE: Duration = Duration::from_secs(1);

/// What an agent's last commit with reads has read. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    read: Arc<Mutex<Option<Read>>>,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    version: StoreVersion,
    cutoff: Cutoff,
    at: Instant,
}

impl Standing {
    /// The cutoff was read at `version`, not before `at`.
    pub(crate) fn learn(&self, version: StoreVersion, cutoff: Cutoff, at: Instant) {
        let mut read = self.read.lock();
        if read.is_none_or(|known| known.version < version) {
            *read = Some(Read { version, cutoff, at });
        }
    }

    /// Goes back to reading: a store that is overloaded holds those back that ask for a version.
    fn forget(&self) {
        *self.read.lock() = None;
    }

    fn get(&self) -> Option<Read> {
        self.read.lock().filter(|read| read.at.elapsed() < MOST_AGE)
    }
}

impl<G: TopicGround> Committer<G> {
    /// As [`Committer::attempt`], of objects that were never sent in a commit: where it can, without reading first.
    pub async fn first_attempt(&self, objects: &[ObjectToCommit]) -> Result<Vec<ObjectOutcome>, StoreError> {
        match self.append_unread(objects).await? {
            Some(attempt) => Ok(self.with_offsets(attempt).await),
            None => self.attempt(objects).await,
        }
    }

    /// Appends at a version that was read at before; `None` if that has to be decided by reading, and nothing was sent.
    async fn append_unread(&self, objects: &[ObjectToCommit]) -> Result<Option<Attempt>, StoreError> {
        let Some(Read { version, cutoff, .. }) = self.standing.get() else { return Ok(None) };
        let idempotent =
            |object: &ObjectToCommit| object.batches.iter().any(|batch| batch.facts.producer.is_some());
        if objects.iter().any(|object| idempotent(object) || cutoff.refuses(&object.id)) {
            return Ok(None);
        }
        let mut transaction = self.store.begin(Priority::Default);
        transaction.set_read_version(version);
        let batches = objects.iter().flat_map(|object| &object.batches);
        let partitions: BTreeSet<TopicPartition> = batches.map(|batch| batch.partition).collect();
        let Some(ground) = self.topics.known_at(transaction.as_mut(), version, &partitions) else {
            return Ok(None);
        };
        transaction.add_read_conflict(single_key(&cutoff_key(&self.keyspace)));
        for object in objects {
            transaction.add_read_conflict(single_key(&object::key(&self.keyspace, object.id)));
        }
        let partitions = partitions.into_iter().map(|partition| {
            let found = ground.get(&partition);
            let leader_epoch = found.map_or(LeaderEpoch::FIRST, |ground| ground.leader_epoch);
            (partition, PartitionGround { exists: found.is_some(), leader_epoch })
        });
        let append = Append::new(self.incarnation, partitions.collect(), Default::default());
        let open: Vec<usize> = (0..objects.len()).collect();
        let written = self.write_objects(transaction.as_mut(), append, objects, open);
        if written.refuses() {
            return Ok(None);
        }
        let outcomes = objects.iter().map(|_| None).collect();
        let attempt = self.commit(transaction, version, written, outcomes).await;
        if attempt.as_ref().is_err_and(|error| *error != StoreError::Conflict) {
            self.standing.forget();
        }
        attempt.map(Some)
    }
}
