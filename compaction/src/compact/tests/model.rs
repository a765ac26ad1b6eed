//! Random histories against a straight model of Kafka's cleaner, with faults in between.

use std::collections::BTreeSet;

use penstock_metadata::kv::memory::MemoryFaults;
use penstock_storage::bucket::faults::{FaultRates, Faults};
use penstock_types::SeededRandomness;

use super::*;
use crate::collector::{Collector, CollectorSettings};

/// Everything that was ever written to a partition, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Truth {
    all: Vec<(String, Option<String>)>,
    pub(super) start: i64,
}

impl Truth {
    pub(super) fn wrote(&mut self, pairs: &str) {
        for pair in pairs.split(' ') {
            let (key, value) = pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)));
            self.all.push((key.to_owned(), value.map(str::to_owned)));
        }
    }

    fn end(&self) -> i64 {
        self.all.len() as i64
    }

    /// A reader gets what was written, in its order; of each key the newest, unless that is a tombstone, which may be gone
    /// with everything older. `all_newest`: and nothing else.
    pub(super) fn check(&self, kept: &[Kept], all_newest: bool) {
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        for (offset, (key, _)) in self.all.iter().enumerate() {
            newest.insert(key, offset as i64);
        }
        let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
        let mut before = -1;
        for (offset, key, value) in kept {
            assert!(*offset > before, "{offset} behind {before}");
            before = *offset;
            assert_eq!(
                (key, value),
                (&self.all[*offset as usize].0, &self.all[*offset as usize].1),
                "{offset}"
            );
            assert!(!all_newest || newest[key.as_str()] == *offset, "{key} at {offset} isn't the newest");
            seen.insert(key, *offset);
        }
        for (key, offset) in newest {
            let is_value = self.all[offset as usize].1.is_some();
            match seen.get(key) {
                Some(last) => {
                    assert_eq!(*last, offset, "the newest of {key}, before which older ones came back");
                }
                None => assert!(!is_value || offset < self.start, "{key} at {offset} was lost"),
            }
        }
    }
}

/// The batches of a partition as Kafka's cleaner would leave them.
struct Cleaner {
    now_ms: i64,
    cleaned: i64,
    /// Keys that fit.
    capacity: u64,
}

impl Cleaner {
    fn run(&mut self, log: &mut Vec<Stored>) {
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        let mut reached = 0;
        for batch in log.iter().filter(|batch| batch.end > self.cleaned) {
            let (taken, count) = (newest.len() as u64, batch.kept.len() as u64);
            if taken > 0 && taken + count > self.capacity {
                break;
            }
            if taken == 0 && count > self.capacity {
                // The map grows.
                self.capacity = (count.div_ceil(3) + 1) * 3;
            }
            newest.extend(batch.kept.iter().map(|(offset, key, _)| (key.clone(), *offset)));
            reached = batch.end;
        }
        for batch in log.iter_mut().filter(|batch| batch.end <= reached) {
            let is_late = batch.horizon.is_some_and(|horizon| horizon <= self.now_ms);
            batch.kept.retain(|(offset, key, value)| {
                newest.get(key).is_none_or(|newest| offset >= newest) && (value.is_some() || !is_late)
            });
            if batch.kept.is_empty() {
                batch.horizon = None;
            } else if batch.horizon.is_none() && batch.kept.iter().any(|(_, _, value)| value.is_none()) {
                batch.horizon = Some(self.now_ms + RETENTION_MS);
            }
        }
        log.retain(|batch| !batch.kept.is_empty() || batch.end >= reached);
        self.cleaned = reached;
    }
}

struct History {
    world: World,
    of: TopicPartition,
    clock: Arc<Hand>,
    numbers: SeededRandomness,
    settings: CompactionSettings,
    truth: Truth,
}

impl History {
    async fn new(seed: u64) -> Self {
        let world = World::seeded(seed * 100 + 7).await;
        let of = topic(&world, "t", 1, COMPACT).await[0];
        let numbers = SeededRandomness::new(seed);
        let settings = CompactionSettings {
            map_bytes: 24 * (4 + numbers.below(60)),
            read_bytes: 100 + numbers.below(2_000),
            object_bytes: 100 + numbers.below(3_000),
            swap_bytes: numbers.below(1_000),
            ..settings()
        };
        let clock = Hand::at(100_000);
        Self { world, of, clock, numbers, settings, truth: Truth::default() }
    }

    async fn write(&mut self) {
        let mut pairs = Vec::new();
        for _ in 0..=self.numbers.below(5) {
            let key = self.numbers.below(12);
            let value = self.numbers.next_u64() % 100;
            pairs.push(if value < 25 { format!("k{key}") } else { format!("k{key}={value}") });
        }
        let pairs = pairs.join(" ");
        let codec = Codec::ALL[self.numbers.below(5) as usize];
        let batch = keyed_in(BatchBuilder::new(codec), self.clock.get(), &pairs);
        self.world.flush(&[(self.of, batch)]).await;
        self.truth.wrote(&pairs);
    }

    async fn trim(&mut self) {
        let to = self.truth.start
            + self.numbers.below((self.truth.end() - self.truth.start) as u64 / 3 + 1) as i64;
        delete_below(&self.world, self.of, NewStart::At(Offset::at(to))).await;
        self.truth.start = to;
    }

    async fn collect(&self) {
        let second = Duration::from_secs(1);
        let settings = CollectorSettings { delay: second * 60, merged_delay: second * 60, interval: second };
        let collector = Collector::new(self.world.parts(), settings);
        collector.walk().await.expect("a walk");
        tokio::time::advance(second * 61).await;
        collector.round().await.expect("a round");
        assert_eq!(collector.stats().contradictions.load(Ordering::Relaxed), 0);
    }

    async fn job(&self) -> Arc<Compaction> {
        job(&self.world, &self.clock, self.settings, self.numbers.next_u64()).await
    }

    /// One or two agents compact and merge among faults, and die at any point.
    async fn compact_badly(&self) {
        let often = self.numbers.below(10) as f64 / 100.0;
        let (one, two) = (self.job().await, self.job().await);
        let merge = merge_job(&self.world, merge_settings(), self.numbers.next_u64()).await;
        self.world.memory.set_faults(MemoryFaults {
            conflict: often,
            unknown_applied: often,
            unknown_not_applied: often,
            unknown_applied_later: often,
            too_old: often / 2.0,
            latency: Some(Duration::ZERO..Duration::from_millis(5)),
            ..MemoryFaults::default()
        });
        let rates = FaultRates {
            unavailable: self.numbers.below(100) as u32,
            lost_answer: self.numbers.below(100) as u32,
            short_read: self.numbers.below(50) as u32,
            ..FaultRates::default()
        };
        self.world.faulty.set(Faults::everywhere(rates));
        let lives = [self.numbers.below(300), self.numbers.below(3_000)].map(Duration::from_millis);
        let run = async |job: Arc<Compaction>, life: Duration| {
            let _died = tokio::time::timeout(life, job.round()).await;
        };
        match self.numbers.below(3) {
            0 => drop(tokio::join!(run(one, lives[0]), run(two, lives[1]))),
            1 => drop(tokio::join!(run(one, lives[1]), tokio::time::timeout(lives[1], merge.round()))),
            _ => run(one, lives[1]).await,
        }
        self.world.memory.set_faults(MemoryFaults::default());
        self.world.faulty.set(Faults::default());
        self.world.memory.land_parked_commits();
    }

    /// What readers may rely on, whatever has happened.
    async fn check(&self) {
        let mut truth = self.truth.clone();
        let kept = kept(&self.world, self.of).await;
        // What lies below the log's start may be there or not.
        let visible: Vec<Kept> = kept.into_iter().filter(|(offset, _, _)| *offset >= truth.start).collect();
        let gone: BTreeSet<usize> = (0..truth.start as usize).collect();
        for offset in gone {
            truth.all[offset].1.get_or_insert_default();
        }
        truth.check(&visible, false);
    }

    /// Without faults, and everything sealed, each batch is what Kafka would leave of it.
    async fn compact_well(&self) {
        self.world.seal_one(self.of).await;
        let standing = standing(&self.world.store, &self.world.keyspace, self.of).await.expect("a store");
        let cleaned = standing.expect("there").cleaned.get();
        let mut log = batches(&self.world, self.of).await;
        let dirty: u64 = plan(&self.world, self.of)
            .await
            .iter()
            .filter(|batch| batch.end_offset().get() > cleaned.max(self.truth.start))
            .map(|batch| u64::from(batch.facts.records))
            .sum();
        let enough = (dirty.div_ceil(3) + 1) * 4;
        let capacity = enough.min(self.settings.map_bytes / 24) / 4 * 3;
        let job = self.job().await;
        job.round().await.expect("a round");
        let after = batches(&self.world, self.of).await;
        let mut before = log.clone();
        let (mut cleaned, start) = (cleaned, self.truth.start);
        // Each run has a map of its own.
        before.retain(|batch| batch.end > start);
        let end = before.last().map_or(0, |batch| batch.end);
        while cleaned.max(start) < end && before.iter().any(|batch| batch.end > cleaned.max(start)) {
            let mut run = Cleaner { now_ms: self.clock.get(), cleaned: cleaned.max(start), capacity };
            run.run(&mut before);
            cleaned = run.cleaned;
        }
        log = before;
        assert_eq!(after, log);
    }
}

#[tokio::test(start_paused = true)]
async fn logs_become_what_kafka_would_make_of_them_whatever_fails() {
    let seeds = std::env::var("COMPACT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut history = History::new(seed).await;
        for _ in 0..20 {
            match history.numbers.below(20) {
                0..=7 => history.write().await,
                8..=9 => history.world.seal_one(history.of).await,
                10 => history.trim().await,
                11 => history.collect().await,
                12..=14 => history.compact_well().await,
                _ => history.compact_badly().await,
            }
            history.check().await;
            history.clock.advance(history.numbers.below(600) as i64);
            tokio::time::advance(Duration::from_secs(history.numbers.below(30))).await;
        }
        history.write().await;
        history.compact_well().await;
        history.check().await;
        // What was deleted before it was sealed.
        delete_below(&history.world, history.of, NewStart::At(Offset::at(history.truth.start))).await;
        check_counts(&history.world, &[history.of]).await;
        history.collect().await;
        history.check().await;
    }
}
