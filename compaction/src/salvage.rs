//! Salvage: topics and logs, put together from a bucket alone, for an empty metadata store (ARCHITECTURE.md, "Salvage").
//!
//! # Invariants
//! - Every record below a partition's last checkpoint is at its old offset, or told as lost.
//! - What comes behind is best effort, and told so: it never takes an offset that the checkpoint knows.
//! - The new incarnation is above all that the bucket has seen, and is written last.
//! - Nothing of the bucket is changed but the claim, by the caller, when all rows are written.
//!
//! Deliberately absent: groups and their offsets, producers' states, dynamic configuration: no bucket has them.

mod checkpoints;
mod inventory;
mod partition;
pub mod report;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_metadata::codec::{Corrupt, Reader};
use penstock_metadata::fold::FoldState;
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::keys::index::PackedIndex;
use penstock_metadata::keys::log::LogRow;
use penstock_metadata::keys::merge_queue::CommitPlace;
use penstock_metadata::keys::topic::{TopicRow, decode_row, decode_row_key};
use penstock_metadata::keys::{Family, Keyspace, index, seal};
use penstock_metadata::kv::{Row, SharedStore};
use penstock_metadata::salvaging::{Salvaging, SalvagingError};
use penstock_storage::bucket::{Bucket, BucketError, ClaimError};
use penstock_types::{Incarnation, ObjectId, PartitionIndex, TimestampMs, TopicId, TopicPartition};

use crate::fsck::Progress;
use checkpoints::{Candidates, Found};
use inventory::Inventory;
use report::Report;
use writing::Writing;

/// Producer ids that are passed over: those that were given out since are in use by producers that know nothing of it.
const SKIPPED_PRODUCER_IDS: i64 = 1_000_000_000;

/// Why nothing was salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The metadata store isn't empty, or failed.
    #[error(transparent)]
    Store(#[from] SalvagingError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket's claim can't be read.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Somebody meant another one.
    #[error("the next incarnation is {next}, not {to}")]
    OtherIncarnation {
        /// What it will be.
        next: u32,
        /// What was asked for.
        to: u32,
    },
    /// The bucket isn't any cluster's.
    #[error("{url} is claimed by no cluster: there is nothing to salvage")]
    Nobodys {
        /// The bucket.
        url: String,
    },
}

/// What to salvage from, and into what.
#[derive(Debug, Clone)]
pub struct SalvageParts {
    /// The bucket.
    pub bucket: Arc<Bucket>,
    /// The metadata store, which is empty; none to see only what would be salvaged.
    pub store: Option<SharedStore>,
    /// The cluster's keys in it.
    pub keyspace: Keyspace,
}

/// What checkpoints tell before anything is written.
#[derive(Debug, Default)]
struct Told {
    topics: BTreeMap<TopicId, TopicRow>,
    /// The topics' rows as they are.
    rows: BTreeMap<TopicId, bytes::Bytes>,
    sealed: BTreeMap<TopicPartition, FoldState>,
    /// Partitions of which an entry is in an object that isn't there.
    moved: BTreeSet<TopicPartition>,
    producer: i64,
    commits: BTreeMap<ObjectId, CommitPlace>,
}

/// Fills the store: with `to`, only if that is the incarnation that it will be in.
pub async fn salvage(
    parts: &SalvageParts,
    to: Option<Incarnation>,
    created_ms: TimestampMs,
    progress: &dyn Progress,
) -> Result<Report, SalvageError> {
    let SalvageParts { bucket, store, keyspace } = parts;
    let mut out = match store {
        Some(store) => Salvaging::begin(store.clone(), keyspace.clone()).await?,
        None => Salvaging::into_nothing(keyspace.clone()),
    };
    let claim = bucket.read_claim().await?;
    let claim = claim.ok_or_else(|| SalvageError::Nobodys { url: bucket.url().to_owned() })?;
    let mut report = Report { cluster_id: claim.cluster_id.clone(), ..Report::default() };
    report.lost = vec![
        "committed offsets of groups",
        "states of idempotent producers: they begin anew with new ids",
        "dynamic configuration of the cluster and its brokers",
        "topics of which nothing was ever sealed",
    ];
    let mut inventory = Inventory::read(bucket, |done, of| progress.at("objects", done, of)).await?;
    let (candidates, seen) = checkpoints::list(bucket).await?;
    let seen = seen.max(inventory.incarnation()).max(claim.incarnation);
    let incarnation = Incarnation::new(seen.get().saturating_add(1));
    (report.seen_incarnation, report.incarnation) = (seen.get(), incarnation.get());
    if let Some(to) = to.filter(|to| *to != incarnation) {
        return Err(SalvageError::OtherIncarnation { next: incarnation.get(), to: to.get() });
    }
    let (found, told) = tell(bucket, &claim.cluster_id, &candidates, &inventory, &mut report).await?;
    for (object, place) in &told.commits {
        if let Some(held) = inventory.objects.get_mut(object) {
            held.place = Some(*place);
        }
    }
    let mut writing = Writing::new(bucket, &told, &mut inventory, &mut out, &mut report);
    for (number, found) in found.iter().enumerate() {
        progress.at("checkpoints", number as u64, candidates.len() as u64);
        writing.checkpoint(&claim.cluster_id, found).await?;
    }
    writing.others().await?;
    writing.rows(incarnation).await?;
    let producer = writing.producer().saturating_add(SKIPPED_PRODUCER_IDS);
    report.topics.sort_by(|one, other| one.name.cmp(&other.name));
    report.damaged.append(&mut inventory.damaged);
    out.finish(&claim.cluster_id, incarnation, created_ms, producer).await?;
    Ok(report)
}

/// Reads all checkpoints once: which are whole, and what has to be known before anything is written.
async fn tell(
    bucket: &Bucket,
    cluster_id: &str,
    candidates: &BTreeMap<Slot, Candidates>,
    inventory: &Inventory,
    report: &mut Report,
) -> Result<(Vec<Found>, Told), BucketError> {
    let (mut all, mut found) = (Told::default(), Vec::new());
    for (slot, candidates) in candidates {
        let take = |told: &mut Told, row: &Row| {
            // What can't be read is told when it is written.
            let _ = take(told, row, inventory);
        };
        let newest =
            checkpoints::newest::<Told>(bucket, cluster_id, *slot, candidates, &mut report.damaged, take);
        let Some((one, told)) = newest.await? else { continue };
        found.push(one);
        for (id, row) in told.topics {
            let is_newer = all.topics.get(&id).is_none_or(|known| known.changed < row.changed);
            if is_newer {
                all.rows.extend(told.rows.get(&id).map(|value| (id, value.clone())));
                all.topics.insert(id, row);
            }
        }
        all.sealed.extend(told.sealed);
        all.moved.extend(told.moved);
        all.commits.extend(told.commits);
        all.producer = all.producer.max(told.producer);
    }
    // Of topics of the same name the last one counts: the others were deleted.
    let mut names: BTreeMap<String, TopicId> = BTreeMap::new();
    for (id, row) in &all.topics {
        let last = names.entry(row.name.clone()).or_insert(*id);
        if all.topics[last].created < row.created {
            *last = *id;
        }
    }
    all.topics.retain(|id, row| names.get(&row.name) == Some(id));
    Ok((found, all))
}

fn bare() -> Keyspace {
    Keyspace::new(b"")
}

fn take(told: &mut Told, row: &Row, inventory: &Inventory) -> Result<(), Corrupt> {
    let keyspace = bare();
    match keyspace.family_byte(&row.key).and_then(Family::from_byte) {
        Some(Family::Topic) => {
            let id = decode_row_key(&keyspace, &row.key)?;
            told.topics.insert(id, decode_row(id, &row.value)?);
            told.rows.insert(id, row.value.clone());
        }
        Some(Family::Seal) => {
            let partition = partition_of(&keyspace, Family::Seal, &row.key)?;
            told.sealed.insert(partition, seal::decode(Some(&row.value))?);
        }
        Some(Family::Index) => {
            let (partition, _) = index::parse_key(&keyspace, &row.key)?;
            for entry in PackedIndex::decode(&row.value)?.entries {
                let LogRow::Data { object, batches, .. } = &entry.row else { continue };
                match inventory.objects.get(object) {
                    Some(held) if held.has_offsets => {}
                    Some(_) => {
                        let place = CommitPlace { incarnation: entry.at.incarnation, stamp: entry.at.stamp };
                        told.commits.insert(*object, place);
                    }
                    None => {
                        told.moved.insert(partition);
                    }
                }
                let producers = batches.iter().filter_map(|batch| batch.producer);
                told.producer = producers.map(|producer| producer.id.get()).fold(told.producer, i64::max);
            }
        }
        _ => {}
    }
    Ok(())
}

fn partition_of(keyspace: &Keyspace, family: Family, key: &[u8]) -> Result<TopicPartition, Corrupt> {
    let name = family.name();
    let rest =
        keyspace.strip(family, key).ok_or(Corrupt { family: name, reason: "a key of another family" })?;
    let mut reader = Reader::new(name, rest);
    let topic = TopicId::from_bytes(reader.array()?);
    let index = i32::try_from(reader.u32()?).map_err(|_| reader.corrupt("a partition is out of range"))?;
    reader.finish()?;
    Ok(TopicPartition { topic, partition: PartitionIndex::new(index) })
}
