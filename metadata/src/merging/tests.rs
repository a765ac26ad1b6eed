use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use penstock_types::{Incarnation, ObjectId, Offset, StoreVersion, Versionstamp};

use super::*;
use crate::burial::{Buried, Dead};
use crate::collection::{RowWalk, raise_cutoff};
use crate::fold::BatchEntry;
use crate::keys::index::{self, PackedIndex};
use crate::keys::merge_queue::{self, CommitPlace, Queued};
use crate::keys::merge_unit::Unit;
use crate::keys::object::ObjectState;
use crate::keys::{Family, checkpoint, topic};
use crate::kv::{Priority, WriteConflict};
use crate::log_starts::NewStart;
use crate::lookup::{Ahead, LogReader, PlanLimits};
use crate::testing::{BATCH_BYTES, INCARNATION, World, partition};
use crate::view::TailView;
use crate::views::Views;

const NOW: CutRules = CutRules {
    settle: Duration::ZERO,
    bytes: u64::MAX,
    section_bytes: u64::MAX,
    level_bytes: u64::MAX,
    age: Duration::ZERO,
};

/// What a worker would copy of a unit into an output: everything that the index has of its objects.
struct Transfer {
    output: Output,
    copies: Copies,
    segments: Vec<Segment>,
    batches: u64,
}

impl World {
    async fn cut(&self, level: u8) -> Option<Unit> {
        cut_unit(&self.store, &self.keyspace, INCARNATION, level, &NOW).await.expect("a store")
    }

    async fn queue(&self, level: u8) -> Vec<Queued> {
        let rows = self.rows(Family::MergeQueue).await;
        let all = rows.iter().map(|row| merge_queue::decode(&self.keyspace, row).expect("a row"));
        all.filter(|queued| queued.level == level).collect()
    }

    async fn output_id(&self, random: u64) -> ObjectId {
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        ObjectId::new(INCARNATION, version, random)
    }

    /// Plans the copy of a unit, and announces the output.
    async fn transfer(&self, unit: &Unit, partitions: &[i32], random: u64) -> Transfer {
        let sources = queued(&self.store, &self.keyspace, unit).await.expect("a store");
        let sources: BTreeSet<ObjectId> = sources.iter().map(|queued| queued.object).collect();
        let (mut copies, mut segments, mut at, mut batches) = (Copies::default(), Vec::new(), 0, 0);
        for index in partitions {
            let mut window = Window::of(partition(*index), unit.begins, unit.last);
            while let Some(page) = window.next(&self.store, &self.keyspace).await.expect("a store") {
                let (Some(first), Some(last)) = (page.values.first(), page.values.last()) else { continue };
                let segment = Segment {
                    partition: partition(*index),
                    first: first.last,
                    last: last.last,
                    section_end: 0,
                };
                for entry in page.values.iter().flat_map(|found| &found.value.entries) {
                    let crate::keys::log::LogRow::Data { object, position, batches: facts, .. } = &entry.row
                    else {
                        continue;
                    };
                    if !sources.contains(object) || entry.end_offset() <= page.log_start {
                        continue;
                    }
                    let length = facts.len() as u64 * u64::from(BATCH_BYTES);
                    copies.add(*object, *position, length, at);
                    at += length;
                    batches += facts.len() as u64;
                }
                segments.push(Segment { section_end: at, ..segment });
            }
        }
        let output = Output {
            id: self.output_id(random).await,
            size: at,
            level: unit.level + 1,
            sections: partitions.len() as u32,
            queues: true,
        };
        announce(&self.store, &self.keyspace, INCARNATION, &output).await.expect("announced");
        Transfer { output, copies, segments, batches }
    }

    async fn swap(&self, unit: &Unit, transfer: &Transfer) -> Result<Swapped, SwapError> {
        let Transfer { output, copies, segments, .. } = transfer;
        swap(&self.store, &self.keyspace, INCARNATION, unit, output, copies, segments).await
    }

    async fn end(&self, unit: &Unit) -> bool {
        end_unit(&self.store, &self.keyspace, INCARNATION, unit).await.expect("a store")
    }

    /// Everything of a log but where its bytes are: what a merge leaves as it was.
    async fn identities(&self, index: i32) -> Vec<BatchEntry> {
        let views = Views::new(Arc::clone(&self.store), self.keyspace.clone(), 10);
        let view = views.validated(&[partition(index)]).await.expect("feed").remove(0).expect("view");
        let end = view.read(TailView::high_watermark);
        let (start, limits) =
            (view.read(|view| view.log_start), PlanLimits { end, max_bytes: u64::MAX, at_least_one: true });
        let reader = LogReader::new(Arc::clone(&self.store), self.keyspace.clone());
        let mut plan = reader.plan(&view, start, limits).await.expect("a plan");
        for batch in &mut plan {
            batch.source = crate::fold::BatchSource::Object { object: nobody(), position: 0 };
        }
        plan
    }

    async fn values(&self, index: i32) -> Vec<PackedIndex> {
        let rows = self.rows(Family::Index).await;
        let of = |key: &[u8]| index::parse_key(&self.keyspace, key).expect("a key").0;
        let rows = rows.iter().filter(|row| of(&row.key) == partition(index));
        rows.map(|row| PackedIndex::decode(&row.value).expect("a value")).collect()
    }

    /// The objects of the committed rows count exactly the batches that the log refers to, and the dead ones.
    async fn check_counts(&self, partitions: &[i32], objects: &[ObjectId]) {
        let mut live: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for index in partitions {
            for (_, object, _) in self.log(*index, self.log_start(*index).await).await.0 {
                *live.entry(object).or_default() += 1;
            }
        }
        let dead = self.dead().await;
        for object in objects {
            let Some(row) = self.object(*object).await else { continue };
            if row.state == ObjectState::Committed {
                let counted = live.get(object).copied().unwrap_or(0) + dead.get(object).copied().unwrap_or(0);
                assert_eq!(row.appended(), counted, "{object}");
            }
        }
    }

    async fn log_start(&self, index: i32) -> i64 {
        let key = crate::keys::log_start::key(&self.keyspace, partition(index));
        let mut transaction = self.store.begin(Priority::Default);
        let value = transaction.get(&key, crate::kv::Isolation::Snapshot).await.expect("a store");
        crate::keys::log_start::decode(value.as_deref()).expect("an offset").get()
    }

    async fn checkpoint_seals(&self) -> i64 {
        let slot = crate::keys::feed::Slot::of(partition(0));
        let mut transaction = self.store.begin(Priority::Default);
        let key = checkpoint::seals_key(&self.keyspace, slot);
        let value = transaction.get(&key, crate::kv::Isolation::Snapshot).await.expect("a store");
        checkpoint::decode_seals(value.as_deref()).expect("a number")
    }
}

fn nobody() -> ObjectId {
    ObjectId::from_bytes([0; 20])
}

fn objects_of(log: &[(i64, ObjectId, u64)]) -> BTreeSet<ObjectId> {
    log.iter().map(|(_, object, _)| *object).collect()
}

/// Two partitions, three objects, sealed.
async fn mixed(world: &World) -> Vec<ObjectId> {
    let mut objects = Vec::new();
    for _ in 0..3 {
        objects.push(world.commit(&[(0, 2), (0, 3), (1, 1)]).await);
        world.seal(0).await;
    }
    world.seal(1).await;
    objects
}

#[tokio::test(start_paused = true)]
async fn a_merge_changes_where_bytes_are_and_nothing_else() {
    let world = World::new().await;
    let objects = mixed(&world).await;
    let queue = world.queue(0).await;
    assert_eq!(queue.iter().map(|queued| queued.object).collect::<Vec<_>>(), objects);
    let before = [world.identities(0).await, world.identities(1).await];
    let unit = world.cut(0).await.expect("a unit");
    assert_eq!((unit.objects, unit.bytes), (3, 900));
    assert_eq!(world.cut(0).await, None);
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    assert_eq!(transfer.batches, 9);
    let intent = world.object(transfer.output.id).await.expect("a row");
    assert_eq!((intent.state, intent.batches, intent.level), (ObjectState::Intent, 0, 1));
    let seals = world.checkpoint_seals().await;
    let swapped = world.swap(&unit, &transfer).await.expect("swapped");
    assert_eq!(swapped.batches, 9);
    // Three seals of a partition made three values of it: now they are one.
    assert_eq!((swapped.joined, world.values(0).await.len()), (2, 1));
    assert!(world.checkpoint_seals().await > seals, "the checkpoint is outdated");
    assert_eq!([world.identities(0).await, world.identities(1).await], before);
    let output = transfer.output.id;
    let (log, _) = world.log(0, 0).await;
    let offsets = [0, 2, 5, 7, 10, 12].into_iter().enumerate();
    let expected: Vec<_> = offsets.map(|(at, offset)| (offset, output, at as u64 * 100)).collect();
    assert_eq!(log, expected);
    assert_eq!(world.values(0).await[0].section_end, Some(600));
    assert_eq!(world.values(1).await[0].section_end, Some(900));
    let row = world.object(output).await.expect("a row");
    assert_eq!((row.state, row.appended()), (ObjectState::Committed, 9));
    assert_eq!(world.dead().await, objects.iter().map(|object| (*object, 3)).collect());
    assert_eq!(world.bury(&swapped.dead).await, Buried { objects: 3, bytes: 900, contradictions: 0 });
    // Again: as after an unknown outcome.
    assert_eq!(world.swap(&unit, &transfer).await.expect("swapped"), Swapped::default());
    assert_eq!(world.object(output).await.expect("a row").appended(), 9);
    assert!(world.end(&unit).await && !world.end(&unit).await);
    assert_eq!(world.queue(0).await, []);
    let next = world.queue(1).await;
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].object, next[0].place, next[0].first), (output, unit.last, unit.first));
    assert_eq!((next[0].size, next[0].sections), (900, 2));
    // What is trimmed afterwards is counted against the output.
    world.move_start(0, NewStart::End).await.expect("moved");
    world.move_start(1, NewStart::End).await.expect("moved");
    let mut dead = world.trim(0).await.dead;
    dead.extend(world.trim(1).await.dead);
    assert_eq!(world.bury(&dead).await, Buried { objects: 1, bytes: 900, contradictions: 0 });
    assert!(world.dead().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_an_old_view_sees_the_swap() {
    let world = World::new().await;
    let object = world.commit(&[(0, 2), (1, 1)]).await;
    let views = Views::new(Arc::clone(&world.store), world.keyspace.clone(), 10);
    let objects = async || {
        let view = views.validated(&[partition(0)]).await.expect("feed").remove(0).expect("view");
        let limits =
            PlanLimits { end: view.read(TailView::high_watermark), max_bytes: 9_999, at_least_one: true };
        let reader = LogReader::new(Arc::clone(&world.store), world.keyspace.clone());
        let plan = reader.plan(&view, Offset::ZERO, limits).await.expect("a plan");
        plan.iter()
            .map(|batch| match batch.source {
                crate::fold::BatchSource::Object { object, .. } => object,
                crate::fold::BatchSource::Marker { .. } => nobody(),
            })
            .collect::<Vec<_>>()
    };
    // Made before the seal, and valid behind it: it still has the row in its tail.
    assert_eq!(objects().await, [object]);
    world.seal(0).await;
    assert_eq!(objects().await, [object]);
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0], 1).await;
    world.swap(&unit, &transfer).await.expect("swapped");
    assert_eq!(objects().await, [transfer.output.id]);
}

#[tokio::test(start_paused = true)]
async fn what_changed_since_the_plan_is_swapped_as_it_is() {
    let world = World::new().await;
    let objects = mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    // The first object's batches go, and one batch of the second, in the middle of a row.
    world.move_start(0, NewStart::At(Offset::at(7))).await.expect("moved");
    let trimmed = world.trim(0).await;
    assert_eq!(trimmed.batches, 3);
    let swapped = world.swap(&unit, &transfer).await.expect("swapped");
    assert_eq!(swapped.batches, 6);
    let (log, start) = world.log(0, 7).await;
    assert_eq!(start, Offset::at(7));
    // Its copy lies where the whole row's was to lie, less what went.
    assert_eq!(log[0], (7, transfer.output.id, 300));
    let mut all = objects.clone();
    all.push(transfer.output.id);
    world.check_counts(&[0, 1], &all).await;
    let mut dead = trimmed.dead;
    dead.extend(swapped.dead);
    assert_eq!(world.bury(&dead).await.objects, 3);
    world.check_counts(&[0, 1], &all).await;
}

#[tokio::test(start_paused = true)]
async fn a_seal_between_plan_and_swap_is_left_to_the_next_pass() {
    let world = World::new().await;
    let first = world.commit(&[(0, 1)]).await;
    world.seal(0).await;
    let second = world.commit(&[(0, 1), (1, 1)]).await;
    let unit = world.cut(0).await.expect("a unit");
    assert!(!is_sealed(&world.store, &world.keyspace, partition(0), unit.last).await.expect("a store"));
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    assert_eq!(transfer.batches, 1);
    world.seal(0).await;
    world.seal(1).await;
    assert!(is_sealed(&world.store, &world.keyspace, partition(0), unit.last).await.expect("a store"));
    assert_eq!(world.swap(&unit, &transfer).await.expect("swapped").batches, 1);
    assert_eq!(objects_of(&world.log(0, 0).await.0), BTreeSet::from([transfer.output.id, second]));
    let rest = world.transfer(&unit, &[0, 1], 2).await;
    assert_eq!(rest.batches, 2);
    assert_eq!(world.swap(&unit, &rest).await.expect("swapped").batches, 2);
    world.check_counts(&[0, 1], &[first, second, transfer.output.id, rest.output.id]).await;
    assert_eq!(world.dead().await, BTreeMap::from([(first, 1), (second, 2)]));
}

#[tokio::test(start_paused = true)]
async fn two_that_merge_a_unit_refer_to_each_batch_once() {
    let world = World::new().await;
    let mut all = mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let mine = world.transfer(&unit, &[0, 1], 1).await;
    let others = world.transfer(&unit, &[0, 1], 2).await;
    // The other dies after its first partition.
    let half = Transfer { segments: others.segments[..1].to_vec(), ..others };
    assert_eq!(world.swap(&unit, &half).await.expect("swapped").batches, 6);
    assert_eq!(world.swap(&unit, &mine).await.expect("swapped").batches, 3);
    all.extend([mine.output.id, half.output.id]);
    world.check_counts(&[0, 1], &all).await;
    assert_eq!(world.object(half.output.id).await.expect("a row").appended(), 6);
    assert_eq!(world.object(mine.output.id).await.expect("a row").appended(), 3);
    // Both were queued by their first swap.
    assert_eq!(world.queue(1).await.len(), 2);
    assert!(world.end(&unit).await);
    // Behind the unit's end nothing is swapped any more, nor queued.
    assert_eq!(world.swap(&unit, &mine).await, Err(SwapError::UnitEnded));
}

#[tokio::test(start_paused = true)]
async fn two_swaps_at_the_same_time_conflict() {
    let world = World::new().await;
    mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let (one, two) = (world.transfer(&unit, &[0], 1).await, world.transfer(&unit, &[0], 2).await);
    let (first, second) = tokio::join!(world.swap(&unit, &one), world.swap(&unit, &two));
    let batches = |swapped: &Result<Swapped, SwapError>| match swapped {
        Ok(swapped) => swapped.batches,
        Err(SwapError::Store(crate::kv::StoreError::Conflict)) => 0,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(batches(&first) + batches(&second), 6);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_died_midway_takes_no_more() {
    let world = World::new().await;
    let objects = mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    let half = Transfer { segments: transfer.segments[..1].to_vec(), ..transfer };
    let mut dead = world.swap(&unit, &half).await.expect("swapped").dead;
    world.move_start(0, NewStart::End).await.expect("moved");
    dead.extend(world.trim(0).await.dead);
    assert_eq!(world.bury(&dead).await.objects, 1, "the output, which has nothing but what was trimmed");
    let rest = world.swap(&unit, &transfer_of(&half, &transfer.segments[1..])).await;
    assert_eq!(rest, Err(SwapError::OutputGone));
    // The rest is where it was.
    assert_eq!(objects_of(&world.log(1, 0).await.0), objects.iter().copied().collect());
    let again = world.transfer(&unit, &[0, 1], 2).await;
    assert_eq!(world.swap(&unit, &again).await.expect("swapped").batches, 3);
    assert_eq!(world.bury(&again_dead(&objects)).await.objects, 3);
}

fn transfer_of(of: &Transfer, segments: &[Segment]) -> Transfer {
    Transfer {
        output: of.output,
        copies: of.copies.clone(),
        segments: segments.to_vec(),
        batches: of.batches,
    }
}

fn again_dead(objects: &[ObjectId]) -> Dead {
    let mut dead = Dead::default();
    objects.iter().for_each(|object| dead.count(*object, 0));
    dead
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_the_sweeper_cleared_is_never_used() {
    let world = World::new().await;
    mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0], 1).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    let cutoff = raise_cutoff(&world.store, &world.keyspace, INCARNATION, Duration::from_secs(1));
    let cutoff = cutoff.await.expect("raised");
    assert!(cutoff.refuses(&transfer.output.id), "the test's versions move");
    let mut walk = RowWalk::below(&world.keyspace, cutoff);
    assert_eq!(walk.step(&world.store, &world.keyspace, INCARNATION).await, Ok(Some(1)));
    assert_eq!(world.swap(&unit, &transfer).await, Err(SwapError::OutputGone));
    let announced = announce(&world.store, &world.keyspace, INCARNATION, &transfer.output).await;
    assert_eq!(announced, Err(AnnounceError::BelowCutoff));
    assert!(world.dead().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_left_alone() {
    let world = World::new().await;
    let objects = mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&topic::row_key(&world.keyspace, partition(0).topic), WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    assert_eq!(world.swap(&unit, &transfer).await.expect("nothing to do"), Swapped::default());
    assert_eq!(objects_of(&world.log(0, 0).await.0), objects.iter().copied().collect());
    assert!(world.end(&unit).await);
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_an_earlier_life_swaps_nothing() {
    let world = World::new().await;
    mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0], 1).await;
    let key = crate::keys::cluster::cutoff_key(&world.keyspace);
    let later =
        crate::keys::cluster::Cutoff { incarnation: Incarnation::new(2), version: StoreVersion::ZERO };
    world.set(&key, &crate::keys::cluster::encode_cutoff(later)).await;
    assert!(matches!(world.swap(&unit, &transfer).await, Err(SwapError::Store(_))));
    assert!(cut_unit(&world.store, &world.keyspace, INCARNATION, 0, &NOW).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_told_how_far_it_may_ask_ahead() {
    let world = World::new().await;
    mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let transfer = world.transfer(&unit, &[0, 1], 1).await;
    world.swap(&unit, &transfer).await.expect("swapped");
    let views = Views::new(Arc::clone(&world.store), world.keyspace.clone(), 10);
    let view = views.validated(&[partition(0)]).await.expect("feed").remove(0).expect("view");
    let reader = LogReader::new(Arc::clone(&world.store), world.keyspace.clone());
    let limits = |max_bytes| PlanLimits { end: Offset::at(15), max_bytes, at_least_one: true };
    for (max_bytes, batches) in [(1, 1), (250, 2), (600, 6), (9_999, 6)] {
        let plan = reader.plan_ahead(&view, Offset::ZERO, limits(max_bytes)).await.expect("a plan");
        assert_eq!(plan.batches.len(), batches);
        assert_eq!(plan.ahead, Some(Ahead { object: transfer.output.id, end: 600 }));
    }
    let none = reader.plan_ahead(&view, Offset::at(15), limits(1)).await.expect("a plan");
    assert_eq!((none.batches.len(), none.ahead), (0, None));
}

#[tokio::test(start_paused = true)]
async fn windows_find_their_part_of_a_long_index() {
    let world = World::new().await;
    let mut units = Vec::new();
    for _ in 0..60 {
        world.commit(&[(0, 1), (0, 2)]).await;
        world.commit(&[(0, 1)]).await;
        world.seal(0).await;
        units.push(world.cut(0).await.expect("a unit"));
    }
    assert_eq!(world.values(0).await.len(), 60);
    for (index, unit) in units.iter().enumerate() {
        let mut window = Window::of(partition(0), unit.begins, unit.last);
        let mut found = Vec::new();
        while let Some(page) = window.next(&world.store, &world.keyspace).await.expect("a store") {
            found.extend(page.values.iter().map(|value| value.last.get()));
        }
        assert_eq!(found, [index as i64 * 4 + 3], "unit {index}");
    }
    // All of them together, and of a partition without an index.
    let mut window = Window::of(partition(0), units[0].begins, units[59].last);
    let mut values = 0;
    while let Some(page) = window.next(&world.store, &world.keyspace).await.expect("a store") {
        values += page.values.len();
    }
    assert_eq!(values, 60);
    let mut window = Window::of(partition(5), units[0].begins, units[59].last);
    assert_eq!(window.next(&world.store, &world.keyspace).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn levels_above_wait_for_what_comes_before() {
    let world = World::new().await;
    mixed(&world).await;
    let early = world.cut(0).await.expect("a unit");
    mixed(&world).await;
    let late = world.cut(0).await.expect("a unit");
    let of_late = world.transfer(&late, &[0, 1], 1).await;
    world.swap(&late, &of_late).await.expect("swapped");
    assert!(world.end(&late).await);
    // The early one will stand in front of it.
    assert_eq!(world.cut(1).await, None);
    let of_early = world.transfer(&early, &[0, 1], 2).await;
    world.swap(&early, &of_early).await.expect("swapped");
    assert_eq!(world.cut(1).await, None);
    assert!(world.end(&early).await);
    let above = world.cut(1).await.expect("a unit");
    assert_eq!(
        (above.objects, above.first, above.last, above.begins),
        (2, early.last, late.last, early.begins)
    );
    let of_above = world.transfer(&above, &[0, 1], 3).await;
    assert_eq!(of_above.batches, 18);
    assert_eq!(world.swap(&above, &of_above).await.expect("swapped").batches, 18);
    assert!(world.end(&above).await);
    assert!(
        world.rows(Family::MergeQueue).await.is_empty() && world.rows(Family::MergeUnit).await.is_empty()
    );
    assert_eq!(objects_of(&world.log(0, 0).await.0), BTreeSet::from([of_above.output.id]));
    assert_eq!(world.object(of_above.output.id).await.expect("a row").level, 2);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_nothing_refers_to_can_be_given_up_and_is_never_referred_to_then() {
    let world = World::new().await;
    mixed(&world).await;
    let unit = world.cut(0).await.expect("a unit");
    let (one, other) = (world.transfer(&unit, &[0], 1).await, world.transfer(&unit, &[1], 2).await);
    let given_up = async |transfer: &Transfer| {
        give_up(&world.store, &world.keyspace, INCARNATION, transfer.output.id).await.expect("a store")
    };
    assert!(given_up(&one).await);
    assert!(!given_up(&one).await, "once");
    assert_eq!(world.object(one.output.id).await.expect("a row").state, ObjectState::Tombstone);
    assert!(matches!(world.swap(&unit, &one).await, Err(SwapError::OutputGone)));
    assert_eq!(world.rows(Family::Garbage).await.len(), 1, "the collector finds it");
    assert!(world.swap(&unit, &other).await.expect("swapped").batches > 0);
    assert!(!given_up(&other).await, "something refers to it");
    assert_eq!(world.object(other.output.id).await.expect("a row").state, ObjectState::Committed);
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_is_garbage_of_its_own_kind() {
    let world = World::new().await;
    let objects = mixed(&world).await;
    // One batch of each has expired before the rest is merged.
    world.move_start(1, NewStart::End).await.expect("moved");
    let mut dead = world.trim(1).await.dead;
    let unit = world.cut(0).await.expect("a unit");
    let sources = sources(&world.store, &world.keyspace, &objects).await.expect("a store");
    assert_eq!(sources.iter().map(|source| (source.object, source.alive)).collect::<Vec<_>>(), {
        objects.iter().map(|object| (*object, 2)).collect::<Vec<_>>()
    });
    let first = front(&world.store, &world.keyspace, 0).await.expect("a store").expect("one");
    assert_eq!(first.object, objects[0]);
    let transfer = world.transfer(&unit, &[0], 1).await;
    dead.extend(world.swap(&unit, &transfer).await.expect("swapped").dead);
    assert_eq!(world.bury(&dead).await.objects, 3);
    assert!(world.rows(Family::Garbage).await.is_empty());
    let rows = world.rows(Family::MergedGarbage).await;
    let queued = rows.iter().map(|row| crate::keys::garbage::decode(&world.keyspace, row).expect("a row"));
    assert!(
        queued.map(|garbage| (garbage.object, garbage.was_merged)).eq(objects.iter().map(|id| (*id, true)))
    );
}

fn place(version: u64) -> CommitPlace {
    let stamp = Versionstamp::new(StoreVersion::new(version), 0);
    CommitPlace { incarnation: Incarnation::FIRST, stamp }
}

fn waiting(level: u8, version: u64, random: u64, size: u64, sections: u32) -> Queued {
    let object = ObjectId::new(Incarnation::FIRST, StoreVersion::new(version), random);
    Queued { level, place: place(version), object, size, sections, first: place(version - 1) }
}

#[test]
fn units_are_cut_by_bytes_by_age_and_never_within_a_commit() {
    let second = 1_000_000;
    let rules = CutRules {
        settle: Duration::from_secs(10),
        bytes: 1_000,
        section_bytes: 8,
        level_bytes: 1_000,
        age: Duration::from_secs(100),
    };
    let cut = |front: &[Queued], now: u64| {
        let now = StoreVersion::new(now * second);
        cut(front, false, now, Incarnation::FIRST, &rules).map(|unit| (unit.objects, unit.bytes))
    };
    let front: Vec<_> = (1..10).map(|at| waiting(0, at * second, at, 300, 0)).collect();
    assert_eq!(cut(&[], 50), None);
    // Nothing has settled; three have; they are full when a fourth would be too much.
    assert_eq!(cut(&front, 10), None);
    assert_eq!(cut(&front, 13), None);
    assert_eq!(cut(&front, 14), Some((3, 900)));
    assert_eq!(cut(&front[7..], 107), None);
    assert_eq!(cut(&front[7..], 108), Some((2, 600)));
    // One commit's stay together, however large.
    let together: Vec<_> = (1..10).map(|random| waiting(0, second, random, 300, 0)).collect();
    assert_eq!(cut(&together, 20), Some((9, 2_700)));
    // Above: by bytes for each partition, of two places at least.
    let above: Vec<_> = (1..10).map(|at| waiting(1, at * second, at, 300, 100)).collect();
    assert_eq!(cut(&above, 50), Some((3, 900)));
    assert_eq!(cut(&above[..2], 50), None);
    assert_eq!(cut(&above[..2], 101), Some((2, 600)));
    // Or when there is enough to do, however many the partitions are.
    let wide: Vec<_> = (1..10).map(|at| waiting(1, at * second, at, 300, 1_000)).collect();
    assert_eq!(cut(&wide, 50), Some((4, 1_200)));
    assert_eq!(cut(&wide[..3], 50), None);
    // Of an earlier incarnation: at once.
    let now = StoreVersion::new(1);
    let unit = super::cut(&front, false, now, Incarnation::new(2), &rules).expect("old");
    assert_eq!((unit.first, unit.last), (front[0].place, front[2].place));
}

#[test]
fn copies_are_found_only_where_all_bytes_were_copied() {
    let object = |n| ObjectId::new(Incarnation::FIRST, StoreVersion::new(n), n);
    let mut copies = Copies::default();
    copies.add(object(1), 100, 50, 1_000);
    copies.add(object(1), 150, 50, 2_000);
    let segments: [(u64, u64, u64); 9] = [
        (1, 100, 50),
        (1, 120, 30),
        (1, 100, 51),
        (1, 99, 1),
        (1, 150, 50),
        (1, 200, 1),
        (0, 100, 50),
        (2, 100, 50),
        (1, 160, u64::MAX),
    ];
    let found: Vec<_> =
        segments.iter().map(|(id, position, length)| copies.of(object(*id), *position, *length)).collect();
    assert_eq!(found, [Some(1_000), Some(1_020), None, None, Some(2_000), None, None, None, None]);
}

#[test]
fn rows_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let keyspace = crate::keys::Keyspace::new(b"");
    let object = ObjectId::from_bytes([9; 20]);
    let key = merge_queue::key(&keyspace, 1, place(258), object);
    assert_eq!(hex(&key), format!("23010000000100000000000001020000{}", "09".repeat(20)));
    let value = merge_queue::encode_merged(300, 2, place(257));
    assert_eq!(hex(&value), "01ac02020000000100000000000001010000");
    let row = crate::kv::Row { key: key.into(), value: value.into() };
    let queued = merge_queue::decode(&keyspace, &row).expect("a row");
    assert_eq!(
        queued,
        Queued { level: 1, place: place(258), object, size: 300, sections: 2, first: place(257) }
    );
    let mut committed = merge_queue::prefix(&keyspace, Incarnation::FIRST);
    committed.extend_from_slice(place(258).stamp.as_bytes());
    committed.extend_from_slice(object.as_bytes());
    assert_eq!(committed, merge_queue::key(&keyspace, 0, place(258), object));
    assert_eq!(hex(&merge_queue::encode_committed(300)), "01ac0200");
    let unit =
        Unit { level: 1, first: place(258), last: place(259), begins: place(257), objects: 2, bytes: 300 };
    let key = crate::keys::merge_unit::key(&keyspace, 1, unit.last);
    assert_eq!(hex(&key), "24010000000100000000000001030000");
    assert_eq!(hex(&unit.encode()), "010000000100000000000001020000000000010000000000000101000002ac02");
    let row = crate::kv::Row { key: key.into(), value: unit.encode().into() };
    assert_eq!(Unit::decode(&keyspace, &row), Ok(unit));
    // All of a place, and nothing of the next.
    let range = merge_queue::between(&keyspace, 0, place(258), place(258));
    let last = merge_queue::key(&keyspace, 0, place(258), ObjectId::from_bytes([0xFF; 20]));
    assert!(range.contains(&last) && !range.contains(&merge_queue::key(&keyspace, 0, place(259), object)));
    assert!(!merge_queue::after(&keyspace, 0, place(258)).contains(&last));
    assert!(merge_queue::after(&keyspace, 0, place(258)).contains(&merge_queue::key(
        &keyspace,
        0,
        place(259),
        ObjectId::from_bytes([0; 20])
    )));
}
