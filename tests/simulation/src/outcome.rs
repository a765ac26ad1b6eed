//! What came of a seed, as a child tells its parent: a line for each fact.

use std::time::Duration;

use crate::process::Ended;
use crate::trace::Summary;

/// What came of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What must not be, and was.
    pub violations: Vec<String>,
    /// The history.
    pub hash: u64,
    /// Lines of the history.
    pub lines: u64,
    /// What was counted.
    pub counts: Vec<(String, u64)>,
    /// Virtual time.
    pub elapsed: Duration,
    /// Real time, as the parent saw it.
    pub took: Duration,
}

impl Outcome {
    /// What was found in a history.
    pub fn new(violations: Vec<String>, summary: &Summary, elapsed: Duration) -> Self {
        let counts = summary.counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Self { violations, hash: summary.hash, lines: summary.lines, counts, elapsed, took: Duration::ZERO }
    }

    /// As lines.
    pub fn encode(&self) -> String {
        let mut text =
            format!("hash\t{}\nlines\t{}\nelapsed\t{}\n", self.hash, self.lines, self.elapsed.as_millis());
        for (name, count) in &self.counts {
            text.push_str(&format!("count\t{count}\t{name}\n"));
        }
        for violation in &self.violations {
            text.push_str(&format!("violation\t{}\n", violation.replace('\n', " | ")));
        }
        text.push_str("end\n");
        text
    }

    /// What a child said, and how it ended.
    pub fn of(ended: &Ended) -> Self {
        let text = String::from_utf8_lossy(&ended.said);
        let mut outcome = Self { took: ended.took, ..Self::default() };
        let mut whole = false;
        for line in text.lines() {
            let (kind, rest) = line.split_once('\t').unwrap_or((line, ""));
            match kind {
                "hash" => outcome.hash = rest.parse().unwrap_or_default(),
                "lines" => outcome.lines = rest.parse().unwrap_or_default(),
                "elapsed" => outcome.elapsed = Duration::from_millis(rest.parse().unwrap_or_default()),
                "count" => {
                    let (count, name) = rest.split_once('\t').unwrap_or_default();
                    outcome.counts.push((name.to_owned(), count.parse().unwrap_or_default()));
                }
                "violation" => outcome.violations.push(rest.to_owned()),
                "end" => whole = true,
                _ => {}
            }
        }
        if let Some(died) = &ended.died {
            outcome.violations.push(format!("the process {died}"));
        } else if !whole {
            outcome.violations.push("the process said nothing".to_owned());
        }
        outcome
    }
}
