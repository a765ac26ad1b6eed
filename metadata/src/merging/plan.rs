//! Units: cutting them off a queue, listing them, ending them.

use std::time::Duration;

use penstock_types::{Incarnation, ObjectId, StoreVersion};

use crate::keys::merge_queue::{self, CommitPlace, Queued};
use crate::keys::merge_unit::{self, Unit};
use crate::keys::object::{self, ObjectRow, ObjectState};
use crate::keys::{Keyspace, dead};
use crate::kv::{
    Isolation, Priority, RangeOptions, SharedStore, StoreError, WriteConflict, limits, single_key,
};
use crate::visible;

/// Objects of a unit, at most (and those of one commit more).
const MOST_OBJECTS: usize = 5_000;
/// Objects that are looked up together.
const PAGE: usize = 1_000;
/// Units that are listed.
const MOST_UNITS: usize = 1_000;

/// When a stretch of a queue becomes a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRules {
    /// Nothing younger is looked at, by the store's versions: until then it isn't sealed, or may be wanted soon.
    pub settle: Duration,
    /// Of level 0: at so many bytes. Whoever merges a unit of level 0 holds all of it in memory.
    pub bytes: u64,
    /// Of the levels above: when there are so many bytes for each of its partitions, so that the next level is worth a
    /// request each.
    pub section_bytes: u64,
    /// Of the levels above: with so many bytes in any case, so that a unit is done in reasonable time.
    pub level_bytes: u64,
    /// In any case when its first object is so old.
    pub age: Duration,
}

/// The first unit of a queue's front, if one is due. Pure. Objects of one place stay together: one commit's batches are not
/// spread over two units. `more` says that `front` is not all of the queue.
pub fn cut(
    front: &[Queued],
    more: bool,
    now: StoreVersion,
    incarnation: Incarnation,
    rules: &CutRules,
) -> Option<Unit> {
    let first = front.first()?;
    let age = |place: CommitPlace| match now.get().checked_sub(place.stamp.version().get()) {
        Some(versions) if place.incarnation == incarnation => limits::time_of(versions),
        // Of an earlier incarnation: older than can be told.
        _ if place.incarnation < incarnation => Duration::MAX,
        _ => Duration::ZERO,
    };
    let mut unit = Unit {
        level: first.level,
        first: first.place,
        last: first.place,
        begins: first.first,
        objects: 0,
        bytes: 0,
    };
    // The most partitions that the objects of one place have.
    let mut partitions = 0;
    let mut is_full = false;
    let groups: Vec<&[Queued]> = front.chunk_by(|a, b| a.place == b.place).collect();
    // Of the last place the rest may be missing.
    let whole = groups.len() - usize::from(more && groups.len() > 1);
    for group in &groups[..whole] {
        if age(group[0].place) < rules.settle {
            break;
        }
        let bytes: u64 = group.iter().map(|queued| queued.size).sum();
        if unit.level == 0 && unit.objects > 0 && unit.bytes + bytes > rules.bytes {
            is_full = true;
            break;
        }
        unit.objects += group.len() as u32;
        unit.bytes += bytes;
        unit.last = group[0].place;
        unit.begins = group.iter().map(|queued| queued.first).min().unwrap_or(unit.begins).min(unit.begins);
        let sections: u64 = group.iter().map(|queued| u64::from(queued.sections)).sum();
        partitions = partitions.max(sections);
        is_full = match unit.level {
            0 => unit.bytes >= rules.bytes,
            _ => {
                let enough = rules.section_bytes.saturating_mul(partitions).min(rules.level_bytes);
                unit.first != unit.last && unit.bytes >= enough
            }
        };
        if is_full {
            break;
        }
    }
    let is_long = more && unit.objects as usize >= MOST_OBJECTS / 2;
    // What came out of one unit has nothing to be merged with.
    let is_alone = unit.level > 0 && unit.first == unit.last;
    let is_old = unit.objects > 0 && !is_alone && age(unit.first) >= rules.age;
    (is_full || is_long || is_old).then_some(unit)
}

/// Cuts the next unit off a level's queue, if one is due. Call again until there is none; run again after an unknown
/// outcome it goes on behind what was cut.
pub async fn cut_unit(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    level: u8,
    rules: &CutRules,
) -> Result<Option<Unit>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let now = transaction.read_version().await?;
    // From the last unit to the family's end: whoever else cuts meanwhile conflicts.
    let options = RangeOptions::page(1, Isolation::Serializable).reversed();
    let page = transaction.range(merge_unit::units(keyspace, level), options).await?;
    let mut range = match page.rows.first() {
        Some(row) => merge_queue::after(keyspace, level, Unit::decode(keyspace, row)?.last),
        None => merge_queue::queue(keyspace, level),
    };
    let passes = penstock_types::planted!("planner-passes-below");
    if let Some(below) = level.checked_sub(1).filter(|_| !passes) {
        // What is being merged below will stand here, in front of what is merged behind it.
        let options = RangeOptions::page(1, Isolation::Snapshot);
        let page = transaction.range(merge_unit::units(keyspace, below), options).await?;
        if let Some(row) = page.rows.first() {
            let pending = Unit::decode(keyspace, row)?;
            range.end =
                range.end.min(merge_queue::between(keyspace, level, pending.first, pending.first).start);
        }
    }
    if range.start >= range.end {
        return Ok(None);
    }
    let page = transaction.range(range, RangeOptions::page(MOST_OBJECTS, Isolation::Snapshot)).await?;
    let front =
        page.rows.iter().map(|row| merge_queue::decode(keyspace, row)).collect::<Result<Vec<_>, _>>()?;
    let Some(unit) = cut(&front, page.more, now, incarnation, rules) else { return Ok(None) };
    transaction.set(&merge_unit::key(keyspace, level, unit.last), &unit.encode(), WriteConflict::Yes);
    transaction.commit().await?;
    Ok(Some(unit))
}

/// The front of a level's queue: the oldest that isn't merged to its end, in a unit or not.
pub async fn front(
    store: &SharedStore,
    keyspace: &Keyspace,
    level: u8,
) -> Result<Option<Queued>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let options = RangeOptions::page(1, Isolation::Snapshot);
    let page = transaction.range(merge_queue::queue(keyspace, level), options).await?;
    Ok(page.rows.first().map(|row| merge_queue::decode(keyspace, row)).transpose()?)
}

/// The first units of a level, in the order of the log.
pub async fn units(store: &SharedStore, keyspace: &Keyspace, level: u8) -> Result<Vec<Unit>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let options = RangeOptions::page(MOST_UNITS, Isolation::Snapshot);
    let page = transaction.range(merge_unit::units(keyspace, level), options).await?;
    Ok(page.rows.iter().map(|row| Unit::decode(keyspace, row)).collect::<Result<_, _>>()?)
}

/// The objects of a unit, in the order of the log.
pub async fn queued(
    store: &SharedStore,
    keyspace: &Keyspace,
    unit: &Unit,
) -> Result<Vec<Queued>, StoreError> {
    let mut range = merge_queue::between(keyspace, unit.level, unit.first, unit.last);
    let mut found = Vec::new();
    loop {
        let mut transaction = store.begin(Priority::Batch);
        let page = transaction.range(range.clone(), RangeOptions::page(PAGE, Isolation::Snapshot)).await?;
        for row in &page.rows {
            found.push(merge_queue::decode(keyspace, row)?);
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            _ => return Ok(found),
        }
    }
}

/// An object that is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Which.
    pub object: ObjectId,
    /// Its bytes.
    pub size: u64,
    /// How many of its batches the log refers to.
    pub alive: u64,
}

/// Which of `objects` the log may still refer to.
pub async fn sources(
    store: &SharedStore,
    keyspace: &Keyspace,
    objects: &[ObjectId],
) -> Result<Vec<Source>, StoreError> {
    let mut found = Vec::new();
    for objects in objects.chunks(PAGE) {
        let rows = objects.iter().map(|id| object::key(keyspace, *id));
        let keys: Vec<_> = rows.chain(objects.iter().map(|id| dead::key(keyspace, *id))).collect();
        let values = store.begin(Priority::Batch).get_many(&keys, Isolation::Snapshot).await?;
        let (rows, counts) = values.split_at(objects.len());
        for ((row, count), object) in rows.iter().zip(counts).zip(objects) {
            let row = row.as_deref().map(ObjectRow::decode).transpose()?;
            let Some(row) = row.filter(|row| row.state == ObjectState::Committed) else { continue };
            let alive = row.appended().saturating_sub(dead::decode(count.as_deref())?.batches);
            found.push(Source { object: *object, size: row.size, alive });
        }
    }
    Ok(found)
}

/// Ends a unit: it and its part of the queue go. `false` if somebody else has ended it.
pub async fn end_unit(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    unit: &Unit,
) -> Result<bool, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    visible::fence(&mut *transaction, keyspace, incarnation).await?;
    let key = merge_unit::key(keyspace, unit.level, unit.last);
    if transaction.get(&key, Isolation::Serializable).await?.is_none() {
        return Ok(false);
    }
    let queue = merge_queue::between(keyspace, unit.level, unit.first, unit.last);
    transaction.clear_range(queue, WriteConflict::No);
    transaction.clear(&key, WriteConflict::Yes);
    transaction.commit().await?;
    Ok(true)
}
