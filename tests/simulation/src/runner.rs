//! Many seeds, as many at a time as there are cores for.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::process::{self, Child};
use crate::run::{self, Order};

/// A seed that takes longer than that of real time hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(300);

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Report {
    /// Seeds that ran.
    pub seeds: u64,
    /// Those that found something.
    pub failed: Vec<(u64, Outcome)>,
    /// What was counted.
    pub counts: BTreeMap<String, u64>,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Real time of all seeds together.
    pub cost: Duration,
}

/// When to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// After so many seeds.
    pub seeds: Option<u64>,
    /// At that time.
    pub until: Option<Instant>,
    /// Once something was found.
    pub at_first: bool,
}

/// Runs the seeds from `order`'s on.
pub fn run_seeds(order: &Order, jobs: usize, bounds: Bounds, quiet: bool) -> std::io::Result<Report> {
    let begun = process::now();
    let mut report = Report::default();
    let (mut children, mut running): (Vec<Child>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut next = order.seed;
    let mut shown = begun;
    loop {
        let over = bounds.until.is_some_and(|until| process::now() >= until)
            || bounds.seeds.is_some_and(|seeds| next - order.seed >= seeds)
            || (bounds.at_first && !report.failed.is_empty());
        if !over && children.len() < jobs {
            children.push(run::spawn(&Order { seed: next, ..order.clone() })?);
            running.push(next);
            next += 1;
            continue;
        }
        if children.is_empty() {
            break;
        }
        let (index, ended) = process::wait_any(&mut children, HANGS_AFTER)?;
        let seed = running.remove(index);
        report.take(seed, Outcome::of(&ended), order, quiet);
        if !quiet
            && shown.elapsed() > Duration::from_secs(if std::io::stderr().is_terminal() { 1 } else { 30 })
        {
            shown = process::now();
            report.show_progress(begun.elapsed(), bounds.seeds);
        }
    }
    report.failed.sort_by_key(|(seed, _)| *seed);
    Ok(report)
}

impl Report {
    fn take(&mut self, seed: u64, outcome: Outcome, order: &Order, quiet: bool) {
        self.seeds += 1;
        self.virtual_time += outcome.elapsed;
        self.cost += outcome.took;
        for (name, count) in &outcome.counts {
            *self.counts.entry(name.clone()).or_insert(0) += count;
        }
        if outcome.violations.is_empty() {
            return;
        }
        if !quiet {
            println!("seed {seed}: {}", outcome.violations[0]);
            println!("  replay: {}", command(&Order { seed, ..order.clone() }));
            let _ = std::io::stdout().flush();
        }
        self.failed.push((seed, outcome));
    }

    fn show_progress(&self, elapsed: Duration, seeds: Option<u64>) {
        let of = seeds.map_or(String::new(), |seeds| format!(" of {seeds}"));
        eprintln!(
            "{}{of} seeds, {} violations, {:.1} virtual hours, {:.1} seeds/s",
            self.seeds,
            self.failed.len(),
            self.virtual_time.as_secs_f64() / 3600.0,
            self.seeds as f64 / elapsed.as_secs_f64(),
        );
    }

    /// Figures, and the last line.
    pub fn show(&self) {
        println!("\nof all seeds:");
        for (name, count) in &self.counts {
            println!("  {count:>12} {name}");
        }
        let seeds = self.seeds.max(1) as f64;
        println!("  {:>12.2} virtual hours", self.virtual_time.as_secs_f64() / 3600.0);
        println!("  {:>12.3} seconds of a core a seed", self.cost.as_secs_f64() / seeds);
        println!("{} seeds, {} violations", self.seeds, self.failed.len());
    }
}

/// The command that runs an order.
pub fn command(order: &Order) -> String {
    let mut command = format!("cargo run --release -p penstock-simulation -- --seed {}", order.seed);
    if let Some(planted) = &order.planted {
        command.push_str(&format!(" --planted {planted}"));
    }
    if !order.cuts.with.is_empty() {
        let kinds: Vec<&str> = order.cuts.with.iter().map(String::as_str).collect();
        command.push_str(&format!(" --with {}", kinds.join(",")));
    }
    if !order.cuts.without.is_empty() {
        let kinds: Vec<&str> = order.cuts.without.iter().map(String::as_str).collect();
        command.push_str(&format!(" --without {}", kinds.join(",")));
    }
    if !order.cuts.without_clients.is_empty() {
        let clients: Vec<&str> = order.cuts.without_clients.iter().map(String::as_str).collect();
        command.push_str(&format!(" --without-clients {}", clients.join(",")));
    }
    if let Some(seconds) = order.cuts.seconds {
        command.push_str(&format!(" --seconds {seconds}"));
    }
    command
}

/// Runs one order to its end.
pub fn run_one(order: &Order) -> std::io::Result<Outcome> {
    let mut children = vec![run::spawn(order)?];
    let (_, ended) = process::wait_any(&mut children, HANGS_AFTER)?;
    Ok(Outcome::of(&ended))
}
