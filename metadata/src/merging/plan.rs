//! Units: cutting them off a queue, listing them, ending them.

use std::time::Duration;

use penstock_types::{Incarnation, ObjectId, StoreVersion};

use crate::keys::Keyspace;
use crate::keys::merge_queue::{self, CommitPlace, Queued};
use crate::keys::merge_unit::{self, Unit};
use crate::keys::object::{self, ObjectRow, ObjectState};
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
            _ => unit.first != unit.last && unit.bytes >= rules.section_bytes.saturating_mul(partitions),
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

/// Which of `objects` the log may still refer to, with their bytes.
pub async fn sources(
    store: &SharedStore,
    keyspace: &Keyspace,
    objects: &[ObjectId],
) -> Result<Vec<(ObjectId, u64)>, StoreError> {
    let mut found = Vec::new();
    for objects in objects.chunks(PAGE) {
        let keys: Vec<_> = objects.iter().map(|id| object::key(keyspace, *id)).collect();
        let values =
            store.begin(Priority::Batch).get_many(&keys, Isolation::Snapshot).await?.into_iter().zip(objects);
        for (value, id) in values {
            let row = value.map(|value| ObjectRow::decode(&value)).transpose()?;
            if let Some(row) = row.filter(|row| row.state == ObjectState::Committed) {
                found.push((*id, row.size));
            }
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
