use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use penstock_types::{PartitionIndex, Randomness, SeededRandomness, TopicId};

use super::*;
use crate::keys::group::{CHUNK_BYTES, StoredState, member_key};
use crate::keys::group_offset::CommittedOffset;
use crate::keys::topic::row_key;
use crate::kv::memory::{MemoryFaults, MemoryStore};
use crate::kv::{Priority, Store, WriteConflict};

const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

struct World {
    memory: Arc<MemoryStore>,
    keyspace: Keyspace,
    randomness: Arc<SeededRandomness>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let randomness = Arc::new(SeededRandomness::new(seed));
        let memory = MemoryStore::new(Arc::clone(&randomness) as Arc<dyn Randomness>);
        let world = Self { memory, keyspace: Keyspace::new(b"c"), randomness };
        world.set_topic(TOPIC, true).await;
        world
    }

    fn groups(&self) -> Groups {
        let store: SharedStore = Arc::clone(&self.memory) as SharedStore;
        Groups::new(store, self.keyspace.clone(), self.randomness.next_u64(), Duration::from_secs(30))
    }

    /// Only whether there is a row counts here.
    async fn set_topic(&self, topic: TopicId, exists: bool) {
        let mut txn = self.memory.begin(Priority::Default);
        let key = row_key(&self.keyspace, topic);
        if exists {
            txn.set(&key, b"row", WriteConflict::Yes);
        } else {
            txn.clear(&key, WriteConflict::Yes);
        }
        txn.commit().await.expect("a commit without conflicts");
    }
}

fn header(generation: i32, state: StoredState) -> GroupHeader {
    GroupHeader {
        generation,
        state,
        protocol_type: Some("consumer".to_owned()),
        leader: Some("m".to_owned()),
        ..GroupHeader::new(7)
    }
}

fn member(metadata: usize) -> StoredMember {
    StoredMember {
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocols: vec![("range".to_owned(), Bytes::from(vec![9; metadata]))],
        assignment: Bytes::from_static(b"a"),
    }
}

fn write(generation: i32, members: &[(&str, usize)]) -> GroupWrite {
    let state = if members.is_empty() { StoredState::Empty } else { StoredState::Stable };
    GroupWrite {
        header: header(generation, state),
        changed: members.iter().map(|(id, bytes)| ((*id).to_owned(), member(*bytes))).collect(),
        removed: Vec::new(),
    }
}

fn commit(generation: Option<i32>, partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        generation,
        topic: "t".to_owned(),
        partition: PartitionIndex::new(partition),
        value: CommittedOffset {
            offset,
            leader_epoch: 0,
            topic_id: TOPIC,
            committed_at_ms: 1,
            expires_at_ms: None,
            metadata: "x".to_owned(),
        },
    }
}

fn offsets(stored: &StoredOffsets) -> BTreeMap<(String, i32), i64> {
    let flat = stored.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |(partition, value)| ((topic.clone(), partition.get()), value.offset))
    });
    flat.collect()
}

fn is_fenced<T: std::fmt::Debug>(result: &Result<T, GroupError>) -> bool {
    matches!(result, Err(GroupError::Fenced { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_finds_everything_and_fences_the_former() {
    let world = World::new(1).await;
    let (first, second) = (world.groups(), world.groups());
    let (fence, stored) = first.claim("g").await.expect("claim");
    assert_eq!((fence, stored), (Fence::Absent, None));
    let large = 3 * CHUNK_BYTES + 17;
    let fence = first.write("g", fence, &write(4, &[("m", large), ("n", 1)])).await.expect("write");
    let before = second.read("g").await.expect("read").expect("a group");
    let (new, stored) = second.claim("g").await.expect("claim");
    let stored = stored.expect("a group");
    assert_eq!(stored, before);
    assert_eq!(stored.header, header(4, StoredState::Stable));
    assert_eq!(stored.members["m"], member(large));
    assert_eq!(stored.members.len(), 2);
    assert!(is_fenced(&first.write("g", fence, &write(5, &[])).await));
    assert!(is_fenced(&first.commit_offsets("g", fence, &[commit(Some(4), 0, 1)]).await));
    assert!(is_fenced(&first.remove_offsets("g", fence, &|_, _, _| true).await));
    assert!(is_fenced(&first.delete("g", fence).await));
    let next = GroupWrite { removed: vec!["m".to_owned()], ..write(5, &[("n", 2)]) };
    second.write("g", new, &next).await.expect("the new coordinator writes");
    let stored = second.read("g").await.expect("read").expect("a group");
    assert_eq!(stored.members.keys().collect::<Vec<_>>(), ["n"]);
    assert_eq!(stored.members["n"], member(2));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_deleted_and_made_anew_is_another() {
    let world = World::new(2).await;
    let (first, second) = (world.groups(), world.groups());
    let old = first.write("g", Fence::Absent, &write(1, &[("m", 1)])).await.expect("write");
    let (claimed, _) = second.claim("g").await.expect("claim");
    second.delete("g", claimed).await.expect("delete");
    assert_eq!(second.read("g").await.expect("read"), None);
    assert!(is_fenced(&first.write("g", old, &write(2, &[])).await));
    second.write("g", Fence::Absent, &write(0, &[])).await.expect("made anew");
    assert!(is_fenced(&first.write("g", old, &write(2, &[])).await));
    assert!(is_fenced(&first.commit_offsets("g", old, &[commit(None, 0, 1)]).await));
    // Two that both find no group: one makes it.
    assert!(is_fenced(&first.write("g", Fence::Absent, &write(2, &[])).await));
}

#[tokio::test(start_paused = true)]
async fn commits_keep_to_the_generation_and_to_the_life_of_the_topic() {
    let world = World::new(3).await;
    let groups = world.groups();
    let fence = groups.write("g", Fence::Absent, &write(3, &[("m", 1)])).await.expect("write");
    let tried = [commit(Some(3), 0, 10), commit(Some(2), 1, 11), commit(None, 2, 12), commit(Some(3), 0, 13)];
    let answers = groups.commit_offsets("g", fence, &tried).await.expect("commit");
    let (other, members) = (CommitRefusal::OtherGeneration, CommitRefusal::HasMembers);
    assert_eq!(answers, [Ok(()), Err(other), Err(members), Ok(())]);
    let all = groups.fetch_all_offsets("g").await.expect("fetch");
    assert_eq!(offsets(&all), BTreeMap::from([(("t".to_owned(), 0), 13)]));
    let asked = [("t", PartitionIndex::new(0)), ("t", PartitionIndex::new(1)), ("u", PartitionIndex::new(0))];
    assert_eq!(groups.fetch_offsets("g", &asked).await.expect("fetch"), all);
    world.set_topic(TOPIC, false).await;
    assert!(groups.fetch_all_offsets("g").await.expect("fetch").is_empty());
    assert!(groups.fetch_offsets("g", &asked).await.expect("fetch").is_empty());
    let answers = groups.commit_offsets("g", fence, &tried[..1]).await.expect("commit");
    assert_eq!(answers, [Err(CommitRefusal::TopicDeleted)]);
    let removed = groups.remove_offsets("g", fence, &|_, _, _| false).await.expect("remove");
    assert_eq!(removed, Removed { removed: 1, left: 0 });
}

#[tokio::test(start_paused = true)]
async fn more_offsets_than_fit_in_a_transaction_are_committed_and_read() {
    let world = World::new(4).await;
    let groups = world.groups();
    let fence = groups.write("g", Fence::Absent, &write(0, &[])).await.expect("write");
    let long = |partition| {
        let mut commit = commit(None, partition, i64::from(partition));
        commit.value.metadata = "m".repeat(1_000);
        commit
    };
    let many: Vec<_> = (0..7_000).map(long).collect();
    let answers = groups.commit_offsets("g", fence, &many).await.expect("commit");
    assert_eq!(answers, vec![Ok(()); many.len()]);
    let all = groups.fetch_all_offsets("g").await.expect("fetch");
    assert_eq!(all["t"].len(), many.len());
    let odd = |_: &str, partition: PartitionIndex, _: &CommittedOffset| partition.get() % 2 == 1;
    let removed = groups.remove_offsets("g", fence, &odd).await.expect("remove");
    assert_eq!(removed, Removed { removed: 3_500, left: 3_500 });
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_given_up_never_lands_behind_a_later_one() {
    let world = World::new(5).await;
    let groups = world.groups();
    let fence = groups.write("g", Fence::Absent, &write(0, &[])).await.expect("write");
    // Every commit of this kind hangs and may land at any time: the client gives up.
    world.memory.set_faults(MemoryFaults {
        unknown_applied_later: 1.0,
        applied_later_after: Duration::from_secs(3_600)..Duration::from_secs(3_601),
        ..MemoryFaults::default()
    });
    let hasty = Groups { policy: Policy { attempts: 1, ..groups.policy }, ..groups.clone() };
    let given_up = hasty.commit_offsets("g", fence, &[commit(None, 0, 5)]).await;
    assert!(matches!(given_up, Err(GroupError::Store { outcome: Outcome::MayHaveHappened, .. })));
    world.memory.set_faults(MemoryFaults::default());
    groups.commit_offsets("g", fence, &[commit(None, 0, 9)]).await.expect("commit");
    assert_eq!(world.memory.parked_commits(), 1);
    assert_eq!(world.memory.land_parked_commits(), 0, "the old commit conflicts");
    assert_eq!(
        offsets(&groups.fetch_all_offsets("g").await.expect("fetch")).into_values().collect::<Vec<_>>(),
        [9]
    );
}

#[tokio::test(start_paused = true)]
async fn under_faults_every_write_happens_once_and_in_order() {
    for seed in 0..40 {
        let world = World::new(seed).await;
        world.memory.set_faults(MemoryFaults {
            conflict: 0.1,
            unknown_applied: 0.15,
            unknown_not_applied: 0.15,
            unknown_applied_later: 0.15,
            too_old: 0.05,
            unavailable: 0.05,
            ..MemoryFaults::default()
        });
        let groups = world.groups();
        let mut fence = Fence::Absent;
        for round in 1..20_i32 {
            fence = groups.write("g", fence, &write(round, &[("m", 10)])).await.expect("write");
            let Fence::Held { revision, .. } = fence else { panic!("seed {seed}: not held") };
            assert_eq!(revision, round as u64, "seed {seed}");
            let answers =
                groups.commit_offsets("g", fence, &[commit(Some(round), 0, i64::from(round))]).await;
            assert_eq!(answers.expect("commit"), [Ok(())], "seed {seed}");
            let all = groups.fetch_all_offsets("g").await.expect("fetch");
            assert_eq!(all["t"][&PartitionIndex::new(0)].offset, i64::from(round), "seed {seed}");
            if round % 7 == 0 {
                let (claimed, stored) = groups.claim("g").await.expect("claim");
                assert_eq!(stored.expect("a group").header.generation, round, "seed {seed}");
                assert!(is_fenced(&groups.write("g", fence, &write(99, &[])).await), "seed {seed}");
                groups.delete("g", claimed).await.expect("delete");
                assert_eq!(groups.read("g").await.expect("read"), None, "seed {seed}");
                fence = Fence::Absent;
                fence = groups.write("g", fence, &write(round, &[("m", 10)])).await.expect("write");
                for _ in 1..round {
                    fence = groups.write("g", fence, &write(round, &[("m", 10)])).await.expect("write");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_id_in_pages() {
    let world = World::new(6).await;
    let groups = world.groups();
    for name in ["b", "", "a", "a\u{0}"] {
        groups.write(name, Fence::Absent, &write(1, &[])).await.expect("write");
    }
    let mut after: Option<String> = None;
    let mut listed = Vec::new();
    loop {
        let page = groups.list(after.as_deref(), 1).await.expect("list");
        listed.extend(page.groups.into_iter().map(|(group, _)| group));
        after = listed.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, ["", "a", "a\u{0}", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_with_a_missing_chunk_is_an_error() {
    let world = World::new(7).await;
    let groups = world.groups();
    groups.write("g", Fence::Absent, &write(1, &[("m", 2 * CHUNK_BYTES)])).await.expect("write");
    let mut txn = world.memory.begin(Priority::Default);
    txn.clear(&member_key(&world.keyspace, "g", "m", 1), WriteConflict::Yes);
    txn.commit().await.expect("clear");
    let failed = groups.claim("g").await;
    assert!(matches!(failed, Err(GroupError::Store { error: StoreError::Failed { .. }, .. })), "{failed:?}");
}
