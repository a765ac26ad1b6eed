//! The change log: what changed at which stamp, so that a catalog reads only that.
//!
//! Written blindly, with the stamp in the key; trimmed by the writers themselves so that it holds at most about
//! [`KEPT`] rows. A catalog that stands below the floor reads everything anew.

use std::collections::BTreeSet;

use penstock_types::Incarnation;

use crate::keys::Keyspace;
use crate::keys::cluster::{MetadataVersion, bump_metadata_version, decode_identity, identity_key};
use crate::keys::topic::{
    Change, Floor, change_prefix, change_suffix, changes, changes_after, decode_change, decode_floor,
    decode_written, encode_change, encode_floor, floor_key, written_key,
};
use crate::kv::{Isolation, RangeOptions, StoreError, Transaction, WriteConflict, single_key};

/// How many change rows are kept, about: above it, a writer trims.
pub const KEPT: u64 = 8_192;
/// The most rows that one transaction trims beyond as many as it writes.
const TRIMMED_AT_ONCE: usize = 256;

/// Writes that `changed` changed in this transaction: the change rows and the metadata version; trims the log.
/// Nothing if nothing changed.
///
/// # Panics
/// With more than 2^16 - 1 changes: requests are bounded far below.
pub(crate) async fn record(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    changed: &[Change],
) -> Result<(), StoreError> {
    if changed.is_empty() {
        return Ok(());
    }
    check_incarnation(transaction, keyspace, incarnation).await?;
    trim(transaction, keyspace, changed.len()).await?;
    let prefix = change_prefix(keyspace, incarnation);
    for (number, change) in changed.iter().enumerate() {
        let number = u16::try_from(number).expect("a transaction changes fewer than 2^16 topics");
        transaction.set_stamped_key(
            &prefix,
            &change_suffix(number),
            &encode_change(*change),
            WriteConflict::No,
        );
    }
    transaction.atomic_add(&written_key(keyspace), changed.len() as i64, WriteConflict::No);
    bump_metadata_version(transaction, keyspace, incarnation);
    Ok(())
}

/// A change of an earlier life of the metadata would sort below what catalogs have seen, and be missed by them.
async fn check_incarnation(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    ours: Incarnation,
) -> Result<(), StoreError> {
    let Some(value) = transaction.get(&identity_key(keyspace), Isolation::Serializable).await? else {
        return Ok(());
    };
    let now = decode_identity(&value)?.incarnation;
    if now == ours {
        return Ok(());
    }
    let reason = format!(
        "the metadata's incarnation was raised to {}, this agent is of {}: restart it",
        now.get(),
        ours.get()
    );
    Err(StoreError::Failed { reason })
}

/// Trims the oldest rows if there are too many. Only trimmers conflict with one another, on the floor.
async fn trim(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    about_to_write: usize,
) -> Result<(), StoreError> {
    let floor_key = floor_key(keyspace);
    let written = transaction.get(&written_key(keyspace), Isolation::Snapshot).await?;
    let floor = decode_floor(transaction.get(&floor_key, Isolation::Snapshot).await?.as_deref())?;
    let held = decode_written(written.as_deref())?.saturating_sub(floor.rows);
    if held.saturating_add(about_to_write as u64) <= KEPT {
        return Ok(());
    }
    let most = about_to_write + TRIMMED_AT_ONCE;
    let page = transaction.range(changes(keyspace), RangeOptions::page(most, Isolation::Snapshot)).await?;
    let (Some(first), Some(last)) = (page.rows.first(), page.rows.last()) else {
        return Ok(());
    };
    // The floor is a whole transaction's stamp: rows of that stamp that stay behind are below it and so never read,
    // and go with the next trim.
    let (trimmed, _) = decode_change(keyspace, &last.key, &last.value)?;
    let floor = Floor { trimmed, rows: floor.rows + page.rows.len() as u64 };
    transaction.add_read_conflict(single_key(&floor_key));
    transaction.clear_range(first.key.to_vec()..single_key(&last.key).end, WriteConflict::No);
    transaction.set(&floor_key, &encode_floor(floor), WriteConflict::Yes);
    Ok(())
}

/// What changed above `known`, as the transaction's read version sees it; `None` if the log no longer says.
pub(crate) async fn since(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    known: MetadataVersion,
) -> Result<Option<BTreeSet<Change>>, StoreError> {
    let floor = transaction.get(&floor_key(keyspace), Isolation::Snapshot).await?;
    if decode_floor(floor.as_deref())?.trimmed > known {
        return Ok(None);
    }
    let mut range = changes_after(keyspace, known);
    let mut changed = BTreeSet::new();
    loop {
        let page = transaction.range(range.clone(), RangeOptions::page(1_000, Isolation::Snapshot)).await?;
        for row in &page.rows {
            changed.insert(decode_change(keyspace, &row.key, &row.value)?.1);
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = single_key(&last.key).end,
            _ => return Ok(Some(changed)),
        }
    }
}
