//! Transactions, by rows that are written by hand.

use penstock_metadata::keys::log::LogRow;
use penstock_metadata::log_compaction::Walk;
use penstock_types::{ProducerEpoch, ProducerId, Sequence};

use super::*;

/// Producers of one partition, with the sequence that each goes on with.
struct Producers<'a> {
    world: &'a World,
    of: TopicPartition,
    next: BTreeMap<i64, i32>,
}

impl Producers<'_> {
    async fn write(&mut self, producer: i64, pairs: &str) {
        let next = self.next.entry(producer).or_default();
        let builder = BatchBuilder::new(Codec::None)
            .producer(ProducerId::new(producer), ProducerEpoch::new(0), Sequence::new(*next))
            .transactional();
        let batch = keyed_in(builder, 1, pairs);
        *next += batch.header.record_count;
        self.world.flush(&[(self.of, batch)]).await;
    }

    async fn end(&self, producer: i64, abort: bool) {
        self.world.marker(self.of, ProducerId::new(producer), abort, 1).await;
    }
}

async fn setting() -> (World, TopicPartition) {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    (world, of)
}

fn producers(world: &World, of: TopicPartition) -> Producers<'_> {
    Producers { world, of, next: BTreeMap::new() }
}

/// Offsets and horizons of the markers of the sealed log.
async fn markers(world: &World, of: TopicPartition) -> Vec<(i64, Option<i64>)> {
    let mut walk = Walk::new(of, Offset::ZERO, Offset::at(1_000));
    let mut found = Vec::new();
    while let Some(values) = walk.next(&world.store, &world.keyspace).await.expect("a store") {
        for entry in values.iter().flat_map(|value| &value.value.entries) {
            if let LogRow::Marker { horizon, .. } = &entry.row {
                found.push((entry.base_offset.get(), *horizon));
            }
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn aborted_records_go_and_make_nothing_older_go() {
    let (world, of) = setting().await;
    let mut producers = producers(&world, of);
    producers.write(1, "a=1 b=1").await;
    producers.end(1, false).await;
    producers.write(1, "a=2").await;
    producers.write(2, "b=2 c=2").await;
    producers.end(1, true).await;
    producers.end(2, false).await;
    write(&world, of, 1, "d=1").await;
    world.seal_one(of).await;
    let job = job(&world, &Hand::at(10_000), settings(), 1).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["0:a=1", "4:b=2", "5:c=2", "8:d=1"]);
    assert_eq!(markers(&world, of).await, [(2, None), (6, None), (7, None)]);
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_from_the_first_open_transaction_on() {
    let (world, of) = setting().await;
    let mut producers = producers(&world, of);
    write(&world, of, 1, "a=1").await;
    write(&world, of, 1, "a=2").await;
    producers.write(1, "a=3").await;
    write(&world, of, 1, "b=1").await;
    write(&world, of, 1, "b=2").await;
    world.seal_one(of).await;
    let job = job(&world, &Hand::at(10_000), settings(), 1).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["1:a=2", "2:a=3", "3:b=1", "4:b=2"]);
    producers.end(1, true).await;
    world.seal_one(of).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["1:a=2", "4:b=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_marker_goes_two_runs_behind_its_last_record() {
    let (world, of) = setting().await;
    let mut producers = producers(&world, of);
    let clock = Hand::at(10_000);
    let job = job(&world, &clock, settings(), 1).await;
    producers.write(1, "a=1").await;
    producers.end(1, false).await;
    producers.write(1, "b=1").await;
    producers.end(1, true).await;
    let mut seen = Vec::new();
    for value in ["a=2", "c=1", "c=2", "c=3"] {
        write(&world, of, 1, value).await;
        world.seal_one(of).await;
        job.round().await.expect("a round");
        seen.push(markers(&world, of).await);
        clock.advance(RETENTION_MS / 2);
    }
    assert_eq!(seen[0], [(1, None), (3, None)], "their records were there when the run came by");
    assert_eq!(seen[1], [(1, Some(11_500)), (3, Some(11_500))]);
    assert_eq!(seen[2], seen[1], "their time isn't over");
    assert_eq!(seen[3], []);
    assert_eq!(shown(&world, of).await, ["4:a=2", "7:c=3"]);
    check_counts(&world, &[of]).await;
}

#[tokio::test(start_paused = true)]
async fn aborted_records_take_no_room_in_the_map() {
    let (world, of) = setting().await;
    let mut producers = producers(&world, of);
    producers.write(1, "a=1").await;
    let mut configs = settings();
    configs.map_bytes = 0;
    producers.end(1, true).await;
    write(&world, of, 1, "b=1").await;
    world.seal_one(of).await;
    let job = job(&world, &Hand::at(10_000), configs, 1).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["2:b=1"]);
    assert_eq!(markers(&world, of).await.len(), 1);
    check_counts(&world, &[of]).await;
}
