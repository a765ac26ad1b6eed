//! Look-ups by time: the first record whose time is not below the one that is asked for.

use super::{Oracle, Partition, show};

impl Oracle {
    /// A reader saw when a record was made.
    pub fn saw_time(&self, partition: Partition, offset: i64, time_ms: i64) {
        let mut state = self.state.lock();
        state.logs.entry(partition).or_default().times.insert(offset, time_ms);
    }

    /// The first record that is known to be of `since_ms` or later.
    pub fn first_since(&self, partition: Partition, since_ms: i64) -> Option<i64> {
        let state = self.state.lock();
        let times = &state.logs.get(&partition)?.times;
        times.iter().find(|(_, time)| **time >= since_ms).map(|(offset, _)| *offset)
    }

    /// Somebody was told which record is the first since a time, and its time; -1 if there is none. `known` was the first
    /// that was known before it was asked.
    pub fn told_first_since(
        &self,
        reader: &str,
        partition: Partition,
        since_ms: i64,
        known: Option<i64>,
        (offset, time_ms): (i64, i64),
    ) {
        if self.is_doomed(partition.0) {
            return;
        }
        // What was the first may be deleted by now.
        let known = known.filter(|_| !self.is_deletable(partition));
        let first = self.first_since(partition, since_ms).filter(|_| !self.is_deletable(partition));
        let its_own = self.state.lock().logs.get(&partition).and_then(|log| log.times.get(&offset).copied());
        let is_wrong = match offset {
            -1 => known.is_some(),
            _ => {
                time_ms < since_ms
                    || its_own.is_some_and(|own| own != time_ms)
                    || known.is_some_and(|known| known < offset)
                    || first.is_some_and(|first| first < offset)
            }
        };
        if is_wrong {
            let partition = show(partition);
            self.violation(&format!(
                "{reader} was told that {offset} of {time_ms} is the first of {partition} since {since_ms}; known is {first:?}, \
                 and the time {its_own:?}"
            ));
        }
    }
}
