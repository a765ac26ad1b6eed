//! `penstock fsck`.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use penstock_compaction::fsck::report::Report;
use penstock_compaction::fsck::{Fsck, FsckParts, Progress, Settings};
use penstock_config::{AgentConfig, ByteSize, OptionValue};
use penstock_metadata::cluster::{OLDEST_SCHEMA_READ, SCHEMA_VERSION, check_schema};
use penstock_metadata::incarnation;

use super::CommandError;
use super::agent::ConfigArguments;
use super::bench::progress::{STEPS, bar};
use super::error::Outcome;
use super::metadata::open::{Access, Opened, open, open_bucket};
use super::output::{Format, OutputArguments};
use crate::start::{collector_settings, sweeper_settings};

/// What a reference or an object takes while it is held against others.
const BYTES_EACH: u64 = 128;
/// Requests to the bucket at the same time.
const REQUESTS: usize = 16;

/// The arguments of `fsck`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  penstock fsck --data-dir ./penstock-data
  penstock fsck --config penstock.toml --deep --output json
  penstock fsck --config penstock.toml --repair

It needs the agents' configuration. With FoundationDB the agents may run meanwhile; the embedded store can't be open
twice: stop the agent first. Without --repair nothing is written. docs/fsck.md says what each finding means.

Exit codes: 0 all is well, 1 something is wrong (also if it was repaired: check again), 2 it could not be checked.")]
pub(super) struct FsckArguments {
    /// Read every byte that logs refer to, and hold it against its checksums and what the logs tell of it
    #[arg(long)]
    deep: bool,
    /// Repair what can be repaired without loss, after it was named
    #[arg(long)]
    repair: bool,
    /// With --repair: delete, too, what earlier incarnations left in the bucket and nothing refers to
    #[arg(long, requires = "repair")]
    delete_earlier: bool,
    /// How much memory to use for references: with less of it the indexes are read more often
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = <ByteSize as OptionValue>::parse)]
    memory: ByteSize,
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn run(arguments: &FsckArguments) -> Outcome {
    let loaded = arguments.config.load(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CommandError::Unchecked(format!("the runtime can't start: {error}")))?;
    let report = runtime.block_on(check(arguments, &loaded.config));
    runtime.shutdown_background();
    let report = report?;
    match arguments.output.output {
        Format::Json => arguments.output.print_line(&report, "")?,
        Format::Text => print(&report)?,
    }
    if report.is_clean() { Ok(()) } else { Err(CommandError::Reported) }
}

async fn check(arguments: &FsckArguments, config: &AgentConfig) -> Result<Report, CommandError> {
    let access = if arguments.repair { Access::Write } else { Access::Read };
    let opened = open(config, access).await.map_err(unchecked)?;
    let report = check_opened(arguments, config, &opened).await;
    opened.close().await;
    report
}

async fn check_opened(
    arguments: &FsckArguments,
    config: &AgentConfig,
    opened: &Opened,
) -> Result<Report, CommandError> {
    let bucket = open_bucket(config).map_err(unchecked)?;
    let cluster = incarnation::identity(&opened.store, &opened.keyspace).await;
    let cluster = cluster.map_err(|error| CommandError::Unchecked(error.to_string()))?;
    let cluster = cluster
        .ok_or_else(|| CommandError::Unchecked("the metadata store holds no cluster here".to_owned()))?;
    check_schema(&cluster, OLDEST_SCHEMA_READ..=SCHEMA_VERSION)
        .map_err(|error| CommandError::Unchecked(error.to_string()))?;
    let (sweeper, collector) = (sweeper_settings(config), collector_settings(config));
    let settings = Settings {
        deep: arguments.deep,
        sweep_lag: sweeper.lag,
        sweep_interval: sweeper.interval,
        collect_delay: collector.delay,
        merged_delay: collector.merged_delay,
        at_once: arguments.memory.get() / BYTES_EACH,
        requests: REQUESTS,
    };
    let parts =
        FsckParts { store: Arc::clone(&opened.store), keyspace: opened.keyspace.clone(), cluster, bucket };
    let shown = Arc::new(Bar::new());
    let fsck = Fsck::new(parts, settings, Arc::clone(&shown) as Arc<dyn Progress>);
    let checked = fsck.run().await;
    shown.finish();
    let mut report = checked.map_err(|error| CommandError::Unchecked(error.to_string()))?;
    if arguments.repair {
        for repair in report.findings.iter().filter_map(|finding| finding.repair) {
            writeln!(io::stderr(), "to repair: {repair}")?;
        }
        let repaired = fsck.repair(&mut report, arguments.delete_earlier).await;
        repaired.map_err(|error| CommandError::Unchecked(format!("the repairs stopped: {error}")))?;
    }
    Ok(report)
}

/// That something can't be opened is no finding.
fn unchecked(error: CommandError) -> CommandError {
    match error {
        CommandError::Failed(reason) => CommandError::Unchecked(reason),
        other => other,
    }
}

/// A bar on standard error.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        Self(bar())
    }

    /// Leaves nothing of it on the screen.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn at(&self, phase: &'static str, done: u64, of: u64) {
        if of > 0 {
            self.0.set_position((done.min(of) * STEPS).checked_div(of).unwrap_or(0));
            self.0.set_message(format!("{phase}: {done} of {of}"));
        } else {
            self.0.set_message(format!("{phase}: {done}"));
        }
    }
}

/// For people: a line each. Control characters are replaced: names in the metadata must not steer the terminal.
fn print(report: &Report) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let clean =
        |line: String| line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect::<String>();
    for finding in &report.findings {
        writeln!(out, "{}", clean(finding.to_string()))?;
    }
    let kept = report.findings.len() as u64;
    if report.total() > kept {
        writeln!(out, "and {} more", report.total() - kept)?;
    }
    for repaired in &report.repairs {
        writeln!(out, "repair: {}: {}", repaired.repair, clean(repaired.outcome.clone()))?;
    }
    writeln!(out, "{}", summary(report))?;
    out.flush()?;
    Ok(())
}

fn summary(report: &Report) -> String {
    let checked = &report.checked;
    let how = if report.deep {
        format!("{} bytes read", checked.bytes)
    } else {
        format!("{} footers read", checked.footers)
    };
    let what = format!(
        "{} rows, {} partitions, {} batches, {} objects, {how}",
        checked.rows, checked.partitions, checked.batches, checked.objects
    );
    let unsettled = match checked.unsettled {
        0 => String::new(),
        count => {
            format!("; {count} partitions or objects changed at each look, and were not compared in all")
        }
    };
    let found = if report.is_clean() {
        "nothing is wrong".to_owned()
    } else {
        let counts: Vec<String> =
            report.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let plural = if report.total() == 1 { "" } else { "s" };
        format!("{} finding{plural}: {}", report.total(), counts.join(", "))
    };
    format!("cluster {}: {found} ({what}){unsettled}", report.cluster_id)
}

#[cfg(test)]
mod tests {
    use penstock_compaction::fsck::report::Kind;

    /// Whoever gets a finding finds it explained.
    #[test]
    fn every_kind_of_finding_is_explained() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fsck.md"));
        let page = page.expect("docs/fsck.md");
        for kind in Kind::ALL {
            assert!(page.contains(&format!("| `{kind}` |")), "{kind} is not explained");
        }
    }
}
