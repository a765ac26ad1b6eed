//! Smaller failing cases: fewer kinds of faults, fewer clients, less time, as long as something is still found.

use crate::run::Order;
use crate::runner::run_one;
use crate::scenario::{KINDS, Scenario};

/// The smallest order found that still fails; `say` is told of each step.
pub fn shrink(order: &Order, mut say: impl FnMut(&str)) -> std::io::Result<Order> {
    let mut best = Order { print: false, ..order.clone() };
    let fails =
        |candidate: &Order| -> std::io::Result<bool> { Ok(!run_one(candidate)?.violations.is_empty()) };
    let mut seconds = Scenario::new(order.seed, &order.cuts).faults_for.as_secs().max(1);
    while seconds > 1 {
        let mut candidate = best.clone();
        candidate.cuts.seconds = Some(seconds / 2);
        if !fails(&candidate)? {
            break;
        }
        seconds /= 2;
        say(&format!("fails within {seconds} seconds of faults"));
        best = candidate;
    }
    for kind in KINDS {
        let mut candidate = best.clone();
        if candidate.cuts.without.insert((*kind).to_owned()) && fails(&candidate)? {
            say(&format!("fails without {kind}"));
            best = candidate;
        }
    }
    for client in clients(&best) {
        let mut candidate = best.clone();
        if candidate.cuts.without_clients.insert(client.clone()) && fails(&candidate)? {
            say(&format!("fails without {client}"));
            best = candidate;
        }
    }
    Ok(best)
}

fn clients(order: &Order) -> Vec<String> {
    let scenario = Scenario::new(order.seed, &order.cuts);
    let lives = if scenario.restore.is_some() { 2 } else { 1 };
    let kinds =
        [("p", scenario.producers.len()), ("c", scenario.consumers.len()), ("g", scenario.members.len())];
    let of_a_life = |life| {
        kinds.iter().flat_map(move |(kind, count)| {
            (0..*count).map(move |index| Scenario::client_name(kind, life, index))
        })
    };
    (0..lives).flat_map(of_a_life).collect()
}
