//! Compacted topics: a record leaves the log only for a newer one of its key, or as a tombstone that is old enough, and
//! nothing comes back.
//!
//! Readers tell at which offsets there was nothing. Such a gap is explained if the log has a newer record of the key, which was
//! old enough itself to be compacted (`min.compaction.lag.ms`), or if the record was a tombstone and both
//! `min.compaction.lag.ms` and `delete.retention.ms` have passed since it was made. What nobody was told the offset of may have
//! been appended, compacted and never read: it explains a gap, too, as long as it isn't known where it stands.
//!
//! Where a record is gone, everything older of its key is: batches are replaced in the order of the log. So who asks later is
//! shown none of that, and a reader that goes from the beginning to the end has the state that the whole log had.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::starts::{milliseconds, now_ms};
use super::{Log, Oracle, Partition, RecordId, Sent, State, Tick, show};
use crate::trace;

/// How a topic is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacting {
    /// What is younger stays (`min.compaction.lag.ms`).
    pub min_lag: Duration,
    /// Tombstones stay for so long once all that is older of their keys is gone (`delete.retention.ms`).
    pub delete_retention: Duration,
    /// Whether everything is compacted in the end (`min.cleanable.dirty.ratio=0`).
    pub eager: bool,
    /// Whether all agents' clocks are right: if not, nobody can say how old something was for them.
    pub exact: bool,
}

/// What a record does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyed {
    /// The key.
    pub key: u32,
    /// Whether it deletes it.
    pub is_tombstone: bool,
}

/// What is known of compacted topics.
#[derive(Debug, Default)]
pub(super) struct Keys {
    topics: BTreeMap<Uuid, Compacting>,
    records: BTreeMap<RecordId, Keyed>,
    /// All that was sent, by key.
    sent: BTreeMap<(Partition, u32), BTreeSet<RecordId>>,
}

impl Keys {
    /// A record was sent.
    pub(super) fn sends(&mut self, id: RecordId, partition: Partition) {
        if let Some(Keyed { key, .. }) = self.records.get(&id) {
            self.sent.entry((partition, *key)).or_default().insert(id);
        }
    }

    pub(super) fn are_of(&self, topic: Uuid) -> bool {
        self.topics.contains_key(&topic)
    }
}

/// What is gone of a log.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Offsets at which a reader found nothing: since which event, and when that was.
    absent: BTreeMap<i64, (Tick, i64)>,
    /// Below which offset nothing is left of a key, by the event after which that was so.
    floors: BTreeMap<u32, BTreeMap<Tick, i64>>,
}

impl Gaps {
    pub(super) fn has(&self, offset: i64) -> bool {
        self.absent.contains_key(&offset)
    }

    /// At how many offsets from `start` on there was nothing, and nobody knows what was there before.
    pub(super) fn unknown_to(&self, records: &BTreeMap<i64, RecordId>, start: i64) -> usize {
        self.absent.range(start..).filter(|(offset, _)| !records.contains_key(offset)).count()
    }

    /// Whether there was nothing at an offset, or of a key up to there, before `began`: then there is nothing.
    fn is_gone(&self, offset: i64, key: u32, began: Tick) -> bool {
        let floor = self.floors.get(&key).and_then(|floors| floors.range(..began).next_back());
        self.absent.get(&offset).is_some_and(|(since, _)| *since < began)
            || floor.is_some_and(|(_, floor)| offset < *floor)
    }

    fn raise(&mut self, key: u32, tick: Tick, floor: i64) {
        let floors = self.floors.entry(key).or_default();
        if floors.values().next_back().is_none_or(|last| *last < floor) {
            floors.insert(tick, floor);
        }
    }

    /// The metadata are those of a backup taken at `mark`, in which the log ends at `end`.
    pub(super) fn restored(&mut self, mark: Tick, end: i64) {
        self.absent.retain(|offset, (since, _)| *offset < end && *since <= mark);
        self.floors.values_mut().for_each(|floors| floors.retain(|since, _| *since <= mark));
    }
}

/// A gap: something that should have been at an offset, and wasn't at some time.
#[derive(Debug, Clone, Copy)]
struct Gap {
    partition: Partition,
    offset: i64,
    id: RecordId,
    since: Tick,
    at_ms: i64,
}

impl State {
    /// Why a gap must not be, if so. `everything`: all that can be read was read.
    fn unexplained(&self, gap: Gap, everything: bool) -> Option<String> {
        let Gap { partition, offset, id, since, at_ms } = gap;
        let (rules, log) = (self.keys.topics.get(&partition.0)?, self.logs.get(&partition)?);
        let Keyed { key, is_tombstone } = *self.keys.records.get(&id)?;
        if offset < log.start() {
            return None;
        }
        let is_past = |id: &RecordId, time: Duration| {
            let made = self.made.get(id).copied().unwrap_or(i64::MAX);
            !rules.exact || made.saturating_add(milliseconds(time)) <= at_ms
        };
        let may_be_compacted = |id: &RecordId| {
            is_past(id, rules.min_lag) && self.sent.get(id).is_some_and(|sent| sent.first < since)
        };
        if is_tombstone && is_past(&id, rules.min_lag + rules.delete_retention) {
            return None;
        }
        if !is_past(&id, rules.min_lag) {
            return Some(format!("{id} of key {key} is too young to be compacted"));
        }
        let is_of_key = |id: &RecordId| self.keys.records.get(id).is_some_and(|keyed| keyed.key == key);
        let newer = || log.records.range(offset + 1..).map(|(_, id)| id).filter(|id| is_of_key(id));
        if newer().any(may_be_compacted) {
            return None;
        }
        let may_stand_behind = |other: &&RecordId| self.may_stand(log, other) && may_be_compacted(other);
        let unseen = self.keys.sent.get(&(partition, key)).into_iter().flatten().filter(may_stand_behind);
        // What nobody reads is gone itself: for something newer, or as a tombstone.
        let is_gone_too = |id: &RecordId| {
            self.keys.records.get(id).is_some_and(|keyed| keyed.is_tombstone) || newer().next().is_some()
        };
        let is_explained = unseen.clone().any(|id| !everything || is_gone_too(id)) && log.has_room(offset);
        (!is_explained).then(|| {
            let what = if is_tombstone { "a tombstone" } else { "a value" };
            let newer = newer().next();
            format!("{id} of key {key}, {what}, is gone, and nothing took its place; newer is {newer:?}")
        })
    }

    /// Whether a record may stand where nobody knows of it.
    fn may_stand(&self, log: &Log, id: &RecordId) -> bool {
        let places = log.offsets.get(id).map_or(0, BTreeSet::len) as u32;
        self.sent.get(id).is_some_and(|sent| places < sent.most())
    }

    /// Whether a record whose offset nobody was told may have been compacted.
    pub(super) fn may_be_compacted(&self, id: RecordId, sent: &Sent) -> bool {
        let Some(keyed) = self.keys.records.get(&id) else { return false };
        let of_key = self.keys.sent.get(&(sent.partition, keyed.key));
        keyed.is_tombstone || of_key.is_some_and(|all| all.iter().any(|other| *other != id))
    }

    /// Whether a record may have left a log by now.
    pub(super) fn may_be_gone(&self, partition: Partition, offset: i64, id: RecordId) -> bool {
        let gap = Gap { partition, offset, id, since: Tick(u64::MAX), at_ms: now_ms() };
        self.keys.are_of(partition.0) && self.unexplained(gap, false).is_none()
    }
}

impl Log {
    /// Whether there are offsets behind `offset` of which nobody knows what was there.
    fn has_room(&self, offset: i64) -> bool {
        let end = self.ends.values().next_back().copied().unwrap_or(0);
        (self.records.range(offset + 1..).count() as i64) < end - offset - 1
    }

    /// What can be read.
    fn shown(&self) -> impl Iterator<Item = (i64, RecordId)> {
        let shown = self.records.range(self.start()..).filter(|(offset, _)| !self.gaps.has(**offset));
        shown.map(|(offset, id)| (*offset, *id))
    }
}

impl Oracle {
    /// A topic is compacted.
    pub fn compacts(&self, topic: Uuid, compacting: Compacting) {
        self.state.lock().keys.topics.insert(topic, compacting);
    }

    /// Whether a topic is compacted.
    pub fn is_compacted(&self, topic: Uuid) -> bool {
        self.state.lock().keys.are_of(topic)
    }

    /// A record was made that has a key.
    pub fn keyed(&self, id: RecordId, keyed: Keyed) {
        self.state.lock().keys.records.insert(id, keyed);
    }

    /// A reader saw a record's key, with a fetch sent at `began`.
    pub fn saw_key(
        &self,
        reader: &str,
        at: (Partition, i64),
        began: Tick,
        id: RecordId,
        keyed: Option<Keyed>,
    ) {
        let (partition, offset) = at;
        let problem = {
            let state = self.state.lock();
            let gaps = state.logs.get(&partition).map(|log| &log.gaps);
            let is_gone = |keyed: Keyed| gaps.is_some_and(|gaps| gaps.is_gone(offset, keyed.key, began));
            match (state.keys.records.get(&id).copied(), keyed) {
                (sent, seen) if sent != seen => Some(format!("was sent with {sent:?}, and has {seen:?}")),
                (Some(keyed), _) if is_gone(keyed) => Some(format!("{keyed:?} was gone, and is back")),
                _ => None,
            }
        };
        if let Some(problem) = problem.filter(|_| !self.is_doomed(partition.0)) {
            self.violation(&format!("{reader} read: {id} at {offset} of {}: {problem}", show(partition)));
        }
    }

    /// A reader found nothing at some offsets.
    pub fn found_gaps(&self, reader: &str, partition: Partition, offsets: std::ops::Range<i64>) {
        if offsets.is_empty() || self.is_doomed(partition.0) {
            return;
        }
        if !self.is_compacted(partition.0) {
            let partition = show(partition);
            self.violation(&format!(
                "{reader}: offset {} where {} comes next, of {partition}",
                offsets.end, offsets.start
            ));
            return;
        }
        trace::count_by("offsets at which nothing was left", (offsets.end - offsets.start) as u64);
        let mut problem = None;
        {
            let mut state = self.state.lock();
            let (since, at_ms) = (state.next(), now_ms());
            for offset in offsets {
                let State { logs, keys, .. } = &mut *state;
                let log = logs.entry(partition).or_default();
                if log.gaps.has(offset) {
                    continue;
                }
                log.gaps.absent.insert(offset, (since, at_ms));
                log.times.remove(&offset);
                let Some(id) = log.records.get(&offset).copied() else { continue };
                if let Some(keyed) = keys.records.get(&id) {
                    log.gaps.raise(keyed.key, since, offset + 1);
                }
                let gap = Gap { partition, offset, id, since, at_ms };
                let why = state.unexplained(gap, false);
                problem = problem.or(why.map(|why| format!("{offset}: {why}")));
            }
        }
        if let Some(problem) = problem {
            self.violation(&format!("{reader} found nothing in {} at {problem}", show(partition)));
        }
    }

    /// The logs have been read to their ends, and log compaction had said before that it had come so far in each: of no key
    /// there are two records below that.
    pub fn final_check_of_compaction(&self, cleaned: &BTreeMap<Partition, i64>) {
        let mut problems = Vec::new();
        {
            let state = self.state.lock();
            let is_compacted = |partition: &Partition| {
                state.keys.are_of(partition.0) && !state.doomed.contains_key(&partition.0)
            };
            for (partition, log) in state.logs.iter().filter(|(partition, _)| is_compacted(partition)) {
                for (offset, (since, at_ms)) in &log.gaps.absent {
                    let Some(id) = log.records.get(offset).copied() else { continue };
                    let gap =
                        Gap { partition: *partition, offset: *offset, id, since: *since, at_ms: *at_ms };
                    let why = state.unexplained(gap, true);
                    problems.extend(
                        why.map(|why| format!("nothing is in {} at {offset}: {why}", show(*partition))),
                    );
                }
                let cleaned = cleaned.get(partition).copied().unwrap_or(0);
                let mut newest = BTreeMap::new();
                for (offset, id) in log.shown().take_while(|(offset, _)| *offset < cleaned) {
                    let Some(keyed) = state.keys.records.get(&id) else { continue };
                    if let Some(other) = newest.insert(keyed.key, offset) {
                        let (key, partition) = (keyed.key, show(*partition));
                        problems.push(format!(
                            "key {key} of {partition} is at {other} and at {offset}, below {cleaned}, up to which it is compacted"
                        ));
                    }
                }
                trace::count_by("records left by log compaction", newest.len() as u64);
            }
        }
        for problem in problems.iter().take(5) {
            self.violation(problem);
        }
    }

    /// Of how many partitions not everything is compacted, of those topics of which all should be.
    pub fn uncompacted(&self, cleaned: &BTreeMap<Partition, i64>) -> usize {
        let state = self.state.lock();
        let waits = |(partition, log): &(&Partition, &Log)| {
            let end = log.ends.values().next_back().copied().unwrap_or(0);
            let rules = state.keys.topics.get(&partition.0);
            rules.is_some_and(|rules| rules.exact && rules.eager)
                && !state.doomed.contains_key(&partition.0)
                && log.start() < end
                && cleaned.get(*partition).copied().unwrap_or(0) < end
        };
        state.logs.iter().filter(waits).count()
    }
}
