//! The catalog: every topic and all dynamic configuration, in memory, as of one metadata version.
//!
//! A cache that is validated, never trusted: [`TopicCatalog::refresh`] compares one small key, and only if it changed
//! reads what changed. A commit of records compares the catalog's version inside its own transaction. Reads take a
//! short lock and share the topics; a change replaces only the topics that it concerns.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use penstock_config::broker::{BrokerConfig, Layer};
use penstock_config::topic::TopicConfig;
use penstock_types::{PartitionIndex, TimestampMs, TopicId};
use tokio::time::Instant;

use crate::keys::Keyspace;
use crate::keys::broker_config::{self, BrokerScope};
use crate::keys::cluster::{MetadataVersion, decode_metadata_version, metadata_version_key};
use crate::keys::topic::{Change, TopicRow, decode_row, decode_row_key, row_key, rows};
use crate::kv::{Isolation, KeyRange, Page, RangeOptions, SharedStore, StoreError, Transaction, single_key};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

use super::changes;

mod state;
#[cfg(test)]
mod tests;

use state::{Delta, State};

/// How many topics' rows one read asks for.
const ROWS_AT_ONCE: usize = 1_000;
/// How often everything is read anew when more changes meanwhile than the change log keeps.
const LOADS: usize = 3;
const POLICY: Policy = Policy::interactive(Duration::from_secs(10));

/// A topic, as of one metadata version.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// The replication factor that was asked for; never more than a number to answer with.
    pub replication_factor: u16,
    /// Its own options, as texts.
    pub overrides: Arc<Layer>,
    /// The options in force.
    pub config: Arc<TopicConfig>,
    /// When it was made.
    pub created: MetadataVersion,
    /// When it was made, by the maker's clock.
    pub created_ms: TimestampMs,
    /// When its row was last written.
    pub changed: MetadataVersion,
}

impl Topic {
    /// Whether it has a partition of this number.
    pub fn has_partition(&self, partition: PartitionIndex) -> bool {
        u32::try_from(partition.get()).is_ok_and(|index| index < self.partitions)
    }
}

/// Topics found in the catalog at one version.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The version that all of them are of.
    pub version: MetadataVersion,
    /// What was found, in the order asked for.
    pub topics: Vec<Option<Arc<Topic>>>,
}

/// An agent's view of topics and dynamic configuration.
#[derive(Debug)]
pub struct TopicCatalog {
    store: SharedStore,
    keyspace: Keyspace,
    node_id: i32,
    state: RwLock<State>,
    /// How many reads of the store were begun.
    begun: AtomicU64,
    /// The last read that ended; held while one runs.
    last: tokio::sync::Mutex<LastRead>,
    age: parking_lot::Mutex<Age>,
}

/// How old the catalog's state may be at most.
#[derive(Debug, Default)]
struct Age {
    /// When the read that it is of began.
    read_at: Option<Instant>,
    /// When this agent last changed something itself.
    changed_at: Option<Instant>,
}

#[derive(Debug)]
struct LastRead {
    number: u64,
    outcome: Result<(), StoreError>,
}

impl TopicCatalog {
    /// The catalog of the broker `node_id`, whose options without the dynamic ones are `broker`; read from the store
    /// once.
    ///
    /// # Errors
    /// The store's, after retries.
    pub async fn open(
        store: SharedStore,
        keyspace: Keyspace,
        node_id: i32,
        broker: BrokerConfig,
    ) -> Result<Self, StoreError> {
        let catalog = Self {
            store,
            keyspace,
            node_id,
            state: RwLock::new(State::new(node_id, broker)),
            begun: AtomicU64::new(0),
            last: tokio::sync::Mutex::new(LastRead { number: 0, outcome: Ok(()) }),
            age: parking_lot::Mutex::default(),
        };
        catalog.refresh().await?;
        Ok(catalog)
    }

    /// Brings the catalog to the state that the store has, or had after this call began. Callers that wait at the
    /// same time share a read, but only one that began after they asked. Safe to cancel.
    ///
    /// # Errors
    /// The store's, after retries; the catalog keeps the state it had.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let asked_at = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > asked_at {
            return last.outcome.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let began = Instant::now();
        let outcome = self.read().await;
        *last = LastRead { number, outcome: outcome.clone() };
        if outcome.is_ok() {
            self.age.lock().read_at = Some(began);
        }
        outcome
    }

    /// As [`TopicCatalog::refresh`], unless what is known `suffices` and is of a read that began less than `age` ago and
    /// behind all changes that this agent made itself. For what is validated again in a transaction of its own.
    ///
    /// # Errors
    /// As [`TopicCatalog::refresh`].
    pub async fn refresh_unless(
        &self,
        age: Duration,
        suffices: impl FnOnce() -> bool,
    ) -> Result<(), StoreError> {
        let is_young = {
            let known = self.age.lock();
            known.read_at.is_some_and(|read_at| read_at.elapsed() < age && Some(read_at) > known.changed_at)
        };
        if is_young && suffices() { Ok(()) } else { self.refresh().await }
    }

    /// This agent has changed topics or options: what was read before is old.
    pub fn expire(&self) {
        self.age.lock().changed_at = Some(Instant::now());
    }

    /// The version that the catalog's state equals.
    pub fn version(&self) -> MetadataVersion {
        self.state.read().version()
    }

    /// The topic of a name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.state.read().by_name(name).cloned()
    }

    /// The topic of an id.
    pub fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.state.read().by_id(id).cloned()
    }

    /// The topics of several ids and the version that they are all of.
    pub fn lookup(&self, ids: &[TopicId]) -> Lookup {
        let state = self.state.read();
        Lookup { version: state.version(), topics: ids.iter().map(|id| state.by_id(*id).cloned()).collect() }
    }

    /// Every topic, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.state.read().starting_at("").cloned().collect()
    }

    /// At most `limit` topics, by name, from `name` (itself included) on.
    pub fn page(&self, name: &str, limit: usize) -> Vec<Arc<Topic>> {
        self.state.read().starting_at(name).take(limit).cloned().collect()
    }

    /// How many topics and partitions there are.
    pub fn counts(&self) -> (usize, u64) {
        self.state.read().counts()
    }

    /// This broker's options in force.
    pub fn broker(&self) -> Arc<BrokerConfig> {
        self.state.read().broker()
    }

    /// Everybody's dynamic options.
    pub fn dynamic(&self) -> Arc<BTreeMap<BrokerScope, Layer>> {
        self.state.read().dynamic()
    }

    /// The broker whose options these are.
    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    async fn read(&self) -> Result<(), StoreError> {
        let known = self.state.read().known();
        if let Some(known) = known {
            match self.step(known).await? {
                Step::Unchanged => return Ok(()),
                Step::Changed(delta) => {
                    self.state.write().apply(delta);
                    return Ok(());
                }
                Step::Lost => {}
            }
        }
        for _ in 0..LOADS {
            if let Some(fresh) = self.load().await? {
                *self.state.write() = fresh;
                return Ok(());
            }
        }
        Err(StoreError::Unavailable { reason: "topics change faster than they can be read".to_owned() })
    }

    async fn step(&self, known: MetadataVersion) -> Result<Step, StoreError> {
        let step = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            self.delta(transaction, known).await.map_err(Abort::Store)
        });
        reading(step.await)
    }

    async fn page_of(&self, range: &KeyRange) -> Result<Page, StoreError> {
        let options = RangeOptions::page(ROWS_AT_ONCE, Isolation::Snapshot);
        let page = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            transaction.range(range.clone(), options).await.map_err(Abort::Store)
        });
        reading(page.await)
    }

    /// What changed above `known`.
    async fn delta(
        &self,
        transaction: &mut dyn Transaction,
        known: MetadataVersion,
    ) -> Result<Step, StoreError> {
        let key = metadata_version_key(&self.keyspace);
        let version = transaction.get(&key, Isolation::Snapshot).await?;
        let version = decode_metadata_version(version.as_deref())?;
        if version == known {
            return Ok(Step::Unchanged);
        }
        if version < known {
            return Ok(Step::Lost);
        }
        let Some(changed) = changes::since(transaction, &self.keyspace, known).await? else {
            return Ok(Step::Lost);
        };
        let mut delta = Delta { version, topics: Vec::new(), dynamic: None };
        if changed.contains(&Change::Configuration) {
            delta.dynamic = Some(self.read_dynamic(transaction).await?);
        }
        let ids: Vec<TopicId> = changed
            .into_iter()
            .filter_map(|change| match change {
                Change::Topic(id) => Some(id),
                Change::Configuration => None,
            })
            .collect();
        let found = read_rows(transaction, &self.keyspace, &ids, Isolation::Snapshot).await?;
        delta.topics = ids.into_iter().zip(found).collect();
        Ok(Step::Changed(delta))
    }

    /// Everything; `None` if more changed during the load than the change log keeps. The pages are read at several
    /// versions, so that no transaction gets too old; what changed meanwhile is then applied as changes are, which
    /// makes it one version's state.
    async fn load(&self) -> Result<Option<State>, StoreError> {
        let start = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            let key = metadata_version_key(&self.keyspace);
            let version = transaction.get(&key, Isolation::Snapshot).await?;
            let dynamic = self.read_dynamic(transaction).await?;
            Ok((decode_metadata_version(version.as_deref())?, dynamic))
        });
        let (version, dynamic) = reading(start.await)?;
        let mut fresh = self.state.read().emptied();
        fresh.apply(Delta { version, topics: Vec::new(), dynamic: Some(dynamic) });
        let mut range = rows(&self.keyspace);
        loop {
            let page = self.page_of(&range).await?;
            let mut topics = Vec::with_capacity(page.rows.len());
            for row in &page.rows {
                let id = decode_row_key(&self.keyspace, &row.key)?;
                topics.push((id, Some(decode_row(id, &row.value)?)));
            }
            fresh.apply(Delta { version, topics, dynamic: None });
            match page.rows.last() {
                Some(last) if page.more => range.start = single_key(&last.key).end,
                _ => break,
            }
        }
        match self.step(version).await? {
            Step::Unchanged => Ok(Some(fresh)),
            Step::Changed(delta) => {
                fresh.apply(delta);
                Ok(Some(fresh))
            }
            Step::Lost => Ok(None),
        }
    }

    async fn read_dynamic(
        &self,
        transaction: &mut dyn Transaction,
    ) -> Result<BTreeMap<BrokerScope, Layer>, StoreError> {
        let mut range = broker_config::rows(&self.keyspace);
        let mut dynamic = BTreeMap::new();
        loop {
            let options = RangeOptions::page(ROWS_AT_ONCE, Isolation::Snapshot);
            let page = transaction.range(range.clone(), options).await?;
            for row in &page.rows {
                let scope = broker_config::decode_row_key(&self.keyspace, &row.key)?;
                dynamic.insert(scope, broker_config::decode_row(&row.value)?.configs);
            }
            match page.rows.last() {
                Some(last) if page.more => range.start = single_key(&last.key).end,
                _ => return Ok(dynamic),
            }
        }
    }
}

enum Step {
    Unchanged,
    Changed(Delta),
    /// The change log no longer reaches back, or the metadata went back.
    Lost,
}

/// The result of a transaction that only read.
fn reading<T, C>(result: Result<(T, C), TransactError<Infallible>>) -> Result<T, StoreError> {
    match result {
        Ok((value, _)) => Ok(value),
        Err(TransactError::Refused(never)) => match never {},
        Err(TransactError::Store { error, .. }) => Err(error),
    }
}

/// Reads topics' rows in `transaction`; `None` for a topic that doesn't exist.
///
/// # Errors
/// The store's.
pub async fn read_rows(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    ids: &[TopicId],
    isolation: Isolation,
) -> Result<Vec<Option<TopicRow>>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ROWS_AT_ONCE) {
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| row_key(keyspace, *id)).collect();
        let values = transaction.get_many(&keys, isolation).await?;
        for (id, value) in ids.iter().zip(values) {
            found.push(value.map(|value| decode_row(*id, &value)).transpose()?);
        }
    }
    Ok(found)
}
