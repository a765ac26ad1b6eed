//! The history of a run: every line enters a hash, and is kept where somebody wants to read it.
//!
//! One process runs one seed, so the history is the process's. Two runs of a seed are the same if their hashes are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ambient;

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

struct Trace {
    begun: Instant,
    hash: u64,
    lines: u64,
    print: bool,
    line: String,
    counts: BTreeMap<&'static str, u64>,
}

/// What is left of a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Of all lines.
    pub hash: u64,
    /// How many there were.
    pub lines: u64,
    /// What was counted.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Begins a history now; `print` writes its lines to standard output as they come.
pub fn begin(print: bool) {
    let (counts, line) = (BTreeMap::new(), String::new());
    let begun = Instant::now();
    *TRACE.lock() = Some(Trace { begun, hash: 0xCBF2_9CE4_8422_2325, lines: 0, print, line, counts });
    keep_time();
}

/// The virtual time since the beginning.
pub fn elapsed() -> Duration {
    TRACE.lock().as_ref().map_or(Duration::ZERO, |trace| trace.begun.elapsed())
}

/// Makes the process's clock show the virtual time.
pub fn keep_time() {
    ambient::set_elapsed(elapsed());
}

/// Counts something of a kind.
pub fn count(kind: &'static str) {
    count_by(kind, 1);
}

/// Counts several.
pub fn count_by(kind: &'static str, by: u64) {
    if let Some(trace) = TRACE.lock().as_mut() {
        *trace.counts.entry(kind).or_insert(0) += by;
    }
}

/// A line of the history.
pub fn line(actor: &dyn std::fmt::Display, text: std::fmt::Arguments<'_>) {
    let mut trace = TRACE.lock();
    let Some(trace) = trace.as_mut() else { return };
    let elapsed = trace.begun.elapsed();
    trace.line.clear();
    let _ = write!(trace.line, "{:>4}.{:03} {actor:<10} {text}", elapsed.as_secs(), elapsed.subsec_millis(),);
    for byte in trace.line.bytes() {
        trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    trace.lines += 1;
    if trace.print {
        println!("{}", trace.line);
    }
}

/// Whether lines are printed.
pub fn is_printed() -> bool {
    TRACE.try_lock().is_some_and(|trace| trace.as_ref().is_some_and(|trace| trace.print))
}

/// Hash and counts so far.
pub fn summary() -> Summary {
    let trace = TRACE.lock();
    trace.as_ref().map_or_else(Summary::default, |trace| Summary {
        hash: trace.hash,
        lines: trace.lines,
        counts: trace.counts.clone(),
    })
}

/// A line of the history: who, then what, as in `format!`.
#[macro_export]
macro_rules! note {
    ($actor:expr, $($text:tt)*) => { $crate::trace::line(&$actor, format_args!($($text)*)) };
}

/// Prints what agents log, among the history; or not. Either way as much is drawn for it: maps that are made later have the same
/// order.
pub fn take_logs(are_printed: bool) {
    let named = std::env::var(tracing_subscriber::EnvFilter::DEFAULT_ENV).ok();
    let filter = if are_printed { named.unwrap_or_else(|| "info".to_owned()) } else { "off".to_owned() };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_timer(VirtualTime)
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct VirtualTime;

impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let elapsed = elapsed();
        let life = penstock_types::simulated::Life::current();
        let name = life.as_ref().map_or("-", |life| life.name());
        write!(writer, "{:>4}.{:03} {name:<10} log", elapsed.as_secs(), elapsed.subsec_millis())
    }
}
