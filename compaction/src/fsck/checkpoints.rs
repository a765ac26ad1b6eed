//! Checkpoints: the parts of the current ones are in the bucket, and nothing else for long.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use penstock_metadata::checkpoints::{SlotStanding, standings};
use penstock_metadata::keys::feed::Slot;

use super::repair::Repair;
use super::report::{Finding, Kind};
use super::{Check, FsckError};
use crate::again;
use crate::checkpoint::format::{CHECKPOINTS_PREFIX, Part, PartName};

/// Parts that are nobody's and are told: a bucket holds few.
const TOLD: usize = 10_000;

pub(super) async fn check(check: &mut Check<'_>) -> Result<(), FsckError> {
    check.phase("checkpoints", 0);
    let (store, keyspace, bucket) = (check.store().clone(), check.keyspace().clone(), check.bucket().clone());
    let (_, before) = again!(standings(&store, &keyspace))?;
    let mut listed = BTreeSet::new();
    let mut listing = bucket.list(CHECKPOINTS_PREFIX.trim_end_matches('/'));
    while let Some(one) = listing.next().await {
        match PartName::of_key(&one?.key) {
            Some(name) => listed.insert(name),
            None => continue,
        };
        check.step(1);
    }
    drop(listing);
    // Read behind the listing: what is listed and referred to only later doesn't exist.
    let (_, now) = again!(standings(&store, &keyspace))?;
    for (slot, standing) in &now {
        // One that became current since the listing began may not be in it.
        if before.get(slot).map(|standing| standing.state.current) != Some(standing.state.current) {
            continue;
        }
        current(check, *slot, standing, &listed).await?;
    }
    left(check, &now, &listed);
    Ok(())
}

async fn current(
    check: &mut Check<'_>,
    slot: Slot,
    standing: &SlotStanding,
    listed: &BTreeSet<PartName>,
) -> Result<(), FsckError> {
    let Some(current) = standing.state.current else { return Ok(()) };
    for part in 0..current.parts {
        let name = PartName { slot, id: current.id, part };
        let problem = if !listed.contains(&name) {
            Some("it isn't in the bucket".to_owned())
        } else if check.settings.deep {
            match check.bucket().get_with_etag(&name.key()).await {
                Ok(object) => match Part::decode(&object.data) {
                    Ok(read) if read.name == name && read.is_last == (part + 1 == current.parts) => None,
                    Ok(_) => Some("it is another part".to_owned()),
                    Err(corrupt) => Some(corrupt.to_string()),
                },
                // Another one became current.
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            }
        } else {
            None
        };
        if let Some(problem) = problem {
            let finding = Finding::new(Kind::Checkpoint, format!("{}: {problem}", name.key()));
            check.found(finding.repaired_by(Repair::Checkpoint(slot)));
            break;
        }
    }
    Ok(())
}

/// Parts that are nobody's. Those of other incarnations are what can be salvaged.
fn left(check: &mut Check<'_>, standings: &BTreeMap<Slot, SlotStanding>, listed: &BTreeSet<PartName>) {
    let grace = check.settings.unreferenced_grace();
    let ours = check.parts.cluster.incarnation;
    let is_nobodys = |name: &&PartName| {
        let state = standings.get(&name.slot).map(|standing| standing.state).unwrap_or_default();
        let is_current =
            state.current.is_some_and(|current| current.id == name.id && name.part < current.parts);
        name.id.incarnation() == ours && !is_current && state.pending != Some(name.id)
    };
    let nobodys: Vec<&PartName> = listed.iter().filter(is_nobodys).take(TOLD).collect();
    for name in nobodys {
        if check.age(name.id) > grace {
            let finding = Finding::new(Kind::CheckpointLeft, name.key());
            check.found(finding.repaired_by(Repair::DeletePart(*name)));
        }
    }
}
