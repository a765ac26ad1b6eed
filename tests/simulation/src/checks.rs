//! What must be so when everything is quiet.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use penstock_agent::broker::Broker;
use penstock_metadata::keys::object::{ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{Isolation, Priority, RangeOptions, Store, StoreError, prefixed, single_key};
use penstock_storage::object::{OBJECTS_PREFIX, id_of_key};
use penstock_types::ObjectId;

use crate::agent::host::{Ground, Host};
use crate::oracle::Oracle;
use crate::trace;

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

/// Every object that the metadata knows is in the bucket.
pub async fn bucket_and_metadata(ground: &Ground, oracle: &Oracle) {
    let bucket = ground.objects.plain();
    let mut there = BTreeSet::new();
    let mut listing = bucket.list(OBJECTS_PREFIX.trim_end_matches('/'));
    while let Some(listed) = listing.next().await {
        match listed {
            Ok(object) => there.extend(id_of_key(&object.key)),
            Err(error) => {
                oracle.violation(&format!("the bucket can't be listed: {error}"));
                return;
            }
        }
    }
    let committed = match committed_objects(&ground.store.current()).await {
        Ok(committed) => committed,
        Err(error) => {
            oracle.violation(&format!("the objects' rows can't be read: {error}"));
            return;
        }
    };
    trace::count_by("objects in the bucket", there.len() as u64);
    trace::count_by("objects committed", committed.len() as u64);
    if let Some(missing) = committed.iter().find(|id| !there.contains(id)) {
        oracle.violation(&format!("object {missing} was committed and is not in the bucket"));
    }
}

async fn committed_objects(store: &MemoryStore) -> Result<Vec<ObjectId>, StoreError> {
    let keyspace = Keyspace::new(b"");
    let all = prefixed(&keyspace.family(Family::Object));
    let (mut from, mut committed) = (all.start, Vec::new());
    loop {
        let mut transaction = store.begin(Priority::Default);
        let range = from.clone()..all.end.clone();
        let page = transaction.range(range, RangeOptions::page(1_000, Isolation::Snapshot)).await?;
        for row in &page.rows {
            if ObjectRow::decode(&row.value)?.state == ObjectState::Committed {
                let id = keyspace.strip(Family::Object, &row.key).and_then(|id| id.try_into().ok());
                committed.extend(id.map(ObjectId::from_bytes));
            }
        }
        let Some(last) = page.rows.last().filter(|_| page.more) else { return Ok(committed) };
        from = single_key(&last.key).end;
    }
}
