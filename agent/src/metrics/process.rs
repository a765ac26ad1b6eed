//! What Linux tells about this process: CPU time, memory, open files. Elsewhere there is nothing to tell, and the
//! metrics show 0.

use std::fs;

use super::Metrics;
use super::definitions as metric;

/// Ticks per second in `/proc/PID/stat`: `USER_HZ`, 100 on every architecture that Rust's standard library knows.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the process's metrics; `started_ms` is when it started, since 1970.
pub fn register(metrics: &mut Metrics, started_ms: i64) {
    metrics.value(metric::PROCESS_CPU, cpu_seconds);
    metrics.value(metric::PROCESS_RESIDENT_MEMORY, || status_bytes("VmRSS:"));
    metrics.value(metric::PROCESS_RESIDENT_MEMORY_PEAK, || status_bytes("VmHWM:"));
    metrics.value(metric::PROCESS_OPEN_FILES, open_files);
    metrics.value(metric::PROCESS_MAX_FILES, max_files);
    metrics.value(metric::PROCESS_START, move || started_ms as f64 / 1000.0);
}

/// The process's CPU time so far.
pub fn cpu_seconds() -> f64 {
    read("stat").and_then(|text| parse_cpu(&text)).unwrap_or_default()
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// User and system time are fields 14 and 15; the second field, the command, may hold blanks and brackets.
fn parse_cpu(stat: &str) -> Option<f64> {
    let behind_command = &stat[stat.rfind(')')? + 1..];
    let mut fields = behind_command.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn status_bytes(name: &str) -> f64 {
    read("status").and_then(|text| parse_status(&text, name)).unwrap_or_default()
}

fn parse_status(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn open_files() -> f64 {
    fs::read_dir("/proc/self/fd").map(|entries| entries.count() as f64).unwrap_or_default()
}

/// The most files that the process may have open; 0 if the system does not tell.
pub fn max_files() -> f64 {
    let parse = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    read("limits").as_deref().and_then(parse).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_brackets_is_passed_over() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 9 1 2 3";
        assert_eq!(parse_cpu(stat), Some(3.0));
        assert_eq!(parse_cpu("7 (a"), None);
        assert_eq!(parse_cpu("7 (a) S"), None);
    }

    #[test]
    fn sizes_are_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_status(status, "VmRSS:"), Some(1024.0 * 1024.0));
        assert_eq!(parse_status(status, "VmPTE:"), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        // In this order: other tests of this process take memory meanwhile.
        let resident = status_bytes("VmRSS:");
        assert!(resident > 100_000.0);
        assert!(status_bytes("VmHWM:") >= resident);
        assert!(open_files() >= 3.0 && max_files() >= open_files());
    }
}
