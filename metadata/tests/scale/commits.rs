//! Writers that commit to the same partitions for a while, each one object after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use penstock_metadata::append::{BatchToCommit, ObjectToCommit};
use penstock_metadata::commit::{Committer, ObjectOutcome};
use penstock_metadata::ground::CatalogGround;
use penstock_metadata::keys::log::{BatchFacts, BatchProducer};
use penstock_metadata::kv::{Isolation, Priority, SharedStore, StoreError, WriteConflict};
use penstock_metadata::order_rows::OrderRows;
use penstock_metadata::standing::Standing;
use penstock_types::{
    Incarnation, ObjectId, ProducerEpoch, ProducerId, Randomness, SeededRandomness, Sequence, StoreVersion,
    TopicPartition, pause,
};
use tokio::time::Instant;

use super::counted::{Counted, Counts, Written};
use super::measuring::{Cluster, Processor, quantile};

const RECORDS: u32 = 10;
/// What has not ended so long after the time is given up.
const GRACE: Duration = Duration::from_secs(10);

/// What writers do.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Plain sets of the number and sizes of what a commit writes, and nothing else.
    Plain(Arc<Vec<Written>>),
    /// A row per partition with its next offset: read, added to and written by each commit.
    NextOffset,
    /// A commit as an agent makes it; `idempotent`: of idempotent producers, one a writer; `offsets`: and learns the
    /// base offsets.
    Commit {
        /// Whether producers have states.
        idempotent: bool,
        /// Whether it asks for its offsets.
        offsets: bool,
    },
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain(_) => "plain sets",
            Self::NextOffset => "next-offset row",
            Self::Commit { offsets: false, .. } => "append alone",
            Self::Commit { idempotent: false, .. } => "commit and offsets",
            Self::Commit { idempotent: true, .. } => "the same, idempotent",
        }
    }
}

/// A load.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many commit at the same time.
    pub writers: u32,
    /// For how long.
    pub lasts: Duration,
    /// How often each commits; `None`: as soon as its last commit returned.
    pub every: Option<Duration>,
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    took: Vec<Duration>,
    elapsed: Duration,
    conflicts: u64,
    failures: u64,
    unfinished: u64,
    without_offsets: u64,
    reads: u64,
    rows_read: u64,
    rows_of_commit: u64,
    server: f64,
    client: f64,
    busiest_thread: f64,
}

impl Outcome {
    /// Takes another round's in.
    fn add(&mut self, other: Self) {
        let (mine, its) = (self.elapsed.as_secs_f64(), other.elapsed.as_secs_f64());
        let mean = |a: f64, b: f64| (a * mine + b * its) / (mine + its);
        self.server = mean(self.server, other.server);
        self.client = mean(self.client, other.client);
        self.busiest_thread = mean(self.busiest_thread, other.busiest_thread);
        self.took.extend(other.took);
        self.elapsed += other.elapsed;
        self.conflicts += other.conflicts;
        self.failures += other.failures;
        self.unfinished += other.unfinished;
        self.without_offsets += other.without_offsets;
        self.reads += other.reads;
        self.rows_read += other.rows_read;
        self.rows_of_commit = other.rows_of_commit;
    }

    fn commits_per_second(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Rows written a second.
    fn rows_per_second(&self) -> f64 {
        self.commits_per_second() * self.rows_of_commit as f64
    }

    fn per_commit(&self, count: u64) -> f64 {
        count as f64 / self.took.len().max(1) as f64
    }
}

/// What is compared: each against the plain sets before it.
pub async fn standard_kinds(field: &mut Field) -> Vec<Kind> {
    let (blind, idempotent) = (field.shape(false).await, field.shape(true).await);
    vec![
        Kind::Plain(blind),
        Kind::Commit { idempotent: false, offsets: false },
        Kind::Commit { idempotent: false, offsets: true },
        Kind::NextOffset,
        Kind::Plain(idempotent),
        Kind::Commit { idempotent: true, offsets: true },
    ]
}

/// Runs `kinds` under a load, in turns, and prints what came of them.
pub async fn compare(field: &mut Field, kinds: &[Kind], load: Load, rounds: usize) {
    let outcomes = field.rounds(kinds, load, rounds).await;
    let mut plain = None;
    for (kind, outcome) in kinds.iter().zip(&outcomes) {
        let is_plain = matches!(kind, Kind::Plain(_));
        if is_plain {
            plain = Some(outcome);
        }
        print_line(field.partitions.len(), load.writers, kind, outcome, plain.filter(|_| !is_plain));
    }
}

/// The head of the table that [`compare`] continues.
pub const HEAD: &str = "| partitions | writers | what | commits/s | rows/s | of plain sets | p50 ms | p99 ms \
                        | conflicts a commit | other retries | unfinished | keys and ranges read a commit \
                        | rows of ranges a commit | server busy | server ms a commit | client ms a commit \
                        | client's busiest thread |\n\
                        |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Prints a line of the table; `plain` is what plain sets managed.
fn print_line(partitions: usize, writers: u32, kind: &Kind, outcome: &Outcome, plain: Option<&Outcome>) {
    let mut took = outcome.took.clone();
    took.sort_unstable();
    let share = plain.map_or_else(String::new, |plain| {
        format!("{:.0} %", 100.0 * outcome.rows_per_second() / plain.rows_per_second())
    });
    println!(
        "| {partitions} | {writers} | {} | {:.1} | {:.0} | {share} | {:.1} | {:.1} | {:.2} | {} | {} | {:.0} | {:.0} \
         | {:.0} % | {:.2} | {:.2} | {:.0} % |",
        kind.name(),
        outcome.commits_per_second(),
        outcome.rows_per_second(),
        quantile(&took, 500).as_secs_f64() * 1e3,
        quantile(&took, 990).as_secs_f64() * 1e3,
        outcome.per_commit(outcome.conflicts),
        outcome.failures,
        outcome.unfinished,
        outcome.per_commit(outcome.reads),
        outcome.per_commit(outcome.rows_read),
        100.0 * outcome.server,
        1e3 * outcome.server / outcome.commits_per_second(),
        1e3 * outcome.client / outcome.commits_per_second(),
        100.0 * outcome.busiest_thread,
    );
    if outcome.without_offsets > 0 && matches!(kind, Kind::Commit { offsets: true, .. }) {
        println!("  ({} offsets were not read at the commit's version)", outcome.without_offsets);
    }
}

/// A topic under load.
pub struct Field {
    cluster: Cluster,
    committer: Committer<CatalogGround>,
    partitions: Vec<TopicPartition>,
    server: u32,
    producers: u64,
}

impl Field {
    /// Of the partitions of a topic of `cluster`, on the server of process `server`.
    pub async fn new(cluster: Cluster, partitions: Vec<TopicPartition>, server: u32) -> Self {
        let catalog = cluster.catalog().await;
        let committer = cluster.committer(Arc::clone(&cluster.store), &catalog);
        Self { cluster, committer, partitions, server, producers: 0 }
    }

    /// What a commit writes.
    async fn shape(&mut self, idempotent: bool) -> Arc<Vec<Written>> {
        let counts = Arc::default();
        let kind = Kind::Commit { idempotent, offsets: true };
        let mut writer = self.writer(&kind, &counts, 0);
        let mut told = OfWriter::default();
        // A producer's state grows up to its fifth batch.
        for _ in 0..6 {
            writer.commit(&mut told, Instant::now() + GRACE).await;
        }
        Arc::new(counts.last_written())
    }

    /// Runs each kind of load once a round, in turns: the machine's moods come to all of them.
    async fn rounds(&mut self, kinds: &[Kind], load: Load, rounds: usize) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = kinds.iter().map(|_| Outcome::default()).collect();
        for _ in 0..rounds {
            for (kind, outcome) in kinds.iter().zip(&mut outcomes) {
                super::measuring::settled(&*self.cluster.store).await;
                outcome.add(self.run(kind, load).await);
            }
        }
        outcomes
    }

    async fn run(&mut self, kind: &Kind, load: Load) -> Outcome {
        let counts = Arc::default();
        let writers: Vec<Writer> =
            (0..load.writers).map(|number| self.writer(kind, &counts, number)).collect();
        let (server, client) = (Processor::of(Some(self.server)), Processor::of(None));
        let begun = Instant::now();
        let tasks = writers.into_iter().map(|writer| tokio::spawn(writer.run(load, begun)));
        let mut outcome = Outcome::default();
        let mut offsets = Vec::new();
        for task in join_all(tasks).await {
            let told = task.expect("a writer");
            outcome.took.extend(told.took);
            outcome.conflicts += told.conflicts;
            outcome.failures += told.failures;
            outcome.unfinished += told.unfinished;
            outcome.without_offsets += told.without_offsets;
            offsets.extend(told.offsets_of_first);
        }
        outcome.elapsed = begun.elapsed();
        (outcome.server, _) = Processor::of(Some(self.server)).since(&server, outcome.elapsed);
        (outcome.client, outcome.busiest_thread) = Processor::of(None).since(&client, outcome.elapsed);
        outcome.reads = counts.gets.load(Ordering::Relaxed) + counts.ranges.load(Ordering::Relaxed);
        outcome.rows_read = counts.rows.load(Ordering::Relaxed);
        outcome.rows_of_commit = match kind {
            Kind::Plain(shape) => shape.len() as u64,
            _ => counts.last_written().len() as u64,
        };
        check_offsets(offsets);
        if matches!(kind, Kind::Commit { .. }) {
            assert_eq!(counts.conflicts.load(Ordering::Relaxed), 0, "commits of data don't conflict");
        }
        outcome
    }

    fn writer(&mut self, kind: &Kind, counts: &Arc<Counts>, number: u32) -> Writer {
        self.producers += 1;
        let randomness = SeededRandomness::new(self.producers);
        let store = match kind {
            Kind::Commit { offsets: false, .. } => Counted::without_offsets(&self.cluster.store, counts),
            Kind::Plain(_) | Kind::NextOffset | Kind::Commit { .. } => {
                Counted::over(&self.cluster.store, counts)
            }
        };
        let partitions = self.partitions.clone();
        let how = match kind {
            Kind::Plain(shape) => How::Plain { shape: Arc::clone(shape), number: self.producers },
            Kind::NextOffset => How::NextOffset,
            Kind::Commit { idempotent, offsets } => How::Commit {
                // A writer is an agent: it has read nothing for the others.
                committer: Committer {
                    store: Arc::clone(&store),
                    order_rows: OrderRows::default(),
                    standing: Standing::default(),
                    ..self.committer.clone()
                },
                producer: idempotent.then_some(self.producers as i64),
                offsets: *offsets,
            },
        };
        Writer { number, store, how, partitions, randomness, commits: 0 }
    }
}

/// Each commit has offsets of its own.
fn check_offsets(mut offsets: Vec<i64>) {
    let count = offsets.len();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), count, "two commits got the same offset");
    assert!(offsets.iter().all(|offset| offset % i64::from(RECORDS) == 0), "offsets lie between batches");
}

/// What a writer tells of itself.
#[derive(Debug, Default)]
struct OfWriter {
    took: Vec<Duration>,
    conflicts: u64,
    failures: u64,
    unfinished: u64,
    without_offsets: u64,
    offsets_of_first: Vec<i64>,
}

struct Writer {
    number: u32,
    store: SharedStore,
    how: How,
    partitions: Vec<TopicPartition>,
    randomness: SeededRandomness,
    commits: u64,
}

enum How {
    Plain { shape: Arc<Vec<Written>>, number: u64 },
    NextOffset,
    Commit { committer: Committer<CatalogGround>, producer: Option<i64>, offsets: bool },
}

impl Writer {
    async fn run(mut self, load: Load, begun: Instant) -> OfWriter {
        let mut told = OfWriter::default();
        let ends = begun + load.lasts;
        // Writers with a schedule begin one after the other.
        let mut due = begun + load.every.map_or(Duration::ZERO, |every| every * self.number / load.writers);
        loop {
            match load.every {
                Some(every) => {
                    pause(due.saturating_duration_since(Instant::now())).await;
                    if Instant::now() >= ends {
                        return told;
                    }
                    if self.commit(&mut told, ends + GRACE).await {
                        // From when it was due: who is late makes the next one wait.
                        told.took.push(due.elapsed());
                    }
                    due += every;
                }
                None => {
                    due = Instant::now();
                    if due >= ends {
                        return told;
                    }
                    if self.commit(&mut told, ends + GRACE).await {
                        told.took.push(due.elapsed());
                    }
                }
            }
        }
    }

    /// Commits once, however many attempts it takes; `false` if it didn't until then.
    async fn commit(&mut self, told: &mut OfWriter, until: Instant) -> bool {
        self.commits += 1;
        let object = self.object();
        let mut wait = Duration::from_millis(10);
        loop {
            match self.attempt(&object, told).await {
                Ok(()) => return true,
                Err(StoreError::Conflict) => told.conflicts += 1,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    told.failures += 1;
                }
            }
            if Instant::now() >= until {
                told.unfinished += 1;
                return false;
            }
            // As FoundationDB's own clients wait after a conflict.
            pause(wait.mul_f64(self.randomness.below(1_000) as f64 / 1e3)).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    async fn attempt(&mut self, object: &ObjectToCommit, told: &mut OfWriter) -> Result<(), StoreError> {
        match &self.how {
            How::Plain { shape, number } => {
                let mut transaction = self.store.begin(Priority::Default);
                for (index, row) in shape.iter().enumerate() {
                    let mut key = b"plain/".to_vec();
                    key.extend((index as u32).to_be_bytes());
                    if row.fresh {
                        key.extend(self.commits.to_be_bytes());
                        key.extend(number.to_be_bytes());
                    }
                    key.resize(row.key.max(key.len()), 0);
                    transaction.set(&key, &vec![7; row.value], WriteConflict::Yes);
                }
                transaction.commit().await.map(drop)
            }
            How::NextOffset => next_offset(&self.store, &self.partitions, object).await,
            How::Commit { committer, offsets, .. } => {
                let outcomes = committer.first_attempt(std::slice::from_ref(object)).await?;
                let ObjectOutcome::Committed { row, offsets: found } = &outcomes[0] else {
                    panic!("no cutoff moves")
                };
                assert_eq!(row.verdicts, [], "nothing is refused");
                if *offsets {
                    told.without_offsets += (self.partitions.len() - found.len()) as u64;
                    let of_first = found.get(&(self.partitions[0], 0)).map(|offset| offset.get());
                    told.offsets_of_first.extend(of_first);
                }
                Ok(())
            }
        }
    }

    /// An object with a batch for each partition.
    fn object(&self) -> ObjectToCommit {
        let producer = match self.how {
            How::Commit { producer: Some(id), .. } => Some(BatchProducer {
                id: ProducerId::new(id),
                epoch: ProducerEpoch::new(0),
                base_sequence: Sequence::new((self.commits as i32 - 1) * RECORDS as i32),
            }),
            _ => None,
        };
        let facts = BatchFacts {
            length: 16 << 10,
            records: RECORDS,
            flags: 0,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_100,
            producer,
        };
        let batches = self.partitions.iter().enumerate().map(|(index, partition)| BatchToCommit {
            partition: *partition,
            position: index as u64 * u64::from(facts.length),
            facts,
            refused: None,
        });
        let batches: Vec<_> = batches.collect();
        let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), self.randomness.next_u64());
        ObjectToCommit { id, size: u64::from(facts.length) * batches.len() as u64, batches }
    }
}

/// The textbook: reads each partition's next offset, writes the batch's row under it, and the next offset.
async fn next_offset(
    store: &SharedStore,
    partitions: &[TopicPartition],
    object: &ObjectToCommit,
) -> Result<(), StoreError> {
    let of = |partition: &TopicPartition, what: &[u8]| {
        let number = partition.partition.get().to_be_bytes();
        [b"textbook/", &partition.topic.as_bytes()[..], &number, what].concat()
    };
    let keys: Vec<Vec<u8>> = partitions.iter().map(|partition| of(partition, b"")).collect();
    let mut transaction = store.begin(Priority::Default);
    let values = transaction.get_many(&keys, Isolation::Serializable).await?;
    for ((key, value), partition) in keys.iter().zip(values).zip(partitions) {
        let known = value.map(|value| <[u8; 8]>::try_from(&value[..]).expect("8 bytes"));
        let next = known.map_or(0, i64::from_be_bytes);
        transaction.set(&of(partition, &next.to_be_bytes()), &[7; 50], WriteConflict::Yes);
        transaction.set(key, &(next + i64::from(RECORDS)).to_be_bytes(), WriteConflict::Yes);
    }
    transaction.set(&[b"textbook-object/", &object.id.as_bytes()[..]].concat(), &[7; 30], WriteConflict::Yes);
    transaction.commit().await.map(drop)
}
