//! What `penstock fsck` says when everything is quiet: every byte that can be read is what the log says, and each index is one.

use std::sync::Arc;
use std::time::Duration;

use penstock_compaction::fsck::report::Kind;
use penstock_compaction::fsck::{Fsck, FsckParts, Progress, Settings};
use penstock_metadata::incarnation;
use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::SharedStore;

use crate::agent::host::Ground;
use crate::oracle::Oracle;
use crate::trace;

/// What waits to be deleted is looked at elsewhere: here it is never too old.
const FOR_EVER: Duration = Duration::from_secs(100_000_000);

const SETTINGS: Settings = Settings {
    deep: true,
    sweep_lag: FOR_EVER,
    sweep_interval: FOR_EVER,
    collect_delay: FOR_EVER,
    merged_delay: FOR_EVER,
    at_once: 1_000_000,
    requests: 8,
};

/// Nobody is told how far it is.
#[derive(Debug)]
struct Untold;

impl Progress for Untold {
    fn at(&self, _phase: &'static str, _done: u64, _of: u64) {}
}

/// Metadata and bucket are what they should be, against one another.
pub async fn stored(ground: &Ground, oracle: &Oracle) {
    let store: SharedStore = ground.store.current();
    let keyspace = Keyspace::new(b"");
    let cluster = match incarnation::identity(&store, &keyspace).await {
        Ok(Some(cluster)) => cluster,
        other => return oracle.violation(&format!("nobody knows which cluster it is: {other:?}")),
    };
    let parts = FsckParts { store, keyspace, cluster, bucket: ground.objects.plain() };
    let report = match Fsck::new(parts, SETTINGS, Arc::new(Untold)).run().await {
        Ok(report) => report,
        Err(error) => return oracle.violation(&format!("fsck: {error}")),
    };
    trace::count_by("batches checked byte by byte", report.checked.batches);
    // What an older life of the metadata left is an operator's business.
    let findings = report.findings.iter().filter(|finding| finding.kind != Kind::EarlierIncarnation);
    for finding in findings.take(3) {
        oracle.violation(&format!("fsck: {finding:?}"));
    }
}
