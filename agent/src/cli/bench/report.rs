//! What a benchmark has found.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::CommonArguments;
use super::agent_metrics::AgentNumbers;
use crate::cli::error::Outcome;
use crate::cli::output::Table;

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = MIB * 1024.0;

/// The result of a benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) benchmark: &'static str,
    /// Of the measured part, from the first record's intended time to the last acknowledgement or record.
    pub(super) seconds: f64,
    pub(super) records: u64,
    /// Records that were refused or given up.
    pub(super) failed: u64,
    pub(super) first_error: Option<String>,
    /// Bytes of keys and values.
    pub(super) bytes: u64,
    pub(super) mib_per_second: f64,
    pub(super) records_per_second: f64,
    /// The rate that was asked for; `null` for as fast as possible.
    pub(super) intended_records_per_second: Option<f64>,
    pub(super) latencies: Vec<Latency>,
    pub(super) agent: Option<AgentReport>,
}

/// A latency's distribution, in milliseconds.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Latency {
    pub(in crate::cli) what: &'static str,
    pub(in crate::cli) samples: u64,
    pub(in crate::cli) mean_ms: f64,
    pub(in crate::cli) p50_ms: f64,
    pub(in crate::cli) p90_ms: f64,
    pub(in crate::cli) p99_ms: f64,
    pub(in crate::cli) p999_ms: f64,
    pub(in crate::cli) max_ms: f64,
}

/// What the agent spent meanwhile.
#[derive(Debug, Serialize)]
pub(super) struct AgentReport {
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_gib: f64,
    pub(super) put_requests: f64,
    pub(super) put_requests_per_gib: f64,
    pub(super) get_requests: f64,
    pub(super) get_requests_per_gib: f64,
    pub(super) peak_memory_mib: f64,
}

/// A histogram of microseconds, up to an hour, three digits.
pub(in crate::cli) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds are valid")
}

/// Counts a latency.
pub(in crate::cli) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
}

impl Latency {
    /// The distribution of what was counted.
    pub(in crate::cli) fn of(what: &'static str, histogram: &Histogram<u64>) -> Self {
        let ms = |microseconds: u64| microseconds as f64 / 1000.0;
        let quantile = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            what,
            samples: histogram.len(),
            mean_ms: histogram.mean() / 1000.0,
            p50_ms: quantile(0.5),
            p90_ms: quantile(0.9),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            max_ms: ms(histogram.max()),
        }
    }
}

impl AgentReport {
    /// What was spent between two readings, for `bytes` moved.
    pub(super) fn between(
        before: Option<AgentNumbers>,
        after: Option<AgentNumbers>,
        bytes: u64,
    ) -> Option<Self> {
        let (before, after) = (before?, after?);
        let gib = (bytes as f64 / GIB).max(f64::MIN_POSITIVE);
        let per_gib = |spent: f64| if bytes == 0 { 0.0 } else { spent / gib };
        let cpu = after.cpu_seconds - before.cpu_seconds;
        let (puts, gets) = (after.puts - before.puts, after.gets - before.gets);
        Some(Self {
            cpu_seconds: cpu,
            cpu_seconds_per_gib: per_gib(cpu),
            put_requests: puts,
            put_requests_per_gib: per_gib(puts),
            get_requests: gets,
            get_requests_per_gib: per_gib(gets),
            peak_memory_mib: after.peak_memory_bytes / MIB,
        })
    }
}

impl Report {
    /// Throughput from bytes, records and time.
    pub(super) fn new(benchmark: &'static str, elapsed: Duration, records: u64, bytes: u64) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Self {
            benchmark,
            seconds,
            records,
            failed: 0,
            first_error: None,
            bytes,
            mib_per_second: bytes as f64 / MIB / seconds,
            records_per_second: records as f64 / seconds,
            intended_records_per_second: None,
            latencies: Vec::new(),
            agent: None,
        }
    }

    /// Prints the report as asked for.
    pub(super) fn print(&self, common: &CommonArguments) -> Outcome {
        common.output.print(self, || self.table())
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["MEASURE", "VALUE"]);
        let mut row = |name: &str, value: String| {
            table.row([name.to_owned(), value]);
        };
        row("records", format!("{} in {:.2} s, {} failed", self.records, self.seconds, self.failed));
        if let Some(error) = &self.first_error {
            row("first error", error.clone());
        }
        row(
            "throughput",
            format!("{:.2} MiB/s, {:.0} records/s", self.mib_per_second, self.records_per_second),
        );
        for latency in &self.latencies {
            row(
                &format!("{} latency, ms", latency.what),
                format!(
                    "p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
                    latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
                ),
            );
        }
        if let Some(agent) = &self.agent {
            let cpu = format!("{:.2} s, {:.2} s/GiB", agent.cpu_seconds, agent.cpu_seconds_per_gib);
            row("agent CPU", cpu);
            row("agent PUT", format!("{:.0}, {:.1}/GiB", agent.put_requests, agent.put_requests_per_gib));
            row("agent GET", format!("{:.0}, {:.1}/GiB", agent.get_requests, agent.get_requests_per_gib));
            row("agent peak memory", format!("{:.0} MiB", agent.peak_memory_mib));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spending_is_per_gib() {
        let before = AgentNumbers { cpu_seconds: 1.0, puts: 10.0, gets: 0.0, peak_memory_bytes: 0.0 };
        let after = AgentNumbers { cpu_seconds: 2.0, puts: 74.0, gets: 1.0, peak_memory_bytes: MIB };
        let report = AgentReport::between(Some(before), Some(after), 1 << 29).expect("both were read");
        assert_eq!(report.cpu_seconds_per_gib, 2.0);
        assert_eq!(report.put_requests_per_gib, 128.0);
        assert_eq!(report.peak_memory_mib, 1.0);
        assert!(AgentReport::between(None, Some(after), 1).is_none());
        let idle = AgentReport::between(Some(before), Some(after), 0).expect("both were read");
        assert_eq!(idle.cpu_seconds_per_gib, 0.0);
    }

    #[test]
    fn latencies_are_in_milliseconds() {
        let mut histogram = histogram();
        for ms in 1..=1000 {
            record(&mut histogram, Duration::from_millis(ms));
        }
        let latency = Latency::of("x", &histogram);
        assert!((latency.p50_ms - 500.0).abs() < 1.0, "{latency:?}");
        assert!((latency.p99_ms - 990.0).abs() < 1.0, "{latency:?}");
        assert_eq!(latency.samples, 1000);
    }
}
