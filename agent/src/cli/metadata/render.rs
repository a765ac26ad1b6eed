//! What was found in the metadata, as a line for people or as one JSON object a line.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use penstock_metadata::inspect::{Fact, Facts, Inspected, Sink, Stopped, hex};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use std::io::{self, Write};

use super::super::output::Format;
use crate::cli::CommandError;

/// The longest name of a kind of row.
const KIND_COLUMNS: usize = 21;
/// So many of a list are shown to people.
const SHOWN: usize = 3;

/// Prints what is found, as it is found.
pub(super) struct Printer<W> {
    out: W,
    format: Format,
    bar: ProgressBar,
    corrupt: u64,
    failed: Option<io::Error>,
}

impl<W: Write + Send> Printer<W> {
    pub(super) fn new(out: W, format: Format) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
        let style = ProgressStyle::with_template("{elapsed_precise} {spinner} {pos} rows");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { out, format, bar, corrupt: 0, failed: None }
    }

    /// How many rows were corrupt.
    pub(super) fn finish(mut self) -> Result<u64, CommandError> {
        self.bar.finish_and_clear();
        match self.failed.take() {
            Some(error) => Err(error.into()),
            None => {
                self.out.flush()?;
                Ok(self.corrupt)
            }
        }
    }

    fn line(&mut self, found: &Inspected) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{}", text(found)),
            Format::Json => {
                serde_json::to_writer(&mut self.out, &Json(found)).map_err(io::Error::from)?;
                writeln!(self.out)
            }
        }
    }
}

impl<W: Write + Send> Sink for Printer<W> {
    fn put(&mut self, found: Inspected) -> Result<(), Stopped> {
        self.corrupt += u64::from(found.is_corrupt());
        self.line(&found).map_err(|error| {
            self.failed = Some(error);
            Stopped
        })
    }

    fn read(&mut self, rows: usize) {
        self.bar.inc(rows as u64);
    }
}

/// One line. Control characters are replaced: names in the metadata must not steer the terminal.
fn text(found: &Inspected) -> String {
    let line = match found {
        Inspected::Row { kind, facts } => format!("{kind:KIND_COLUMNS$} {}", facts_text(facts)),
        Inspected::Corrupt { kind, reason, key, value } => {
            format!("{:KIND_COLUMNS$} {kind}: {reason}: key={} value={}", "CORRUPT", hex(key), hex(value))
        }
    };
    line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

fn facts_text(facts: &Facts) -> String {
    let facts: Vec<String> =
        facts.iter().map(|(name, fact)| format!("{}={}", joined(name), fact_text(fact))).collect();
    facts.join(" ")
}

fn fact_text(fact: &Fact) -> String {
    match fact {
        Fact::Signed(value) => value.to_string(),
        Fact::Unsigned(value) => value.to_string(),
        Fact::Flag(value) => value.to_string(),
        Fact::Text(value) if value.is_empty() || value.contains([' ', '"', '=']) => format!("{value:?}"),
        Fact::Text(value) => value.clone(),
        Fact::Map(facts) => format!("{{{}}}", facts_text(facts)),
        Fact::List(values) => {
            let mut shown: Vec<String> =
                values.iter().take(SHOWN).map(|facts| format!("{{{}}}", facts_text(facts))).collect();
            if values.len() > SHOWN {
                shown.push(format!("and {} more", values.len() - SHOWN));
            }
            format!("[{}]", shown.join(" "))
        }
    }
}

/// Names are words: keys of programs and of `name=value` have none but underscores between them.
fn joined(name: &str) -> String {
    name.replace(' ', "_")
}

struct Json<'a>(&'a Inspected);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Inspected::Row { kind, facts } => {
                map.serialize_entry("row", kind)?;
                for (name, fact) in facts.iter() {
                    map.serialize_entry(&joined(name), &JsonFact(fact))?;
                }
            }
            Inspected::Corrupt { kind, reason, key, value } => {
                map.serialize_entry("row", kind)?;
                map.serialize_entry("corrupt", reason)?;
                map.serialize_entry("key", &hex(key))?;
                map.serialize_entry("value", &hex(value))?;
            }
        }
        map.end()
    }
}

struct JsonFact<'a>(&'a Fact);

impl Serialize for JsonFact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Fact::Signed(value) => serializer.serialize_i64(*value),
            Fact::Unsigned(value) => serializer.serialize_u64(*value),
            Fact::Flag(value) => serializer.serialize_bool(*value),
            Fact::Text(value) => serializer.serialize_str(value),
            Fact::Map(facts) => JsonFacts(facts).serialize(serializer),
            Fact::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for facts in values {
                    list.serialize_element(&JsonFacts(facts))?;
                }
                list.end()
            }
        }
    }
}

struct JsonFacts<'a>(&'a Facts);

impl Serialize for JsonFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, fact) in self.0.iter() {
            map.serialize_entry(&joined(name), &JsonFact(fact))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Inspected {
        let item = |n: u64| Facts::default().unsigned("n", n);
        let facts = Facts::default()
            .text("name", "a\u{1b}[2J b")
            .signed("base offset", -1)
            .map("configs", Facts::default().text("retention.ms", "1"))
            .list("batches", (0..5).map(item).collect());
        Inspected::row("log row", facts)
    }

    fn printed(format: Format, found: &Inspected) -> (String, u64) {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format);
        printer.put(found.clone()).expect("a vector takes it");
        let corrupt = printer.finish().expect("it was written");
        (String::from_utf8(out).expect("text"), corrupt)
    }

    #[test]
    fn people_get_a_line_that_does_not_steer_their_terminal() {
        let (line, corrupt) = printed(Format::Text, &found());
        assert!(!line.contains('\u{1b}'), "{line}");
        let expected = "base_offset=-1 configs={retention.ms=1} batches=[{n=0} {n=1} {n=2} and 2 more]\n";
        assert!(line.starts_with("log row") && line.ends_with(expected), "{line}");
        assert_eq!(corrupt, 0);
    }

    #[test]
    fn programs_get_all_of_it() {
        let (line, _) = printed(Format::Json, &found());
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["row"], "log row");
        assert_eq!(json["base_offset"], -1);
        assert_eq!(json["configs"]["retention.ms"], "1");
        assert_eq!(json["batches"].as_array().map(Vec::len), Some(5));
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn corrupt_rows_are_counted_and_shown_in_full() {
        let corrupt = Inspected::Corrupt {
            kind: "seal",
            reason: "ends early".to_owned(),
            key: bytes::Bytes::from_static(b"\x11"),
            value: bytes::Bytes::from_static(b"\x01\xff"),
        };
        let (line, count) = printed(Format::Text, &corrupt);
        assert_eq!(line, "CORRUPT               seal: ends early: key=11 value=01ff\n");
        assert_eq!(count, 1);
        let (line, _) = printed(Format::Json, &corrupt);
        assert_eq!(line, "{\"row\":\"seal\",\"corrupt\":\"ends early\",\"key\":\"11\",\"value\":\"01ff\"}\n");
    }
}
