//! The agents of a cluster in the metadata store: registering under an id, renewing the lease, leaving.
//!
//! Invariants:
//! - An id is one agent's: who takes it reads its row serializably and finds it absent or dead; who renews it finds its
//!   own session there. So of two agents that believe to have the same id, at most one can renew it.
//! - A dead agent's id is taken over at once by an agent of the same name or number, by others only when it has been
//!   gone for [`GONE`]: an agent that was only paused finds its id again.
//! - Nothing grows: rows that are gone, and names unseen for [`NAME_KEPT`], are cleared by whoever registers.
//!
//! Deliberately absent: who is alive (`members`), what agents do with it (the agent's `cluster`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_types::{Incarnation, NodeId, StoreVersion, TimestampMs};

use crate::codec::Corrupt;
use crate::keys::Keyspace;
use crate::keys::agent::{self, Agent, AgentRow, NameRow, Phase};
use crate::keys::cluster::{decode_identity, identity_key};
use crate::kv::{
    Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, Transaction, Watch, WriteConflict,
};
use crate::members::{Look, age};
use crate::now::{TimeError, accept};
use crate::producer_expiry::JUMP;
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

/// How long the id of a dead agent is kept for it, by the store's versions, whose jumps are allowed for.
pub const GONE: Duration = Duration::from_secs(600).saturating_add(JUMP);
/// How long a name that no agent has keeps its id.
pub const NAME_KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The first id that is given out.
const FIRST: i32 = 1;
/// Rows of one page.
const PAGE: usize = 1_000;
/// What registering clears on the way at most, so that its transaction stays small.
const CLEARED: usize = 200;

/// What an agent registers as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The id, if it was set by hand.
    pub node: Option<NodeId>,
    /// What it says of itself.
    pub agent: Agent,
    /// How long a renewal is to be good for.
    pub lease: Duration,
}

/// Why an agent has no id. Nothing was registered, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another agent has it, and may be alive.
    #[error("node id {node} is held by another agent ({by}) until its lease of {} ms ends", lease.as_millis())]
    Held {
        /// The id.
        node: NodeId,
        /// Who: its address.
        by: String,
        /// How long its lease is.
        lease: Duration,
    },
    /// The metadata has begun another life since this agent read it.
    #[error("the metadata is in incarnation {now} by now, this agent is of {own}: start it anew")]
    Superseded {
        /// The agent's.
        own: u32,
        /// The store's.
        now: u32,
    },
    /// The store failed.
    #[error("the metadata store failed while an agent registered: {0}")]
    Store(StoreError),
}

/// Why a lease was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// The row is gone or another's.
    #[error("the agent's registration is gone")]
    Lost,
    /// The store failed; the lease may have been renewed.
    #[error("the metadata store failed while a lease was renewed: {0}")]
    Store(StoreError),
}

/// The agents of one cluster.
#[derive(Debug, Clone)]
pub struct Agents {
    store: SharedStore,
    keyspace: Keyspace,
    incarnation: Incarnation,
    policy: Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lost;

type Names = Vec<(bytes::Bytes, NameRow)>;

impl Agents {
    /// Access to them; each operation gives up after `deadline`.
    pub fn new(store: SharedStore, keyspace: Keyspace, incarnation: Incarnation, deadline: Duration) -> Self {
        Self { store, keyspace, incarnation, policy: Policy::interactive(deadline) }
    }

    /// An operator says that these clocks, the agents', are right: see [`crate::now`].
    ///
    /// # Errors
    /// See [`TimeError`].
    pub async fn accept_clocks(&self, clocks: &[TimestampMs]) -> Result<TimestampMs, TimeError> {
        accept(&self.store, &self.keyspace, self.incarnation, clocks).await
    }

    /// All rows, as of now.
    ///
    /// # Errors
    /// The store's.
    pub async fn look(&self) -> Result<Look, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        self.read(&mut *transaction).await
    }

    /// As [`Agents::look`], and a watch of the membership from there on.
    ///
    /// # Errors
    /// The store's.
    pub async fn look_and_watch(&self) -> Result<(Look, Watch), StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let look = self.read(&mut *transaction).await?;
        let watch = transaction.watch(&agent::membership_key(&self.keyspace));
        transaction.commit().await?;
        Ok((look, watch))
    }

    /// Registers under `session`, a random number of this attempt to be an agent. `is_dead` is asked of rows that
    /// somebody has.
    ///
    /// # Errors
    /// See [`RegisterError`]; it may be tried again with the same session.
    pub async fn register(
        &self,
        session: u64,
        wanted: &Wanted,
        clock_ms: TimestampMs,
        is_dead: &(dyn Fn(NodeId, &AgentRow) -> bool + Sync),
    ) -> Result<NodeId, RegisterError> {
        // Another run finds the session of the one that happened.
        let registered = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let look = self.read(txn).await?;
            if let Some(now) = self.superseded(txn).await? {
                let own = self.incarnation.get();
                return Err(Abort::Refused(RegisterError::Superseded { own, now: now.get() }));
            }
            if let Some((node, _)) = look.rows.iter().find(|(_, row)| row.session == session) {
                return Ok(*node);
            }
            let is_free = |node: NodeId, row: &AgentRow| {
                is_dead(node, row)
                    || age(row, &look).is_none_or(|age| age >= row.lease().saturating_add(JUMP))
            };
            let names = self.names(txn).await?;
            let node = self.choose(txn, wanted, &look, &names, &is_free).await?;
            // The choice stands only if nobody takes the id meanwhile.
            let key = agent::agent_key(&self.keyspace, node);
            let found = txn.get(&key, Isolation::Serializable).await?;
            if found.is_some() != look.rows.contains_key(&node) {
                return Err(Abort::Store(StoreError::Conflict));
            }
            self.clean(txn, &look, names).await?;
            let row = AgentRow {
                session,
                renewals: 0,
                renewed_at: (self.incarnation, look.version),
                lease_ms: u32::try_from(wanted.lease.as_millis()).unwrap_or(u32::MAX),
                phase: Phase::Starting,
                clock_ms,
                agent: wanted.agent.clone(),
            };
            txn.set(&key, &row.encode(), WriteConflict::Yes);
            self.remember_name(txn, &row, node, look.version);
            agent::bump_membership(txn, &self.keyspace);
            Ok(node)
        });
        registered.await.map(|(node, _)| node).map_err(|error| match error {
            TransactError::Refused(refused) => refused,
            TransactError::Store { error, .. } => RegisterError::Store(error),
        })
    }

    /// Renews the lease of `node`, in `phase`; what all agents' rows were before, and a watch of the membership from
    /// there on.
    ///
    /// # Errors
    /// See [`RenewError`].
    pub async fn renew(
        &self,
        node: NodeId,
        session: u64,
        phase: Phase,
        clock_ms: TimestampMs,
    ) -> Result<(Look, Watch), RenewError> {
        let key = agent::agent_key(&self.keyspace, node);
        // Renewing twice is renewing.
        let renewed = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let mut look = self.read(txn).await?;
            let watch = txn.watch(&agent::membership_key(&self.keyspace));
            let mut row = self.own(txn, &key, session).await?;
            if self.superseded(txn).await?.is_some() {
                return Err(Abort::Refused(Lost));
            }
            if row.phase != phase {
                agent::bump_membership(txn, &self.keyspace);
            }
            row.phase = phase;
            row.renewals += 1;
            row.renewed_at = (self.incarnation, look.version);
            row.clock_ms = clock_ms;
            txn.set(&key, &row.encode(), WriteConflict::Yes);
            look.rows.insert(node, row);
            Ok::<_, Abort<Lost>>((look, watch))
        });
        renewed.await.map(|(renewed, _)| renewed).map_err(|error| match error {
            TransactError::Refused(Lost) => RenewError::Lost,
            TransactError::Store { error, .. } => RenewError::Store(error),
        })
    }

    /// Gives the id up. Not to have it any more is success.
    ///
    /// # Errors
    /// The store's; then the lease ends by itself.
    pub async fn release(&self, node: NodeId, session: u64) -> Result<(), StoreError> {
        let key = agent::agent_key(&self.keyspace, node);
        let released = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            let version = txn.read_version().await?;
            let row = self.own(txn, &key, session).await?;
            txn.clear(&key, WriteConflict::Yes);
            self.remember_name(txn, &row, node, version);
            agent::bump_membership(txn, &self.keyspace);
            Ok::<_, Abort<Lost>>(())
        });
        match released.await {
            Ok(_) | Err(TransactError::Refused(Lost)) => Ok(()),
            Err(TransactError::Store { error, .. }) => Err(error),
        }
    }

    /// Clears all rows: for a store that one process opened for itself, so that nobody can have a lease. Names keep
    /// their ids.
    ///
    /// # Errors
    /// The store's.
    pub async fn void(&self) -> Result<(), StoreError> {
        let voided = transact!(&*self.store, self.policy, OnUnknown::RunAgain, async |txn| {
            txn.clear_range(agent::agents(&self.keyspace), WriteConflict::Yes);
            Ok::<_, Abort<Lost>>(())
        });
        match voided.await {
            Ok(_) | Err(TransactError::Refused(Lost)) => Ok(()),
            Err(TransactError::Store { error, .. }) => Err(error),
        }
    }

    /// The incarnation of the metadata, if it is not this agent's any more. Whoever raises it conflicts with this read, so
    /// no agent of a former life registers behind it.
    async fn superseded(&self, transaction: &mut dyn Transaction) -> Result<Option<Incarnation>, StoreError> {
        let value = transaction.get(&identity_key(&self.keyspace), Isolation::Serializable).await?;
        let Some(value) = value else { return Ok(None) };
        let now = decode_identity(&value)?.incarnation;
        Ok((now != self.incarnation).then_some(now))
    }

    async fn own(
        &self,
        transaction: &mut dyn Transaction,
        key: &[u8],
        session: u64,
    ) -> Result<AgentRow, Abort<Lost>> {
        let value = transaction.get(key, Isolation::Serializable).await?;
        let row = AgentRow::decode(value.as_deref().ok_or(Abort::Refused(Lost))?)?;
        if row.session == session { Ok(row) } else { Err(Abort::Refused(Lost)) }
    }

    async fn read(&self, transaction: &mut dyn Transaction) -> Result<Look, StoreError> {
        let version = transaction.read_version().await?;
        let mut rows = BTreeMap::new();
        for (key, value) in self.all(transaction, agent::agents(&self.keyspace)).await? {
            rows.insert(agent::parse_agent_key(&self.keyspace, &key)?, AgentRow::decode(&value)?);
        }
        Ok(Look { incarnation: self.incarnation, version, rows })
    }

    /// The rows of all names, by key.
    async fn names(&self, transaction: &mut dyn Transaction) -> Result<Names, StoreError> {
        let rows = self.all(transaction, agent::names(&self.keyspace)).await?;
        let decoded = rows.into_iter().map(|(key, value)| NameRow::decode(&value).map(|name| (key, name)));
        Ok(decoded.collect::<Result<_, Corrupt>>()?)
    }

    async fn all(
        &self,
        transaction: &mut dyn Transaction,
        mut range: KeyRange,
    ) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, StoreError> {
        let mut rows = Vec::new();
        loop {
            let options = RangeOptions::page(PAGE, Isolation::Snapshot);
            let page = transaction.range(range.clone(), options).await?;
            let last = page.rows.last().map(|row| row.key.to_vec());
            rows.extend(page.rows.into_iter().map(|row| (row.key, row.value)));
            match last {
                Some(last) if page.more => range.start = crate::kv::single_key(&last).end,
                _ => return Ok(rows),
            }
        }
    }

    async fn choose(
        &self,
        transaction: &mut dyn Transaction,
        wanted: &Wanted,
        look: &Look,
        names: &Names,
        is_free: &(dyn Fn(NodeId, &AgentRow) -> bool + Sync),
    ) -> Result<NodeId, Abort<RegisterError>> {
        let held = |node: NodeId| look.rows.get(&node).filter(|row| !is_free(node, row));
        let refuse = |node: NodeId, row: &AgentRow| {
            let by = row.agent.listeners.first();
            let by = by.map_or_else(String::new, |listener| format!("{}:{}", listener.host, listener.port));
            Abort::Refused(RegisterError::Held { node, by, lease: row.lease() })
        };
        if let Some(node) = wanted.node {
            return held(node).map_or(Ok(node), |row| Err(refuse(node, row)));
        }
        if !wanted.agent.name.is_empty() {
            let key = agent::name_key(&self.keyspace, &wanted.agent.name);
            if let Some(value) = transaction.get(&key, Isolation::Serializable).await? {
                let node = NameRow::decode(&value)?.node;
                match held(node) {
                    None => return Ok(node),
                    Some(row) if row.agent.name == wanted.agent.name => return Err(refuse(node, row)),
                    // Somebody took it by number.
                    Some(_) => {}
                }
            }
        }
        let named: BTreeSet<NodeId> = names.iter().map(|(_, name)| name.node).collect();
        let is_taken = |node: &NodeId| {
            named.contains(node) || look.rows.get(node).is_some_and(|row| !is_gone(row, look))
        };
        let free = (FIRST..=i32::MAX).map(NodeId::new).find(|node| !is_taken(node));
        free.ok_or_else(|| Abort::Store(StoreError::Failed { reason: "node ids are used up".to_owned() }))
    }

    /// Clears what is gone for good.
    async fn clean(
        &self,
        transaction: &mut dyn Transaction,
        look: &Look,
        names: Names,
    ) -> Result<(), Abort<RegisterError>> {
        for (node, row) in look.rows.iter().filter(|(_, row)| is_gone(row, look)).take(CLEARED) {
            let key = agent::agent_key(&self.keyspace, *node);
            // Serializably: its agent may be back.
            transaction.get(&key, Isolation::Serializable).await?;
            transaction.clear(&key, WriteConflict::Yes);
            // A name is kept from the end of its agent on, unless it has another id by now.
            let name_key = agent::name_key(&self.keyspace, &row.agent.name);
            if let Some(value) = transaction.get(&name_key, Isolation::Serializable).await?
                && NameRow::decode(&value)?.node == *node
            {
                self.remember_name(transaction, row, *node, look.version);
            }
        }
        let mut cleared = 0;
        for (key, name) in names {
            let kept = u64::try_from(NAME_KEPT.as_micros()).unwrap_or(u64::MAX);
            if look.rows.contains_key(&name.node) || cleared == CLEARED {
                continue;
            }
            if name.seen_at.0 != self.incarnation {
                // Versions of another life say nothing: its time begins now.
                let name = NameRow { seen_at: (self.incarnation, look.version), ..name };
                transaction.get(&key, Isolation::Serializable).await?;
                transaction.set(&key, &name.encode(), WriteConflict::Yes);
                cleared += 1;
            } else if look.version.get().saturating_sub(name.seen_at.1.get()) > kept {
                transaction.get(&key, Isolation::Serializable).await?;
                transaction.clear(&key, WriteConflict::Yes);
                cleared += 1;
            }
        }
        Ok(())
    }

    fn remember_name(
        &self,
        transaction: &mut dyn Transaction,
        row: &AgentRow,
        node: NodeId,
        version: StoreVersion,
    ) {
        if !row.agent.name.is_empty() {
            let key = agent::name_key(&self.keyspace, &row.agent.name);
            let name = NameRow { node, seen_at: (self.incarnation, version) };
            transaction.set(&key, &name.encode(), WriteConflict::Yes);
        }
    }
}

fn is_gone(row: &AgentRow, look: &Look) -> bool {
    age(row, look).is_none_or(|age| age >= GONE.max(row.lease().saturating_add(JUMP)))
}

#[cfg(test)]
mod tests;
