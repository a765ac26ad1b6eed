use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_types::{
    BatchPosition, LeaderEpoch, ObjectId, Offset, ProducerEpoch, ProducerId, StoreVersion, Versionstamp,
};

use super::*;
use crate::fold::BatchEntry;
use crate::keys::compaction::CompactionState;
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::index::{self, PackedIndex};
use crate::keys::log::{self, BatchFacts, LogRow, flags};
use crate::keys::object::ObjectState;
use crate::keys::topic::{deleted_key, encode_deleted};
use crate::keys::trim::Trim;
use crate::keys::{Family, compaction};
use crate::kv::{Priority, WriteConflict};
use crate::log_starts::NewStart;
use crate::lookup::{LogReader, PlanLimits};
use crate::merging::{Copies, CutRules, Output, Segment, announce, cut_unit};
use crate::testing::{BATCH_BYTES, INCARNATION, World, partition};
use crate::topics::collect_topic;
use crate::view::{PartitionView, TailView};
use crate::views::Views;

impl World {
    async fn run(&self) -> Run {
        begin(&self.store, &self.keyspace, INCARNATION, partition(0))
            .await
            .expect("a store")
            .expect("a topic")
    }

    async fn standing(&self) -> Standing {
        standing(&self.store, &self.keyspace, partition(0)).await.expect("a store").expect("a topic")
    }

    async fn output(&self, random: u64) -> Output {
        let version = self.store.begin(Priority::Default).read_version().await.expect("a version");
        let id = ObjectId::new(INCARNATION, version, random);
        let output = Output { id, size: 10_000, level: 2, sections: 1, queues: false };
        announce(&self.store, &self.keyspace, INCARNATION, &output).await.expect("announced");
        output
    }

    async fn batches(&self) -> Vec<BatchEntry> {
        let mut batches = Vec::new();
        let mut walk = Walk::new(partition(0), Offset::ZERO, Offset::at(i64::MAX));
        while let Some(page) = walk.next(&self.store, &self.keyspace).await.expect("a store") {
            batches.extend(
                page.iter()
                    .flat_map(|found| &found.value.entries)
                    .flat_map(|entry| entry.batches().collect::<Vec<_>>()),
            );
        }
        batches
    }

    /// Gives batches, by their base offsets, their fates.
    async fn changes(&self, fates: &[(i64, Fate)]) -> Changes {
        let batches = self.batches().await;
        let mut changes = Changes::default();
        for (base, fate) in fates {
            let batch = batches.iter().find(|batch| batch.base_offset.get() == *base).expect("a batch");
            changes.add(batch.at, batch.facts, *fate);
        }
        changes
    }

    async fn swapped(
        &self,
        run: &Run,
        output: Option<&Output>,
        changes: &Changes,
    ) -> Result<Swapped, SwapError> {
        let (first, last) = (Offset::ZERO, Offset::at(run.end.get() - 1));
        let stretch = Stretch { first, last, section_end: 10_000 };
        swap(&self.store, &self.keyspace, INCARNATION, run, output, changes, stretch).await
    }

    async fn view(&self) -> (Arc<PartitionView>, LogReader) {
        let views = Views::new(Arc::clone(&self.store), self.keyspace.clone(), 10);
        let view = views.validated(&[partition(0)]).await.expect("feed").remove(0).expect("view");
        (view, LogReader::new(Arc::clone(&self.store), self.keyspace.clone()))
    }

    async fn index_keys(&self) -> Vec<i64> {
        let rows = self.rows(Family::Index).await;
        let all = rows.iter().map(|row| {
            let (_, last) = index::parse_key(&self.keyspace, &row.key).expect("a key");
            let value = PackedIndex::decode(&row.value).expect("a value");
            assert_eq!(value.last_offset(), Some(last));
            last.get()
        });
        all.collect()
    }

    /// What is said of bytes is what the index has.
    async fn check_bytes(&self) {
        let (view, _) = self.view().await;
        let sealed = self.rows(Family::Seal).await;
        let sealed = crate::keys::seal::decode(Some(&sealed[0].value)).expect("a seal");
        let trim = self.rows(Family::Trim).await;
        let trim = Trim::decode(trim.first().map(|row| &row.value[..])).expect("a trim");
        let data = |batch: &BatchEntry| matches!(batch.source, crate::fold::BatchSource::Object { .. });
        let batches = self.batches().await;
        let bytes: u64 =
            batches.iter().filter(|batch| data(batch)).map(|batch| u64::from(batch.facts.length)).sum();
        assert_eq!(trim.left_of(sealed.bytes), bytes);
        assert!(view.read(TailView::high_watermark) >= sealed.next_offset);
    }

    /// Each object's row counts what refers to it, and what is dead.
    async fn check_objects(&self, objects: &[ObjectId]) {
        let mut live: BTreeMap<ObjectId, u64> = BTreeMap::new();
        for batch in self.batches().await {
            if let crate::fold::BatchSource::Object { object, .. } = batch.source {
                *live.entry(object).or_default() += 1;
            }
        }
        let dead = self.dead().await;
        for object in objects {
            let row = self.object(*object).await.expect("a row");
            if row.state == ObjectState::Committed {
                let counted = live.get(object).copied().unwrap_or(0) + dead.get(object).copied().unwrap_or(0);
                assert_eq!(row.appended(), counted, "{object}");
            }
        }
    }

    /// Appends a row as a commit of that version would.
    async fn append(&self, version: u64, row: &LogRow) {
        let stamp = Versionstamp::new(StoreVersion::new(version), 0);
        let at = BatchPosition { incarnation: INCARNATION, stamp, n: 0 };
        let mut transaction = self.store.begin(Priority::Default);
        let key = log::row_key(&self.keyspace, partition(0), &at);
        transaction.set(&key, &row.encode(), WriteConflict::Yes);
        let mut added = Counters::default();
        added.append(partition(0), row.records());
        let key = counters::key(&self.keyspace, Stripe::of(partition(0)));
        transaction.atomic_add_bytes(&key, &added.encode(), WriteConflict::No);
        transaction.commit().await.expect("a commit");
    }
}

fn moved(position: u64, length: u32, records: u32) -> Fate {
    let facts = BatchFacts { length, records, flags: 0, base_timestamp: 1, max_timestamp: 1, producer: None };
    Fate::Moved { position, facts }
}

/// Three objects of two batches each, sealed one by one: offsets 0, 2, 5, 7, 10, 12 up to 15.
async fn written(world: &World) -> Vec<ObjectId> {
    let mut objects = Vec::new();
    for _ in 0..3 {
        objects.push(world.commit(&[(0, 2), (0, 3)]).await);
        world.seal(0).await;
    }
    objects
}

fn offsets(log: &[(i64, ObjectId, u64)]) -> Vec<i64> {
    log.iter().map(|(base, ..)| *base).collect()
}

#[tokio::test(start_paused = true)]
async fn batches_leave_the_log_and_others_are_rewritten() {
    let world = World::new().await;
    let mut objects = written(&world).await;
    let run = world.run().await;
    assert_eq!((run.number, run.end, run.cleaned), (1, Offset::at(15), Offset::ZERO));
    let output = world.output(1).await;
    objects.push(output.id);
    let changes =
        world.changes(&[(0, Fate::Gone), (5, moved(0, 40, 2)), (7, Fate::Gone), (10, Fate::Gone)]).await;
    let (before, _) = world.view().await;
    let swapped = world.swapped(&run, Some(&output), &changes).await.expect("swapped");
    assert_eq!((swapped.batches, swapped.gone, swapped.bytes_gone), (1, 3, 360));
    assert_eq!(swapped.values, 1, "what is left fits into one");
    assert_eq!(world.index_keys().await, [14]);
    let (log, start) = world.log(0, 0).await;
    assert_eq!((offsets(&log), start), (vec![2, 5, 12], Offset::ZERO));
    assert_eq!(log[1], (5, output.id, 0));
    // Whoever asks for an offset that is gone gets what follows it.
    for (offset, first) in [(1, 2), (2, 2), (4, 2), (6, 5), (7, 12), (11, 12), (14, 12)] {
        assert_eq!(world.log(0, offset).await.0[0].0, first, "from {offset}");
    }
    world.check_bytes().await;
    world.check_objects(&objects).await;
    // A view of before learns of it.
    let (view, reader) = world.view().await;
    assert!(view.read(TailView::high_watermark) == before.read(TailView::high_watermark));
    let limits = PlanLimits { end: Offset::at(15), max_bytes: u64::MAX, at_least_one: true };
    assert_eq!(reader.plan(&view, Offset::ZERO, limits).await.expect("a plan").len(), 3);
    // Once more, as after an unknown outcome.
    let again = world.swapped(&run, Some(&output), &changes).await.expect("swapped");
    assert_eq!(again, Swapped::default());
    world.check_objects(&objects).await;
    assert!(
        finish(&world.store, &world.keyspace, INCARNATION, &run, Offset::at(15), 240).await.expect("a store")
    );
    let Standing { cleaned, clean_bytes, run, .. } = world.standing().await;
    assert_eq!((cleaned, clean_bytes, run), (Offset::at(15), 240, 1));
}

#[tokio::test(start_paused = true)]
async fn a_value_of_which_nothing_is_left_goes() {
    let world = World::new().await;
    let objects = written(&world).await;
    let run = world.run().await;
    let changes = world.changes(&[(5, Fate::Gone), (7, Fate::Gone), (12, Fate::Gone)]).await;
    let stretch = |first, last| Stretch { first: Offset::at(first), last: Offset::at(last), section_end: 0 };
    let swap =
        async |stretch| swap(&world.store, &world.keyspace, INCARNATION, &run, None, &changes, stretch).await;
    assert_eq!(swap(stretch(5, 9)).await.expect("swapped").gone, 2);
    assert_eq!(world.index_keys().await, [4, 14]);
    // The last batch of a value goes: the value is under another key from then on.
    assert_eq!(swap(stretch(10, 14)).await.expect("swapped").gone, 1);
    assert_eq!(world.index_keys().await, [4, 11]);
    assert_eq!(offsets(&world.log(0, 3).await.0), [2, 10]);
    assert_eq!(offsets(&world.log(0, 12).await.0), Vec::<i64>::new());
    world.check_bytes().await;
    world.check_objects(&objects).await;
    // What is appended behind it goes on at the end.
    world.commit(&[(0, 1)]).await;
    assert_eq!(offsets(&world.log(0, 12).await.0), [15]);
    world.seal(0).await;
    assert_eq!(offsets(&world.log(0, 0).await.0), [0, 2, 10, 15]);
}

#[tokio::test(start_paused = true)]
async fn of_two_runs_the_later_one_counts() {
    let world = World::new().await;
    written(&world).await;
    let first = world.run().await;
    let changes = world.changes(&[(0, Fate::Gone)]).await;
    let second = world.run().await;
    assert_eq!(world.swapped(&first, None, &changes).await, Err(SwapError::RunOver));
    let done = async |run| finish(&world.store, &world.keyspace, INCARNATION, run, Offset::at(5), 1).await;
    assert!(!done(&first).await.expect("a store"));
    assert_eq!(world.standing().await.cleaned, Offset::ZERO);
    assert_eq!(world.swapped(&second, None, &changes).await.expect("swapped").gone, 1);
    assert!(done(&second).await.expect("a store"));
    assert_eq!(world.run().await.cleaned, Offset::at(5));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_has_changed_since_is_left() {
    let world = World::new().await;
    written(&world).await;
    let first = world.run().await;
    let output = world.output(1).await;
    let stale = world.changes(&[(2, Fate::Gone)]).await;
    let changes = world.changes(&[(2, moved(0, 50, 3))]).await;
    world.swapped(&first, Some(&output), &changes).await.expect("swapped");
    assert_eq!(world.swapped(&first, None, &stale).await, Err(SwapError::Disturbed));
    // A batch keeps its offsets.
    let shorter = world.changes(&[(5, moved(0, 50, 1))]).await;
    assert_eq!(world.swapped(&first, Some(&output), &shorter).await, Err(SwapError::Disturbed));
    // What was trimmed meanwhile needs no more.
    let gone = world.changes(&[(0, Fate::Gone)]).await;
    world.move_start(0, NewStart::At(Offset::at(5))).await.expect("moved");
    world.trim(0).await;
    assert_eq!(world.swapped(&first, None, &gone).await, Ok(Swapped::default()));
    world.check_bytes().await;
}

#[tokio::test(start_paused = true)]
async fn merging_and_compaction_go_side_by_side() {
    let world = World::new().await;
    let mut objects = written(&world).await;
    let rules = CutRules {
        settle: std::time::Duration::ZERO,
        bytes: u64::MAX,
        section_bytes: u64::MAX,
        level_bytes: u64::MAX,
        age: std::time::Duration::ZERO,
    };
    let unit = cut_unit(&world.store, &world.keyspace, INCARNATION, 0, &rules).await.expect("a store");
    let unit = unit.expect("a unit");
    let merged = world.output(1).await;
    let mut copies = Copies::default();
    for (number, object) in objects.iter().enumerate() {
        copies.add(*object, 0, 2 * u64::from(BATCH_BYTES), number as u64 * 2 * u64::from(BATCH_BYTES));
    }
    objects.push(merged.id);
    let run = world.run().await;
    let changes = world.changes(&[(0, Fate::Gone), (5, moved(0, 40, 2)), (12, Fate::Gone)]).await;
    // Half of it before the merge, half behind it.
    let output = world.output(2).await;
    objects.push(output.id);
    let half = Stretch { first: Offset::ZERO, last: Offset::at(4), section_end: 0 };
    let compact = async |stretch| {
        swap(&world.store, &world.keyspace, INCARNATION, &run, Some(&output), &changes, stretch).await
    };
    compact(half).await.expect("swapped");
    let segment =
        Segment { partition: partition(0), first: Offset::ZERO, last: Offset::at(14), section_end: 600 };
    let segments = [segment];
    let swapped =
        crate::merging::swap(&world.store, &world.keyspace, INCARNATION, &unit, &merged, &copies, &segments);
    assert_eq!(swapped.await.expect("swapped").batches, 5);
    compact(Stretch { first: Offset::at(5), last: Offset::at(14), section_end: 0 }).await.expect("swapped");
    let log = world.log(0, 0).await.0;
    let merged = merged.id;
    assert_eq!(log, [(2, merged, 100), (5, output.id, 0), (7, merged, 300), (10, merged, 400)]);
    world.check_bytes().await;
    world.check_objects(&objects).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_in_an_open_transaction_is_compacted() {
    let world = World::new().await;
    written(&world).await;
    let begun = |id: i64| LogRow::Data {
        leader_epoch: LeaderEpoch::FIRST,
        object: ObjectId::from_bytes([0; 20]),
        position: 0,
        batches: vec![BatchFacts {
            length: 100,
            records: 2,
            flags: flags::TRANSACTIONAL,
            base_timestamp: 1,
            max_timestamp: 1,
            producer: Some(log::BatchProducer {
                id: ProducerId::new(id),
                epoch: ProducerEpoch::new(0),
                base_sequence: penstock_types::Sequence::new(0),
            }),
        }],
    };
    let ended = |id: i64, abort| LogRow::Marker {
        leader_epoch: LeaderEpoch::FIRST,
        producer: ProducerId::new(id),
        epoch: ProducerEpoch::new(0),
        abort,
        coordinator_epoch: 0,
        timestamp: 1,
        horizon: None,
    };
    let version = 1 << 50;
    world.append(version, &begun(1)).await;
    world.append(version + 1, &begun(2)).await;
    world.append(version + 2, &ended(1, true)).await;
    world.seal(0).await;
    assert_eq!(world.standing().await.end, Offset::at(17), "the second one is open");
    world.append(version + 3, &ended(2, false)).await;
    world.seal(0).await;
    let run = world.run().await;
    assert_eq!(run.end, Offset::at(21));
    let of = async |from, to| {
        aborted(&world.store, &world.keyspace, partition(0), from, to).await.expect("a store")
    };
    let gone = of(Offset::ZERO, Offset::at(21)).await;
    assert_eq!(
        gone.iter().map(|gone| (gone.first_offset.get(), gone.last_offset.get())).collect::<Vec<_>>(),
        [(15, 19)]
    );
    assert!(
        of(Offset::ZERO, Offset::at(15)).await.is_empty() && of(Offset::at(20), run.end).await.is_empty()
    );
    // The marker of the aborted one gets a horizon, then goes, and nobody is told of the transaction any more.
    let changes = world.changes(&[(15, Fate::Gone), (19, Fate::Horizon(77))]).await;
    world.swapped(&run, None, &changes).await.expect("swapped");
    let has_horizon = async || {
        let rows = world.rows(Family::Index).await;
        let values = rows.iter().map(|row| PackedIndex::decode(&row.value).expect("a value"));
        values
            .flat_map(|value| value.entries)
            .any(|entry| matches!(entry.row, LogRow::Marker { horizon: Some(77), .. }))
    };
    assert!(has_horizon().await);
    let changes = world.changes(&[(19, Fate::Gone)]).await;
    world.swapped(&run, None, &changes).await.expect("swapped");
    assert!(!has_horizon().await && of(Offset::ZERO, run.end).await.is_empty());
    world.check_bytes().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_goes_takes_the_state_along() {
    let world = World::new().await;
    written(&world).await;
    let run = world.run().await;
    let key = compaction::key(&world.keyspace, partition(0));
    assert_eq!(world.rows(Family::Compaction).await[0].key[..], key[..]);
    let changes = world.changes(&[(0, Fate::Gone)]).await;
    let topic = partition(0).topic;
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(&crate::keys::topic::row_key(&world.keyspace, topic), WriteConflict::Yes);
    let row = encode_deleted(INCARNATION, "t", 1, 0);
    let key = deleted_key(&world.keyspace, topic);
    transaction.set_stamped_value(&key, &row.value, row.stamp_at, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    assert_eq!(world.swapped(&run, None, &changes).await, Err(SwapError::RunOver));
    assert_eq!(standing(&world.store, &world.keyspace, partition(0)).await, Ok(None));
    while !collect_topic(&world.store, &world.keyspace, INCARNATION, topic).await.expect("a store").done {}
    assert!(world.rows(Family::Compaction).await.is_empty());
}

#[test]
fn the_state_is_pinned() {
    let state = CompactionState { run: 3, cleaned: Offset::at(300), clean_bytes: 1_000 };
    assert_eq!(state.encode(), [1, 3, 0xac, 2, 0xe8, 7]);
    assert_eq!(CompactionState::decode(Some(&state.encode())), Ok(state));
    assert_eq!(CompactionState::decode(None), Ok(CompactionState::default()));
    let trim = Trim { below: Offset::at(5), bytes: -3 };
    assert_eq!(Trim::decode(Some(&trim.encode())), Ok(trim));
    assert_eq!((trim.left_of(10), Trim { bytes: 4, ..trim }.left_of(10)), (13, 6));
}
