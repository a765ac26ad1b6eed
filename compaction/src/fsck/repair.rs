//! What is repaired, and how: only what loses nothing.
//!
//! - What collection would do: objects below the sweeper's cutoff without a row, parts of checkpoints that are nobody's.
//! - Queues: what is dead waits in the queue, and what is in use doesn't; what is dead and referred to is in use again.
//! - Counts. Counting more batches as dead may be the end of an object: not while anything is wrong with a log, since what an index
//!   has lost would be counted, too.
//!
//! Deliberately absent: objects, logs, counters and topics. What is lost of them comes from a backup, or from the bucket.

use std::fmt;

use penstock_metadata::collection::{RowWalk, raise_cutoff, unreferenced};
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::keys::garbage::Garbage;
use penstock_metadata::mending::{MendError, Mending};
use penstock_storage::object::object_key;
use penstock_types::ObjectId;

use super::report::{Kind, Repaired, Report};
use super::{FsckError, FsckParts, Settings};
use crate::again;
use crate::checkpoint::format::PartName;

/// What says that references may be missing.
const LOGS: [Kind; 9] = [
    Kind::CorruptRow,
    Kind::TopicName,
    Kind::StrayRows,
    Kind::RowBelowSeal,
    Kind::Counter,
    Kind::Trimmed,
    Kind::IndexOrder,
    Kind::IndexHole,
    Kind::LogBytes,
];

/// A repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Delete an object that nothing refers to.
    Delete(ObjectId),
    /// Delete an object that an earlier incarnation left, if that was allowed.
    DeleteEarlier(ObjectId),
    /// Delete a part of a checkpoint that is nobody's.
    DeletePart(PartName),
    /// Have a slot's checkpoint written anew.
    Checkpoint(Slot),
    /// Clear the dead count of an object that has no row.
    ClearDead(ObjectId),
    /// Add to the dead count of an object.
    CountDead {
        /// Which object.
        id: ObjectId,
        /// What was counted.
        dead: u64,
        /// What is missing; below 0 if too many were counted.
        by: i64,
    },
    /// Take back the burial of an object that is referred to.
    Revive {
        /// Which object.
        id: ObjectId,
        /// How many of its batches are dead.
        dead: u64,
        /// Where it waits to be deleted.
        queued: Option<Garbage>,
    },
    /// Put an object that is dead into the queue of what is to be deleted.
    Queue(ObjectId),
    /// Take an object that is in use out of that queue.
    Unqueue(Garbage),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete(id) => write!(f, "delete object {id}"),
            Self::DeleteEarlier(id) => write!(f, "delete object {id}, with --delete-earlier"),
            Self::DeletePart(name) => write!(f, "delete {}", name.key()),
            Self::Checkpoint(slot) => write!(f, "have the checkpoint of slot {} written anew", slot.get()),
            Self::ClearDead(id) => write!(f, "clear the dead count of object {id}"),
            Self::CountDead { id, by, .. } => write!(f, "add {by} to the dead count of object {id}"),
            Self::Revive { id, .. } => write!(f, "take back the burial of object {id}"),
            Self::Queue(id) => write!(f, "queue object {id} to be deleted"),
            Self::Unqueue(garbage) => {
                write!(f, "take object {} out of the queue of what is to be deleted", garbage.object)
            }
        }
    }
}

/// Repairs what can be repaired.
pub(super) async fn all(
    parts: &FsckParts,
    settings: &Settings,
    report: &mut Report,
    earlier: bool,
) -> Result<(), FsckError> {
    let repairs: Vec<Repair> = report.findings.iter().filter_map(|finding| finding.repair).collect();
    let references_may_miss = report.has_any(&LOGS);
    let mending = Mending {
        store: parts.store.clone(),
        keyspace: parts.keyspace.clone(),
        incarnation: parts.cluster.incarnation,
    };
    let mut delete = Vec::new();
    for repair in repairs {
        let outcome = match repair {
            Repair::Delete(id) => {
                delete.push(id);
                continue;
            }
            Repair::DeleteEarlier(id) if earlier => {
                delete.push(id);
                continue;
            }
            Repair::DeleteEarlier(_) => Err("only with --delete-earlier".to_owned()),
            Repair::CountDead { by, .. } if by > 0 && references_may_miss => {
                Err("not while something is wrong with a log: it might be what refers to the object"
                    .to_owned())
            }
            Repair::DeletePart(name) => {
                parts.bucket.delete(&name.key()).await?;
                Ok(())
            }
            other => settled(mend(&mending, other).await)?,
        };
        note(report, &repair, outcome);
    }
    sweep(parts, settings, report, &delete).await
}

fn note(report: &mut Report, repair: &Repair, outcome: Result<(), String>) {
    let outcome = outcome.err().unwrap_or_else(|| "done".to_owned());
    report.repairs.push(Repaired { repair: repair.to_string(), outcome });
}

async fn mend(mending: &Mending, repair: Repair) -> Result<(), MendError> {
    match repair {
        Repair::Checkpoint(slot) => mending.outdate_checkpoint(slot).await,
        Repair::ClearDead(id) => mending.clear_dead(id).await,
        Repair::CountDead { id, dead, by } => mending.count_dead(id, dead, by).await,
        Repair::Revive { id, dead, queued } => mending.revive(id, dead, queued.as_ref()).await,
        Repair::Queue(id) => mending.queue(id).await,
        Repair::Unqueue(garbage) => mending.unqueue(&garbage).await,
        // These are of the bucket.
        Repair::Delete(_) | Repair::DeleteEarlier(_) | Repair::DeletePart(_) => Ok(()),
    }
}

/// What can be told as an outcome; a store that fails ends the repairs.
fn settled(mended: Result<(), MendError>) -> Result<Result<(), String>, FsckError> {
    match mended {
        Ok(()) => Ok(Ok(())),
        Err(MendError::Changed) => Ok(Err(MendError::Changed.to_string())),
        Err(MendError::Store(error)) if error.is_retryable() => Ok(Err(format!("{error}: check again"))),
        Err(MendError::Store(error)) => Err(error.into()),
    }
}

/// Deletes objects as the sweeper does: what is below its cutoff and has no row at a later version.
async fn sweep(
    parts: &FsckParts,
    settings: &Settings,
    report: &mut Report,
    ids: &[ObjectId],
) -> Result<(), FsckError> {
    if ids.is_empty() {
        return Ok(());
    }
    let FsckParts { store, keyspace, cluster, bucket } = parts;
    let cutoff = again!(raise_cutoff(store, keyspace, cluster.incarnation, settings.sweep_lag))?;
    // Rows of what was announced, or deleted before, go first.
    let mut rows = RowWalk::below(keyspace, cutoff);
    while again!(rows.step(store, keyspace, cluster.incarnation))?.is_some() {}
    let nobodys = again!(unreferenced(store, keyspace, cutoff, ids))?;
    let keys: Vec<String> = nobodys.iter().map(|id| object_key(*id)).collect();
    if !bucket.is_claimed_by(&cluster.cluster_id, cluster.incarnation).await? {
        return Err(FsckError::NotIts {
            cluster_id: cluster.cluster_id.clone(),
            incarnation: cluster.incarnation.get(),
            claim: "it has been taken over".to_owned(),
        });
    }
    let refused = bucket.delete_many(&keys).await?;
    for id in ids {
        let outcome = match nobodys.iter().position(|nobodys| nobodys == id) {
            None => Err(MendError::Changed.to_string()),
            Some(place) => match refused.iter().find(|(refused, _)| *refused == place) {
                Some((_, error)) => Err(error.to_string()),
                None => Ok(()),
            },
        };
        note(report, &Repair::Delete(*id), outcome);
    }
    Ok(())
}
