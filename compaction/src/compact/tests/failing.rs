//! Runs that don't get through, and what readers see then.

use penstock_storage::bucket::faults::{FaultRates, Faults};

use super::model::Truth;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_what_cannot_be_read_and_the_partition_waits() {
    let world = World::without_topics().await;
    let parts = topic(&world, "t", 2, COMPACT).await;
    let mut objects = Vec::new();
    for round in 0..4 {
        objects.push(write(&world, parts[0], 1, &format!("a={round} k{round}=1")).await);
        write(&world, parts[1], 1, &format!("a={round}")).await;
    }
    world.seal_one(parts[0]).await;
    world.seal_one(parts[1]).await;
    let job = job(&world, &Hand::at(10_000), settings(), 1).await;
    let key = object_key(objects[2]);
    let bytes = world.bucket.get_with_etag(&key).await.expect("there").data;
    world.bucket.delete_many(std::slice::from_ref(&key)).await.expect("deleted");
    let failed = job.round().await;
    assert!(
        matches!(&failed, Err(CompactError::Unreadable { offset, object, .. })
            if *offset == Offset::at(4) && *object == Some(objects[2])),
        "{failed:?}"
    );
    assert_eq!(shown(&world, parts[1]).await, ["3:a=3"], "it holds nobody up");
    assert_eq!(count(&job.stats().unreadable), 1);
    job.round().await.expect("it isn't begun again at once");
    let deadline = Instant::now() + Duration::from_secs(60);
    world.bucket.put(&key, vec![bytes.clone()], deadline).await.expect("healed");
    tokio::time::advance(Duration::from_secs(10)).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, parts[0]).await, ["1:k0=1", "3:k1=1", "5:k2=1", "6:a=3", "7:k3=1"]);
    // Damaged in what was compacted: what lies below is compacted all the same, nothing behind is.
    write(&world, parts[0], 1, "k0=2 k3=2").await;
    write(&world, parts[0], 1, "z=1").await;
    world.seal_one(parts[0]).await;
    let target = plan(&world, parts[0]).await[1];
    let BatchSource::Object { object, position } = target.source else { panic!("no batch") };
    let key = object_key(object);
    let sound = world.bucket.get_with_etag(&key).await.expect("there").data;
    let mut damaged = sound.to_vec();
    damaged[position as usize + 65] ^= 1;
    world.bucket.put(&key, vec![damaged.into()], deadline).await.expect("damaged");
    let failed = job.round().await;
    assert!(matches!(&failed, Err(CompactError::Unreadable { .. })), "{failed:?}");
    let entries = plan(&world, parts[0]).await;
    assert_eq!(entries[0].base_offset, target.base_offset, "the one below is gone");
    assert!(entries.iter().any(|entry| entry.base_offset == Offset::at(6)), "the ones behind are there");
    world.bucket.put(&key, vec![sound], deadline).await.expect("healed");
    tokio::time::advance(Duration::from_secs(3_600)).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, parts[0]).await, ["3:k1=1", "5:k2=1", "6:a=3", "8:k0=2", "9:k3=2", "10:z=1"]);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_not_put_is_given_up_at_once() {
    let world = World::without_topics().await;
    let of = topic(&world, "t", 1, COMPACT).await[0];
    write(&world, of, 1, "a=1 b=1").await;
    write(&world, of, 1, "a=2").await;
    world.seal_one(of).await;
    let down = FaultRates { unavailable: 1000, ..FaultRates::default() };
    world.faulty.set(Faults { puts: down, ..Faults::default() });
    let job = job(&world, &Hand::at(10_000), settings(), 1).await;
    assert!(matches!(job.round().await, Err(CompactError::Bucket(_))));
    assert_eq!((count(&job.stats().given_up), count(&job.stats().failures)), (1, 1));
    world.faulty.set(Faults::default());
    tokio::time::advance(Duration::from_secs(10)).await;
    job.round().await.expect("a round");
    assert_eq!(shown(&world, of).await, ["1:b=1", "2:a=2"]);
    check_counts(&world, &[of]).await;
    clean(&world).await;
    let live: Vec<ObjectId> = live(&world, &[of]).await.into_keys().collect();
    assert_eq!(world.objects().await, keys(&live));
}

/// A run that is left after each millisecond of its life, while the store takes a few of them for each thing it is asked.
#[tokio::test(start_paused = true)]
async fn a_run_may_be_left_anywhere() {
    let mut lives = 0;
    for life in (0_u64..).step_by(2) {
        let world = World::without_topics().await;
        let of = topic(&world, "t", 1, COMPACT).await[0];
        let clock = Hand::at(10_000);
        let mut truth = Truth::default();
        for round in 0..8 {
            let pairs = match round {
                5 => "b".to_owned(),
                _ => format!("a={round} b={round} k{round}=1"),
            };
            truth.wrote(&pairs);
            write(&world, of, 1, &pairs).await;
            world.seal_one(of).await;
        }
        let small = CompactionSettings { object_bytes: 150, read_bytes: 300, swap_bytes: 100, ..settings() };
        let (one, two) = (job(&world, &clock, small, 1).await, job(&world, &clock, small, 2).await);
        let slow = Duration::from_millis(2)..Duration::from_millis(3);
        let faults =
            penstock_metadata::kv::memory::MemoryFaults { latency: Some(slow), ..Default::default() };
        world.memory.set_faults(faults);
        let ended = tokio::time::timeout(Duration::from_millis(life), one.round()).await;
        world.memory.set_faults(Default::default());
        truth.check(&kept(&world, of).await, false);
        two.round().await.expect("a round");
        truth.check(&kept(&world, of).await, true);
        check_counts(&world, &[of]).await;
        lives += 1;
        if ended.is_ok() {
            break;
        }
    }
    assert!(lives > 20, "{lives}");
}

/// A run dies after some of its swaps, the tombstones' time passes, and another one dies, too: what a tombstone has deleted
/// doesn't come back. It would if a tombstone got its horizon, and went, before what it has deleted.
#[tokio::test(start_paused = true)]
async fn what_was_deleted_does_not_come_back_whenever_runs_die() {
    let mut swapped = 0;
    for life in (0_u64..).step_by(3) {
        let mut ended = true;
        for other in (30_u64..240).step_by(5) {
            let world = World::without_topics().await;
            let of = topic(&world, "t", 1, COMPACT).await[0];
            let clock = Hand::at(10_000);
            for pairs in ["a=1 b=1", "c=1", "d=1 c=2", "a d=2", "e=1"] {
                write(&world, of, 1, pairs).await;
                world.seal_one(of).await;
            }
            let steps = CompactionSettings { swap_bytes: 1, ..settings() };
            let slow = Duration::from_millis(2)..Duration::from_millis(3);
            let faults =
                penstock_metadata::kv::memory::MemoryFaults { latency: Some(slow), ..Default::default() };
            for (seed, life) in [(1, life), (2, other)] {
                let job = job(&world, &clock, steps, seed).await;
                world.memory.set_faults(faults.clone());
                let died = tokio::time::timeout(Duration::from_millis(life), job.round()).await.is_err();
                world.memory.set_faults(Default::default());
                ended &= seed == 2 || !died;
                clock.advance(1_000_000);
            }
            let shown = shown(&world, of).await;
            let last = shown
                .iter()
                .rfind(|record| record.split_once(':').is_some_and(|(_, key)| key.starts_with('a')));
            assert!(last.is_none_or(|last| !last.contains('=')), "{life} {other}: {shown:?}");
            swapped += usize::from(shown.len() < 8);
        }
        if ended {
            break;
        }
    }
    assert!(swapped > 20, "{swapped}");
}
