//! The reference page of all options, generated from their declarations.

use std::fmt::Write as _;

use crate::config::AgentConfig;
use crate::options::Definition;

/// The page, as it stands in `docs/configuration.md`.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for (title, about, definitions) in AgentConfig::components() {
        let _ = write!(page, "\n## {title}\n\n{}\n", paragraph(about));
        for definition in definitions {
            page.push_str(&section(definition));
        }
    }
    page
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the declarations in config/src by `make docs`; a test fails when it is out of date. -->

An agent (`penstock agent`, `penstock dev`) takes each option from, the later ones winning:

1. its default,
2. the configuration file: `--config FILE` or `PENSTOCK_CONFIG`, TOML, `flush.interval.ms = 5` or the same in tables,
3. the environment: `PENSTOCK_` and the key in capitals with underscores, `PENSTOCK_FLUSH_INTERVAL_MS=5`,
4. flags: `--set flush.interval.ms=5`, or the flag of that option where it has one.

An unknown key is an error. What was set, and where, is printed at start; secrets are not.

Sizes are bytes, or have a unit: `8388608`, `8MiB`, `8MB`. Durations are milliseconds, or have a unit: `250`, `250ms`,
`30s`, `10min`.

Beside the options below, Kafka's own broker options (`num.partitions`, `auto.create.topics.enable`, …) can be set in
the same places under Kafka's names. Many of them, and the options of topics, can also be changed while the cluster
runs, as in Kafka: `penstock configs`, `kafka-configs.sh`.
";

fn section(definition: &Definition) -> String {
    let mut row = format!("\n### `{}`\n\n{}\n\n", definition.key, paragraph(definition.description));
    let default =
        if definition.default.is_empty() { "none".into() } else { format!("`{}`", definition.default) };
    let _ = write!(row, "- {}", definition.value_type);
    if !definition.unit.is_empty() {
        let _ = write!(row, ", {}", definition.unit);
    }
    let _ = write!(row, "; default {default}");
    if let Some((least, most)) = definition.range {
        let _ = write!(row, "; `{least}` to `{most}`");
    }
    let _ = writeln!(row, "; `{}`", definition.variable());
    row
}

fn paragraph(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");

    /// `PENSTOCK_WRITE_DOCS=1 cargo test` (which `make docs` runs) writes the page instead of comparing it.
    #[test]
    fn the_page_is_up_to_date() {
        let generated = markdown();
        if std::env::var_os("PENSTOCK_WRITE_DOCS").is_some() {
            std::fs::write(PAGE, &generated).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(written == generated, "docs/configuration.md is out of date: run `make docs`");
    }

    #[test]
    fn every_option_says_what_follows_from_it() {
        for definition in AgentConfig::definitions() {
            let text = paragraph(definition.description);
            assert!(text.len() > 15 && text.trim_end().ends_with('.'), "{}: {text}", definition.key);
        }
    }
}
