//! A partition's packed index, value by value. Pure.

use penstock_metadata::fold::LogEntry;
use penstock_metadata::keys::index::PackedIndex;
use penstock_metadata::keys::log::LogRow;
use penstock_types::{BatchPosition, Offset, TimestampMs};

use super::log::{Met, Problem, Visitor};
use super::report::Kind;

/// Problems of one partition that are told.
const TOLD: usize = 20;

/// Values of an index in their order, in pages of which each is of one version, and begins with the last value of the one
/// before.
#[derive(Debug)]
pub(super) struct IndexCheck {
    sealed: Offset,
    has_holes: bool,
    log_start: Offset,
    trimmed: Offset,
    /// The last value that was looked at.
    last: Option<Offset>,
    /// Whether the next value is the first of a page.
    begins_page: bool,
    end: Offset,
    at: Option<BatchPosition>,
    so_far: TimestampMs,
    bytes: u64,
    values: u64,
    is_over: bool,
    problems: Vec<Problem>,
}

impl IndexCheck {
    /// Of an index that was sealed up to `sealed`: what lies behind is not looked at.
    pub(super) fn new(sealed: Offset, has_holes: bool) -> Self {
        Self {
            sealed,
            has_holes,
            log_start: Offset::ZERO,
            trimmed: Offset::ZERO,
            last: None,
            begins_page: true,
            end: Offset::ZERO,
            at: None,
            so_far: TimestampMs::MIN,
            bytes: 0,
            values: 0,
            is_over: false,
            problems: Vec::new(),
        }
    }

    /// The next page, which is of a version at which the log began there and was trimmed so far.
    pub(super) fn page(&mut self, log_start: Offset, trimmed: Offset) {
        (self.log_start, self.trimmed, self.begins_page) = (log_start, trimmed, true);
    }

    /// Whether the seal is reached.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Values so far.
    pub(super) fn values(&self) -> u64 {
        self.values
    }

    fn wrong(&mut self, kind: Kind, offset: Offset, detail: String) {
        if self.problems.len() < TOLD {
            self.problems.push(Problem::new(kind, Some(offset), detail));
        }
    }

    /// The next value, under the key that names `last`.
    pub(super) fn value(&mut self, last: Offset, value: &PackedIndex, visitor: Visitor<'_>) {
        let begins_page = std::mem::replace(&mut self.begins_page, false);
        if begins_page && self.last == Some(last) {
            // It was looked at already, maybe with other places of bytes.
            return;
        }
        self.last = Some(last);
        self.values += 1;
        if value.last_offset() != Some(last) {
            let found = value.last_offset().map_or(-1, Offset::get);
            self.wrong(Kind::IndexOrder, last, format!("the value under this key ends at offset {found}"));
        }
        if last < self.trimmed {
            let detail = format!("it was trimmed up to {}", self.trimmed);
            self.wrong(Kind::Trimmed, last, detail);
        }
        self.time(value);
        for entry in &value.entries {
            if entry.base_offset >= self.sealed {
                self.is_over = true;
                break;
            }
            // A value may have been joined with those before it since these were read.
            if begins_page && entry.end_offset() <= self.end {
                continue;
            }
            self.entry(entry);
            visitor(Met::Entry(entry));
        }
    }

    fn time(&mut self, value: &PackedIndex) {
        let batches = value.entries.iter().flat_map(LogEntry::batches);
        let largest = batches.map(|batch| batch.facts.max_timestamp).max().unwrap_or(TimestampMs::MIN);
        let least = largest.max(self.so_far);
        if value.max_timestamp_so_far < least {
            let offset = value.entries.first().map_or(Offset::ZERO, |entry| entry.base_offset);
            let said = value.max_timestamp_so_far;
            self.wrong(
                Kind::IndexTime,
                offset,
                format!("the largest timestamp so far is {least}, not {said}"),
            );
        }
        self.so_far = value.max_timestamp_so_far.max(self.so_far);
    }

    fn entry(&mut self, entry: &LogEntry) {
        let base = entry.base_offset;
        if base < self.end {
            self.wrong(Kind::IndexOrder, base, format!("the entry before it ends at {}", self.end));
        } else if base > self.end && !self.has_holes && base > self.log_start {
            let from = self.end.max(self.log_start);
            self.wrong(Kind::IndexHole, from, format!("nothing up to {base}"));
        }
        if self.at.is_some_and(|at| entry.at <= at) {
            self.wrong(
                Kind::IndexOrder,
                base,
                "its place in the order of commits isn't behind the one before".to_owned(),
            );
        }
        self.at = Some(entry.batches().last().map_or(entry.at, |batch| batch.at));
        self.end = entry.end_offset();
        if let LogRow::Data { batches, .. } = &entry.row {
            self.bytes += batches.iter().map(|batch| u64::from(batch.length)).sum::<u64>();
        }
    }

    /// The end, with what was found: the bytes of all entries.
    pub(super) fn end(mut self, log_start: Offset, problems: &mut Vec<Problem>) -> u64 {
        if self.end < self.sealed && !self.has_holes && log_start < self.sealed {
            let (from, sealed) = (self.end.max(log_start), self.sealed);
            self.wrong(Kind::IndexHole, from, format!("nothing up to {sealed}, where the seal is"));
        }
        problems.append(&mut self.problems);
        self.bytes
    }
}
