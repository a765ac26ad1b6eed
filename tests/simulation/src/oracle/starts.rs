//! Where logs begin: what was deleted stays deleted, and nothing goes that nobody asked to delete and that has not expired.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Log, Oracle, Partition, State, Tick, show};
use crate::ambient::EPOCH_MS;
use crate::trace;

/// How records of a topic expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// They stay for so long (`retention.ms`).
    pub after: Duration,
    /// Whether all agents' clocks are right: if not, nobody can say when something has expired.
    pub exact: bool,
}

/// Where a log begins.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// The highest that was told, by the event after which that was so.
    told: BTreeMap<Tick, i64>,
    /// Up to where somebody asked to delete, by when that was; the largest for the log's end.
    asked: BTreeMap<Tick, i64>,
}

impl Starts {
    fn floor(&self, began: Tick) -> i64 {
        self.told.range(..=began).next_back().map_or(0, |(_, start)| *start)
    }

    fn highest(&self) -> i64 {
        self.told.values().next_back().copied().unwrap_or(0)
    }

    fn tells(&mut self, tick: Tick, start: i64) {
        if self.highest() < start {
            self.told.insert(tick, start);
        }
    }

    /// The metadata are those of a backup taken at `mark`.
    pub(super) fn restored(&mut self, mark: Tick) {
        self.told.retain(|told, _| *told <= mark);
        self.asked.retain(|asked, _| *asked <= mark);
    }
}

impl Log {
    /// Where it begins, as far as anybody was told.
    pub(super) fn start(&self) -> i64 {
        self.starts.highest()
    }
}

pub(super) fn now_ms() -> i64 {
    EPOCH_MS + trace::elapsed().as_millis() as i64
}

pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl State {
    /// Why a log can't begin at `start`: nobody deleted that much, and the record there has not expired.
    fn deleted_too_much(&self, partition: Partition, start: i64) -> Option<String> {
        let log = self.logs.get(&partition)?;
        if log.starts.asked.values().any(|asked| *asked >= start) {
            return None;
        }
        let Some(expiry) = self.expiring.get(&partition.0) else {
            return (start > 0).then(|| format!("nobody deleted anything of it up to {start}"));
        };
        let before = now_ms() - milliseconds(expiry.after);
        let asked = log.starts.asked.values().max().copied().unwrap_or(0);
        let gone = log.records.range(asked..start);
        gone.filter(|_| expiry.exact).find_map(|(offset, id)| {
            let time = *self.made.get(id)?;
            let stands = time >= before && !self.may_be_gone(partition, *offset, *id);
            stands.then(|| format!("{offset} is of {time}, and expires when it is before {before}"))
        })
    }
}

impl Oracle {
    /// Records of a topic expire.
    pub fn expires(&self, topic: Uuid, expiry: Expiry) {
        self.state.lock().expiring.insert(topic, expiry);
    }

    /// Somebody asks to delete what lies below `offset`.
    pub fn deletes(&self, partition: Partition, offset: i64) {
        let mut state = self.state.lock();
        let tick = state.next();
        let log = state.logs.entry(partition).or_default();
        let offset = if offset < 0 { i64::MAX } else { offset };
        log.starts.asked.insert(tick, offset);
    }

    /// Whether anything of a partition may be deleted but with its topic, or compacted.
    pub fn is_deletable(&self, partition: Partition) -> bool {
        let state = self.state.lock();
        state.expiring.contains_key(&partition.0)
            || state.keys.are_of(partition.0)
            || state.logs.get(&partition).is_some_and(|log| !log.starts.asked.is_empty())
    }

    /// Somebody was told where a log begins, by a request sent at `began`.
    pub fn told_start(&self, reader: &str, partition: Partition, began: Tick, start: i64) {
        let problem = {
            let mut state = self.state.lock();
            let tick = state.next();
            let log = state.logs.entry(partition).or_default();
            let floor = log.starts.floor(began);
            log.starts.tells(tick, start);
            log.told_end(tick, start);
            match start < floor {
                true => Some(format!("it began at {floor} before")),
                false => state.deleted_too_much(partition, start),
            }
        };
        if let Some(problem) = problem.filter(|_| !self.is_doomed(partition.0)) {
            let partition = show(partition);
            self.violation(&format!("{reader} was told that {partition} begins at {start}: {problem}"));
        }
    }

    /// A fetch at `position`, sent at `began`, was out of range.
    pub fn out_of_range(&self, reader: &str, partition: Partition, began: Tick, position: i64) {
        let is_behind = {
            let state = self.state.lock();
            let end = state.logs.get(&partition).and_then(|log| log.ends.range(..=began).next_back());
            end.is_none_or(|(_, end)| *end < position)
        };
        if is_behind && position > 0 && !self.is_doomed(partition.0) {
            let partition = show(partition);
            self.violation(&format!("{reader}: {position} of {partition} is out of range, behind the end"));
            return;
        }
        // It begins behind that, wherever it was said to begin.
        let at_least = self.state.lock().logs.get(&partition).map_or(0, Log::start).max(position + 1);
        self.told_start(reader, partition, began, at_least);
    }

    /// A fetch at `position`, sent at `began`, brought records.
    pub fn in_range(&self, reader: &str, partition: Partition, began: Tick, position: i64) {
        let floor = self.state.lock().logs.get(&partition).map_or(0, |log| log.starts.floor(began));
        if position < floor && !self.is_doomed(partition.0) {
            let partition = show(partition);
            self.violation(&format!(
                "{reader} reads {position} of {partition}, which began at {floor} before"
            ));
        }
    }

    /// Everything has been quiet for long: what has been expired for longer than `lag` is gone.
    pub fn all_has_expired(&self, lag: Duration) {
        let mut problems = Vec::new();
        {
            let state = self.state.lock();
            for (partition, log) in &state.logs {
                let Some(expiry) = state.expiring.get(&partition.0).filter(|expiry| expiry.exact) else {
                    continue;
                };
                let before = now_ms() - milliseconds(expiry.after) - milliseconds(lag);
                // Behind one that stays all stay.
                let stays = log.times.range(log.start()..).next();
                if let Some((offset, time)) = stays.filter(|(_, time)| **time < before)
                    && !state.doomed.contains_key(&partition.0)
                {
                    let partition = show(*partition);
                    problems.push(format!(
                        "{offset} of {partition}, of {time}, is there still: what is before {before} has expired"
                    ));
                }
            }
        }
        for problem in problems.iter().take(5) {
            self.violation(problem);
        }
    }
}
