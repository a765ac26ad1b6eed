//! What must be so when everything is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use penstock_agent::broker::Broker;
use penstock_storage::object::{OBJECTS_PREFIX, id_of_key};
use penstock_types::ObjectId;

use crate::agent::host::{Ground, Host};
use crate::oracle::{Oracle, Partition};
use crate::trace;

mod known;
mod stored;

use known::Known;
pub use stored::stored;

/// What an agent holds for clients.
fn holdings(broker: &Broker) -> [(&'static str, u64); 4] {
    let produce = &broker.produce;
    [
        ("bytes of produce requests", produce.memory_used_bytes()),
        ("bytes that wait for a flush", produce.buffered_bytes()),
        ("objects under way", produce.objects_in_flight() as u64),
        ("blocks being loaded", broker.cache.stats().blocks_loading),
    ]
}

/// How much that is, all together.
pub fn held(host: &Arc<Host>) -> u64 {
    host.broker().map_or(0, |broker| holdings(&broker).into_iter().map(|(_, count)| count).sum())
}

/// An agent without clients holds nothing.
pub fn at_rest(host: &Arc<Host>, oracle: &Oracle) {
    let Some(broker) = host.broker() else {
        oracle.violation("an agent does not serve in calm");
        return;
    };
    let node = broker.identity.node_id;
    for (what, count) in holdings(&broker) {
        if count > 0 {
            oracle.violation(&format!("agent {node} is quiet and holds {count} {what}"));
        }
    }
}

/// The objects in the bucket.
async fn listed(ground: &Ground) -> Result<BTreeSet<ObjectId>, String> {
    let bucket = ground.objects.plain();
    let mut there = BTreeSet::new();
    let mut listing = bucket.list(OBJECTS_PREFIX.trim_end_matches('/'));
    while let Some(listed) = listing.next().await {
        let listed = listed.map_err(|error| format!("the bucket can't be listed: {error}"))?;
        there.extend(id_of_key(&listed.key));
    }
    Ok(there)
}

/// Every object that the metadata knows is in the bucket, counts agree, and nothing was left behind by merging, in which
/// `section_bytes` are enough of a partition.
pub async fn bucket_and_metadata(ground: &Ground, section_bytes: u64, oracle: &Oracle) {
    let found = async {
        // In this order: what is committed now stays for longer than a listing takes.
        let known = Known::read(&ground.store.current()).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((listed(ground).await?, known))
    };
    let (there, known) = match found.await {
        Ok(found) => found,
        Err(error) => return oracle.violation(&error),
    };
    trace::count_by("objects in the bucket", there.len() as u64);
    trace::count_by("objects committed", known.committed().count() as u64);
    trace::count_by("objects merged once", known.merged_to(1));
    trace::count_by("objects merged twice, or of log compaction", known.merged_to(2));
    trace::count_by("runs of log compaction", known.compactions);
    if let Some((missing, _)) = known.committed().find(|(id, _)| !there.contains(id)) {
        oracle.violation(&format!("object {missing} was committed and is not in the bucket"));
    }
    for problem in known.contradictions().iter().chain(&known.left_behind(section_bytes)).take(3) {
        oracle.violation(problem);
    }
}

/// Up to where the metadata say that logs are compacted.
pub async fn compacted_up_to(ground: &Ground) -> Result<BTreeMap<Partition, i64>, String> {
    let known = Known::read(&ground.store.current()).await.map_err(|error| error.to_string())?;
    Ok(known.cleaned)
}

/// What there is to do for jobs.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Objects in the bucket that nobody needs. What an older life of the metadata left is an operator's business.
    pub leaked: Vec<ObjectId>,
    /// Objects and stretches of the log that wait to be merged.
    pub unmerged: usize,
    /// Partitions of which not everything is compacted that is to be.
    pub uncompacted: usize,
}

/// What there is to do for jobs, in a cluster that merges what it has flushed, or one that doesn't.
pub async fn backlog(ground: &Ground, merges: bool, oracle: &Oracle) -> Result<Backlog, String> {
    let there = listed(ground).await?;
    let known = Known::read(&ground.store.current()).await.map_err(|error| error.to_string())?;
    let is_leaked =
        |id: &ObjectId| id.incarnation() >= known.incarnation && !known.references.contains_key(id);
    let unmerged = if merges { known.unmerged() } else { 0 };
    let uncompacted = oracle.uncompacted(&known.cleaned);
    Ok(Backlog { leaked: there.into_iter().filter(is_leaked).collect(), unmerged, uncompacted })
}

impl Backlog {
    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.leaked.is_empty() && self.unmerged == 0 && self.uncompacted == 0
    }
}

/// Says what is still there.
pub fn report_backlog(backlog: Result<Backlog, String>, oracle: &Oracle) {
    match backlog {
        Ok(Backlog { leaked, unmerged, uncompacted }) => {
            let (count, first) = (leaked.len(), leaked.first());
            oracle.violation(&format!(
                "{count} objects that nothing refers to are still there, {first:?} first, {unmerged} wait to be merged, and \
                 {uncompacted} partitions to be compacted"
            ));
        }
        Err(error) => oracle.violation(&error),
    }
}
