//! What is known of objects: their rows and dead counts, what refers to them, where they wait.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use penstock_metadata::codec::Corrupt;
use penstock_metadata::fold::LogEntry;
use penstock_metadata::keys::garbage::{self, Garbage};
use penstock_metadata::keys::log::{BatchFacts, LogRow};
use penstock_metadata::keys::object::{self, ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace, dead, merge_queue};
use penstock_metadata::kv::{
    Isolation, KeyRange, Priority, Row, SharedStore, StoreError, prefixed, single_key,
};
use penstock_types::{ObjectId, Offset};

use super::pages::{Pages, options};
use crate::again;

/// Objects that are looked up together: a row has verdicts of 80 kB at most.
const AT_ONCE: usize = 64;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: ObjectState,
    /// Bytes.
    pub(super) size: u64,
    /// Batches in the object; of one that a merge wrote, those that were ever referred to.
    pub(super) batches: u32,
    /// Those of them that were appended.
    pub(super) appended: u64,
    pub(super) level: u8,
}

impl Known {
    fn of(row: &ObjectRow) -> Self {
        let ObjectRow { state, size, batches, level, .. } = *row;
        Self { state, size, batches, appended: row.appended(), level }
    }
}

/// Row and dead count of an object, at one version. Any change of what refers to the object changes one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) row: Option<Known>,
    pub(super) dead: u64,
}

/// An object, when it was first looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) standing: Standing,
    /// Its length in the bucket, if it was listed.
    pub(super) listed: Option<u64>,
    /// Where it waits to be deleted.
    pub(super) garbage: Option<Garbage>,
    /// The level at which it waits to be merged.
    pub(super) queued: Option<u8>,
}

/// The objects of some shards.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) shards: Range<u16>,
    pub(super) objects: BTreeMap<ObjectId, Tally>,
}

impl Tallies {
    pub(super) fn has(&self, id: ObjectId) -> bool {
        self.shards.contains(&u16::from(id.shard()))
    }

    /// Reads all that is known of the objects of some shards, but for what refers to them. In this order: an object is
    /// buried and queued in one transaction.
    pub(super) async fn read(
        store: &SharedStore,
        keyspace: &Keyspace,
        shards: Range<u16>,
    ) -> Result<Self, StoreError> {
        let mut tallies = Self { shards, objects: BTreeMap::new() };
        let mut range = prefixed(&keyspace.family(Family::Object));
        loop {
            let (page, end) = again!(standings(store, keyspace, range.clone()))?;
            for (id, standing) in page {
                if tallies.has(id) {
                    tallies.objects.insert(id, Tally { standing, ..Tally::default() });
                }
            }
            match end {
                Some(end) => range.start = end,
                None => break,
            }
        }
        for was_merged in [false, true] {
            let mut pages = Pages::of(garbage::queue(keyspace, was_merged));
            while let Some(page) = pages.next(store).await? {
                for garbage in page.iter().filter_map(|row| garbage::decode(keyspace, row).ok()) {
                    if tallies.has(garbage.object) {
                        tallies.objects.entry(garbage.object).or_default().garbage = Some(garbage);
                    }
                }
            }
        }
        let mut pages = Pages::of(prefixed(&keyspace.family(Family::MergeQueue)));
        while let Some(page) = pages.next(store).await? {
            for queued in page.iter().filter_map(|row| merge_queue::decode(keyspace, row).ok()) {
                if let Some(tally) = tallies.objects.get_mut(&queued.object) {
                    tally.queued = Some(queued.level);
                }
            }
        }
        Ok(tallies)
    }
}

/// A page of rows of objects with their dead counts, and of dead counts without rows; and where the next begins.
async fn standings(
    store: &SharedStore,
    keyspace: &Keyspace,
    range: KeyRange,
) -> Result<(BTreeMap<ObjectId, Standing>, Option<Vec<u8>>), StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let page = transaction.range(range.clone(), options(1_000)).await?;
    let next = page.rows.last().filter(|_| page.more).map(|last| single_key(&last.key).end);
    // The same stretch of the dead counts.
    let family = keyspace.family(Family::Object);
    let dead_family = keyspace.family(Family::Dead);
    let to_dead = |key: &[u8]| match key.strip_prefix(&*family) {
        Some(rest) => [&*dead_family, rest].concat(),
        None => prefixed(&dead_family).end,
    };
    let mut left = to_dead(&range.start)..next.as_deref().map_or_else(|| prefixed(&dead_family).end, to_dead);
    let mut found: BTreeMap<ObjectId, Standing> = BTreeMap::new();
    for row in &page.rows {
        // What can't be decoded was told when every row was.
        if let (Ok(id), Ok(row)) = (object::parse_key(keyspace, &row.key), ObjectRow::decode(&row.value)) {
            found.entry(id).or_default().row = Some(Known::of(&row));
        }
    }
    while left.start < left.end {
        let page = transaction.range(left.clone(), options(1_000)).await?;
        for row in &page.rows {
            if let Ok((id, count)) = dead_row(keyspace, row) {
                found.entry(id).or_default().dead = count;
            }
        }
        match page.rows.last() {
            Some(last) if page.more => left.start = single_key(&last.key).end,
            _ => break,
        }
    }
    Ok((found, next))
}

fn dead_row(keyspace: &Keyspace, row: &Row) -> Result<(ObjectId, u64), Corrupt> {
    Ok((dead::parse_key(keyspace, &row.key)?, dead::decode(Some(&row.value))?.batches))
}

/// How objects stand now, in the order asked for.
pub(super) async fn stand(
    store: &SharedStore,
    keyspace: &Keyspace,
    ids: &[ObjectId],
) -> Result<Vec<Standing>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(AT_ONCE) {
        found.extend(again!(stand_at_once(store, keyspace, ids))?);
    }
    Ok(found)
}

async fn stand_at_once(
    store: &SharedStore,
    keyspace: &Keyspace,
    ids: &[ObjectId],
) -> Result<Vec<Standing>, StoreError> {
    let rows = ids.iter().map(|id| object::key(keyspace, *id));
    let keys: Vec<_> = rows.chain(ids.iter().map(|id| dead::key(keyspace, *id))).collect();
    let values = store.begin(Priority::Batch).get_many(&keys, Isolation::Snapshot).await?;
    let (rows, counts) = values.split_at(ids.len());
    // What can't be decoded was told when every row was.
    let standing = |(row, dead): (&Option<bytes::Bytes>, &Option<bytes::Bytes>)| {
        let row = row.as_deref().and_then(|row| ObjectRow::decode(row).ok());
        let dead = dead::decode(dead.as_deref()).unwrap_or_default().batches;
        Standing { row: row.as_ref().map(Known::of), dead }
    };
    Ok(rows.iter().zip(counts).map(standing).collect())
}

/// An entry of a log, as the object sees it that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) object: ObjectId,
    pub(super) position: u64,
    pub(super) length: u64,
    /// The offset of its first batch.
    pub(super) offset: Offset,
    /// Where its topic stands among all, and which partition of it.
    pub(super) topic: u32,
    pub(super) partition: u32,
    pub(super) batches: u32,
    /// Of what the log tells of each batch ([`Identity`]).
    pub(super) identity: u64,
}

/// What is told of batches, in one number: memory is for many references.
#[derive(Debug, Default)]
pub(super) struct Identity(DefaultHasher);

impl Identity {
    pub(super) fn add(&mut self, facts: &BatchFacts) {
        let BatchFacts { length, records, flags, base_timestamp, max_timestamp, producer } = facts;
        (length, records, flags, base_timestamp, max_timestamp).hash(&mut self.0);
        producer.map(|producer| (producer.id, producer.epoch, producer.base_sequence)).hash(&mut self.0);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.finish()
    }
}

/// References to the objects of some shards, or to some objects.
#[derive(Debug, Default)]
pub(super) struct References {
    found: Vec<Reference>,
    /// Where those of the partition begin that is being walked.
    begin: usize,
    /// Only to these, if any.
    only: Option<BTreeSet<ObjectId>>,
}

impl References {
    pub(super) fn to(only: Option<BTreeSet<ObjectId>>) -> Self {
        Self { only, ..Self::default() }
    }

    /// The walk of a partition begins, maybe again.
    pub(super) fn forget(&mut self) {
        self.found.truncate(self.begin);
    }

    /// The walk of a partition has ended.
    pub(super) fn keep(&mut self) {
        self.begin = self.found.len();
    }

    pub(super) fn meet(&mut self, tallies: &Tallies, topic: u32, partition: u32, entry: &LogEntry) {
        let LogRow::Data { object, position, batches, .. } = &entry.row else { return };
        let is_wanted = match &self.only {
            Some(only) => only.contains(object),
            None => tallies.has(*object),
        };
        if !is_wanted {
            return;
        }
        let mut identity = Identity::default();
        batches.iter().for_each(|batch| identity.add(batch));
        self.found.push(Reference {
            object: *object,
            position: *position,
            length: batches.iter().map(|batch| u64::from(batch.length)).sum(),
            offset: entry.base_offset,
            topic,
            partition,
            batches: batches.len() as u32,
            identity: identity.get(),
        });
    }

    /// All of them, by object and position.
    pub(super) fn finish(mut self) -> Vec<Reference> {
        self.found.sort_unstable();
        self.found
    }
}

/// Those of `references`, which are sorted, that are to `object`.
pub(super) fn to_object(references: &[Reference], object: ObjectId) -> &[Reference] {
    let begin = references.partition_point(|reference| reference.object < object);
    let end = references.partition_point(|reference| reference.object <= object);
    &references[begin..end]
}

/// How many batches they are.
pub(super) fn batches(references: &[Reference]) -> u64 {
    references.iter().map(|reference| u64::from(reference.batches)).sum()
}
