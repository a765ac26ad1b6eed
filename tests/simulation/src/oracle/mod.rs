//! What must not be: the anomalies that a client of a Kafka cluster never sees.
//!
//! Clients report what they send, what they are told and what they read; everything is held against everything else,
//! whichever client and agent it came from. Two events are ordered by the oracle's own count of events, not by time:
//! what was answered before another request was sent is before it.
//!
//! - Lost: a record that was acknowledged is not in the log, or not at the offset that was told.
//! - Doubled: a record of an idempotent producer stands twice, another one more often than it was sent.
//! - Reordered: records of a producer's session in another order than they were sent in.
//! - Two records for one offset; a record that nobody sent, or to another partition; holes in the offsets.
//! - An end of a log that goes back, or is below what was acknowledged; an offset out of range for no reason.
//! - In a compacted topic: gone for no reason, too early, or back again: see [`compacted`].
//! - Deleted for no reason, read though it was deleted, or there though it has expired: see [`starts`].
//! - Groups: see [`groups`].
//! - What a life of the metadata leaves behind that was restored to an older point: see [`restored`].

mod compacted;
pub mod groups;
pub mod record;
mod restored;
mod starts;
mod times;

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::{note, trace};
pub use compacted::{Compacting, Keyed};
use compacted::{Gaps, Keys};
use groups::Groups;
pub use record::RecordId;
use restored::Restored;
pub use starts::Expiry;
use starts::Starts;

/// A partition of a topic that lived once.
pub type Partition = (Uuid, i32);

/// An event's place among all events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

/// What is known of a record that was sent.
#[derive(Debug, Clone)]
struct Sent {
    partition: Partition,
    /// Of its producer: within one, order holds.
    session: u32,
    idempotent: bool,
    attempts: u32,
    /// Attempts whose answer says that they did not happen.
    refusals: u32,
    /// When it was first sent.
    first: Tick,
    status: Status,
    /// When it was acknowledged, if it was.
    acknowledged: Option<Tick>,
}

impl Sent {
    /// In how many places the record may stand.
    fn most(&self) -> u32 {
        let may_have_happened = self.attempts.saturating_sub(self.refusals);
        if self.idempotent { may_have_happened.min(1) } else { may_have_happened }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    Acknowledged(Option<i64>),
    Unknown,
}

#[derive(Debug, Default)]
struct Log {
    records: BTreeMap<i64, RecordId>,
    offsets: BTreeMap<RecordId, BTreeSet<i64>>,
    /// The highest end that was told, by the event after which that was so.
    ends: BTreeMap<Tick, i64>,
    /// The times of records that were read.
    times: BTreeMap<i64, i64>,
    starts: Starts,
    gaps: Gaps,
}

#[derive(Debug, Default)]
struct State {
    tick: u64,
    violations: Vec<String>,
    sent: BTreeMap<RecordId, Sent>,
    /// Records' own times.
    made: BTreeMap<RecordId, i64>,
    logs: BTreeMap<Partition, Log>,
    /// Topics whose records expire.
    expiring: BTreeMap<Uuid, Expiry>,
    keys: Keys,
    /// Topics that somebody asked to delete.
    doomed: BTreeMap<Uuid, Tick>,
    /// Topics whose deletion was acknowledged.
    deleted: BTreeMap<Uuid, Tick>,
    groups: Groups,
    /// Who was given a producer id.
    ids: BTreeMap<i64, (u32, Tick)>,
    restored: Option<Restored>,
}

impl State {
    /// The next event.
    fn next(&mut self) -> Tick {
        self.tick += 1;
        Tick(self.tick)
    }
}

/// The oracle of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    state: Mutex<State>,
    found: tokio::sync::Notify,
}

fn show(partition: Partition) -> String {
    let id = partition.0.simple().to_string();
    format!("{}-{}", &id[..6], partition.1)
}

impl Oracle {
    /// Something is that must not be.
    pub fn violation(&self, what: &str) {
        note!("ORACLE", "{what}");
        self.state.lock().violations.push(what.to_owned());
        self.found.notify_waiters();
    }

    /// What was found.
    pub fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    /// Waits until something is found.
    pub async fn finds(&self) {
        loop {
            let found = self.found.notified();
            if !self.state.lock().violations.is_empty() {
                return;
            }
            found.await;
        }
    }

    /// The next event.
    pub fn tick(&self) -> Tick {
        let mut state = self.state.lock();
        state.next()
    }

    /// Somebody asks to delete a topic: from then on its data may be gone.
    pub fn doomed(&self, topic: Uuid) {
        let mut state = self.state.lock();
        let tick = state.next();
        state.doomed.entry(topic).or_insert(tick);
    }

    /// The deletion of a topic was acknowledged: nothing sent from here on is taken.
    pub fn deleted(&self, topic: Uuid) {
        let mut state = self.state.lock();
        let tick = state.next();
        state.deleted.entry(topic).or_insert(tick);
    }

    /// Whether somebody asked to delete it.
    pub fn is_doomed(&self, topic: Uuid) -> bool {
        self.state.lock().doomed.contains_key(&topic)
    }

    /// A producer was given an id.
    pub fn took_id(&self, producer: u32, id: i64) {
        let other = {
            let mut state = self.state.lock();
            let tick = state.next();
            state.ids.insert(id, (producer, tick))
        };
        if let Some((other, _)) = other {
            self.violation(&format!("producer id {id} was given to p{other} and to p{producer}"));
        }
    }

    /// A record was made, which says when.
    pub fn made(&self, id: RecordId, time_ms: i64) {
        self.state.lock().made.insert(id, time_ms);
    }

    /// A record is about to be sent, for the first time or again.
    pub fn sends(&self, id: RecordId, partition: Partition, session: u32, idempotent: bool) {
        let mut state = self.state.lock();
        let first = state.next();
        let fresh = Sent {
            partition,
            session,
            idempotent,
            attempts: 0,
            refusals: 0,
            first,
            status: Status::Open,
            acknowledged: None,
        };
        let sent = state.sent.entry(id).or_insert(fresh);
        sent.attempts += 1;
        if sent.attempts == 1 {
            state.keys.sends(id, partition);
            trace::count("records sent");
        }
    }

    /// A record was acknowledged, at an offset if one was told.
    pub fn acknowledged(&self, id: RecordId, offset: Option<i64>) {
        let mut problem = None;
        {
            let mut state = self.state.lock();
            let tick = state.next();
            let State { sent, logs, deleted, restored, .. } = &mut *state;
            let Some(sent) = sent.get_mut(&id) else { return };
            sent.status = Status::Acknowledged(offset);
            sent.acknowledged.get_or_insert(tick);
            let (partition, first) = (sent.partition, sent.first);
            trace::count("records acknowledged");
            if deleted.get(&partition.0).is_some_and(|deleted| *deleted < first) {
                let partition = show(partition);
                problem = Some(format!("{id} of {partition}, sent after its topic was deleted"));
            }
            if let Some(offset) = offset {
                let log = logs.entry(partition).or_default();
                log.told_end(tick, offset + 1);
                let older = Restored::refuses(restored.as_ref(), partition, offset, first);
                problem = problem.or(older).or(log.place(partition, offset, id).err());
            }
        }
        if let Some(problem) = problem {
            self.violation(&format!("acknowledged: {problem}"));
        }
    }

    /// An attempt at a record certainly did not happen.
    pub fn refused(&self, id: RecordId) {
        if let Some(sent) = self.state.lock().sent.get_mut(&id) {
            sent.refusals += 1;
        }
    }

    /// Nobody will learn what became of a record.
    pub fn unknown(&self, id: RecordId) {
        if let Some(sent) = self.state.lock().sent.get_mut(&id)
            && sent.status == Status::Open
        {
            sent.status = Status::Unknown;
        }
    }

    /// A reader saw a record.
    pub fn saw(&self, reader: &str, partition: Partition, offset: i64, id: RecordId) {
        trace::count("records read");
        let problem = {
            let mut state = self.state.lock();
            let State { sent, logs, restored, .. } = &mut *state;
            match sent.get(&id) {
                None => Err(format!("{id} at {offset} of {} was never sent", show(partition))),
                Some(sent) if sent.partition != partition => {
                    let there = show(sent.partition);
                    Err(format!("{id} at {offset} of {} was sent to {there}", show(partition)))
                }
                Some(sent) => {
                    let log = logs.entry(partition).or_default();
                    let older = Restored::refuses(restored.as_ref(), partition, offset, sent.first);
                    older.map_or(Ok(()), |older| Err(format!("{id}: {older}"))).and_then(|()| {
                        log.place(partition, offset, id)?;
                        let places = log.offsets.get(&id).map_or(0, BTreeSet::len) as u32;
                        if places > sent.most() {
                            let of = log.offsets.get(&id);
                            let (tried, refused) = (sent.attempts, sent.refusals);
                            let partition = show(partition);
                            return Err(format!(
                                "{id} of {partition} stands at {of:?}, was sent {tried} times and refused {refused} times"
                            ));
                        }
                        Ok(())
                    })
                }
            }
        };
        if let Err(problem) = problem {
            self.violation(&format!("{reader} read: {problem}"));
        }
    }

    /// A reader was told where a log ends, by a request that it sent at `began`.
    pub fn told_end(&self, reader: &str, partition: Partition, began: Tick, end: i64) {
        let floor = {
            let mut state = self.state.lock();
            let tick = state.next();
            let log = state.logs.entry(partition).or_default();
            let floor = log.ends.range(..=began).next_back().map_or(0, |(_, end)| *end);
            log.told_end(tick, end);
            floor
        };
        if end < floor && !self.is_doomed(partition.0) {
            let partition = show(partition);
            self.violation(&format!(
                "{reader} was told that {partition} ends at {end}, behind {floor} was told before"
            ));
        }
    }

    /// The highest end that anybody was told, and nobody may be told less.
    pub fn end(&self, partition: Partition) -> i64 {
        let state = self.state.lock();
        state.logs.get(&partition).and_then(|log| log.ends.values().next_back().copied()).unwrap_or(0)
    }

    /// What groups do.
    pub(crate) fn groups<T>(&self, what: impl FnOnce(&mut Groups, Tick) -> Result<T, String>) -> Option<T> {
        let result = {
            let mut state = self.state.lock();
            let tick = state.next();
            what(&mut state.groups, tick)
        };
        match result {
            Ok(result) => Some(result),
            Err(problem) => {
                self.violation(&problem);
                None
            }
        }
    }

    /// The logs have been read to their ends: everything that was acknowledged is there, in order.
    pub fn final_check(&self) {
        let mut problems = Vec::new();
        {
            let state = self.state.lock();
            for (id, sent) in &state.sent {
                if state.doomed.contains_key(&sent.partition.0) {
                    continue;
                }
                let log = state.logs.get(&sent.partition);
                let there = log.and_then(|log| log.offsets.get(id));
                let places = there.map_or(0, BTreeSet::len) as u32;
                if places > sent.most() {
                    let partition = show(sent.partition);
                    problems.push(format!(
                        "{id} of {partition} stands at {there:?}, more often than it was stored"
                    ));
                }
                let start = log.map_or(0, Log::start);
                let may_be_deleted = match sent.status {
                    Status::Acknowledged(Some(offset)) => offset < start,
                    Status::Acknowledged(None) => start > 0 || state.may_be_compacted(*id, sent),
                    Status::Open | Status::Unknown => true,
                };
                if there.is_none() && !may_be_deleted {
                    problems.push(format!("{id} of {} was acknowledged and is lost", show(sent.partition)));
                }
            }
            for (partition, log) in &state.logs {
                if state.doomed.contains_key(&partition.0) {
                    continue;
                }
                problems.extend(log.holes(*partition));
                problems.extend(log.out_of_order(*partition, &state.sent));
            }
        }
        for problem in problems.iter().take(5) {
            self.violation(problem);
        }
    }

    /// Groups were given everything that they committed.
    pub fn final_check_of_groups(&self) {
        let result = {
            let state = self.state.lock();
            let start = |partition: Partition| state.logs.get(&partition).map_or(0, Log::start);
            state.groups.final_check(start)
        };
        if let Err(problem) = result {
            self.violation(&problem);
        }
    }

    /// How many records were sent.
    pub fn records_sent(&self) -> u32 {
        u32::try_from(self.state.lock().sent.len()).unwrap_or(u32::MAX)
    }

    /// How many records were acknowledged, and how many never will be or were not.
    pub fn tally(&self) -> (u64, u64) {
        let state = self.state.lock();
        let acknowledged =
            state.sent.values().filter(|sent| matches!(sent.status, Status::Acknowledged(_))).count() as u64;
        (acknowledged, state.sent.len() as u64 - acknowledged)
    }
}

impl Log {
    fn place(&mut self, partition: Partition, offset: i64, id: RecordId) -> Result<(), String> {
        if let Some(other) = self.records.get(&offset)
            && *other != id
        {
            return Err(format!("offset {offset} of {} is {id} and {other}", show(partition)));
        }
        self.records.insert(offset, id);
        self.offsets.entry(id).or_default().insert(offset);
        Ok(())
    }

    fn told_end(&mut self, tick: Tick, end: i64) {
        if self.ends.values().next_back().is_none_or(|last| *last < end) {
            self.ends.insert(tick, end);
        }
    }

    fn holes(&self, partition: Partition) -> Option<String> {
        let end = self.ends.values().next_back().copied().unwrap_or(0);
        let start = self.start();
        let mut next = start;
        let is_known = |offset: &i64| self.records.contains_key(offset) || self.gaps.has(*offset);
        let known = self.records.range(start..).count() + self.gaps.unknown_to(&self.records, start);
        while is_known(&next) {
            next += 1;
        }
        let partition = show(partition);
        (next != end || known as i64 != end - start).then(|| {
            format!(
                "{partition} is from {start} to {end}, and {known} records are known, those up to {next} in a row"
            )
        })
    }

    fn out_of_order(&self, partition: Partition, sent: &BTreeMap<RecordId, Sent>) -> Option<String> {
        let mut last: BTreeMap<(u32, u32), RecordId> = BTreeMap::new();
        for (offset, id) in &self.records {
            let Some(sent) = sent.get(id) else { continue };
            // What is sent again without a sequence may stand anywhere.
            if !sent.idempotent && sent.attempts > 1 {
                continue;
            }
            let before = last.insert((id.producer, sent.session), *id);
            if let Some(before) = before.filter(|before| before.number >= id.number) {
                return Some(format!("{}: {id} at {offset} stands behind {before}", show(partition)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
