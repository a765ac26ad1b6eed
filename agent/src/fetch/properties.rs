//! Properties of the read path over random logs: what a fetch answers is what a naive reading of the log gives within
//! the fetch's limits, and it costs few requests.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_metadata::fold::BatchSource;
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::log::{self, BatchFacts, LogRow};
use penstock_metadata::keys::{Keyspace, feed, topic};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{Priority, SharedStore, WriteConflict};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_storage::bucket::{Bucket, BucketOptions};
use penstock_storage::cache::CacheOptions;
use penstock_storage::object::object_key;
use penstock_types::{
    Incarnation, ObjectId, PartitionIndex, Randomness, SeededRandomness, StoreVersion, TopicId,
};
use proptest::prelude::*;

use super::*;

const PARTITIONS: u64 = 4;
const BLOCK: u64 = 64 << 10;

fn partition(index: u64) -> TopicPartition {
    TopicPartition { topic: TopicId::from_bytes([9; 16]), partition: PartitionIndex::new(index as i32) }
}

/// A batch as it must come out.
#[derive(Debug, Clone)]
struct Expected {
    end_offset: i64,
    bytes: Vec<u8>,
}

struct World {
    store: SharedStore,
    keyspace: Keyspace,
    bucket: Arc<Bucket>,
    randomness: Arc<SeededRandomness>,
    log: BTreeMap<TopicPartition, Vec<Expected>>,
}

impl World {
    /// A log of `objects` objects; some partitions are sealed on the way.
    async fn new(seed: u64, objects: u64) -> Self {
        let randomness = Arc::new(SeededRandomness::new(seed));
        let store: SharedStore = MemoryStore::new(Arc::clone(&randomness) as _);
        let bucket = Bucket::open("memory:///", &BucketOptions::default(), Arc::clone(&randomness) as _);
        let bucket = bucket.expect("memory is always there");
        let log = (0..PARTITIONS).map(|index| (partition(index), Vec::new())).collect();
        let mut world = Self { store, keyspace: Keyspace::new(b"f"), bucket, randomness, log };
        let mut transaction = world.store.begin(Priority::Default);
        // The seal only asks whether the row is there.
        let row = topic::row_key(&world.keyspace, partition(0).topic);
        transaction.set(&row, b"there", WriteConflict::Yes);
        transaction.commit().await.expect("a topic");
        for number in 0..objects {
            world.write_object(number).await;
            if world.randomness.below(4) == 0 {
                let of = partition(world.randomness.below(PARTITIONS));
                seal_partition(&world.store, &world.keyspace, of, SealDue::NOW).await.expect("a seal");
            }
        }
        world
    }

    /// Puts an object with batches of some partitions and commits it.
    async fn write_object(&mut self, number: u64) {
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(number), self.randomness.next_u64());
        let mut object = Vec::new();
        let mut transaction = self.store.begin(Priority::Default);
        let mut n: u32 = 0;
        for of in (0..PARTITIONS).map(partition) {
            let batches = self.randomness.below(6) as u32;
            if batches == 0 {
                continue;
            }
            let (position, first_n) = (object.len() as u64, n);
            let facts: Vec<BatchFacts> = (0..batches).map(|_| self.batch(of, &mut object)).collect();
            n += batches;
            let records: i64 = facts.iter().map(|facts| i64::from(facts.records)).sum();
            let row = LogRow::Data { leader_epoch: LeaderEpoch::FIRST, object: id, position, batches: facts };
            let prefix = log::row_prefix(&self.keyspace, of, Incarnation::FIRST);
            transaction.set_stamped_key(&prefix, &first_n.to_be_bytes(), &row.encode(), WriteConflict::No);
            let mut added = Counters::default();
            added.append(of, records);
            let counters = counters::key(&self.keyspace, Stripe::of(of));
            transaction.atomic_add_bytes(&counters, &added.encode(), WriteConflict::No);
            let slot = feed::key(&self.keyspace, Slot::of(of));
            let stamp = feed::template(Incarnation::FIRST);
            transaction.set_stamped_value(&slot, &stamp, feed::STAMP_AT, WriteConflict::No);
        }
        if n == 0 {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        self.bucket.put(&object_key(id), vec![Bytes::from(object)], deadline).await.expect("put");
        transaction.commit().await.expect("committed");
    }

    /// Adds a batch to an object and to what is expected.
    fn batch(&mut self, of: TopicPartition, object: &mut Vec<u8>) -> BatchFacts {
        let length = match self.randomness.below(3) {
            0 => 61 + self.randomness.below(200),
            1 => 61 + self.randomness.below(20_000),
            _ => 61 + self.randomness.below(120_000),
        } as u32;
        let records = 1 + self.randomness.below(5) as u32;
        let log = self.log.get_mut(&of).expect("all partitions are there");
        let base_offset = log.last().map_or(0, |last: &Expected| last.end_offset);
        let mut bytes = vec![self.randomness.next_u64() as u8; length as usize];
        bytes[8..12].copy_from_slice(&(length as i32 - 12).to_be_bytes());
        object.extend_from_slice(&bytes);
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&LeaderEpoch::FIRST.get().to_be_bytes());
        log.push(Expected { end_offset: base_offset + i64::from(records), bytes });
        BatchFacts { length, records, flags: 0, base_timestamp: 1, max_timestamp: 1, producer: None }
    }

    fn fetch(&self) -> Arc<Fetch> {
        let options = CacheOptions { block_bytes: BLOCK, readahead_bytes: 0, ..CacheOptions::default() };
        let parts = FetchParts {
            views: Views::new(Arc::clone(&self.store), self.keyspace.clone(), 100),
            log: LogReader::new(Arc::clone(&self.store), self.keyspace.clone()),
            feed: FeedWatch::new(Arc::clone(&self.store), self.keyspace.clone()),
            cache: Cache::new(Arc::clone(&self.bucket), options),
        };
        Fetch::new(parts, FetchSettings { max_bytes: 1 << 20, memory_bytes: 64 << 20 })
    }

    fn end(&self, of: TopicPartition) -> i64 {
        self.log[&of].last().map_or(0, |last| last.end_offset)
    }

    /// What Apache Kafka's `readFromLog` would answer, partition by partition.
    fn naive(&self, request: &FetchRequest, largest: u64) -> Vec<Vec<u8>> {
        let mut left = request.max_bytes.min(largest);
        let mut nothing_yet = true;
        let mut answers = Vec::new();
        for target in &request.targets {
            let is_read_here = target.elsewhere.is_none();
            let batches = self.log[&target.partition]
                .iter()
                .filter(|batch| is_read_here && batch.end_offset > target.offset);
            let (most, mut answer) = (target.max_bytes.min(left), Vec::new());
            for batch in batches {
                let fits = (answer.len() + batch.bytes.len()) as u64 <= most;
                if !(fits || nothing_yet && answer.is_empty()) {
                    break;
                }
                answer.extend_from_slice(&batch.bytes);
                if !fits {
                    break;
                }
            }
            nothing_yet &= answer.is_empty();
            left = left.saturating_sub(answer.len() as u64);
            answers.push(answer);
        }
        answers
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..200u64, 200..30_000u64, 30_000..400_000u64, Just(1 << 40)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Content and order, the request's limit, each partition's, at least one batch a request, from any offset; each
    /// byte is asked for once, in few pieces; and what a client is sent elsewhere for takes nothing from the others.
    #[test]
    fn a_fetch_is_a_naive_reading_within_its_limits(
        seed: u64,
        objects in 1..14u64,
        max_bytes in limit(),
        wanted in proptest::collection::vec(
            (0..PARTITIONS, limit(), any::<prop::sample::Index>(), proptest::bool::weighted(0.2)), 1..5),
    ) {
        run(async {
            let world = World::new(seed, objects).await;
            let fetch = world.fetch();
            let mut targets: Vec<FetchTarget> = Vec::new();
            for (index, max_bytes, offset, is_sent_on) in wanted {
                let of = partition(index);
                if targets.iter().any(|target| target.partition == of) {
                    continue;
                }
                let offset = offset.index(world.end(of) as usize + 1) as i64;
                let (current_leader_epoch, last_fetched_epoch) = (None, None);
                let elsewhere = is_sent_on.then_some(NodeId::new(7));
                targets.push(FetchTarget {
                    partition: of, offset, max_bytes, current_leader_epoch, last_fetched_epoch, elsewhere,
                });
            }
            let request = FetchRequest {
                targets,
                min_bytes: 0,
                max_bytes,
                max_wait: Duration::ZERO,
                isolation: IsolationLevel::ReadUncommitted,
            };
            let plan = fetch.plan(&request).await;
            check_runs(&plan)?;
            let pieces: usize = plan.iter().flatten().map(|planned| {
                let runs = assemble::runs(&planned.batches, planned.sealed);
                let blocks = runs.iter().map(|run| run.range.end.div_ceil(BLOCK) - run.range.start / BLOCK);
                blocks.sum::<u64>() as usize
            }).sum();
            let gets_before = world.bucket.stats().snapshot().get_requests;
            let fetched = fetch.fetch(&request, true).await;
            let gets = world.bucket.stats().snapshot().get_requests - gets_before;
            prop_assert!(gets as usize <= pieces, "{} GETs for {} blocks", gets, pieces);

            let expected = world.naive(&request, 1 << 20);
            let total: usize = expected.iter().map(Vec::len).sum();
            let first = expected.iter().zip(&request.targets).find(|(answer, _)| !answer.is_empty());
            let limit = request.max_bytes.min(1 << 20);
            if let Some((_, target)) = first {
                let batches = &world.log[&target.partition];
                let first = batches.iter().find(|batch| batch.end_offset > target.offset).map_or(0, |b| b.bytes.len());
                prop_assert!(total as u64 <= limit.max(first as u64));
            }
            for ((found, expected), target) in fetched.partitions.iter().zip(expected).zip(&request.targets) {
                let found = found.as_ref().expect("in range");
                prop_assert_eq!(found.high_watermark.get(), world.end(target.partition));
                prop_assert_eq!(found.bytes, expected.len() as u64);
                prop_assert_eq!(found.preferred, target.elsewhere);
                prop_assert!(found.records.concat() == expected, "{:?}", target);
            }
            let again = fetch.fetch(&request, true).await;
            let gets_again = world.bucket.stats().snapshot().get_requests - gets_before - gets;
            prop_assert_eq!(gets_again, 0, "all of it is cached");
            drop(again);
            Ok(())
        })?;
    }

    /// A consumer that reads on from where it came to sees every batch once, whatever its limits.
    #[test]
    fn reading_on_skips_nothing(seed: u64, objects in 1..10u64, max_bytes in limit(), partition_max in limit()) {
        run(async {
            let world = World::new(seed, objects).await;
            let fetch = world.fetch();
            for of in (0..PARTITIONS).map(partition) {
                let (mut offset, mut read) = (0, Vec::new());
                while offset < world.end(of) {
                    let (current_leader_epoch, last_fetched_epoch) = (None, None);
                    let target = FetchTarget {
                        partition: of, offset, max_bytes: partition_max, current_leader_epoch, last_fetched_epoch,
                        elsewhere: None,
                    };
                    let request = FetchRequest {
                        targets: vec![target],
                        min_bytes: 1,
                        max_bytes,
                        max_wait: Duration::ZERO,
                        isolation: IsolationLevel::ReadUncommitted,
                    };
                    let planned = fetch.plan(&request).await.remove(0).expect("in range");
                    let reached = planned.batches.last().map_or(offset, |batch| batch.end_offset().get());
                    prop_assert!(reached > offset, "at least one batch");
                    offset = reached;
                    let fetched = fetch.fetch(&request, true).await;
                    read.extend(fetched.partitions[0].as_ref().expect("in range").records.concat());
                }
                let expected: Vec<u8> = world.log[&of].iter().flat_map(|batch| batch.bytes.clone()).collect();
                prop_assert!(read == expected, "{}: {} bytes of {}", of, read.len(), expected.len());
            }
            Ok(())
        })?;
    }

    /// Partitions that got their share go behind the others: with room for one batch an answer, each one has its turn
    /// before any has its second.
    #[test]
    fn partitions_take_turns(partitions in 1..20usize, rounds in 1..5usize) {
        use session::{FetchSessions, News, PartitionKey, SessionRequest, TopicKey, Wanted};
        let key = |partition| PartitionKey { topic: TopicKey::Name("t".to_owned()), partition };
        let wanted = Wanted { offset: 0, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 };
        let named = (0..partitions as i32).map(|partition| (key(partition), wanted)).collect();
        let mut sessions = FetchSessions::new(10, 100);
        let full = SessionRequest { id: 0, epoch: 0 };
        let mut context = sessions.begin(full, named, &[], false, 5).expect("a session");
        let mut epoch = 1;
        for _ in 0..rounds {
            let mut served = BTreeSet::new();
            for _ in 0..partitions {
                let next = SessionRequest { id: context.session, epoch };
                context = sessions.begin(next, Vec::new(), &[], false, 5).expect("the session goes on");
                epoch += 1;
                // As the planner does: the first partition takes its batch, and that is all there is room for.
                let mut limits = FetchLimits::new(1);
                let news: Vec<News> = context.partitions.iter().map(|_| {
                    let has_records = limits.of_partition(1, Offset::at(9)).is_some();
                    limits.take(100);
                    News { high_watermark: 9, log_start: 0, has_records, is_error: false }
                }).collect();
                prop_assert_eq!(news.iter().filter(|news| news.has_records).count(), 1);
                served.insert(context.partitions[0].0.partition);
                sessions.tell(&context, &news);
            }
            prop_assert_eq!(served.len(), partitions);
        }
    }
}

/// Reads cover the plan's batches in order, each within one object, none larger than a read may be unless it is one
/// batch, and no two that could be one.
fn check_runs(plan: &[Planned]) -> Result<(), TestCaseError> {
    for planned in plan.iter().flatten() {
        let runs = assemble::runs(&planned.batches, planned.sealed);
        let covered: Vec<_> = runs.iter().flat_map(|run| run.batches).collect();
        prop_assert_eq!(&covered, &planned.batches.iter().collect::<Vec<_>>());
        for run in &runs {
            let mut at = run.range.start;
            for batch in run.batches {
                let source = BatchSource::Object { object: run.object, position: at };
                prop_assert_eq!(batch.source, source);
                at += u64::from(batch.facts.length);
            }
            prop_assert_eq!(at, run.range.end);
            prop_assert!(run.batches.len() == 1 || at - run.range.start <= assemble::READ_BYTES);
        }
        for pair in runs.windows(2) {
            let next = u64::from(pair[1].batches[0].facts.length);
            let is_adjacent = pair[0].object == pair[1].object && pair[0].range.end == pair[1].range.start;
            let together = pair[0].range.end - pair[0].range.start + next;
            prop_assert!(!is_adjacent || together > assemble::READ_BYTES);
        }
    }
    Ok(())
}
