//! `penstock salvage`.
//!
//! Without `--to` nothing is written. With it the rows are written first, the identity
//! last, then the bucket's claim is raised: killed before the identity, the store holds no cluster, and has to be emptied; killed
//! behind it, `penstock metadata raise-incarnation` with the same number does the rest.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use penstock_compaction::fsck::Progress;
use penstock_compaction::salvage::report::{PartitionReport, Report};
use penstock_compaction::salvage::{SalvageParts, salvage};
use penstock_config::AgentConfig;
use penstock_metadata::kv::SharedStore;
use penstock_types::{Clock, Incarnation, SystemClock};

use super::CommandError;
use super::agent::ConfigArguments;
use super::error::Outcome;
use super::fsck::Bar;
use super::metadata::open::{Access, open, open_bucket};
use super::output::{Format, OutputArguments};
use crate::start::keyspace;

/// The arguments of `salvage`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock salvage --config penstock.toml
  penstock salvage --config penstock.toml --to 3

For when the metadata are lost, and no backup is younger than the checkpoints in the bucket. Stop all agents, and give it an
empty metadata store. Every record below a partition's last checkpoint is at its old offset; what was written since is put
behind it as well as can be told. Offsets of groups are lost. docs/salvage.md has the procedure.")]
pub(super) struct SalvageArguments {
    /// The new incarnation, as confirmation: without it the command only says what it would be, and what would be salvaged
    #[arg(long, value_name = "N")]
    to: Option<u32>,
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &SalvageArguments) -> Outcome {
    let loaded = arguments.config.load(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::Failed(format!("the runtime can't start: {error}")))?;
    let report = runtime.block_on(salvaged(&loaded.config, arguments.to));
    runtime.shutdown_background();
    let report = report?;
    match arguments.output.output {
        Format::Json => arguments.output.print_line(&report, "")?,
        Format::Text => print(&report)?,
    }
    Ok(())
}

async fn salvaged(config: &AgentConfig, to: Option<u32>) -> Result<Report, CommandError> {
    let Some(to) = to else { return fill(config, None, None).await };
    let opened = open(config, Access::Create).await?;
    let report = fill(config, Some(Arc::clone(&opened.store)), Some(Incarnation::new(to))).await;
    opened.close().await;
    report
}

async fn fill(
    config: &AgentConfig,
    store: Option<SharedStore>,
    to: Option<Incarnation>,
) -> Result<Report, CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Failed(error.to_string());
    let bucket = open_bucket(config)?;
    let parts = SalvageParts { bucket: Arc::clone(&bucket), store, keyspace: keyspace(config) };
    let shown = Bar::new();
    let filled = salvage(&parts, to, SystemClock.now_ms(), &shown as &dyn Progress).await;
    shown.finish();
    let mut report = filled.map_err(|error| failed(&error))?;
    if let Some(to) = to {
        bucket.raise_claim(&report.cluster_id, to).await.map_err(|error| {
            let to = to.get();
            failed(&format_args!(
                "the metadata are salvaged, but the bucket's claim is not raised: {error}: run `penstock metadata \
                 raise-incarnation --to {to}`"
            ))
        })?;
        report.salvaged = true;
    }
    Ok(report)
}

/// For people. Control characters are replaced: names in the bucket must not steer the terminal.
fn print(report: &Report) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut line = |text: String| {
        let clean: String = text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
        writeln!(out, "{clean}")
    };
    for topic in &report.topics {
        for partition in &topic.partitions {
            line(format!("{}-{}: {}", topic.name, partition.partition, told(partition)))?;
        }
    }
    for unknown in &report.unknown {
        let (id, records, objects) = (&unknown.id, unknown.records, unknown.objects);
        line(format!(
            "topic {id}: its name is not known; {records} records in {objects} objects are left where they are"
        ))?;
    }
    for damaged in &report.damaged {
        line(format!("damaged: {damaged}"))?;
    }
    for lost in &report.lost {
        line(format!("not in a bucket, and so lost: {lost}"))?;
    }
    let (cluster, next) = (&report.cluster_id, report.incarnation);
    let (used, unused) = (report.objects, report.unused);
    let objects = format!("{used} objects are in use, {unused} are not");
    line(if report.salvaged {
        format!(
            "cluster {cluster} is in incarnation {next} now, and so is its bucket; {objects}: agents can start"
        )
    } else {
        format!(
            "cluster {cluster}: nothing was written; {objects}; stop all agents, then run this with --to {next}"
        )
    })?;
    out.flush()?;
    Ok(())
}

fn told(partition: &PartitionReport) -> String {
    let PartitionReport { log_start, exact_to, end, best_effort_batches, lost, .. } = partition;
    let mut text = format!("from {log_start} to {exact_to} as it was");
    if end > exact_to {
        text.push_str(&format!(", to {end} by best effort ({best_effort_batches} batches)"));
    }
    for range in lost {
        text.push_str(&format!(", nothing from {} to {}", range.from, range.to));
    }
    text
}
