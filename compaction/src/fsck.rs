//! Checks what is stored: metadata and bucket against one another (ARCHITECTURE.md, "Checking").
//!
//! # Invariants
//! - Nothing is written, but by [`Fsck::repair`], and there only what [`repair`] lists.
//! - What is told was seen at one version of the store, or is made of what hadn't changed meanwhile: agents may run.
//! - Memory is bounded: partitions are walked one by one, objects are taken in passes, findings are counted.
//!
//! Deliberately absent: how it is shown; making up what is lost.

mod checkpoints;
mod contents;
mod index;
mod log;
mod objects;
mod pages;
pub mod repair;
pub mod report;
mod rows;
mod tally;
#[cfg(test)]
mod tests;
mod topics;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use penstock_metadata::keys::Keyspace;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_metadata::keys::garbage::Garbage;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::present::Present;
use penstock_storage::bucket::{Bucket, BucketError, ClaimError};
use penstock_types::ObjectId;

use crate::again;
use log::Met;
use report::{Finding, Report};
use tally::Reference;
use topics::Topic;

/// Why it can't be told whether all is well.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The bucket's claim can't be read.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bucket is another cluster's, another incarnation's, or nobody's.
    #[error(
        "the bucket is not claimed for cluster {cluster_id} in incarnation {incarnation}, as the metadata is: {claim}"
    )]
    NotIts {
        /// The metadata's cluster.
        cluster_id: String,
        /// And its incarnation.
        incarnation: u32,
        /// Whose the bucket is.
        claim: String,
    },
}

/// What to check, and how.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Read every byte of what is referred to.
    pub deep: bool,
    /// How far the sweeper's cutoff lags.
    pub sweep_lag: Duration,
    /// How often the bucket is swept.
    pub sweep_interval: Duration,
    /// How long what nothing refers to stays.
    pub collect_delay: Duration,
    /// The same of what was merged.
    pub merged_delay: Duration,
    /// References and objects that are held in memory at once, of some hundred bytes each.
    pub at_once: u64,
    /// Requests to the bucket at the same time.
    pub requests: usize,
}

impl Settings {
    /// How old an object may be that nothing refers to: by then a sweep that was due has come, and one has failed.
    fn unreferenced_grace(&self) -> Duration {
        self.sweep_lag.saturating_add(self.sweep_interval.saturating_mul(2))
    }

    /// How long an object may wait to be deleted.
    fn garbage_grace(&self, was_merged: bool) -> Duration {
        let delay = if was_merged { self.merged_delay } else { self.collect_delay };
        delay.saturating_add(self.sweep_interval.saturating_mul(2))
    }
}

/// What is checked.
#[derive(Debug, Clone)]
pub struct FsckParts {
    /// The metadata store.
    pub store: SharedStore,
    /// The cluster's keys in it.
    pub keyspace: Keyspace,
    /// Who the cluster is.
    pub cluster: ClusterIdentity,
    /// Its bucket.
    pub bucket: Arc<Bucket>,
}

/// Who is told how far it is.
pub trait Progress: Send + Sync + Debug {
    /// `done` of `of` things of a phase are done; of 0 where nobody knows how many there are.
    fn at(&self, phase: &'static str, done: u64, of: u64);
}

/// A check.
#[derive(Debug)]
pub struct Fsck {
    parts: FsckParts,
    settings: Settings,
    progress: Arc<dyn Progress>,
}

impl Fsck {
    /// A check.
    pub fn new(parts: FsckParts, settings: Settings, progress: Arc<dyn Progress>) -> Self {
        Self { parts, settings, progress }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// Where something can't be read: then nothing is said of the rest.
    pub async fn run(&self) -> Result<Report, FsckError> {
        let Self { parts, settings, progress } = self;
        self.claim().await?;
        let mut check = Check::begin(parts, settings, &**progress).await?;
        rows::check(&mut check).await?;
        check.phase("topics", 0);
        let topics: Arc<[Topic]> = topics::all(&mut check).await?.into();
        check.topics = Arc::clone(&topics);
        check.report.checked.topics = topics.len() as u64;
        topics::names(&mut check, &topics).await?;
        topics::strays(&mut check, &topics).await?;
        logs(&mut check, &topics).await?;
        let things = check.report.checked.entries + objects_count(&check).await?;
        let passes = objects::passes(things, settings.at_once);
        check.report.checked.passes = passes.len() as u64;
        for shards in passes {
            objects::pass(&mut check, &topics, shards).await?;
        }
        checkpoints::check(&mut check).await?;
        Ok(check.report)
    }

    /// Does what the findings of `report` say can be repaired, as far as that is safe, and notes what came of each. `earlier`
    /// says that what earlier incarnations left may go, too.
    ///
    /// # Errors
    /// Where a store fails; what was done before is noted.
    pub async fn repair(&self, report: &mut Report, earlier: bool) -> Result<(), FsckError> {
        self.claim().await?;
        repair::all(&self.parts, &self.settings, report, earlier).await
    }

    async fn claim(&self) -> Result<(), FsckError> {
        let ClusterIdentity { cluster_id, incarnation, .. } = &self.parts.cluster;
        let claim = self.parts.bucket.read_claim().await?;
        let claim = match claim {
            Some(claim) if claim.cluster_id == *cluster_id && claim.incarnation == *incarnation => {
                return Ok(());
            }
            Some(claim) => {
                format!("it is cluster {}'s in incarnation {}", claim.cluster_id, claim.incarnation.get())
            }
            None => "it is nobody's".to_owned(),
        };
        Err(FsckError::NotIts { cluster_id: cluster_id.clone(), incarnation: incarnation.get(), claim })
    }
}

async fn objects_count(check: &Check<'_>) -> Result<u64, StoreError> {
    let mut pages = pages::Pages::of(penstock_metadata::kv::prefixed(
        &check.keyspace().family(penstock_metadata::keys::Family::Object),
    ));
    let mut count = 0;
    while let Some(page) = pages.next(check.store()).await? {
        count += page.len() as u64;
    }
    Ok(count)
}

/// How many partitions there are.
fn partitions(topics: &[Topic]) -> u64 {
    topics.iter().map(|topic| u64::from(topic.partitions)).sum()
}

/// Every partition's log.
async fn logs(check: &mut Check<'_>, topics: &[Topic]) -> Result<(), StoreError> {
    let (store, keyspace) = (check.store().clone(), check.keyspace().clone());
    check.phase("logs", partitions(topics));
    for topic in topics {
        for index in 0..topic.partitions {
            let partition = topic.partition(index);
            let (mut entries, mut batches) = (0, 0);
            let mut count = |met: Met<'_>| match met {
                Met::Begin => (entries, batches) = (0, 0),
                Met::Entry(entry) => {
                    entries += 1;
                    batches += entry.batches().count() as u64;
                }
            };
            let walked = log::check(&store, &keyspace, topic, partition, &mut count).await?;
            let checked = &mut check.report.checked;
            checked.partitions += 1;
            checked.index_values += walked.index_values;
            checked.entries += entries;
            checked.batches += batches;
            checked.unsettled += u64::from(walked.unsettled);
            for problem in walked.problems {
                let finding = Finding::new(problem.kind, problem.detail);
                check.found(finding.within(&topic.name, partition).at(problem.offset));
            }
            check.step(1);
        }
    }
    Ok(())
}

/// A check under way.
#[derive(Debug)]
struct Check<'a> {
    parts: &'a FsckParts,
    settings: &'a Settings,
    progress: &'a dyn Progress,
    phase: (&'static str, u64, u64),
    /// When it began: ages are counted to then.
    present: Present,
    /// All of them, once they were read.
    topics: Arc<[Topic]>,
    report: Report,
    units_checked: bool,
}

impl<'a> Check<'a> {
    async fn begin(
        parts: &'a FsckParts,
        settings: &'a Settings,
        progress: &'a dyn Progress,
    ) -> Result<Self, StoreError> {
        let FsckParts { store, keyspace, cluster, .. } = parts;
        let present = again!(async {
            Present::read(&mut *store.begin(Priority::Batch), keyspace, cluster.incarnation).await
        })?;
        let report = Report {
            cluster_id: cluster.cluster_id.clone(),
            incarnation: cluster.incarnation.get(),
            deep: settings.deep,
            ..Report::default()
        };
        Ok(Self {
            parts,
            settings,
            progress,
            phase: ("", 0, 0),
            present,
            topics: Arc::default(),
            report,
            units_checked: false,
        })
    }

    fn store(&self) -> &SharedStore {
        &self.parts.store
    }

    fn keyspace(&self) -> &Keyspace {
        &self.parts.keyspace
    }

    fn bucket(&self) -> &Arc<Bucket> {
        &self.parts.bucket
    }

    fn found(&mut self, finding: Finding) {
        tracing::debug!(%finding, "found");
        self.report.add(finding);
    }

    /// A finding about the first of `references`.
    fn told_by(&self, references: &[Reference], finding: Finding) -> Finding {
        let Some(reference) = references.first() else { return finding };
        let topic = &self.topics[reference.topic as usize];
        finding.within(&topic.name, topic.partition(reference.partition)).at(Some(reference.offset))
    }

    fn phase(&mut self, phase: &'static str, of: u64) {
        self.phase = (phase, 0, of);
        self.progress.at(phase, 0, of);
    }

    fn step(&mut self, by: u64) {
        let (phase, done, of) = &mut self.phase;
        *done += by;
        self.progress.at(phase, *done, *of);
    }

    /// How old an object is, by its id.
    fn age(&self, id: ObjectId) -> Duration {
        self.present.age(id.incarnation(), id.version())
    }

    /// How long something has waited to be deleted.
    fn waited(&self, garbage: &Garbage) -> Duration {
        self.present.age(garbage.incarnation, garbage.stamp.version())
    }
}
