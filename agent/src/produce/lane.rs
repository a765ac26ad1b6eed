//! The order of commits inside an agent, as a pure structure: uploads run in parallel, and an object is committed only
//! behind the agent's earlier objects with which it shares a partition. Objects that are ready together share a
//! transaction.

use std::collections::{BTreeMap, BTreeSet};

use penstock_types::TopicPartition;

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Uploading,
    Ready,
    Committing,
}

#[derive(Debug)]
struct Entry<T> {
    state: State,
    partitions: BTreeSet<TopicPartition>,
    /// About how many bytes of a transaction it takes.
    metadata_bytes: usize,
    object: Option<T>,
}

/// Objects between flush and commit, by the order of their flush.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    entries: BTreeMap<u64, Entry<T>>,
    next: u64,
    transaction_bytes: usize,
}

impl<T> Lane<T> {
    /// An empty lane whose transactions take about `transaction_bytes`, or one object.
    pub(crate) fn new(transaction_bytes: usize) -> Self {
        Self { entries: BTreeMap::new(), next: 0, transaction_bytes }
    }

    /// An object begins its upload; answers its number.
    pub(crate) fn begin(&mut self, partitions: BTreeSet<TopicPartition>, metadata_bytes: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let entry = Entry { state: State::Uploading, partitions, metadata_bytes, object: None };
        self.entries.insert(number, entry);
        number
    }

    /// Its upload is done.
    ///
    /// # Panics
    /// If it isn't uploading.
    pub(crate) fn uploaded(&mut self, number: u64, object: T) {
        let entry = self.entries.get_mut(&number).expect("an upload that ends was begun");
        assert_eq!(entry.state, State::Uploading, "an upload ends once");
        entry.state = State::Ready;
        entry.object = Some(object);
    }

    /// It is over: committed, or failed.
    pub(crate) fn finish(&mut self, number: u64) {
        self.entries.remove(&number);
    }

    /// Objects behind `number` that are uploaded but not being committed.
    pub(crate) fn ready_behind(&mut self, number: u64) -> impl Iterator<Item = &mut T> {
        self.entries.range_mut(number + 1..).filter_map(|(_, entry)| match entry.state {
            State::Ready => entry.object.as_mut(),
            State::Uploading | State::Committing => None,
        })
    }

    /// The number that the next object will get.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The number of the oldest object under way.
    pub(crate) fn first_number(&self) -> Option<u64> {
        self.entries.keys().next().copied()
    }

    /// How many objects are under way.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The next objects to be committed together, in their order; from then on they are being committed. Empty if
    /// none may be.
    pub(crate) fn next_group(&mut self) -> Vec<(u64, T)> {
        let mut blocked: BTreeSet<TopicPartition> = BTreeSet::new();
        let mut group = Vec::new();
        let mut bytes = 0;
        for (number, entry) in &mut self.entries {
            let fits = group.is_empty() || bytes + entry.metadata_bytes <= self.transaction_bytes;
            let in_order =
                entry.partitions.is_disjoint(&blocked) || penstock_types::planted!("lane-out-of-order");
            let free = entry.state == State::Ready && fits && in_order;
            if !free {
                blocked.extend(entry.partitions.iter().copied());
                continue;
            }
            if let Some(object) = entry.object.take() {
                entry.state = State::Committing;
                bytes += entry.metadata_bytes;
                group.push((*number, object));
            }
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_types::{PartitionIndex, TopicId};
    use proptest::prelude::*;

    fn partitions(numbers: &[i32]) -> BTreeSet<TopicPartition> {
        numbers
            .iter()
            .map(|number| TopicPartition { topic: TopicId::NIL, partition: PartitionIndex::new(*number) })
            .collect()
    }

    fn numbers(group: &[(u64, u64)]) -> Vec<u64> {
        group.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_slow_upload_holds_up_only_what_shares_its_partitions() {
        let mut lane = Lane::new(1_000);
        let slow = lane.begin(partitions(&[1]), 1);
        let same = lane.begin(partitions(&[1, 2]), 1);
        let behind = lane.begin(partitions(&[2]), 1);
        let other = lane.begin(partitions(&[3]), 1);
        for number in [same, behind, other] {
            lane.uploaded(number, number);
        }
        assert_eq!(numbers(&lane.next_group()), [other]);
        assert!(lane.next_group().is_empty());
        lane.uploaded(slow, slow);
        assert_eq!(numbers(&lane.next_group()), [slow, same, behind]);
    }

    #[test]
    fn a_full_transaction_leaves_the_rest_for_later_and_in_order() {
        let mut lane = Lane::new(10);
        for _ in 0..3 {
            let number = lane.begin(partitions(&[1]), 6);
            lane.uploaded(number, number);
        }
        assert_eq!(numbers(&lane.next_group()), [0]);
        assert!(lane.next_group().is_empty(), "the second shares a partition with what is being committed");
        lane.finish(0);
        assert_eq!(numbers(&lane.next_group()), [1]);
    }

    proptest! {
        /// Whatever finishes when: objects of one partition are committed in their order, and all are in the end.
        #[test]
        fn every_partition_is_committed_in_order(
            objects in prop::collection::vec(prop::collection::btree_set(0i32..5, 1..4), 1..30),
            choices in prop::collection::vec(any::<u16>(), 200),
        ) {
            let mut lane = Lane::new(7);
            let mut uploading = Vec::new();
            let mut committing: Vec<u64> = Vec::new();
            let mut committed: Vec<u64> = Vec::new();
            for set in &objects {
                let set: Vec<i32> = set.iter().copied().collect();
                uploading.push(lane.begin(partitions(&set), 3));
            }
            let mut choices = choices.into_iter().cycle();
            while lane.len() > 0 {
                let choice = usize::from(choices.next().unwrap_or(0));
                if !uploading.is_empty() && (choice % 2 == 0 || committing.is_empty()) {
                    let number = uploading.remove(choice / 2 % uploading.len());
                    lane.uploaded(number, number);
                } else if !committing.is_empty() {
                    let number = committing.remove(choice / 2 % committing.len());
                    lane.finish(number);
                }
                loop {
                    let group = lane.next_group();
                    if group.is_empty() { break; }
                    committing.extend(group.iter().map(|(number, _)| *number));
                    committed.extend(group.iter().map(|(number, _)| *number));
                }
            }
            prop_assert_eq!(committed.len(), objects.len());
            for partition in 0..5 {
                let order: Vec<u64> = committed
                    .iter().copied().filter(|number| objects[*number as usize].contains(&partition)).collect();
                prop_assert!(order.is_sorted());
            }
        }
    }
}
