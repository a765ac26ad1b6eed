//! The command: runs seeds, replays one, shrinks it, plants bugs.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use penstock_simulation::outcome::Outcome;
use penstock_simulation::planted::{self, PLANTED};
use penstock_simulation::process;
use penstock_simulation::regressions::REGRESSIONS;
use penstock_simulation::run::Order;
use penstock_simulation::runner::{self, Bounds, command, run_one};
use penstock_simulation::scenario::{Cuts, KINDS};
use penstock_simulation::shrink::shrink;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole clusters under virtual time, each from a seed, and holds what clients see against what must be.
///
/// The last line is `N seeds, N violations`; the exit code is 1 if there was a violation.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs so many seeds.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, value_name = "K", default_value_t = 1)]
    from: u64,
    /// Runs seeds for so many seconds instead.
    #[arg(long, value_name = "SECONDS", conflicts_with = "seeds")]
    time: Option<u64>,
    /// Runs one seed and prints its history.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "time"])]
    seed: Option<u64>,
    /// Stops once something was found.
    #[arg(long)]
    first: bool,
    /// With --seed: prints what came of it, not its history.
    #[arg(long)]
    quiet: bool,
    /// With --seed: looks for a smaller case that fails, too.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Plants a bug.
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
    /// Lists the bugs that can be planted.
    #[arg(long)]
    list_planted: bool,
    /// Plants each bug, and fails if one is not found within its seeds.
    #[arg(long)]
    suite: bool,
    /// Runs each seed twice, and fails if the histories differ.
    #[arg(long)]
    twice: bool,
    /// Runs the seeds that once found a bug.
    #[arg(long)]
    regressions: bool,
    /// Seeds that run at the same time.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Kinds of faults that are not left to chance; `restore`, for example, is drawn in one seed of twelve.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    with: Vec<String>,
    /// Kinds of faults that are left out.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    without: Vec<String>,
    /// Clients that are left out, by name.
    #[arg(long, value_name = "CLIENT", value_delimiter = ',')]
    without_clients: Vec<String>,
    /// At most so many seconds of faults.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("penstock-simulation: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> std::io::Result<bool> {
    if arguments.list_planted {
        for planted in PLANTED {
            println!("{:<28} {:>5} seeds  {}", planted.name, planted.seeds, planted.breaks);
        }
        return Ok(true);
    }
    if let Some(name) = &arguments.planted
        && planted::find(name).is_none()
    {
        return Err(std::io::Error::other(format!("no planted bug {name}; --list-planted names them")));
    }
    let jobs = arguments
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .max(1);
    if arguments.suite {
        return suite(jobs);
    }
    if arguments.regressions {
        return regressions();
    }
    if let Some(kind) =
        arguments.with.iter().chain(&arguments.without).find(|it| !KINDS.contains(&it.as_str()))
    {
        return Err(std::io::Error::other(format!("no kind of fault {kind}: {}", KINDS.join(", "))));
    }
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
    let cuts = Cuts {
        with: set(&arguments.with),
        without: set(&arguments.without),
        without_clients: set(&arguments.without_clients),
        seconds: arguments.seconds,
    };
    let mut order = Order { seed: arguments.from, cuts, planted: arguments.planted.clone(), print: false };
    if let Some(seed) = arguments.seed {
        order.seed = seed;
        order.print = !arguments.quiet && !arguments.shrink;
        return one(&order, arguments.shrink);
    }
    if arguments.twice {
        return twice(&order, arguments.seeds.unwrap_or(10));
    }
    let until = arguments.time.map(|seconds| process::now() + Duration::from_secs(seconds));
    let seeds = if until.is_some() { None } else { Some(arguments.seeds.unwrap_or(100)) };
    let report = runner::run_seeds(&order, jobs, Bounds { seeds, until, at_first: arguments.first }, false)?;
    println!("\nseeds {} to {}", order.seed, order.seed + report.seeds.max(1) - 1);
    report.show();
    Ok(report.failed.is_empty())
}

fn one(order: &Order, shrinks: bool) -> std::io::Result<bool> {
    let outcome = run_one(order)?;
    show(&outcome);
    if shrinks && !outcome.violations.is_empty() {
        let smaller = shrink(order, |step| println!("{step}"))?;
        println!("smaller: {}", command(&smaller));
    }
    println!("1 seeds, {} violations", usize::from(!outcome.violations.is_empty()));
    Ok(outcome.violations.is_empty())
}

fn show(outcome: &Outcome) {
    println!();
    for (name, count) in &outcome.counts {
        println!("  {count:>12} {name}");
    }
    let (elapsed, took) = (outcome.elapsed.as_secs_f64(), outcome.took.as_secs_f64());
    println!(
        "{} lines, hash {:016x}, {elapsed:.1} virtual seconds in {took:.2} s",
        outcome.lines, outcome.hash
    );
    for violation in &outcome.violations {
        println!("VIOLATION: {violation}");
    }
}

/// Runs each seed twice.
fn twice(order: &Order, seeds: u64) -> std::io::Result<bool> {
    let mut others = 0;
    for seed in order.seed..order.seed + seeds {
        let order = Order { seed, ..order.clone() };
        let (first, second) = (run_one(&order)?, run_one(&order)?);
        if (first.hash, first.lines, &first.counts) != (second.hash, second.lines, &second.counts) {
            others += 1;
            println!("seed {seed} has another history the second time");
        }
    }
    println!("{seeds} seeds ran twice, {others} histories differ");
    Ok(others == 0)
}

fn set_of(kinds: &[&str]) -> BTreeSet<String> {
    kinds.iter().map(|kind| (*kind).to_owned()).collect()
}

/// Each planted bug is found.
fn suite(jobs: usize) -> std::io::Result<bool> {
    let mut missed = 0;
    for planted in PLANTED {
        if planted.seeds == 0 {
            println!("by hand {:<28} takes too many seeds", planted.name);
            continue;
        }
        let cuts = Cuts { with: set_of(planted.with), ..Cuts::default() };
        let order = Order { seed: 1, cuts, planted: Some(planted.name.to_owned()), print: false };
        let bounds = Bounds { seeds: Some(planted.seeds), until: None, at_first: true };
        let report = runner::run_seeds(&order, jobs, bounds, true)?;
        match report.failed.first() {
            Some((seed, outcome)) => {
                println!("found   {:<28} seed {seed:>4}: {}", planted.name, outcome.violations[0]);
            }
            None => {
                missed += 1;
                println!("MISSED  {:<28} in {} seeds", planted.name, planted.seeds);
            }
        }
    }
    let tried = PLANTED.iter().filter(|planted| planted.seeds > 0).count();
    println!("{tried} planted bugs, {missed} not found");
    Ok(missed == 0)
}

/// Seeds that once found a bug find none.
fn regressions() -> std::io::Result<bool> {
    let mut failed = 0;
    for regression in REGRESSIONS {
        let outcome = run_one(&regression.order())?;
        let verdict = if outcome.violations.is_empty() { "ok" } else { "FAILED" };
        println!("{verdict:<7} {} ({})", command(&regression.order()), regression.found);
        if !outcome.violations.is_empty() {
            failed += 1;
            show(&outcome);
        }
    }
    println!("{} seeds, {failed} violations", REGRESSIONS.len());
    Ok(failed == 0)
}
