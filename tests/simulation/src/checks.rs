//! What must be so when everything is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use penstock_agent::broker::Broker;
use penstock_metadata::keys::cluster::{decode_identity, identity_key};
use penstock_metadata::keys::index::PackedIndex;
use penstock_metadata::keys::log::LogRow;
use penstock_metadata::keys::object::{ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace, dead};
use penstock_metadata::kv::memory::MemoryStore;
use penstock_metadata::kv::{
    Isolation, Priority, RangeOptions, Row, Store, StoreError, prefixed, single_key,
};
use penstock_storage::object::{OBJECTS_PREFIX, id_of_key};
use penstock_types::{Incarnation, ObjectId};

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

/// Every object that the metadata knows is in the bucket.
pub async fn bucket_and_metadata(ground: &Ground, oracle: &Oracle) {
    let found = async {
        let there = listed(ground).await?;
        let known = Known::read(&ground.store.current()).await.map_err(|error| error.to_string())?;
        Ok::<_, String>((there, known))
    };
    let (there, known) = match found.await {
        Ok(found) => found,
        Err(error) => return oracle.violation(&error),
    };
    let committed = known.objects.iter().filter(|(_, row)| row.state == ObjectState::Committed);
    trace::count_by("objects in the bucket", there.len() as u64);
    trace::count_by("objects committed", committed.clone().count() as u64);
    if let Some((missing, _)) = committed.clone().find(|(id, _)| !there.contains(id)) {
        oracle.violation(&format!("object {missing} was committed and is not in the bucket"));
    }
    for problem in known.contradictions().iter().take(3) {
        oracle.violation(problem);
    }
}

/// What is in the bucket and nobody needs. What an older life of the metadata left is an operator's business.
pub async fn leaks(ground: &Ground) -> Result<Vec<ObjectId>, String> {
    let there = listed(ground).await?;
    let known = Known::read(&ground.store.current()).await.map_err(|error| error.to_string())?;
    let is_leaked =
        |id: &ObjectId| id.incarnation() >= known.incarnation && !known.references.contains_key(id);
    Ok(there.into_iter().filter(is_leaked).collect())
}

/// Says what is still there.
pub fn report_leaks(leaks: Result<Vec<ObjectId>, String>, oracle: &Oracle) {
    match leaks {
        Ok(leaked) => {
            let (count, first) = (leaked.len(), leaked.first());
            oracle.violation(&format!(
                "{count} objects that nothing refers to are still there, {first:?} first"
            ));
        }
        Err(error) => oracle.violation(&error),
    }
}

/// What the metadata say of objects.
struct Known {
    incarnation: Incarnation,
    objects: BTreeMap<ObjectId, ObjectRow>,
    /// Batches that logs refer to.
    references: BTreeMap<ObjectId, u64>,
    /// Batches that were counted as dead.
    dead: BTreeMap<ObjectId, u64>,
}

impl Known {
    async fn read(store: &MemoryStore) -> Result<Self, StoreError> {
        let keyspace = Keyspace::new(b"");
        let mut transaction = store.begin(Priority::Default);
        let identity = transaction.get(&identity_key(&keyspace), Isolation::Snapshot).await?;
        let incarnation = match identity {
            Some(identity) => decode_identity(&identity)?.incarnation,
            None => Incarnation::FIRST,
        };
        drop(transaction);
        let (mut objects, mut references, mut dead) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for row in rows(store, &keyspace, Family::Object).await? {
            let id = keyspace.strip(Family::Object, &row.key).and_then(|id| id.try_into().ok());
            objects.extend(id.map(ObjectId::from_bytes).zip(Some(ObjectRow::decode(&row.value)?)));
        }
        let mut refer = |row: &LogRow| {
            if let LogRow::Data { object, batches, .. } = row {
                *references.entry(*object).or_insert(0) += batches.len() as u64;
            }
        };
        for row in rows(store, &keyspace, Family::Log).await? {
            refer(&LogRow::decode(&row.value)?);
        }
        for row in rows(store, &keyspace, Family::Index).await? {
            PackedIndex::decode(&row.value)?.entries.iter().for_each(|entry| refer(&entry.row));
        }
        for row in rows(store, &keyspace, Family::Dead).await? {
            dead.insert(dead::parse_key(&keyspace, &row.key)?, dead::decode(Some(&row.value))?);
        }
        Ok(Self { incarnation, objects, references, dead })
    }

    /// Where counts don't agree: of each object the batches that were appended are referred to, or dead.
    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, row) in self.objects.iter().filter(|(_, row)| row.state == ObjectState::Committed) {
            let appended = u64::from(row.batches).saturating_sub(row.verdicts.len() as u64);
            let of = |counts: &BTreeMap<ObjectId, u64>| counts.get(id).copied().unwrap_or(0);
            let (referred, dead) = (of(&self.references), of(&self.dead));
            if referred + dead != appended {
                problems.push(format!(
                    "of {appended} batches of object {id} {referred} are referred to and {dead} are dead"
                ));
            }
        }
        let nobodys =
            |id: &&ObjectId| self.objects.get(id).is_none_or(|row| row.state != ObjectState::Committed);
        problems.extend(self.references.keys().filter(nobodys).map(|id| {
            let state = self.objects.get(id).map(|row| row.state);
            format!("object {id} is referred to, and its row says {state:?}")
        }));
        problems
    }
}

async fn rows(store: &MemoryStore, keyspace: &Keyspace, family: Family) -> Result<Vec<Row>, StoreError> {
    let all = prefixed(&keyspace.family(family));
    let (mut from, mut found) = (all.start, Vec::new());
    loop {
        let mut transaction = store.begin(Priority::Default);
        let range = from.clone()..all.end.clone();
        let page = transaction.range(range, RangeOptions::page(1_000, Isolation::Snapshot)).await?;
        found.extend(page.rows.iter().cloned());
        let Some(last) = page.rows.last().filter(|_| page.more) else { return Ok(found) };
        from = single_key(&last.key).end;
    }
}
