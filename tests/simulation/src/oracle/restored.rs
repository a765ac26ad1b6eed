//! What has to be left when the metadata were restored from a backup: everything that was acknowledged before the backup
//! was taken, where it was; of what came behind it, what the backup happens to hold; and nothing of the older life that
//! comes later.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Log, Oracle, Partition, State, Status, Tick, show};

/// Where the new life of the metadata begins.
#[derive(Debug)]
pub(super) struct Restored {
    at: Tick,
    ends: BTreeMap<Partition, i64>,
}

impl Restored {
    /// Why a record first sent at `first` must not stand at `offset`, if so: it was sent in the older life, and what is
    /// there belongs to the new one.
    pub(super) fn refuses(
        restored: Option<&Self>,
        partition: Partition,
        offset: i64,
        first: Tick,
    ) -> Option<String> {
        let restored = restored.filter(|restored| first < restored.at)?;
        let end = restored.ends.get(&partition).copied()?;
        (offset >= end).then(|| {
            let partition = show(partition);
            format!("{offset} of {partition} is of the older life, which was restored up to {end}")
        })
    }
}

impl Oracle {
    /// The metadata are those of a backup that was taken at `mark`; an agent of the new life says where logs end in it.
    /// What was told behind the mark is forgotten, where the backup does not hold it.
    pub fn restored(&self, mark: Tick, ends: &BTreeMap<Partition, i64>) {
        let mut problems = Vec::new();
        {
            let mut state = self.state.lock();
            let at = state.next();
            problems.extend(state.restore_topics(mark, at, ends));
            problems.extend(state.restore_logs(mark, at, ends));
            state.ids.retain(|_, (_, given)| *given <= mark);
            state.groups.restored(mark, ends);
            state.restored = Some(Restored { at, ends: ends.clone() });
        }
        for problem in problems.iter().take(5) {
            self.violation(&format!("restored: {problem}"));
        }
    }
}

impl State {
    fn restore_topics(&mut self, mark: Tick, at: Tick, ends: &BTreeMap<Partition, i64>) -> Vec<String> {
        let mut problems = Vec::new();
        let there: BTreeSet<Uuid> = ends.keys().map(|(topic, _)| *topic).collect();
        // Deleted behind the mark, or asked for before it and not done: they are back.
        self.doomed.retain(|topic, asked| *asked <= mark && !there.contains(topic));
        self.deleted.retain(|_, told| *told <= mark);
        problems.extend(self.deleted.keys().filter(|topic| there.contains(*topic)).map(|topic| {
            format!("topic {topic}, whose deletion was acknowledged before the backup, is there")
        }));
        let known: BTreeSet<Uuid> = self.sent.values().map(|sent| sent.partition.0).collect();
        for topic in known.difference(&there) {
            let of_the_backup = self
                .sent
                .values()
                .find(|sent| sent.partition.0 == *topic && sent.acknowledged.is_some_and(|told| told < mark));
            if of_the_backup.is_some() && !self.doomed.contains_key(topic) {
                problems.push(format!("topic {topic} had records before the backup, and is not there"));
            }
            // Made behind the mark: whatever it was, it is gone.
            self.doomed.entry(*topic).or_insert(at);
        }
        problems
    }

    fn restore_logs(&mut self, mark: Tick, at: Tick, ends: &BTreeMap<Partition, i64>) -> Vec<String> {
        let mut problems = Vec::new();
        let Self { sent, logs, doomed, .. } = self;
        for (partition, log) in logs.iter_mut().filter(|(partition, _)| !doomed.contains_key(&partition.0)) {
            let end = ends.get(partition).copied().unwrap_or(0);
            let told = log.ends.range(..=mark).next_back().map_or(0, |(_, end)| *end);
            if told > end {
                let partition = show(*partition);
                problems.push(format!("{partition} ends at {end}, and ended at {told} before the backup"));
            }
            log.cut(mark, at, end);
        }
        for (id, sent) in sent.iter_mut().filter(|(_, sent)| !doomed.contains_key(&sent.partition.0)) {
            let end = ends.get(&sent.partition).copied().unwrap_or(0);
            let in_the_backup = sent.acknowledged.is_some_and(|told| told < mark);
            match sent.status {
                Status::Acknowledged(Some(offset)) if offset >= end && in_the_backup => {
                    let partition = show(sent.partition);
                    problems.push(format!(
                        "{id} was acknowledged at {offset} of {partition} before the backup, which ends at {end}"
                    ));
                }
                Status::Acknowledged(Some(offset)) if offset < end => {}
                Status::Acknowledged(None) if in_the_backup => {}
                Status::Acknowledged(_) | Status::Open | Status::Unknown => sent.status = Status::Unknown,
            }
        }
        problems
    }
}

impl Log {
    /// Forgets what stood from `end` on, and what was deleted behind `mark`.
    fn cut(&mut self, mark: Tick, at: Tick, end: i64) {
        self.starts.restored(mark);
        self.gaps.restored(mark, end);
        for (offset, id) in self.records.split_off(&end) {
            if let Some(offsets) = self.offsets.get_mut(&id) {
                offsets.remove(&offset);
                if offsets.is_empty() {
                    self.offsets.remove(&id);
                }
            }
        }
        self.times.split_off(&end);
        self.ends.retain(|_, told| *told <= end);
        self.told_end(at, end);
    }
}
