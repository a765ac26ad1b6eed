//! What a run has found.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Run;
use super::ledger::{Counts, Found, Violation};
use crate::cli::CommandError;
use crate::cli::bench::report::Latency;
use crate::cli::error::Outcome;
use crate::cli::output::{OutputArguments, Table};

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `ok`, `violations`, or `nothing acknowledged`.
    verdict: &'static str,
    topic: String,
    seconds: f64,
    records: Counts,
    /// By kind.
    violations: BTreeMap<Violation, Found>,
    /// From sending to the acknowledgement.
    latency: Latency,
}

impl Report {
    pub(super) fn of(run: &Run<'_>, latency: &Histogram<u64>) -> Self {
        let records = run.ledger.counts();
        let violations = run.ledger.violations();
        let verdict = match (records.acknowledged, violations.is_empty()) {
            (_, false) => "violations",
            (0, true) => "nothing acknowledged",
            (_, true) => "ok",
        };
        Self {
            verdict,
            topic: run.topic.clone(),
            seconds: run.begun.elapsed().as_secs_f64(),
            records,
            violations,
            latency: Latency::of("produce", latency),
        }
    }

    pub(super) fn print(&self, output: &OutputArguments) -> Outcome {
        output.print(self, || {
            let mut table = Table::new(["WHAT", "COUNT", "FIRST"]);
            let Counts { sent, acknowledged, failed, read, .. } = self.records;
            for (what, count) in
                [("sent", sent), ("acknowledged", acknowledged), ("given up", failed), ("read", read)]
            {
                table.row([what.to_owned(), count.to_string(), String::new()]);
            }
            for (violation, found) in &self.violations {
                let first = found.examples.first().cloned().unwrap_or_default();
                table.row([format!("{violation:?}"), found.count.to_string(), first]);
            }
            let Latency { p50_ms, p99_ms, max_ms, .. } = &self.latency;
            let latency = format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, longest {max_ms:.0} ms");
            table.row(["acknowledged in".to_owned(), String::new(), latency]);
            table.row(["verdict".to_owned(), String::new(), self.verdict.to_owned()]);
            table
        })?;
        match self.verdict {
            "ok" => Ok(()),
            _ => Err(CommandError::Reported),
        }
    }
}
