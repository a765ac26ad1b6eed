//! Objects, in passes by their shards: what refers to them, what counts them, what of them is in the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures::StreamExt;
use penstock_metadata::keys::Family;
use penstock_metadata::keys::garbage::Garbage;
use penstock_metadata::keys::merge_unit::Unit;
use penstock_metadata::keys::object::ObjectState;
use penstock_metadata::kv::{StoreError, prefixed};
use penstock_storage::object::{id_of_key, object_key, shard_prefix};
use penstock_types::ObjectId;

use super::log::{Met, walk};
use super::pages::Pages;
use super::repair::Repair;
use super::report::{Finding, Kind};
use super::tally::{Known, Reference, References, Standing, Tallies, batches, stand, to_object};
use super::topics::Topic;
use super::{Check, FsckError, partitions};

/// How often what changes is counted anew.
const LOOKS: u32 = 4;
/// Listed objects that are looked up together.
const AT_ONCE: usize = 1_000;

/// The passes: stretches of the shards in which there are about `at_once` things, if ids are as random as they should be.
pub(super) fn passes(things: u64, at_once: u64) -> Vec<Range<u16>> {
    let count = things.div_ceil(at_once.max(1)).clamp(1, 256) as u16;
    let end = |pass: u16| (u32::from(pass) * 256 / u32::from(count)) as u16;
    (0..count).map(|pass| end(pass)..end(pass + 1)).collect()
}

/// One pass.
pub(super) async fn pass(
    check: &mut Check<'_>,
    topics: &[Topic],
    shards: Range<u16>,
) -> Result<(), FsckError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    let mut tallies = Tallies::read(&store, &keyspace, shards).await?;
    let rows = tallies.objects.values().filter(|tally| tally.standing.row.is_some()).count();
    check.report.checked.objects += rows as u64;
    let references = count(check, topics, &tallies, None).await?;
    list(check, &mut tallies).await?;
    let mut suspects = judge_counts(check, &tallies, &references).await?;
    for _ in 1..LOOKS {
        if suspects.is_empty() {
            break;
        }
        suspects = look_again(check, topics, &tallies, suspects).await?;
    }
    check.report.checked.unsettled += suspects.len() as u64;
    judge_places(check, &tallies, &references).await?;
    super::contents::check(check, topics, &tallies, &references).await
}

/// Walks all logs for the references to the objects of a pass, or to some.
async fn count(
    check: &mut Check<'_>,
    topics: &[Topic],
    tallies: &Tallies,
    only: Option<BTreeSet<ObjectId>>,
) -> Result<Vec<Reference>, StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    check.phase(if only.is_none() { "objects" } else { "objects that change" }, partitions(topics));
    let mut references = References::to(only);
    for (number, topic) in topics.iter().enumerate() {
        for partition in 0..topic.partitions {
            let mut visit = |met: Met<'_>| match met {
                Met::Begin => references.forget(),
                Met::Entry(entry) => references.meet(tallies, number as u32, partition, entry),
            };
            let walked = walk(&store, &keyspace, topic, topic.partition(partition), &mut visit).await?;
            if walked.incomplete {
                let reason = format!("{}-{partition} is sealed faster than it can be read", topic.name);
                return Err(StoreError::Unavailable { reason });
            }
            references.keep();
            check.step(1);
        }
    }
    Ok(references.finish())
}

/// Lists the shards of a pass.
async fn list(check: &mut Check<'_>, tallies: &mut Tallies) -> Result<(), FsckError> {
    let bucket = check.bucket().clone();
    let mut unknown = Vec::new();
    for shard in tallies.shards.clone() {
        let prefix = shard_prefix(shard as u8);
        let mut listing = bucket.list(prefix.trim_end_matches('/'));
        while let Some(listed) = listing.next().await {
            let listed = listed?;
            check.report.checked.listed += 1;
            let Some(id) = id_of_key(&listed.key) else {
                check.found(Finding::new(Kind::NotAnObject, listed.key));
                continue;
            };
            let tally = tallies.objects.get_mut(&id).map(|tally| {
                tally.listed = Some(listed.bytes);
                tally.standing.row.map(|row| row.state)
            });
            // Whatever is no object's row that is in use, or that waits to be deleted.
            if !matches!(tally.flatten(), Some(ObjectState::Committed | ObjectState::Tombstone)) {
                unknown.push(id);
            }
            if unknown.len() >= AT_ONCE {
                unreferenced(check, &std::mem::take(&mut unknown)).await?;
            }
        }
    }
    unreferenced(check, &unknown).await
}

/// Listed objects that nothing is known of, or that were deleted or never finished: some may have been committed since.
async fn unreferenced(check: &mut Check<'_>, ids: &[ObjectId]) -> Result<(), FsckError> {
    let now = stand(check.store(), check.keyspace(), ids).await?;
    let ours = check.parts.cluster.incarnation;
    for (id, standing) in ids.iter().zip(now) {
        let what = match standing.row.map(|row| row.state) {
            Some(ObjectState::Committed | ObjectState::Tombstone) => continue,
            Some(ObjectState::Collected) => "it was deleted, and came back",
            Some(ObjectState::Intent) => "a job announced it and never used it",
            None => "it has no row",
        };
        let finding = |kind| Finding::of(kind, *id, what);
        if id.incarnation() > ours {
            check.found(finding(Kind::LaterIncarnation));
        } else if id.incarnation() < ours {
            check.found(finding(Kind::EarlierIncarnation).repaired_by(Repair::DeleteEarlier(*id)));
        } else if check.age(*id) > check.settings.unreferenced_grace() {
            check.found(finding(Kind::Unreferenced).repaired_by(Repair::Delete(*id)));
        }
    }
    Ok(())
}

/// What has to be counted again: how it stood before.
type Suspects = BTreeMap<ObjectId, Standing>;

/// Of each object the references and the dead are the batches that were appended. Gives those that have changed since.
async fn judge_counts(
    check: &mut Check<'_>,
    tallies: &Tallies,
    references: &[Reference],
) -> Result<Suspects, StoreError> {
    let mut before = Suspects::new();
    for (id, tally) in &tallies.objects {
        if wrong(tally.standing, batches(to_object(references, *id))) {
            before.insert(*id, tally.standing);
        }
    }
    // What is referred to and wasn't known: committed since, or nobody's.
    for some in references.chunk_by(|one, other| one.object == other.object) {
        if !tallies.objects.contains_key(&some[0].object) {
            before.insert(some[0].object, Standing::default());
        }
    }
    settle(check, tallies, before, references).await
}

/// Whether an object that stands so, with so many batches referred to, can't be.
fn wrong(standing: Standing, referred: u64) -> bool {
    match standing.row {
        None => referred > 0 || standing.dead > 0,
        Some(row) if row.state == ObjectState::Committed => referred + standing.dead != row.appended,
        Some(_) => referred > 0 || standing.dead > 0,
    }
}

/// Tells what is wrong of those that have not changed. Of the others, gives those that seem wrong still.
async fn settle(
    check: &mut Check<'_>,
    tallies: &Tallies,
    before: Suspects,
    references: &[Reference],
) -> Result<Suspects, StoreError> {
    let ids: Vec<ObjectId> = before.keys().copied().collect();
    let now = stand(check.store(), check.keyspace(), &ids).await?;
    let mut again = Suspects::new();
    for ((id, before), now) in before.into_iter().zip(now) {
        let some = to_object(references, id);
        if before == now {
            tell_count(check, id, now, some, tallies.objects.get(&id).and_then(|tally| tally.garbage));
        } else if wrong(now, batches(some)) {
            again.insert(id, now);
        }
    }
    Ok(again)
}

async fn look_again(
    check: &mut Check<'_>,
    topics: &[Topic],
    tallies: &Tallies,
    suspects: Suspects,
) -> Result<Suspects, FsckError> {
    // They stand so from here on, or are counted once more.
    let ids: Vec<ObjectId> = suspects.into_keys().collect();
    let now = stand(check.store(), check.keyspace(), &ids).await?;
    let before: Suspects = ids.iter().copied().zip(now).collect();
    let references = count(check, topics, tallies, Some(ids.into_iter().collect())).await?;
    let wrong =
        before.into_iter().filter(|(id, before)| wrong(*before, batches(to_object(&references, *id))));
    Ok(settle(check, tallies, wrong.collect(), &references).await?)
}

fn tell_count(
    check: &mut Check<'_>,
    id: ObjectId,
    standing: Standing,
    references: &[Reference],
    queued: Option<Garbage>,
) {
    let (referred, dead) = (batches(references), standing.dead);
    let finding = match standing.row {
        None if referred > 0 => {
            let detail = format!("{referred} batches of logs are in it, the first at this offset");
            check.told_by(references, Finding::of(Kind::NoRow, id, detail))
        }
        None => Finding::of(Kind::DeadWithoutRow, id, format!("{dead} batches"))
            .repaired_by(Repair::ClearDead(id)),
        Some(row) if row.state == ObjectState::Committed => {
            let appended = row.appended;
            let detail = format!("of {appended} batches {referred} are referred to and {dead} are dead");
            let finding = Finding::of(Kind::Count, id, detail);
            match appended.checked_sub(referred) {
                Some(right) => {
                    finding.repaired_by(Repair::CountDead { id, dead, by: right as i64 - dead as i64 })
                }
                // More is referred to than there is.
                None => finding,
            }
        }
        Some(row) => {
            let state = format!("{:?}", row.state).to_lowercase();
            let detail =
                format!("its row says {state}; {referred} batches are referred to, {dead} counted as dead");
            let finding = check.told_by(references, Finding::of(Kind::DeadReferenced, id, detail));
            match (row.state, row.appended.checked_sub(referred)) {
                (ObjectState::Tombstone, Some(dead)) if referred > 0 && standing.dead == 0 => {
                    finding.repaired_by(Repair::Revive { id, dead, queued })
                }
                _ => finding,
            }
        }
    };
    check.found(finding);
}

/// That each object is where its row says, and waits where it should.
async fn judge_places(
    check: &mut Check<'_>,
    tallies: &Tallies,
    references: &[Reference],
) -> Result<(), FsckError> {
    for (id, tally) in &tallies.objects {
        let is_dead = |row: Known| row.state == ObjectState::Committed && row.appended == tally.standing.dead;
        check.report.checked.unburied += u64::from(tally.standing.row.is_some_and(is_dead));
        let Some(finding) = misplaced(check, *id, tally, to_object(references, *id)) else { continue };
        // Its listing and its rows are of several versions: seen again, all of it at one.
        if finding.kind == Kind::Missing {
            match check.bucket().head(&object_key(*id)).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => continue,
            }
        }
        let now = stand(check.store(), check.keyspace(), &[*id]).await?;
        if now[0] == tally.standing {
            check.found(finding);
        }
    }
    units(check).await?;
    Ok(())
}

fn misplaced(
    check: &Check<'_>,
    id: ObjectId,
    tally: &super::tally::Tally,
    references: &[Reference],
) -> Option<Finding> {
    let row = tally.standing.row;
    let state = row.map(|row| row.state);
    let is_used = state == Some(ObjectState::Committed) && !references.is_empty();
    match tally.listed {
        None if is_used => {
            let detail =
                format!("{} batches of logs are in it, the first at this offset", batches(references));
            return Some(check.told_by(references, Finding::of(Kind::Missing, id, detail)));
        }
        Some(bytes) if is_used && row.is_some_and(|row| row.size != bytes) => {
            let size = row.map_or(0, |row| row.size);
            return Some(Finding::of(Kind::Length, id, format!("{bytes} bytes where {size} were committed")));
        }
        _ => {}
    }
    if let Some(queued) = tally.queued
        && row.is_some_and(|row| row.level != queued || row.state == ObjectState::Intent)
    {
        let level = row.map_or(0, |row| row.level);
        let detail = format!("it waits at level {queued}; its row says level {level}, {state:?}");
        return Some(Finding::of(Kind::MergeQueue, id, detail));
    }
    match (state, tally.garbage) {
        (Some(ObjectState::Committed | ObjectState::Intent), Some(garbage)) => Some(
            Finding::of(Kind::GarbageInUse, id, "it stays: its row doesn't say that it is dead")
                .repaired_by(Repair::Unqueue(garbage)),
        ),
        (Some(ObjectState::Tombstone), None) => {
            Some(Finding::of(Kind::GarbageLost, id, "nobody will delete it").repaired_by(Repair::Queue(id)))
        }
        (_, Some(garbage)) if check.waited(&garbage) > check.settings.garbage_grace(garbage.was_merged) => {
            let hours = check.waited(&garbage).as_secs() / 3_600;
            Some(Finding::of(
                Kind::GarbageOverdue,
                id,
                format!("it waits for {hours} h: does any agent run jobs?"),
            ))
        }
        _ => None,
    }
}

/// Units of merging don't overlap. Told once.
async fn units(check: &mut Check<'_>) -> Result<(), StoreError> {
    if std::mem::replace(&mut check.units_checked, true) {
        return Ok(());
    }
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    let mut pages = Pages::of(prefixed(&keyspace.family(Family::MergeUnit)));
    let mut last: Option<Unit> = None;
    while let Some(page) = pages.next(&store).await? {
        for unit in page.iter().filter_map(|row| Unit::decode(&keyspace, row).ok()) {
            if last.is_some_and(|last| last.level == unit.level && last.last >= unit.first) {
                let at = unit.last.stamp.version();
                check.found(Finding::new(
                    Kind::MergeQueue,
                    format!("the unit of level {} up to {at} begins in the one before", unit.level),
                ));
            }
            last = Some(unit);
        }
    }
    Ok(())
}
