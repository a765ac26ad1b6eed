//! The reference page of Kafka's options of topics and brokers, generated from their tables.

use std::fmt::Write as _;

use crate::broker::{self, Mutability};
use crate::definition::{Definition, Support, Validator};
use crate::topic;

/// The page, as it stands in `docs/topic-configs.md`.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Options of topics\n\n");
    page.push_str("| Option | Class | Type | Default | Values | Inherits from | What it does |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for definition in topic::DEFINITIONS {
        let synonyms: Vec<String> =
            definition.synonyms.iter().map(|synonym| format!("`{}`", synonym.name)).collect();
        row(&mut page, &definition.option, &synonyms.join(", "));
    }
    page.push_str("\n## Options of brokers\n\n");
    page.push_str("| Option | Class | Type | Default | Values | At runtime | What it does |\n");
    page.push_str("|---|---|---|---|---|---|---|\n");
    for definition in broker::DEFINITIONS {
        let mutability = match definition.mutability {
            Mutability::ReadOnly => "no",
            Mutability::ClusterWide => "yes",
        };
        row(&mut page, &definition.option, mutability);
    }
    page
}

const INTRODUCTION: &str = "\
# Kafka's options of topics and brokers

<!-- Generated from the tables in config/src by `make docs`; a test fails when it is out of date. -->

Options have Kafka's names, types, defaults and ranges. Each is of one of these classes:

- **honoured**: it does what it says.
- **vacuous**: the storage gives no occasion for it. It is validated, kept and returned, and nothing depends on it.
- **not yet**: it is validated, kept and returned, and will be honoured by the jobs that delete and compact records,
  which this version doesn't have: no record is deleted by age, size or key.
- **refused**: any value but the default is refused with INVALID_CONFIG and the reason.

An option that isn't listed is refused: an unknown one of a topic as in Kafka, an unknown one of a broker too, where
Kafka would keep it for plugins.

A topic's value is its own, else that of the first option it inherits from that is set at the broker it is asked from,
else the default. A broker's value is its own set at runtime, else the cluster's set at runtime, else that of the
configuration file, the environment or a flag, else the default.
";

fn row(page: &mut String, option: &Definition, seventh: &str) {
    let default = match option.default {
        None => "none".to_owned(),
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    let values = match option.validator {
        Validator::Any => String::new(),
        validator => validator.to_string(),
    };
    let class = match option.support {
        Support::Refused(_) => "**refused**",
        Support::NotYet => "**not yet**",
        Support::Honoured | Support::Vacuous => option.support.name(),
    };
    let _ = writeln!(
        page,
        "| `{}` | {class} | {} | {default} | {values} | {seventh} | {} |",
        option.name,
        option.kind.name().to_ascii_lowercase(),
        option.documentation
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topic-configs.md");

    /// `PENSTOCK_WRITE_DOCS=1 cargo test` (which `make docs` runs) writes the page instead of comparing it.
    #[test]
    fn the_page_is_up_to_date() {
        let generated = markdown();
        if std::env::var_os("PENSTOCK_WRITE_DOCS").is_some() {
            std::fs::write(PAGE, &generated).expect("docs/ can be written");
        }
        let written = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(written == generated, "docs/topic-configs.md is out of date: run `make docs`");
    }

    #[test]
    fn cells_hold_no_bars() {
        let options = topic::DEFINITIONS.iter().map(|definition| &definition.option);
        let options = options.chain(broker::DEFINITIONS.iter().map(|definition| &definition.option));
        for option in options {
            assert!(!option.documentation.contains('|'), "{}", option.name);
            assert!(option.documentation.ends_with('.'), "{}", option.name);
        }
    }
}
