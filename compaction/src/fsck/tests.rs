use std::collections::BTreeSet;

use bytes::Bytes;
use penstock_metadata::checkpoints::standings;
use penstock_metadata::fold::FoldState;
use penstock_metadata::keys::counters::{self, Stripe};
use penstock_metadata::keys::index::{self, PackedIndex};
use penstock_metadata::keys::log::{LogRow, row_key};
use penstock_metadata::keys::object::{ObjectRow, ObjectState};
use penstock_metadata::keys::trim::{self, Trim};
use penstock_metadata::keys::{
    Family, dead, garbage, log_start, merge_queue, object, seal, topic as topic_keys,
};
use penstock_metadata::kv::memory::MemoryFaults;
use penstock_metadata::kv::{Isolation, RangeOptions, Row, WriteConflict, prefixed};
use penstock_metadata::log_starts::NewStart;
use penstock_metadata::topics::Request;
use penstock_storage::object::{ObjectBuilder, object_key};
use penstock_types::{BatchPosition, Incarnation, Offset, StoreVersion, TopicId, TopicPartition};
use tokio::time::Instant;

use super::report::Kind;
use super::*;
use crate::checkpoint::format::PartName;
use crate::testing::{World, admin, batch, checkpoint, delete_below, merge_job, merge_settings, topic};

const LAG: Duration = Duration::from_secs(3_600);
const DELAY: Duration = Duration::from_secs(900);

#[derive(Debug)]
struct Nobody;

impl Progress for Nobody {
    fn at(&self, _phase: &'static str, done: u64, of: u64) {
        assert!(of == 0 || done <= of, "{done} of {of}");
    }
}

fn fsck(world: &World, deep: bool, at_once: u64) -> Fsck {
    let parts = FsckParts {
        store: world.store.clone(),
        keyspace: world.keyspace.clone(),
        cluster: world.cluster.clone(),
        bucket: world.bucket.clone(),
    };
    let settings = Settings {
        deep,
        sweep_lag: LAG,
        sweep_interval: LAG,
        collect_delay: DELAY,
        merged_delay: DELAY * 2,
        at_once,
        requests: 4,
    };
    Fsck::new(parts, settings, Arc::new(Nobody))
}

async fn check(world: &World) -> Report {
    let report = fsck(world, true, 1_000_000).run().await.expect("checked");
    // Less memory, the same findings.
    let again = fsck(world, true, 3).run().await.expect("checked");
    assert_eq!(report.counts, again.counts, "{:#?} and {:#?}", report.findings, again.findings);
    assert!(again.checked.passes > 1 || report.checked.entries + report.checked.objects <= 3);
    report
}

async fn clean(world: &World) -> Report {
    let report = check(world).await;
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.checked.unsettled, 0);
    report
}

/// Only findings of this kind: the first one.
async fn only(world: &World, kind: Kind) -> Finding {
    let report = check(world).await;
    let kinds: Vec<Kind> = report.counts.keys().copied().collect();
    assert_eq!(kinds, [kind], "{:#?}", report.findings);
    report.findings[0].clone()
}

/// A finding of this kind is among those that there are.
async fn among(world: &World, kind: Kind) -> Finding {
    let report = check(world).await;
    let found = report.findings.iter().find(|finding| finding.kind == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {:#?}", report.findings)).clone()
}

/// Repairs; then nothing is wrong any more.
async fn repaired(world: &World) -> Vec<report::Repaired> {
    let fsck = fsck(world, true, 1_000_000);
    let mut report = fsck.run().await.expect("checked");
    assert!(!report.is_clean());
    fsck.repair(&mut report, true).await.expect("repaired");
    clean(world).await;
    report.repairs
}

async fn get(world: &World, key: &[u8]) -> Bytes {
    let value = world.store.begin(Priority::Default).get(key, Isolation::Snapshot).await.expect("a store");
    value.expect("a row")
}

async fn set(world: &World, key: &[u8], value: &[u8]) {
    let mut transaction = world.store.begin(Priority::Default);
    transaction.set(key, value, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
}

async fn clear(world: &World, key: &[u8]) {
    let mut transaction = world.store.begin(Priority::Default);
    transaction.clear(key, WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
}

async fn rows(world: &World, prefix: Vec<u8>) -> Vec<Row> {
    let options = RangeOptions::page(10_000, Isolation::Snapshot);
    world.store.begin(Priority::Default).range(prefixed(&prefix), options).await.expect("a page").rows
}

async fn put(world: &World, key: &str, body: Bytes) {
    let deadline = Instant::now() + Duration::from_secs(60);
    world.bucket.delete(key).await.expect("deleted");
    world.bucket.put(key, vec![body], deadline).await.expect("an upload");
}

async fn whole(world: &World, key: &str) -> Bytes {
    world.bucket.get_with_etag(key).await.expect("there").data
}

/// A topic of two partitions, of which each of `rounds` objects has three batches; the first partition is sealed twice, its
/// last rows and the other partition are not.
async fn written(rounds: i64) -> (World, Vec<TopicPartition>, Vec<ObjectId>) {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let mut objects = Vec::new();
    for round in 0..rounds {
        let (first, second) = (batch(round, 3, 200), batch(round, 2, 100));
        let batches = [(partitions[0], first.clone()), (partitions[0], second), (partitions[1], first)];
        objects.push(world.flush(&batches).await);
        if round == rounds / 3 || round == rounds / 2 {
            world.seal_one(partitions[0]).await;
        }
    }
    (world, partitions, objects)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_wrong_with_a_life_of_any_kind() {
    let empty = clean(&World::without_topics().await).await;
    assert_eq!((empty.checked.partitions, empty.checked.objects), (0, 0));
    let (world, partitions, _) = written(12).await;
    let gone = topic(&world, "gone", 3, &[]).await;
    for round in 0..4 {
        world.flush(&[(gone[1], batch(round, 3, 50)), (partitions[1], batch(round, 1, 50))]).await;
    }
    world.seal_one(gone[1]).await;
    let report = clean(&world).await;
    let checked = &report.checked;
    assert_eq!((checked.topics, checked.partitions, checked.objects), (2, 5, 16));
    assert_eq!((checked.batches, checked.listed, checked.footers), (12 * 3 + 4 * 2, 16, 16));
    assert!(checked.bytes > 12 * 700 && checked.index_values >= 2 && checked.rows > 16, "{checked:?}");
    // Deleted, not collected yet.
    let request = Request { validate_only: false, deadline: Duration::from_secs(60) };
    admin(&world, "x").delete_topics(&[gone[0].topic], request).await[0].clone().expect("deleted");
    clean(&world).await;
    // Trimmed in the middle of an entry, and of an object.
    delete_below(&world, partitions[0], NewStart::At(Offset::at(13))).await;
    clean(&world).await;
    checkpoint(&world).await;
    clean(&world).await;
    merge_job(&world, merge_settings(), 77).await.round().await.expect("a round");
    let merged = clean(&world).await;
    assert!(merged.checked.objects > 16 && merged.checked.entries > 12, "{:?}", merged.checked);
    // All of it expired; objects wait to be deleted.
    delete_below(&world, partitions[0], NewStart::End).await;
    world.seal_one(partitions[1]).await;
    delete_below(&world, partitions[1], NewStart::End).await;
    assert_eq!(clean(&world).await.checked.batches, 4);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_no_row() {
    let (world, _, _) = written(3).await;
    set(&world, &[world.keyspace.family(Family::GroupOffset), vec![1]].concat(), b"?").await;
    let finding = only(&world, Kind::CorruptRow).await;
    assert!(finding.detail.contains("committed offset"), "{finding}");
}

#[tokio::test(start_paused = true)]
async fn a_name_without_its_topic_and_a_topic_without_its_name() {
    let (world, _, _) = written(3).await;
    let key = topic_keys::name_key(&world.keyspace, "orders");
    let value = get(&world, &key).await;
    clear(&world, &key).await;
    assert_eq!(only(&world, Kind::TopicName).await.topic.as_deref(), Some("orders"));
    set(&world, &key, &value).await;
    let nobody = topic_keys::encode_name(TopicId::from_bytes([9; 16]), "nobody");
    set(&world, &topic_keys::name_key(&world.keyspace, "nobody"), &nobody).await;
    assert_eq!(only(&world, Kind::TopicName).await.topic.as_deref(), Some("nobody"));
}

#[tokio::test(start_paused = true)]
async fn rows_of_no_partition() {
    let (world, partitions, _) = written(3).await;
    let beyond = TopicPartition { partition: penstock_types::PartitionIndex::new(2), ..partitions[0] };
    set(&world, &seal::key(&world.keyspace, beyond), &seal::encode(&FoldState::default())).await;
    let finding = only(&world, Kind::StrayRows).await;
    assert!(finding.detail.contains("seal of partition 2"), "{finding}");
    clear(&world, &seal::key(&world.keyspace, beyond)).await;
    for id in [[0; 16], [0xFE; 16]] {
        let nobodys = TopicPartition { topic: TopicId::from_bytes(id), ..partitions[0] };
        let key = counters::key(&world.keyspace, Stripe::of(nobodys));
        set(&world, &key, &counters::Counters::default().encode()).await;
        assert_eq!(only(&world, Kind::StrayRows).await.topic, Some(nobodys.topic.to_string()));
        clear(&world, &key).await;
    }
    clean(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_is_not_where_the_log_ends() {
    let (world, partitions, _) = written(6).await;
    let mut more = counters::Counters::default();
    more.append(partitions[1], 1);
    let mut transaction = world.store.begin(Priority::Default);
    let key = counters::key(&world.keyspace, Stripe::of(partitions[1]));
    transaction.atomic_add_bytes(&key, &more.encode(), WriteConflict::No);
    transaction.commit().await.expect("a commit");
    let finding = only(&world, Kind::Counter).await;
    assert_eq!((finding.partition, finding.topic.as_deref()), (Some(1), Some("orders")));
    assert!(finding.repair.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_lost_from_the_tail() {
    let (world, partitions, _) = written(6).await;
    let rows = rows(&world, world.keyspace.partition(Family::Log, partitions[1])).await;
    clear(&world, &rows[2].key).await;
    let report = check(&world).await;
    assert_eq!(report.counts.keys().copied().collect::<Vec<_>>(), [Kind::Counter, Kind::Count]);
    // What is lost isn't taken for dead: its object would be deleted.
    let fsck = fsck(&world, false, 1_000);
    let mut report = fsck.run().await.expect("checked");
    fsck.repair(&mut report, false).await.expect("repaired");
    assert!(report.repairs[0].outcome.starts_with("not while"), "{:?}", report.repairs);
    among(&world, Kind::Count).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_behind_the_seal() {
    let (world, partitions, _) = written(6).await;
    let rows = rows(&world, world.keyspace.partition(Family::Log, partitions[0])).await;
    let at = BatchPosition { incarnation: Incarnation::new(0), ..BatchPosition::ZERO };
    let at = BatchPosition { n: 7, ..at };
    set(&world, &row_key(&world.keyspace, partitions[0], &at), &rows[0].value).await;
    assert_eq!(only(&world, Kind::RowBelowSeal).await.partition, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_starts_behind_its_end() {
    let (world, partitions, _) = written(6).await;
    set(&world, &log_start::key(&world.keyspace, partitions[1]), &1_000u64.to_le_bytes()).await;
    assert_eq!(only(&world, Kind::LogStart).await.offset, Some(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_trim_that_did_not_happen() {
    let (world, partitions, _) = written(6).await;
    let key = trim::key(&world.keyspace, partitions[0]);
    set(&world, &key, &Trim { below: Offset::at(1), bytes: 0 }.encode()).await;
    assert_eq!(only(&world, Kind::Trimmed).await.offset, Some(1));
    clear(&world, &key).await;
    clean(&world).await;
    // Said to be gone, and there.
    set(&world, &log_start::key(&world.keyspace, partitions[0]), &30u64.to_le_bytes()).await;
    set(&world, &key, &Trim { below: Offset::at(15), bytes: 0 }.encode()).await;
    only(&world, Kind::Trimmed).await;
}

async fn index_of(world: &World, partition: TopicPartition) -> Vec<(Row, PackedIndex)> {
    let rows = rows(world, world.keyspace.partition(Family::Index, partition)).await;
    rows.into_iter().map(|row| (row.clone(), PackedIndex::decode(&row.value).expect("a value"))).collect()
}

#[tokio::test(start_paused = true)]
async fn an_index_with_a_hole_out_of_order_or_under_a_wrong_key() {
    let (world, partitions, _) = written(12).await;
    let values = index_of(&world, partitions[0]).await;
    assert_eq!(values.len(), 2);
    for (row, value) in &values {
        clear(&world, &row.key).await;
        let report = check(&world).await;
        let kinds: Vec<Kind> = report.counts.keys().copied().collect();
        assert_eq!(kinds, [Kind::IndexHole, Kind::Count], "{:?}", report.findings);
        assert_eq!(report.findings[0].offset, Some(value.entries[0].base_offset.get()));
        set(&world, &row.key, &row.value).await;
    }
    let (row, value) = &values[1];
    let mut swapped = value.clone();
    let (first, second) = (swapped.entries[0].at, swapped.entries[1].at);
    (swapped.entries[0].at, swapped.entries[1].at) = (second, first);
    set(&world, &row.key, &swapped.encode()).await;
    only(&world, Kind::IndexOrder).await;
    clear(&world, &row.key).await;
    let wrong =
        index::key(&world.keyspace, partitions[0], Offset::at(value.last_offset().expect("one").get() + 1));
    set(&world, &wrong, &row.value).await;
    among(&world, Kind::IndexOrder).await;
    among(&world, Kind::CorruptRow).await;
}

#[tokio::test(start_paused = true)]
async fn entries_that_are_there_twice() {
    let (world, partitions, _) = written(12).await;
    let values = index_of(&world, partitions[0]).await;
    let first = &values[0].1.entries[0];
    let copy = PackedIndex { entries: vec![first.clone()], ..values[0].1.clone() };
    let key = index::key(&world.keyspace, partitions[0], Offset::at(first.end_offset().get() - 1));
    set(&world, &key, &copy.encode()).await;
    among(&world, Kind::IndexOrder).await;
    among(&world, Kind::Reference).await;
    among(&world, Kind::Count).await;
}

#[tokio::test(start_paused = true)]
async fn timestamps_that_go_back_and_bytes_that_do_not_add_up() {
    let (world, partitions, _) = written(12).await;
    let values = index_of(&world, partitions[0]).await;
    let (row, value) = &values[1];
    let wrong = PackedIndex { max_timestamp_so_far: 0, ..value.clone() };
    set(&world, &row.key, &wrong.encode()).await;
    only(&world, Kind::IndexTime).await;
    set(&world, &row.key, &row.value).await;
    let key = seal::key(&world.keyspace, partitions[0]);
    let sealed = seal::decode(Some(&get(&world, &key).await)).expect("a seal");
    set(&world, &key, &seal::encode(&FoldState { bytes: sealed.bytes + 1, ..sealed })).await;
    only(&world, Kind::LogBytes).await;
}

async fn object_row(world: &World, id: ObjectId) -> ObjectRow {
    ObjectRow::decode(&get(world, &object::key(&world.keyspace, id)).await).expect("a row")
}

#[tokio::test(start_paused = true)]
async fn an_object_without_a_row() {
    let (world, _, objects) = written(6).await;
    clear(&world, &object::key(&world.keyspace, objects[1])).await;
    let finding = only(&world, Kind::NoRow).await;
    assert_eq!(finding.object, Some(objects[1]));
    assert!(finding.repair.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_burial_alive_is_taken_back() {
    let (world, _, objects) = written(6).await;
    let row = object_row(&world, objects[2]).await;
    let key = object::key(&world.keyspace, objects[2]);
    let tombstone = ObjectRow { state: ObjectState::Tombstone, ..row.clone() };
    set(&world, &key, &tombstone.encode()).await;
    let queued = garbage::Garbage {
        incarnation: world.cluster.incarnation,
        stamp: row.stamp,
        object: objects[2],
        size: row.size,
        was_merged: false,
    };
    set(&world, &garbage::key(&world.keyspace, &queued), &garbage::encode(row.size)).await;
    assert_eq!(only(&world, Kind::DeadReferenced).await.object, Some(objects[2]));
    assert_eq!(repaired(&world).await[0].outcome, "done");
    assert_eq!(object_row(&world, objects[2]).await, row);
    for state in [ObjectState::Collected, ObjectState::Intent] {
        set(&world, &key, &ObjectRow { state, ..row.clone() }.encode()).await;
        assert!(among(&world, Kind::DeadReferenced).await.repair.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn counts_that_do_not_agree_are_put_right() {
    let (world, _, objects) = written(6).await;
    let key = dead::key(&world.keyspace, objects[3]);
    for wrong in [1i64, 3] {
        set(&world, &key, &wrong.to_le_bytes()).await;
        let finding = only(&world, Kind::Count).await;
        assert_eq!(finding.object, Some(objects[3]));
        assert_eq!(
            repaired(&world).await[0].repair,
            format!("add -{wrong} to the dead count of object {}", objects[3])
        );
    }
    // Too few: an object that is half dead.
    let (world, partitions, objects) = written(6).await;
    delete_below(&world, partitions[0], NewStart::At(Offset::at(5))).await;
    let key = dead::key(&world.keyspace, objects[0]);
    assert_eq!(dead::decode(Some(&get(&world, &key).await)).map(|dead| dead.batches), Ok(2));
    clear(&world, &key).await;
    only(&world, Kind::Count).await;
    repaired(&world).await;
    assert_eq!(dead::decode(Some(&get(&world, &key).await)).map(|dead| dead.batches), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn the_dead_of_nobody_are_forgotten_once_nobody_can_come() {
    let (world, _, _) = written(3).await;
    let id = ObjectId::new(Incarnation::new(0), StoreVersion::new(5), 3);
    let key = dead::key(&world.keyspace, id);
    set(&world, &key, &4i64.to_le_bytes()).await;
    assert_eq!(only(&world, Kind::DeadWithoutRow).await.object, Some(id));
    let fsck = fsck(&world, false, 1_000);
    let mut report = fsck.run().await.expect("checked");
    fsck.repair(&mut report, false).await.expect("repaired");
    assert!(report.repairs[0].outcome.contains("changed"), "there is no cutoff yet: {:?}", report.repairs);
    penstock_metadata::collection::raise_cutoff(
        &world.store,
        &world.keyspace,
        world.cluster.incarnation,
        LAG,
    )
    .await
    .expect("a cutoff");
    repaired(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_or_has_another_length() {
    let (world, _, objects) = written(6).await;
    let key = object_key(objects[4]);
    let body = whole(&world, &key).await;
    world.bucket.delete(&key).await.expect("deleted");
    let finding = only(&world, Kind::Missing).await;
    assert_eq!((finding.object, finding.topic.as_deref()), (Some(objects[4]), Some("orders")));
    assert!(finding.offset.is_some());
    put(&world, &key, body.slice(1..)).await;
    assert_eq!(only(&world, Kind::Length).await.object, Some(objects[4]));
    put(&world, &key, body).await;
    clean(&world).await;
}

#[tokio::test(start_paused = true)]
async fn footers_that_are_damaged_or_of_others() {
    let (world, partitions, objects) = written(6).await;
    let key = object_key(objects[4]);
    let body = whole(&world, &key).await;
    let mut damaged = body.to_vec();
    let at = damaged.len() - 30;
    damaged[at] ^= 1;
    put(&world, &key, damaged.into()).await;
    assert_eq!(only(&world, Kind::Footer).await.object, Some(objects[4]));
    // Objects of one round are alike but for their ids.
    put(&world, &key, whole(&world, &object_key(objects[3])).await).await;
    let finding = among(&world, Kind::Footer).await;
    assert!(finding.detail.contains(&objects[3].to_string()), "{finding}");
    // A partition less.
    let mut builder = ObjectBuilder::new();
    builder.add(partitions[0], &batch(4, 3, 200));
    let short = builder.finish(objects[4]);
    let row = ObjectRow { size: short.length(), ..object_row(&world, objects[4]).await };
    set(&world, &object::key(&world.keyspace, objects[4]), &row.encode()).await;
    put(&world, &key, short.chunks().concat().into()).await;
    among(&world, Kind::Footer).await;
    among(&world, Kind::Reference).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_damaged_are_found_by_reading_them() {
    let (world, _, objects) = written(6).await;
    let key = object_key(objects[1]);
    let body = whole(&world, &key).await;
    let batches = body.len() - 200;
    for at in (21..batches).step_by(97) {
        let mut damaged = body.to_vec();
        damaged[at] ^= 0x10;
        put(&world, &key, damaged.into()).await;
        assert!(fsck(&world, false, 1_000).run().await.expect("checked").is_clean(), "only footers are read");
        let finding = among(&world, Kind::Damaged).await;
        assert_eq!(
            (finding.object, finding.topic.as_deref()),
            (Some(objects[1]), Some("orders")),
            "byte {at}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_sound_and_others_than_the_log_tells() {
    let (world, partitions, objects) = written(6).await;
    let key = object_key(objects[1]);
    // Of the same lengths, with other timestamps.
    let mut builder = ObjectBuilder::new();
    for (of, batch) in [
        (partitions[0], batch(50, 3, 200)),
        (partitions[0], batch(1, 2, 100)),
        (partitions[1], batch(1, 3, 200)),
    ] {
        builder.add(of, &batch);
    }
    let other = builder.finish(objects[1]);
    put(&world, &key, other.chunks().concat().into()).await;
    let length = object_row(&world, objects[1]).await.size;
    assert_eq!(other.length(), length, "else it is found by that");
    let finding = only(&world, Kind::Damaged).await;
    assert!(finding.detail.contains("not those that the log tells"), "{finding}");
    assert_eq!((finding.partition, finding.offset), (Some(0), Some(5)));
}

#[tokio::test(start_paused = true)]
async fn references_that_lead_elsewhere() {
    let (world, partitions, _) = written(6).await;
    let rows = rows(&world, world.keyspace.partition(Family::Log, partitions[1])).await;
    let LogRow::Data { leader_epoch, object, position, batches } =
        LogRow::decode(&rows[0].value).expect("a row")
    else {
        panic!("a marker");
    };
    let moved = LogRow::Data { leader_epoch, object, position: position - 1, batches };
    set(&world, &rows[0].key, &moved.encode()).await;
    let finding = among(&world, Kind::Reference).await;
    assert_eq!((finding.object, finding.partition, finding.offset), (Some(object), Some(1), Some(0)));
}

#[tokio::test(start_paused = true)]
async fn what_nothing_refers_to_goes_once_it_is_old() {
    let (world, _, _) = written(3).await;
    let (stray, foreign) =
        (world.put(&[]).await, ObjectId::new(Incarnation::new(0), StoreVersion::new(5), 3));
    clean(&world).await;
    tokio::time::advance(LAG * 4).await;
    let finding = only(&world, Kind::Unreferenced).await;
    assert_eq!(finding.object, Some(stray));
    let repairs = repaired(&world).await;
    assert_eq!((repairs.len(), repairs[0].outcome.as_str()), (1, "done"));
    world.put_again(foreign).await;
    assert_eq!(only(&world, Kind::EarlierIncarnation).await.object, Some(foreign));
    let fsck = fsck(&world, false, 1_000);
    let mut report = fsck.run().await.expect("checked");
    fsck.repair(&mut report, false).await.expect("repaired");
    assert!(report.repairs[0].outcome.contains("--delete-earlier"));
    only(&world, Kind::EarlierIncarnation).await;
    repaired(&world).await;
    let later = ObjectId::new(Incarnation::new(9), StoreVersion::new(5), 3);
    world.put_again(later).await;
    assert!(only(&world, Kind::LaterIncarnation).await.repair.is_none());
    world.bucket.delete(&object_key(later)).await.expect("deleted");
    put(&world, "objects/00/notes.txt", Bytes::from_static(b"?")).await;
    only(&world, Kind::NotAnObject).await;
}

#[tokio::test(start_paused = true)]
async fn an_output_that_nobody_used_goes_with_its_row() {
    let (world, _, objects) = written(3).await;
    let stray = world.put(&[]).await;
    let intent = ObjectRow {
        state: ObjectState::Intent,
        batches: 0,
        level: 1,
        ..object_row(&world, objects[0]).await
    };
    set(&world, &object::key(&world.keyspace, stray), &intent.encode()).await;
    clean(&world).await;
    tokio::time::advance(LAG * 4).await;
    assert_eq!(only(&world, Kind::Unreferenced).await.object, Some(stray));
    repaired(&world).await;
}

#[tokio::test(start_paused = true)]
async fn queues_that_do_not_hold_what_they_should() {
    let (world, partitions, objects) = written(6).await;
    // Dead, and forgotten.
    world.seal_one(partitions[1]).await;
    for partition in &partitions {
        world.seal_one(*partition).await;
        delete_below(&world, *partition, NewStart::At(Offset::at(5))).await;
    }
    let queued = rows(&world, world.keyspace.family(Family::Garbage)).await;
    assert_eq!(queued.len(), 1);
    clear(&world, &queued[0].key).await;
    assert_eq!(only(&world, Kind::GarbageLost).await.object, Some(objects[0]));
    repaired(&world).await;
    // In use, and waiting to be deleted.
    let row = object_row(&world, objects[5]).await;
    let entry = garbage::Garbage {
        incarnation: world.cluster.incarnation,
        stamp: row.stamp,
        object: objects[5],
        size: row.size,
        was_merged: false,
    };
    set(&world, &garbage::key(&world.keyspace, &entry), &garbage::encode(row.size)).await;
    assert_eq!(only(&world, Kind::GarbageInUse).await.object, Some(objects[5]));
    repaired(&world).await;
    // Nobody deletes.
    tokio::time::advance(DELAY * 2 + LAG * 3).await;
    assert_eq!(only(&world, Kind::GarbageOverdue).await.object, Some(objects[0]));
}

#[tokio::test(start_paused = true)]
async fn a_merge_queue_that_says_another_level() {
    let (world, _, objects) = written(3).await;
    let row = ObjectRow { level: 1, ..object_row(&world, objects[1]).await };
    set(&world, &object::key(&world.keyspace, objects[1]), &row.encode()).await;
    let queued = rows(&world, world.keyspace.family(Family::MergeQueue)).await;
    let queued = merge_queue::decode(&world.keyspace, &queued[1]).expect("queued");
    assert_eq!(queued.object, objects[1]);
    assert_eq!(only(&world, Kind::MergeQueue).await.object, Some(objects[1]));
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_are_lost_damaged_or_left() {
    let (world, _, _) = written(6).await;
    checkpoint(&world).await;
    clean(&world).await;
    let (_, found) = standings(&world.store, &world.keyspace).await.expect("standings");
    let (slot, standing) = found.iter().find(|(_, standing)| standing.state.current.is_some()).expect("one");
    let current = standing.state.current.expect("one");
    let name = PartName { slot: *slot, id: current.id, part: 0 };
    let body = whole(&world, &name.key()).await;
    put(&world, &name.key(), body.slice(1..)).await;
    only(&world, Kind::Checkpoint).await;
    assert!(fsck(&world, false, 1_000).run().await.expect("checked").is_clean(), "it is there");
    world.bucket.delete(&name.key()).await.expect("deleted");
    only(&world, Kind::Checkpoint).await;
    let fsck = fsck(&world, false, 1_000);
    let mut report = fsck.run().await.expect("checked");
    fsck.repair(&mut report, false).await.expect("repaired");
    checkpoint(&world).await;
    clean(&world).await;
    // What a dead writer left.
    let left = PartName { part: 3, ..name };
    put(&world, &left.key(), body).await;
    clean(&world).await;
    tokio::time::advance(LAG * 4).await;
    only(&world, Kind::CheckpointLeft).await;
    repaired(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_no_finding() {
    let (world, _, _) = written(3).await;
    world.bucket.raise_claim(&world.cluster.cluster_id, Incarnation::new(2)).await.expect("raised");
    let failed = fsck(&world, false, 1_000).run().await.expect_err("another life's");
    assert!(matches!(failed, FsckError::NotIts { .. }), "{failed}");
}

/// A log that is written to, sealed, trimmed and merged all the while it is checked.
#[tokio::test(start_paused = true)]
async fn nothing_is_wrong_with_a_life_that_goes_on() {
    let (world, partitions, _) = written(30).await;
    let latency = Some(Duration::from_micros(100)..Duration::from_micros(400));
    world.memory.set_faults(MemoryFaults { latency, ..MemoryFaults::default() });
    let changes = async {
        for round in 0..40i64 {
            world.flush(&[(partitions[0], batch(round, 3, 50)), (partitions[1], batch(round, 1, 50))]).await;
            if round % 3 == 0 {
                world.seal_one(partitions[(round % 2) as usize]).await;
            }
            if round % 5 == 0 {
                let start = NewStart::At(Offset::at(round));
                delete_below(&world, partitions[(round % 2) as usize], start).await;
            }
            if round % 10 == 9 {
                merge_job(&world, merge_settings(), 77).await.round().await.expect("a round");
            }
            penstock_types::pause(Duration::from_millis(3)).await;
        }
    };
    let checks = async {
        let (mut kinds, mut seen) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..20 {
            let report = fsck(&world, true, 40).run().await.expect("checked");
            kinds.extend(report.counts.into_keys());
            seen.insert(report.checked.objects);
            penstock_types::pause(Duration::from_millis(5)).await;
        }
        (kinds, seen)
    };
    let (_, (kinds, seen)) = futures::future::join(changes, checks).await;
    assert!(kinds.is_empty(), "{kinds:?}");
    assert!(seen.len() > 5, "it didn't go on: {seen:?}");
    world.memory.set_faults(MemoryFaults::default());
    clean(&world).await;
}
