//! Raising the incarnation: the operator's step after the metadata was restored from a backup or moved.
//!
//! Store versions order everything that is stored. A restored store may give versions that it gave before, so every
//! stored version stands behind the number of a life of the metadata, its incarnation, and a restore or move begins a
//! new one.
//!
//! What happens in the one transaction of [`raise`], beside the number itself:
//! - The cutoff moves to the beginning of the new incarnation: no object of the older one can be committed any more, so
//!   an agent that still runs there (it was paused, or cut off) acknowledges nothing.
//! - The feeds go: they hold versions of the older life, which can't be compared with those of the new one, and a view
//!   is newer than a feed that isn't there.
//! - The registrations of agents go.
//! - The version is written down: what has waited since the older life waits from here on.
//! - Which checkpoints are current is forgotten: what a backup calls current the older life may have deleted since. The
//!   checkpoint job writes every slot anew.
//! - Producer ids go on far above those of the backup: ids that were given out since the backup was taken are in use by
//!   producers that know nothing of the restore, and must not be given to others.
//! - The metadata version moves on, so that catalogs are read anew.
//!
//! Log rows, seals, producers and groups stay: a row's key begins with its incarnation, so rows of the new one sort
//! behind those of the older, and offsets go on.
//!
//! Deliberately absent: the bucket's claim, the other half, which whoever calls this raises afterwards. Between the two
//! agents refuse to start, since the claim is of an older incarnation than the metadata.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_types::{Incarnation, NodeId, StoreVersion, pause};
use tokio::time::Instant;

use crate::cluster::{OLDEST_SCHEMA_READ, OpenError, SCHEMA_VERSION, check_schema};
use crate::keys::agent::{self, AgentRow};
use crate::keys::cluster::{
    ClusterIdentity, Cutoff, begin_key, bump_metadata_version, cutoff_key, decode_identity, encode_begin,
    encode_cutoff, identity_key, with_incarnation,
};
use crate::keys::feed::{self, Slot};
use crate::keys::{Family, Keyspace, allocation, checkpoint};
use crate::kv::{
    Isolation, RangeOptions, SharedStore, StoreError, Transaction, WriteConflict, prefixed, single_key,
};
use crate::members::{Look, Observer};
use crate::transact::{Abort, OnUnknown, Policy, TransactError, transact};

const POLICY: Policy = Policy::interactive(Duration::from_secs(30));
/// How often agents' rows are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// More producer ids than are ever given out between a backup and its restore.
const SKIPPED_PRODUCER_IDS: i64 = 1 << 32;
/// Agents' rows of one page.
const PAGE: usize = 1_000;

/// Why the incarnation can't be raised. Nothing was changed, but for a store error whose outcome says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rows are not for this program.
    #[error(transparent)]
    Schema(OpenError),
    /// There is no cluster here.
    #[error("the metadata store holds no cluster here")]
    NoCluster,
    /// An agent runs.
    #[error("agent {node} ({address}) runs: stop all agents first")]
    AgentRuns {
        /// Its id.
        node: i32,
        /// The first address that clients are told.
        address: String,
    },
    /// Somebody else raised it meanwhile.
    #[error("the incarnation is {found}, not {expected} any more: somebody else has raised it")]
    Changed {
        /// What it is.
        found: u32,
        /// What it was.
        expected: u32,
    },
}

/// The identity of the cluster in `keyspace`, if there is one: read, not checked, not made.
pub async fn identity(
    store: &SharedStore,
    keyspace: &Keyspace,
) -> Result<Option<ClusterIdentity>, RaiseError> {
    let key = identity_key(keyspace);
    let read = transact!(&**store, POLICY, OnUnknown::RunAgain, async |transaction| {
        let value = transaction.get(&key, Isolation::Snapshot).await?;
        Ok::<_, Abort<RaiseError>>(value.map(|value| decode_identity(&value)).transpose()?)
    });
    done(read.await)
}

/// Agents that are known not to run, by their last renewals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadAgents(BTreeMap<NodeId, (u64, u64)>);

/// All agents of a store that this process has opened for itself: none of them runs.
pub async fn agents_of_an_exclusive_store(
    store: &SharedStore,
    keyspace: &Keyspace,
) -> Result<DeadAgents, RaiseError> {
    let look = look_once(store, keyspace).await?;
    Ok(DeadAgents(look.rows.iter().map(|(node, row)| (*node, renewal(row))).collect()))
}

/// Watches the agents' rows until each is known to be dead: unchanged for its whole lease. That takes no time where
/// there are none, and a lease where agents were killed, or came with the backup.
///
/// # Errors
/// [`RaiseError::AgentRuns`] as soon as one renews its lease.
pub async fn wait_for_dead_agents(
    store: &SharedStore,
    keyspace: &Keyspace,
) -> Result<DeadAgents, RaiseError> {
    let (began, mut observer) = (Instant::now(), Observer::default());
    let mut known = BTreeMap::new();
    loop {
        let look = look_once(store, keyspace).await?;
        observer.observe(began.elapsed(), &look);
        for (node, row) in &look.rows {
            if *known.entry(*node).or_insert_with(|| renewal(row)) != renewal(row) {
                return Err(runs(*node, row));
            }
        }
        if look.rows.iter().all(|(node, row)| observer.is_dead(*node, row)) {
            return Ok(DeadAgents(known));
        }
        pause(LOOK).await;
    }
}

async fn look_once(store: &SharedStore, keyspace: &Keyspace) -> Result<Look, RaiseError> {
    let read = transact!(&**store, POLICY, OnUnknown::RunAgain, async |transaction| {
        look(transaction, keyspace, Isolation::Snapshot).await.map_err(Abort::<RaiseError>::Store)
    });
    done(read.await)
}

/// Raises the incarnation from `from` to `to`, unless it is `to` already.
///
/// Idempotent: after an unknown outcome it may be called again.
///
/// # Errors
/// [`RaiseError::AgentRuns`] if any agent but those that are known to be `dead` is registered.
pub async fn raise(
    store: &SharedStore,
    keyspace: &Keyspace,
    from: Incarnation,
    to: Incarnation,
    dead: &DeadAgents,
) -> Result<ClusterIdentity, RaiseError> {
    assert!(from < to && to < Incarnation::AFTER_ALL, "an incarnation is raised within its range");
    let raised = transact!(&**store, POLICY, OnUnknown::RunAgain, async |transaction| {
        raise_in(transaction, keyspace, from, to, dead).await
    });
    done(raised.await)
}

async fn raise_in(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    from: Incarnation,
    to: Incarnation,
    dead: &DeadAgents,
) -> Result<ClusterIdentity, Abort<RaiseError>> {
    let key = identity_key(keyspace);
    let value = transaction.get(&key, Isolation::Serializable).await?;
    let value = value.ok_or(Abort::Refused(RaiseError::NoCluster))?;
    let identity = decode_identity(&value)?;
    check_schema(&identity, OLDEST_SCHEMA_READ..=SCHEMA_VERSION)
        .map_err(|error| Abort::Refused(RaiseError::Schema(error)))?;
    let raised = ClusterIdentity { incarnation: to, ..identity.clone() };
    if identity.incarnation == to {
        return Ok(raised);
    }
    if identity.incarnation != from {
        let (found, expected) = (identity.incarnation.get(), from.get());
        return Err(Abort::Refused(RaiseError::Changed { found, expected }));
    }
    // Serializably: whoever registers or renews a lease from now on makes this fail, and is found by the next run.
    let look = look(transaction, keyspace, Isolation::Serializable).await?;
    if let Some((node, row)) = look.rows.iter().find(|(node, row)| dead.0.get(node) != Some(&renewal(row))) {
        return Err(Abort::Refused(runs(*node, row)));
    }
    transaction.set(&key, &with_incarnation(&value, to)?, WriteConflict::Yes);
    let cutoff = Cutoff { incarnation: to, version: StoreVersion::ZERO };
    transaction.set(&cutoff_key(keyspace), &encode_cutoff(cutoff), WriteConflict::Yes);
    transaction.set(&begin_key(keyspace), &encode_begin(to, look.version), WriteConflict::Yes);
    if !penstock_types::planted!("feeds-outlive-the-raise") {
        transaction.clear_range(prefixed(&keyspace.family(Family::Feed)), WriteConflict::Yes);
    }
    transaction.clear_range(agent::agents(keyspace), WriteConflict::Yes);
    for slot in (0..feed::SLOTS).filter_map(Slot::numbered) {
        transaction.clear(&checkpoint::state_key(keyspace, slot), WriteConflict::Yes);
    }
    let next_id = allocation::next_producer_id_key(keyspace);
    let value = transaction.get(&next_id, Isolation::Serializable).await?;
    let next = allocation::decode_next(value.as_deref())?.saturating_add(SKIPPED_PRODUCER_IDS);
    transaction.set(&next_id, &allocation::encode_next(next), WriteConflict::Yes);
    agent::bump_membership(transaction, keyspace);
    bump_metadata_version(transaction, keyspace, to);
    Ok(raised)
}

async fn look(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    isolation: Isolation,
) -> Result<Look, StoreError> {
    let version = transaction.read_version().await?;
    let (mut range, mut rows) = (agent::agents(keyspace), BTreeMap::new());
    loop {
        let page = transaction.range(range.clone(), RangeOptions::page(PAGE, isolation)).await?;
        for row in &page.rows {
            rows.insert(agent::parse_agent_key(keyspace, &row.key)?, AgentRow::decode(&row.value)?);
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            // Which incarnation an agent is of doesn't matter to whether it runs.
            _ => return Ok(Look { incarnation: Incarnation::new(0), version, rows }),
        }
    }
}

fn renewal(row: &AgentRow) -> (u64, u64) {
    (row.session, row.renewals)
}

fn runs(node: NodeId, row: &AgentRow) -> RaiseError {
    let address = row.agent.listeners.first();
    let address = address.map_or_else(String::new, |at| format!("{}:{}", at.host, at.port));
    RaiseError::AgentRuns { node: node.get(), address }
}

fn done<T, C>(result: Result<(T, C), TransactError<RaiseError>>) -> Result<T, RaiseError> {
    match result {
        Ok((value, _)) => Ok(value),
        Err(TransactError::Refused(refused)) => Err(refused),
        Err(TransactError::Store { error, .. }) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
