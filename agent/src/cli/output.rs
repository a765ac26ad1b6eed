//! How results are printed: aligned columns for people, JSON for programs.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::CommandError;
use super::error::Outcome;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, for people
    Text,
    /// JSON, for programs
    Json,
}

/// How to print the result.
#[derive(Debug, Args)]
pub(super) struct OutputArguments {
    /// How to print the result
    #[arg(long, short = 'o', value_enum, default_value = "text")]
    pub(super) output: Format,
}

impl OutputArguments {
    /// Prints `rows` as a table, or all of `value` as JSON.
    pub(super) fn print<T: Serialize>(&self, value: &T, table: impl FnOnce() -> Table) -> Outcome {
        match self.output {
            Format::Text => io::stdout().lock().write_all(table().render().as_bytes())?,
            Format::Json => print_json(value)?,
        }
        Ok(())
    }

    /// Prints a line for people, or `value` as JSON.
    pub(super) fn print_line<T: Serialize>(&self, value: &T, line: &str) -> Outcome {
        match self.output {
            Format::Text => writeln!(io::stdout().lock(), "{line}")?,
            Format::Json => print_json(value)?,
        }
        Ok(())
    }
}

fn print_json<T: Serialize>(value: &T) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::Failed(format!("the result can't be written as JSON: {error}")))?;
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Rows in aligned columns.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    pub(super) fn new<const N: usize>(heads: [&str; N]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) -> &mut Self {
        self.rows.push(cells.into());
        self
    }

    /// The text. Control characters are replaced: a topic's or member's text must not steer the terminal.
    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width_of = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(width_of).max().unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let clean: String =
                    cell.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
                line.push_str(&format!("{clean:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_clean() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["a-long-name".into(), "1".into()]).row(["x\u{1b}[2J".into(), String::new()]);
        assert_eq!(table.render(), "NAME         N\na-long-name  1\nx\u{FFFD}[2J\n");
    }
}
