//! Merges that don't get through: what can't be read, put or swapped, and who says stop.

use penstock_metadata::kv::WriteConflict;

use super::*;

/// Rounds of a unit of which something is gone for good, until that is believed.
pub(super) async fn until_believed(job: &Arc<Merge>) {
    for look in 0..2 {
        let failed = job.round().await;
        assert!(matches!(failed, Err(MergeError::Unreadable { .. })), "look {look}: {failed:?}");
        assert_eq!((count(&job.stats().unreadable), count(&job.stats().units)), (0, 0));
        job.round().await.expect("it isn't begun again at once");
        tokio::time::advance(job.settings.interval * 2).await;
    }
    job.round().await.expect("left where it is");
}

async fn three_objects(world: &World, partitions: &[TopicPartition]) -> Vec<ObjectId> {
    let mut sources = Vec::new();
    for round in 0..3 {
        let batches: Vec<_> = partitions.iter().map(|of| (*of, batch(round, 1, 500))).collect();
        sources.push(world.flush(&batches).await);
    }
    sources
}

async fn objects_of(world: &World, partition: TopicPartition) -> Vec<ObjectId> {
    plan(world, partition).await.iter().map(|batch| object_of(batch).0).collect()
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_or_empty_holds_nobody_up_and_is_counted() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let sources = three_objects(&world, &partitions).await;
    world.bucket.delete_many(&[object_key(sources[0])]).await.expect("deleted");
    let deadline = Instant::now() + Duration::from_secs(60);
    world.bucket.put(&object_key(sources[2]), vec![Bytes::new()], deadline).await.expect("emptied");
    let job = job(&world, settings(), 1).await;
    until_believed(&job).await;
    assert_eq!((count(&job.stats().unreadable), count(&job.stats().units)), (4, 1));
    assert_eq!(count(&job.stats().outputs), 1, "what could be read was merged once");
    for partition in &partitions {
        let found = objects_of(&world, *partition).await;
        assert_eq!((found[0], found[2]), (sources[0], sources[2]));
        assert!(!sources.contains(&found[1]));
    }
    check_counts(&world, &partitions).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_back_in_time_is_merged() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let sources = three_objects(&world, &partitions).await;
    let key = object_key(sources[1]);
    let bytes = world.bucket.get_with_etag(&key).await.expect("there").data;
    world.bucket.delete_many(std::slice::from_ref(&key)).await.expect("deleted");
    let job = job(&world, settings(), 1).await;
    assert!(matches!(job.round().await, Err(MergeError::Unreadable { batches: 2, objects: 1 })));
    let deadline = Instant::now() + Duration::from_secs(60);
    world.bucket.put(&key, vec![bytes], deadline).await.expect("healed");
    tokio::time::advance(Duration::from_secs(10)).await;
    job.round().await.expect("a round");
    assert_eq!((count(&job.stats().unreadable), count(&job.stats().units)), (0, 1));
    assert!(objects_of(&world, partitions[0]).await.iter().all(|object| !sources.contains(object)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_index_cannot_be_read_holds_no_other_up() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 3, &[]).await;
    let sources = three_objects(&world, &partitions).await;
    for partition in &partitions {
        world.seal_one(*partition).await;
    }
    let broken = rows(&world, Family::Index).await.remove(1);
    let mut transaction = world.store.begin(Priority::Default);
    transaction.set(&broken.key, b"nothing of the kind", WriteConflict::Yes);
    transaction.commit().await.expect("a commit");
    let job = job(&world, settings(), 1).await;
    // The store may mean it otherwise later: that is asked for longer.
    for _ in 1..24 {
        assert!(matches!(job.round().await, Err(MergeError::Unreadable { batches: 1, .. })));
        tokio::time::advance(Duration::from_secs(3_600)).await;
    }
    for partition in [partitions[0], partitions[2]] {
        assert!(objects_of(&world, partition).await.iter().all(|object| !sources.contains(object)));
    }
    assert_eq!(count(&job.stats().units), 0);
    job.round().await.expect("given up");
    assert_eq!((count(&job.stats().unreadable), count(&job.stats().units)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_not_put_is_given_up_at_once() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    three_objects(&world, &partitions).await;
    let down = FaultRates { unavailable: 1000, ..FaultRates::default() };
    world.faulty.set(Faults { puts: down, ..Faults::default() });
    let job = job(&world, settings(), 1).await;
    assert!(matches!(job.round().await, Err(MergeError::Bucket(_))));
    let all = rows(&world, Family::Object).await;
    let states: Vec<_> = all.iter().map(|row| ObjectRow::decode(&row.value).expect("a row").state).collect();
    assert!(!states.contains(&ObjectState::Intent) && states.contains(&ObjectState::Tombstone), "{states:?}");
    assert_eq!(rows(&world, Family::Garbage).await.len(), 1);
    world.faulty.set(Faults::default());
    job.round().await.expect("it isn't begun again at once");
    assert_eq!(count(&job.stats().units), 0);
    tokio::time::advance(Duration::from_secs(10)).await;
    job.round().await.expect("a round");
    assert_eq!((count(&job.stats().units), count(&job.stats().given_up)), (1, 1));
    check_counts(&world, &partitions).await;
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &partitions).await.into_keys().collect();
    assert_eq!(world.objects().await, keys(&live));
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_takes_too_long_is_made_in_smaller_steps() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 150, &[]).await;
    let batches: Vec<_> = partitions.iter().map(|of| (*of, batch(1, 1, 50))).collect();
    world.flush(&batches).await;
    for partition in &partitions {
        world.seal_one(*partition).await;
    }
    // Reads one after the other would take 9 s, of the 5 s that a transaction has.
    let slow = Duration::from_millis(60)..Duration::from_millis(61);
    world.memory.set_faults(MemoryFaults { latency: Some(slow), ..MemoryFaults::default() });
    let job = job(&world, settings(), 1).await;
    job.round().await.expect("a round");
    world.memory.set_faults(MemoryFaults::default());
    assert_eq!((count(&job.stats().units), count(&job.stats().outputs)), (1, 1));
    assert_eq!(count(&job.stats().batches), 150);
}

#[tokio::test(start_paused = true)]
async fn an_output_is_announced_when_the_pace_lets_it_go() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 6, &[]).await;
    three_objects(&world, &partitions).await;
    // One partition an output, each of which is paid for in some minutes.
    let slow = MergeSettings { object_bytes: 1_000, bytes_per_second: 10, ..settings() };
    let job = job(&world, slow, 1).await;
    let lag = Duration::from_secs(120);
    let sweeper = Sweeper::new(world.parts(), SweeperSettings { lag, interval: lag });
    let sweeps = async {
        loop {
            pause(Duration::from_secs(20)).await;
            sweeper.round().await.expect("a sweep");
        }
    };
    tokio::select! {
        biased;
        merged = job.round() => merged.expect("a round"),
        () = sweeps => {}
    }
    let stats = job.stats();
    assert_eq!((count(&stats.units), count(&stats.given_up), count(&stats.batches)), (1, 0, 18));
    assert!(count(&stats.outputs) >= 6);
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_what_is_under_way_before_its_next_output() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 6, &[]).await;
    three_objects(&world, &partitions).await;
    let slow = MergeSettings { object_bytes: 1_000, bytes_per_second: 10, ..settings() };
    let job = job(&world, slow, 1).await;
    let stop = CancellationToken::new();
    let operator = async {
        while count(&job.stats().outputs) < 2 {
            pause(Duration::from_secs(10)).await;
        }
        job.turns().pause(Duration::from_secs(86_400));
        while job.turns().status().running_for.is_some() {
            pause(Duration::from_secs(10)).await;
        }
        let outputs = count(&job.stats().outputs);
        assert!(outputs <= 3, "{outputs}");
        let status = job.turns().status();
        assert_eq!((count(&job.stats().units), status.failures, count(&job.stats().failures)), (0, 0, 0));
        pause(Duration::from_secs(3_600)).await;
        assert_eq!(count(&job.stats().outputs), outputs);
        job.turns().resume();
        while count(&job.stats().units) == 0 {
            pause(Duration::from_secs(10)).await;
        }
        stop.cancel();
    };
    tokio::join!(Arc::clone(&job).run(stop.clone()), operator);
    assert_eq!(count(&job.stats().batches), 18);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_fails_is_told_and_the_next_is_merged() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let sources = three_objects(&world, &partitions).await;
    world.bucket.delete_many(&[object_key(sources[0])]).await.expect("deleted");
    // Each object is a unit.
    let job = job(&world, MergeSettings { unit_bytes: 100, ..settings() }, 1).await;
    let (stop, number) = (CancellationToken::new(), job.turns().ask());
    let waits = async {
        while job.turns().status().asked_ended < number {
            pause(Duration::from_secs(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(Arc::clone(&job).run(stop.clone()), waits);
    assert_eq!((count(&job.stats().units), count(&job.stats().failures)), (2, 1));
    let error = job.turns().status().error.expect("why");
    assert!(error.contains("2 batches can't be read"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_stays_longer_than_what_has_expired() {
    let world = World::without_topics().await;
    let partitions = topic(&world, "orders", 2, &[]).await;
    let sources = three_objects(&world, &partitions).await;
    job(&world, settings(), 1).await.round().await.expect("a round");
    let second = Duration::from_secs(1);
    let settings = CollectorSettings { delay: DELAY, merged_delay: DELAY * 10, interval: second };
    let collector = Collector::new(world.parts(), settings);
    tokio::time::advance(DELAY * 9).await;
    collector.round().await.expect("a round");
    let there = world.objects().await;
    assert!(keys(&sources).iter().all(|key| there.contains(key)), "a backup refers to them");
    tokio::time::advance(DELAY * 2).await;
    collector.round().await.expect("a round");
    let live: Vec<ObjectId> = live(&world, &partitions).await.into_keys().collect();
    assert_eq!(world.objects().await, keys(&live));
}
