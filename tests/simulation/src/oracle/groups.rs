//! What consumer groups must keep: a partition has one owner in a generation; nothing of an older generation is taken
//! once a member knows of a newer one; committed offsets are what somebody committed, and never go back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Partition, Tick, show};

/// The groups of a run.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// When the first member learned of a generation.
    generations: BTreeMap<i32, Tick>,
    leaders: BTreeMap<i32, String>,
    owners: BTreeMap<(i32, Partition), String>,
    commits: BTreeMap<Partition, Commits>,
    delivered: BTreeMap<Partition, BTreeSet<i64>>,
}

#[derive(Debug, Default)]
struct Commits {
    /// All that anybody tried to commit, and when first.
    tried: BTreeMap<i64, Tick>,
    /// What was acknowledged, by the event after which that was so: ascending, but for what came late.
    floor: BTreeMap<Tick, i64>,
    /// What may be committed yet, with its generation.
    open: Vec<(i32, i64)>,
}

impl Groups {
    fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// A member learned that it is in a generation, and who leads it.
    pub(crate) fn joined(
        &mut self,
        now: Tick,
        group: &str,
        generation: i32,
        leader: &str,
    ) -> Result<(), String> {
        let state = self.group(group);
        state.generations.entry(generation).or_insert(now);
        let known = state.leaders.entry(generation).or_insert_with(|| leader.to_owned());
        if known != leader {
            return Err(format!("generation {generation} of {group} is led by {known} and by {leader}"));
        }
        Ok(())
    }

    /// A member was given partitions.
    pub(crate) fn assigned(
        &mut self,
        group: &str,
        generation: i32,
        member: &str,
        partitions: &[Partition],
    ) -> Result<(), String> {
        let state = self.group(group);
        for partition in partitions {
            let owner = state.owners.entry((generation, *partition)).or_insert_with(|| member.to_owned());
            if owner != member {
                let partition = show(*partition);
                return Err(format!(
                    "{partition} belongs to {owner} and {member} in generation {generation} of {group}"
                ));
            }
        }
        Ok(())
    }

    /// A member is about to commit an offset.
    pub(crate) fn commits(
        &mut self,
        now: Tick,
        group: &str,
        generation: i32,
        (partition, offset): (Partition, i64),
    ) {
        let commits = self.group(group).commits.entry(partition).or_default();
        commits.tried.entry(offset).or_insert(now);
        commits.open.push((generation, offset));
    }

    /// A commit sent at `began` was acknowledged.
    pub(crate) fn committed(
        &mut self,
        (began, now): (Tick, Tick),
        group: &str,
        generation: i32,
        (partition, offset): (Partition, i64),
    ) -> Result<(), String> {
        let state = self.group(group);
        let newer = state.generations.range(generation + 1..).find(|(_, since)| **since < began);
        if let Some((newer, _)) = newer {
            return Err(format!(
                "{group} took an offset of generation {generation} after a member was in generation {newer}"
            ));
        }
        let commits = state.commits.entry(partition).or_default();
        commits.closed(generation, offset);
        if commits.floor.values().next_back().is_none_or(|last| *last <= offset) {
            commits.floor.insert(now, offset);
        }
        Ok(())
    }

    /// A commit was refused: it did not happen.
    pub(crate) fn refused(&mut self, group: &str, generation: i32, partition: Partition, offset: i64) {
        self.group(group).commits.entry(partition).or_default().closed(generation, offset);
    }

    /// A member read a committed offset, with a request sent at `began`; -1 is none.
    pub(crate) fn read(
        &mut self,
        (began, now): (Tick, Tick),
        group: &str,
        generation: i32,
        partition: Partition,
        offset: i64,
    ) -> Result<(), String> {
        let commits = self.group(group).commits.entry(partition).or_default();
        let floor = commits.floor.range(..=began).next_back().map_or(-1, |(_, offset)| *offset);
        let late = commits.open.iter().any(|(_, open)| *open == offset);
        if offset < floor {
            if !late {
                let partition = show(partition);
                return Err(format!(
                    "{group} is at {offset} of {partition} in generation {generation}, and was at {floor}"
                ));
            }
            // A client asked for it, gave up waiting, and asked for more on another connection; the first one took
            // its time on the network. From here on the group is there.
            commits.floor.insert(now, offset);
        }
        if offset >= 0 && !commits.tried.contains_key(&offset) {
            let partition = show(partition);
            return Err(format!("{group} is at {offset} of {partition}, which nobody committed"));
        }
        // Once a member of a later generation reads, nothing of an earlier one is to come.
        commits.open.retain(|(of, _)| *of >= generation);
        Ok(())
    }

    /// A member was given a record.
    pub(crate) fn delivered(&mut self, group: &str, partition: Partition, offset: i64) {
        self.group(group).delivered.entry(partition).or_default().insert(offset);
    }

    /// The metadata are those of a backup taken at `mark`: groups are where they were then, or where somebody had begun to
    /// commit; members and generations begin anew.
    pub(super) fn restored(&mut self, mark: Tick, ends: &BTreeMap<Partition, i64>) {
        for group in self.groups.values_mut() {
            group.generations.clear();
            group.leaders.clear();
            group.owners.clear();
            for commits in group.commits.values_mut() {
                commits.floor.retain(|told, _| *told <= mark);
                commits.tried.retain(|_, tried| *tried <= mark);
                let Commits { tried, open, .. } = commits;
                open.retain(|(_, offset)| tried.contains_key(offset));
            }
            for (partition, given) in &mut group.delivered {
                let end = ends.get(partition).copied().unwrap_or(0);
                given.retain(|offset| *offset < end);
            }
        }
    }

    /// What a group committed is what it was given, above where logs begin by now.
    pub(crate) fn final_check(&self, start: impl Fn(Partition) -> i64) -> Result<(), String> {
        for (name, group) in &self.groups {
            for (partition, commits) in &group.commits {
                let end = commits.floor.values().next_back().copied().unwrap_or(0);
                let given = group.delivered.get(partition);
                let missing =
                    (start(*partition)..end).find(|offset| given.is_none_or(|given| !given.contains(offset)));
                if let Some(missing) = missing {
                    let partition = show(*partition);
                    return Err(format!(
                        "{name} committed {end} of {partition} and was never given {missing}"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Commits {
    fn closed(&mut self, generation: i32, offset: i64) {
        if let Some(index) = self.open.iter().position(|open| *open == (generation, offset)) {
            self.open.remove(index);
        }
    }
}
