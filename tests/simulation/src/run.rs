//! A seed, from beginning to end, in a process that runs nothing else.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use parking_lot::Mutex;

use crate::outcome::Outcome;
use crate::process::{self, Child};
use crate::scenario::{Cuts, Scenario};
use crate::world::World;
use crate::{ambient, note, trace};

/// No run takes longer: what does, hangs.
const ENDS_WITHIN: Duration = Duration::from_secs(6 * 3_600);

/// What is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The seed.
    pub seed: u64,
    /// What is left out.
    pub cuts: Cuts,
    /// The bug that is planted, if one is.
    pub planted: Option<String>,
    /// Whether the history is printed.
    pub print: bool,
}

/// Where a panicking child says so.
static SAYS: Mutex<Option<File>> = Mutex::new(None);

/// Runs a seed in a child.
pub fn spawn(order: &Order) -> std::io::Result<Child> {
    process::spawn(|pipe| {
        *SAYS.lock() = pipe.try_clone().ok();
        std::panic::set_hook(Box::new(panicked));
        let outcome = run(order);
        let mut pipe = pipe;
        let _ = pipe.write_all(outcome.encode().as_bytes());
    })
}

/// A panic is what must not be, wherever it is; the child says it and ends.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("something");
    let violation = format!("panic at {place}: {what}");
    if trace::is_printed() {
        println!("{violation}\n{}", std::backtrace::Backtrace::force_capture());
    }
    // Whoever panicked may hold the history's lock.
    let outcome = Outcome { violations: vec![violation], ..Outcome::default() };
    if let Some(mut pipe) = SAYS.try_lock().and_then(|mut says| says.take()) {
        let _ = pipe.write_all(outcome.encode().as_bytes());
    }
    process::leave(0)
}

/// Runs a seed. Once in a process: clock and chance are the seed's from then on.
fn run(order: &Order) -> Outcome {
    if let Some(planted) = &order.planted {
        penstock_types::plant(planted);
    }
    ambient::simulate(order.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    let scenario = Scenario::new(order.seed, &order.cuts);
    runtime.block_on(async move {
        trace::begin(order.print);
        trace::take_logs(order.print);
        if order.print {
            println!("{scenario:#?}");
        }
        let (agents, topics) = (scenario.agents.len(), scenario.topics.len());
        note!("world", "seed {}: {agents} agents, {topics} topics", order.seed);
        let ended = tokio::time::timeout(ENDS_WITHIN, World::new(scenario).run()).await;
        let violations = ended.unwrap_or_else(|_| vec!["the run does not end".to_owned()]);
        let outcome = Outcome::new(violations, &trace::summary(), trace::elapsed());
        note!("world", "ends");
        outcome
    })
}
