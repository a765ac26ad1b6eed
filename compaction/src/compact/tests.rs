use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_metadata::fold::{BatchEntry, BatchSource};
use penstock_metadata::log_compaction::standing;
use penstock_metadata::log_starts::NewStart;
use penstock_storage::batch::{BatchBuilder, Codec, ValidatedBatch, records, verify_crc};
use penstock_storage::object::object_key;
use penstock_types::pause;

use super::*;
use crate::testing::{
    Hand, World, check_counts, clean, compaction_job as job, compaction_settings as settings, count,
    delete_below, keys, live, merge_job, merge_settings, plan, topic,
};

mod cost;
mod failing;
mod model;
mod transactions;

/// Tombstones of the tests stay so long.
const RETENTION_MS: i64 = 1_000;
const COMPACT: &[(&str, &str)] =
    &[("cleanup.policy", "compact"), ("delete.retention.ms", "1000"), ("min.cleanable.dirty.ratio", "0")];

/// Offset, key and value.
type Kept = (i64, String, Option<String>);

/// A batch of the log, read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    base: i64,
    end: i64,
    horizon: Option<i64>,
    is_marker: bool,
    kept: Vec<Kept>,
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn read_batch(world: &World, entry: &BatchEntry) -> Stored {
    let (base, end) = (entry.base_offset.get(), entry.end_offset().get());
    let BatchSource::Object { object, position } = entry.source else {
        return Stored { base, end, horizon: None, is_marker: true, kept: Vec::new() };
    };
    let range = position..position + u64::from(entry.facts.length);
    let bytes = world.bucket.get_range(&object_key(object), range).await.expect("there");
    let found = records(&bytes).expect("a batch");
    let header = *found.header();
    verify_crc(&bytes, &header).expect("sound");
    assert_eq!(crate::facts::facts_of(&header, bytes.len()), entry.facts, "the log tells what the bytes say");
    let kept = found
        .map(|record| record.expect("a record"))
        .map(|record| {
            let offset = base + i64::from(record.offset_delta);
            (offset, text(&record.key.expect("a key")), record.value.as_ref().map(text))
        })
        .collect();
    Stored { base, end, horizon: header.delete_horizon(), is_marker: false, kept }
}

/// A log from its start on.
async fn batches(world: &World, partition: TopicPartition) -> Vec<Stored> {
    let mut batches = Vec::new();
    for entry in plan(world, partition).await {
        batches.push(read_batch(world, &entry).await);
    }
    batches
}

async fn kept(world: &World, partition: TopicPartition) -> Vec<Kept> {
    batches(world, partition).await.into_iter().flat_map(|batch| batch.kept).collect()
}

/// A batch with keys, as in "a=1 b=2 c": c is deleted.
fn keyed(timestamp: i64, pairs: &str) -> ValidatedBatch {
    keyed_in(BatchBuilder::new(Codec::None), timestamp, pairs)
}

fn keyed_in(mut builder: BatchBuilder, timestamp: i64, pairs: &str) -> ValidatedBatch {
    for pair in pairs.split(' ') {
        let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
        builder.record(timestamp, Some(key.as_bytes()), value.map(str::as_bytes));
    }
    builder.build()
}

async fn write(world: &World, partition: TopicPartition, timestamp: i64, pairs: &str) -> ObjectId {
    world.flush(&[(partition, keyed(timestamp, pairs))]).await
}

/// What is kept, as in "3:a=1".
async fn shown(world: &World, partition: TopicPartition) -> Vec<String> {
    let show = |(offset, key, value): &Kept| match value {
        Some(value) => format!("{offset}:{key}={value}"),
        None => format!("{offset}:{key}"),
    };
    kept(world, partition).await.iter().map(show).collect()
}

#[tokio::test(start_paused = true)]
async fn the_newest_record_of_each_key_stays() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let clock = Hand::at(10_000);
    write(&world, of, 1, "a=1 b=1 c=1").await;
    write(&world, of, 2, "a=2").await;
    write(&world, of, 3, "d=1 b=2").await;
    write(&world, of, 4, "a=3").await;
    let job = job(&world, &clock, settings(), 1).await;
    job.round().await.expect("nothing is sealed");
    assert_eq!(count(&job.stats().runs), 0);
    world.seal_one(of).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["2:c=1", "4:d=1", "5:b=2", "6:a=3"]);
    let found = batches(&world, of).await;
    let places: Vec<_> = found.iter().map(|batch| (batch.base, batch.end)).collect();
    assert_eq!(places, [(0, 3), (4, 6), (6, 7)]);
    check_counts(&world, &[of]).await;
    let stats = job.stats();
    assert_eq!((count(&stats.runs), count(&stats.outputs), count(&stats.failures)), (1, 1, 0));
    assert_eq!((count(&stats.dropped), count(&stats.rewritten), count(&stats.gone)), (3, 1, 1));
    let standing = standing(&world.store, &world.keyspace, of).await.expect("a store").expect("there");
    let bytes: u64 = plan(&world, of).await.iter().map(|batch| u64::from(batch.facts.length)).sum();
    assert_eq!((standing.cleaned, standing.clean_bytes), (Offset::at(7), bytes));
    job.round().await.expect("nothing is dirty");
    assert_eq!(count(&stats.runs), 1);
    write(&world, of, 5, "c=2").await;
    world.seal_one(of).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["4:d=1", "5:b=2", "6:a=3", "7:c=2"]);
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &[of]).await.into_keys().collect();
    assert_eq!(world.objects().await, keys(&live), "nothing else is left in the bucket");
}

#[tokio::test(start_paused = true)]
async fn tombstones_go_when_their_time_is_over() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let clock = Hand::at(10_000);
    let job = job(&world, &clock, settings(), 1).await;
    let next = async |pairs: &str| {
        write(&world, of, clock.get(), pairs).await;
        world.seal_one(of).await;
        job.round().await.expect("a round");
    };
    next("a=1 b=1").await;
    next("a").await;
    assert_eq!(shown(&world, of).await, ["1:b=1", "2:a"]);
    assert_eq!(batches(&world, of).await[1].horizon, Some(10_000 + RETENTION_MS));
    clock.advance(RETENTION_MS - 1);
    next("x=1").await;
    assert_eq!(shown(&world, of).await, ["1:b=1", "2:a", "3:x=1"]);
    assert_eq!(batches(&world, of).await[1].horizon, Some(11_000), "it is set once");
    clock.advance(1);
    next("x=2").await;
    assert_eq!(shown(&world, of).await, ["1:b=1", "4:x=2"]);
    assert_eq!(count(&job.stats().tombstones), 1);
    next("b").await;
    clock.advance(RETENTION_MS);
    next("y=1").await;
    assert_eq!(shown(&world, of).await, ["4:x=2", "6:y=1"]);
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_batch_of_a_run_stays_empty() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let clock = Hand::at(10_000);
    let job = job(&world, &clock, settings(), 1).await;
    write(&world, of, 1, "a=1").await;
    write(&world, of, 2, "a").await;
    world.seal_one(of).await;
    job.round().await.expect("a round");
    clock.advance(2 * RETENTION_MS);
    // Another kind of last batch: nothing of it stays.
    let keyless = {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.record(clock.get(), None, Some(b"1"));
        builder.build()
    };
    world.flush(&[(of, keyless)]).await;
    world.seal_one(of).await;
    job.round().await.expect("a round");
    let found = batches(&world, of).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].base, found[0].end, found[0].kept.len()), (2, 3, 0));
    write(&world, of, 3, "b=1").await;
    world.seal_one(of).await;
    job.round().await.expect("a round");
    assert_eq!(batches(&world, of).await.len(), 1, "it goes when it isn't the last any more");
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn with_little_memory_it_takes_more_runs_and_comes_to_the_same() {
    let mut results = Vec::new();
    for map_bytes in [1 << 20, 24 * 8] {
        let world = World::without_topics().await;
        let of = topic(&world, "t", 1, COMPACT).await[0];
        for round in 0..10 {
            let pairs: Vec<String> =
                (0..7).map(|key| format!("k{}={round}", (key * (round + 1)) % 23)).collect();
            write(&world, of, 1, &pairs.join(" ")).await;
        }
        world.seal_one(of).await;
        let job = job(&world, &Hand::at(10_000), CompactionSettings { map_bytes, ..settings() }, 1).await;
        job.round().await.expect("a round");
        results.push((kept(&world, of).await, count(&job.stats().runs)));
        check_counts(&world, &[of]).await;
    }
    assert_eq!(results[0].0, results[1].0);
    assert!(results[0].1 == 1 && results[1].1 >= 9, "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_young_waits_with_all_behind_it() {
    let world = World::without_topics().await;
    let mut configs = COMPACT.to_vec();
    configs.push(("min.compaction.lag.ms", "5000"));
    let of = topic(&world, "t", 1, &configs).await[0];
    let clock = Hand::at(100_000);
    write(&world, of, 10_000, "a=1").await;
    write(&world, of, 20_000, "a=2").await;
    write(&world, of, 98_000, "a=3").await;
    write(&world, of, 30_000, "a=4").await;
    world.seal_one(of).await;
    let job = job(&world, &clock, settings(), 1).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["1:a=2", "2:a=3", "3:a=4"]);
    job.round().await.expect("a round");
    assert_eq!(count(&job.stats().runs), 1);
    clock.advance(5_000);
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["3:a=4"]);
}

#[tokio::test(start_paused = true)]
async fn it_waits_until_it_is_worth_it_but_for_who_asks() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, &[("cleanup.policy", "compact")]).await[0];
    let other = topic(&world, "u", 1, &[]).await[0];
    let clock = Hand::at(100_000);
    let long = Duration::from_secs(86_400);
    let patient = CompactionSettings { due_bytes: 1 << 20, delay: long, interval: long, ..settings() };
    let job = job(&world, &clock, patient, 1).await;
    for value in 0..3 {
        write(&world, of, 1, &format!("a={value}")).await;
        write(&world, other, 1, &format!("a={value}")).await;
    }
    world.seal_one(of).await;
    job.round().await.expect("a round");
    assert_eq!((count(&job.stats().runs), count(&job.stats().due_partitions)), (0, 0));
    assert!(count(&job.stats().dirty_bytes) > 0);
    assert_eq!(count(&job.stats().max_dirty_per_mille), 1_000);
    write(&world, of, 1, "a=3").await;
    let (stop, number) = (CancellationToken::new(), job.turns().ask());
    let waits = async {
        while job.turns().status().asked_ended < number {
            pause(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(Arc::clone(&job).run(stop.clone()), waits);
    assert_eq!(shown(&world, of).await, ["3:a=3"], "what wasn't sealed, too");
    assert_eq!(kept(&world, other).await.len(), 3, "another policy");
    let status = job.turns().status();
    assert_eq!((count(&job.stats().runs), status.turns, status.failures), (1, 1, 0));
    assert!(status.progress.0 > 0 && status.progress.0 == status.progress.1, "{:?}", status.progress);
}

#[tokio::test(start_paused = true)]
async fn few_unchanged_batches_between_rewritten_ones_are_copied_with_them() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let long = "x".repeat(300_000);
    for pairs in ["a=1 b=1", "c=1", "a=2 d=1 g=1", &format!("e={long}"), "d=2 f=1", "a=3", "d=3"] {
        write(&world, of, 1, pairs).await;
    }
    world.seal_one(of).await;
    let job = job(&world, &Hand::at(10_000), settings(), 1).await;
    job.round().await.expect("a round");
    assert_eq!((count(&job.stats().copied), count(&job.stats().rewritten)), (1, 3));
    assert_eq!(live(&world, &[of]).await.len(), 4, "the long one and the last two stay where they are");
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn an_output_and_a_swap_each_have_their_size() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    for round in 0..60 {
        write(&world, of, 1, &format!("a={round} k{round}={}", "x".repeat(1_000))).await;
        world.seal_one(of).await;
    }
    let small = CompactionSettings { object_bytes: 10_000, swap_bytes: 500, read_bytes: 3_000, ..settings() };
    let job = job(&world, &Hand::at(10_000), small, 1).await;
    job.round().await.expect("a round");
    let kept = kept(&world, of).await;
    assert_eq!((kept.len(), count(&job.stats().runs)), (61, 1));
    assert!((5..=8).contains(&count(&job.stats().outputs)), "{}", count(&job.stats().outputs));
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_agents_that_run_a_partition_one_is_fenced() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    for round in 0..30 {
        write(&world, of, 1, &format!("a={round} k{}={round}", round % 7)).await;
    }
    world.seal_one(of).await;
    let clock = Hand::at(10_000);
    let small = CompactionSettings { object_bytes: 200, read_bytes: 500, ..settings() };
    let (one, two) = (job(&world, &clock, small, 1).await, job(&world, &clock, small, 2).await);
    let slow = Duration::from_millis(1)..Duration::from_millis(20);
    let faults = penstock_metadata::kv::memory::MemoryFaults { latency: Some(slow), ..Default::default() };
    world.memory.set_faults(faults);
    let (first, second) = tokio::join!(one.round(), async {
        pause(Duration::from_millis(150)).await;
        two.round().await
    });
    first.and(second).expect("who is fenced ends quietly");
    assert_eq!(count(&one.stats().runs) + count(&two.stats().runs), 1);
    let mut newest: Vec<_> = shown(&world, of).await;
    newest.sort();
    assert_eq!(newest.len(), 8, "{newest:?}");
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn merging_trimming_and_collecting_in_between_do_no_harm() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let clock = Hand::at(10_000);
    for round in 0..20 {
        write(&world, of, 1, &format!("a={round} k{}={round}", round % 7)).await;
    }
    world.seal_one(of).await;
    let one = job(&world, &clock, settings(), 1).await;
    let looked = one.mine();
    let rules = looked[&of];
    // What is looked up is merged, and its objects deleted, before its bytes are read.
    let mut scan = scan::Scan::new(of, Offset::ZERO, Offset::at(40));
    let mut window = scan.next(&world.store, &world.keyspace, 1 << 20).await.expect("a store");
    merge_job(&world, merge_settings(), 3).await.round().await.expect("merged");
    clean(&world).await;
    let read = one.read(of, &mut window, |_| true).await.expect("found again");
    assert!(read.iter().all(Option::is_some) && read.len() == 20);
    // What is looked up is trimmed.
    let mut scan = scan::Scan::new(of, Offset::ZERO, Offset::at(40));
    let mut window = scan.next(&world.store, &world.keyspace, 1 << 20).await.expect("a store");
    delete_below(&world, of, NewStart::At(Offset::at(40))).await;
    write(&world, of, 1, "a=x").await;
    clean(&world).await;
    let read = one.read(of, &mut window, |_| true).await;
    assert!(matches!(read, Err(CompactError::Disturbed)), "{read:?}");
    world.seal_one(of).await;
    assert!(one.look(of, rules, 10_000).await.expect("a look").is_some());
    one.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["40:a=x"]);
}

#[tokio::test(start_paused = true)]
async fn where_the_time_cannot_be_told_nothing_is_compacted() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    let clock = Hand::at(10_000);
    let strict = CompactionSettings { clock_step: Duration::from_secs(60), ..settings() };
    let job = job(&world, &clock, strict, 1).await;
    job.round().await.expect("the time is written down");
    write(&world, of, 1, "a=1").await;
    write(&world, of, 1, "a=2").await;
    world.seal_one(of).await;
    clock.advance(10_000_000);
    assert!(matches!(job.round().await, Err(CompactError::Time(_))));
    assert_eq!((kept(&world, of).await.len(), count(&job.stats().waits_for_clock)), (2, 1));
    clock.advance(-10_000_000);
    job.round().await.expect("a round");
    assert_eq!((kept(&world, of).await.len(), count(&job.stats().waits_for_clock)), (1, 0));
}
