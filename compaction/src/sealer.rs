//! When partitions are sealed: by rows and by age, so that tails stay cheap to fold and an idle partition's rows don't
//! pin mixed objects.
//!
//! An agent knows what it committed itself ([`Sealer::wrote`]). What others left behind (an agent that died) is found
//! by a walk over the partitions that have rows, once per `age`, by one agent. Of agents that write the same partition each
//! counts its own rows, and whoever comes to the bound first seals everybody's: the others find too few left, and wait
//! on. Two that seal at the same time conflict, and one of them comes back later: nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use penstock_metadata::keys::log;
use penstock_metadata::keys::{Family, Keyspace};
use penstock_metadata::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, limits, prefixed};
use penstock_metadata::sealing::{SealDue, seal_partition};
use penstock_types::{TopicPartition, pause};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::share::Share;
use crate::turns::Turns;

/// Partitions sealed at a time: a seal mostly waits for the store.
const AT_ONCE: usize = 8;

/// When to seal.
#[derive(Debug, Clone, Copy)]
pub struct SealSettings {
    /// A partition with so many rows.
    pub rows: u64,
    /// A partition whose oldest row is that old.
    pub age: Duration,
    /// How often partitions are looked at.
    pub interval: Duration,
}

/// Counters of the seal.
#[derive(Debug, Default)]
pub struct SealStats {
    /// Partitions sealed.
    pub seals: AtomicU64,
    /// Rows folded.
    pub rows: AtomicU64,
    /// Index values written.
    pub values: AtomicU64,
    /// Seals that conflicted or failed, to be tried again.
    pub failures: AtomicU64,
    /// Microseconds that partitions took to seal, together.
    pub microseconds: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Unsealed {
    rows: u64,
    since: Instant,
}

/// The seal job of one agent.
#[derive(Debug)]
pub struct Sealer {
    store: SharedStore,
    keyspace: Keyspace,
    settings: SealSettings,
    share: Arc<dyn Share>,
    unsealed: Mutex<BTreeMap<TopicPartition, Unsealed>>,
    stats: SealStats,
    turns: Arc<Turns>,
}

impl Sealer {
    /// A job that knows of no rows yet.
    pub fn new(
        store: SharedStore,
        keyspace: Keyspace,
        settings: SealSettings,
        share: Arc<dyn Share>,
    ) -> Arc<Self> {
        let (unsealed, stats) = (Mutex::default(), SealStats::default());
        let turns = Turns::new("seal", "packs new rows of the log into its index");
        Arc::new(Self { store, keyspace, settings, share, unsealed, stats, turns })
    }

    /// Its turns.
    pub fn turns(&self) -> &Arc<Turns> {
        &self.turns
    }

    /// Counters.
    pub fn stats(&self) -> &SealStats {
        &self.stats
    }

    /// Partitions with rows that are not sealed yet, as far as this agent knows, and those rows.
    pub fn unsealed(&self) -> (usize, u64) {
        let unsealed = self.unsealed.lock();
        (unsealed.len(), unsealed.values().map(|unsealed| unsealed.rows).sum())
    }

    /// Rows were committed to a partition.
    pub fn wrote(&self, partition: TopicPartition, rows: u64) {
        let now = Instant::now();
        let mut unsealed = self.unsealed.lock();
        let entry = unsealed.entry(partition).or_insert(Unsealed { rows: 0, since: now });
        entry.rows += rows;
    }

    /// Runs until cancelled.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let (mut walked, mut wait): (Option<Instant>, _) = (None, Duration::ZERO);
        while let Some(mut turn) = stop.run_until_cancelled(self.turns.next(wait)).await {
            wait = self.settings.interval;
            let is_due = turn.is_asked() || walked.is_none_or(|at| at.elapsed() >= self.settings.age);
            if is_due && self.share.is_mine("seal walk") {
                walked = Some(Instant::now());
                if let Err(error) = self.walk(&stop).await {
                    tracing::debug!(%error, "the walk over unsealed partitions ended early");
                    turn.failed(&error);
                }
            }
            // Who asks for it wants everything sealed.
            let due = if turn.is_asked() { SealDue::NOW } else { self.due() };
            self.seal_all(due, &stop).await;
        }
    }

    fn due(&self) -> SealDue {
        SealDue { rows: self.settings.rows, age: self.settings.age }
    }

    /// Seals what is due now.
    pub async fn seal_due(&self, stop: &CancellationToken) {
        self.seal_all(self.due(), stop).await;
    }

    async fn seal_all(&self, wanted: SealDue, stop: &CancellationToken) {
        let now = Instant::now();
        let due: Vec<TopicPartition> = {
            let unsealed = self.unsealed.lock();
            let is_due = |unsealed: &Unsealed| {
                unsealed.rows >= wanted.rows || now.saturating_duration_since(unsealed.since) >= wanted.age
            };
            unsealed
                .iter()
                .filter(|(_, unsealed)| is_due(unsealed))
                .map(|(partition, _)| *partition)
                .collect()
        };
        self.turns.expects(due.len() as u64);
        let seals = futures::stream::iter(due).for_each_concurrent(AT_ONCE, |partition| async move {
            if stop.is_cancelled() {
                return;
            }
            // Forgotten first: what is written from here on counts anew.
            let forgotten = self.unsealed.lock().remove(&partition);
            let begun = Instant::now();
            let sealed = self.seal_as(partition, wanted).await;
            self.turns.did(1);
            let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.stats.microseconds.fetch_add(took, Ordering::Relaxed);
            if let Err(error) = sealed {
                tracing::debug!(%error, %partition, "a seal is tried again later");
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                if let Some(forgotten) = forgotten {
                    self.put_back(partition, forgotten);
                }
            }
        });
        seals.await;
    }

    fn put_back(&self, partition: TopicPartition, forgotten: Unsealed) {
        let mut unsealed = self.unsealed.lock();
        let entry = unsealed.entry(partition).or_insert(Unsealed { rows: 0, since: forgotten.since });
        entry.rows += forgotten.rows;
        entry.since = entry.since.min(forgotten.since);
    }

    /// Seals all rows of a partition, if they are due.
    pub async fn seal(&self, partition: TopicPartition) -> Result<(), StoreError> {
        self.seal_as(partition, self.due()).await
    }

    async fn seal_as(&self, partition: TopicPartition, due: SealDue) -> Result<(), StoreError> {
        let mut conflicts = 0;
        loop {
            match seal_partition(&self.store, &self.keyspace, partition, due).await {
                Ok(sealed) => {
                    if let Some(left) = sealed.left {
                        // Somebody else has sealed what this agent counted.
                        let since = Instant::now().checked_sub(left.age).unwrap_or_else(Instant::now);
                        self.put_back(partition, Unsealed { rows: left.rows, since });
                        return Ok(());
                    }
                    self.stats.rows.fetch_add(sealed.rows as u64, Ordering::Relaxed);
                    self.stats.values.fetch_add(sealed.values as u64, Ordering::Relaxed);
                    if sealed.more {
                        continue;
                    }
                    self.stats.seals.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                // Run again it finds what became of an unknown outcome: the seal's position tells.
                Err(error) if error.is_retryable() && conflicts < 3 => {
                    conflicts += 1;
                    pause(Duration::from_millis(20 << conflicts)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds the partitions that have rows: one small read each.
    async fn walk(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut range = prefixed(&self.keyspace.family(Family::Log));
        while !stop.is_cancelled() {
            let mut transaction = self.store.begin(Priority::Batch);
            let version = transaction.read_version().await?;
            let page = transaction.range(range.clone(), RangeOptions::page(1, Isolation::Snapshot)).await?;
            let Some(row) = page.rows.first() else { return Ok(()) };
            let (partition, at) = log::parse_key(&self.keyspace, &row.key)?;
            let versions = version.get().saturating_sub(at.stamp.version().get());
            let age = Duration::from_secs(versions / limits::VERSIONS_PER_SECOND);
            let since = Instant::now().checked_sub(age.min(self.settings.age)).unwrap_or_else(Instant::now);
            self.unsealed.lock().entry(partition).or_insert(Unsealed { rows: 1, since });
            range.start = log::behind_rows(&self.keyspace, partition);
        }
        Ok(())
    }
}
