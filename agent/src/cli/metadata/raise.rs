//! `penstock metadata raise-incarnation`.
//!
//! Two steps: the metadata first, then the bucket's claim. Killed in between, it is run again with the same number and
//! does the second. An agent that starts in between finds the claim of an older incarnation and refuses.

use clap::Args;
use penstock_config::AgentConfig;
use penstock_metadata::incarnation;
use penstock_metadata::keys::cluster::ClusterIdentity;
use penstock_storage::bucket::{Bucket, Claim};
use penstock_types::Incarnation;
use serde::Serialize;

use super::open::{Access, Opened, open, open_bucket};
use crate::cli::CommandError;
use crate::cli::agent::ConfigArguments;
use crate::cli::error::Outcome;
use crate::cli::output::OutputArguments;

/// The arguments of `raise-incarnation`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock metadata raise-incarnation --config penstock.toml
  penstock metadata raise-incarnation --config penstock.toml --to 2

For after a restore of the metadata from a backup, or its move to another store. All agents must be stopped; the
command waits until the leases of killed ones have ended. Records that were written after the backup was taken are lost
to the cluster: their objects stay in the bucket. docs/metadata.md has the procedure.")]
pub(super) struct RaiseArguments {
    /// The new incarnation, as confirmation: without it the command only says what it is now and what it would be
    #[arg(long, value_name = "N")]
    to: Option<u32>,
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What was found or done.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    cluster_id: String,
    /// Of the metadata.
    incarnation: u32,
    /// Of the bucket's claim.
    claim: u32,
    /// What `--to` has to be.
    next: u32,
    /// Whether anything was changed.
    raised: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The incarnation to raise to, or to finish.
    next: Incarnation,
    /// Whether an earlier run was killed between its steps, or its second one failed.
    is_half_done: bool,
}

/// The metadata's incarnation is ahead of the claim's only between the two steps. Where the claim is ahead, the metadata
/// came from a backup that was taken before an earlier raise: the numbers that the bucket has seen stay used.
fn plan(stored: Incarnation, claimed: Incarnation) -> Result<Plan, CommandError> {
    if claimed < stored {
        return Ok(Plan { next: stored, is_half_done: true });
    }
    let next = claimed.get().checked_add(1).map(Incarnation::new);
    match next.filter(|next| *next < Incarnation::AFTER_ALL) {
        Some(next) => Ok(Plan { next, is_half_done: false }),
        None => Err(CommandError::Failed("the incarnations are used up".to_owned())),
    }
}

pub(super) async fn run(arguments: &RaiseArguments) -> Outcome {
    let loaded = arguments.config.load(None)?;
    let opened = open(&loaded.config, Access::Write).await?;
    let report = raise(&opened, &loaded.config, arguments.to).await;
    opened.close().await;
    let report = report?;
    let Report { cluster_id, incarnation, claim, next, raised } = &report;
    let line = if *raised {
        format!(
            "cluster {cluster_id} is in incarnation {incarnation} now, and so is its bucket: agents can start"
        )
    } else if arguments.to.is_some() {
        format!("cluster {cluster_id} is in incarnation {incarnation} already, and so is its bucket")
    } else {
        format!(
            "cluster {cluster_id} is in incarnation {incarnation}, its bucket in {claim}: nothing was changed; stop all agents, \
             then run this with --to {next}"
        )
    };
    arguments.output.print_line(&report, &line)
}

async fn raise(opened: &Opened, config: &AgentConfig, to: Option<u32>) -> Result<Report, CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let identity = incarnation::identity(&opened.store, &opened.keyspace).await;
    let identity = identity.map_err(|error| failed(&error))?;
    let identity =
        identity.ok_or_else(|| failed(&format_args!("the metadata store holds no cluster here")))?;
    let bucket = open_bucket(config)?;
    let claim = bucket.read_claim().await.map_err(|error| failed(&error))?;
    let claimed = claim_of(&bucket, &identity, claim)?;
    let Plan { next, is_half_done } = plan(identity.incarnation, claimed)?;
    let report = |incarnation: Incarnation, claim: Incarnation, raised| Report {
        cluster_id: identity.cluster_id.clone(),
        incarnation: incarnation.get(),
        claim: claim.get(),
        next: next.get(),
        raised,
    };
    let Some(to) = to.map(Incarnation::new) else {
        return Ok(report(identity.incarnation, claimed, false));
    };
    if to == identity.incarnation && claimed == to {
        return Ok(report(to, claimed, false));
    }
    if to != next {
        return Err(CommandError::Usage(format!(
            "the incarnation of cluster {} is {} and is raised to {}, not to {}",
            identity.cluster_id,
            identity.incarnation.get(),
            next.get(),
            to.get()
        )));
    }
    if !is_half_done {
        let dead = match &opened.exclusive {
            Some(_) => incarnation::agents_of_an_exclusive_store(&opened.store, &opened.keyspace).await,
            None => incarnation::wait_for_dead_agents(&opened.store, &opened.keyspace).await,
        };
        let dead = dead.map_err(|error| failed(&error))?;
        incarnation::raise(&opened.store, &opened.keyspace, identity.incarnation, to, &dead)
            .await
            .map_err(|error| failed(&error))?;
    }
    bucket.raise_claim(&identity.cluster_id, to).await.map_err(|error| {
        failed(&format_args!(
            "the metadata is in incarnation {} now, but the bucket's claim is not: {error}: run this again",
            to.get()
        ))
    })?;
    Ok(report(to, to, true))
}

/// The claim's incarnation. A bucket that is another cluster's, or nobody's, is found out before anything is changed.
fn claim_of(
    bucket: &Bucket,
    identity: &ClusterIdentity,
    claim: Option<Claim>,
) -> Result<Incarnation, CommandError> {
    let (url, ours) = (bucket.url(), &identity.cluster_id);
    match claim {
        Some(claim) if claim.cluster_id == *ours => Ok(claim.incarnation),
        Some(Claim { cluster_id: theirs, .. }) => Err(CommandError::Failed(format!(
            "{url} belongs to cluster {theirs}, the metadata is that of {ours}"
        ))),
        None => Err(CommandError::Failed(format!(
            "{url} is claimed by no cluster: is it the object store of cluster {ours}'s agents?"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(stored: u32, claimed: u32) -> (u32, bool) {
        let plan = plan(Incarnation::new(stored), Incarnation::new(claimed)).expect("a plan");
        (plan.next.get(), plan.is_half_done)
    }

    #[test]
    fn the_next_number_is_above_all_that_were_used() {
        assert_eq!(planned(1, 1), (2, false));
        // Killed between the steps.
        assert_eq!(planned(2, 1), (2, true));
        // From a backup before the last raise.
        assert_eq!(planned(1, 2), (3, false));
        plan(Incarnation::FIRST, Incarnation::new(u32::MAX - 1)).expect_err("the last one is no incarnation");
    }
}
