//! One seed gives one history, byte for byte: in two runs of one process, and in two processes.

use std::process::Command;

const SEEDS: [u64; 3] = [1, 7, 20];

fn simulation(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock-simulation"))
        .args(arguments)
        .output()
        .expect("the simulation runs");
    String::from_utf8(output.stdout).expect("a history is text")
}

/// The history of a seed, as it is printed.
fn history(seed: u64) -> String {
    let text = simulation(&["--seed", &seed.to_string()]);
    // What it cost is measured in real time.
    let lines = text.lines().map(|line| line.split(" virtual seconds in ").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn one_seed_gives_one_history_in_two_processes() {
    for seed in SEEDS {
        let (first, second) = (history(seed), history(seed));
        assert!(first.lines().count() > 100, "seed {seed}: {first}");
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert!(first == second, "seed {seed}: one history is longer");
    }
}

#[test]
fn one_seed_gives_one_history_in_one_process() {
    let said = simulation(&["--seeds", "6", "--twice"]);
    assert!(said.contains("6 seeds ran twice"), "{said}");
    assert!(!said.contains("another history"), "{said}");
}

#[test]
fn another_seed_gives_another_history() {
    let hash = |seed: u64| {
        let said = simulation(&["--quiet", "--seed", &seed.to_string()]);
        let line = said.lines().find(|line| line.contains(", hash ")).expect("a hash is told").to_owned();
        line.split(", hash ").nth(1).and_then(|rest| rest.split(',').next().map(str::to_owned))
    };
    assert!(hash(SEEDS[0]).is_some());
    assert_ne!(hash(SEEDS[0]), hash(SEEDS[1]));
}
