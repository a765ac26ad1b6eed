//! What is told of a row: names and values, in an order for people.

use std::fmt::Display;

use bytes::Bytes;

use crate::codec::Corrupt;
use crate::kv::Row;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A number that may be negative: an offset, a time in ms.
    Signed(i64),
    /// A number that is not: a version, a count.
    Unsigned(u64),
    /// Text: also ids, positions in the log (`incarnation/version.order/n`), bytes in hexadecimal.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Names and values of its own.
    Map(Facts),
    /// Several of a kind.
    List(Vec<Facts>),
}

/// Names and values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts(Vec<(String, Fact)>);

impl Facts {
    /// In the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, fact)| fact)
    }

    /// With a number.
    #[must_use]
    pub fn signed(self, name: &str, value: impl Into<i64>) -> Self {
        self.with(name, Fact::Signed(value.into()))
    }
    /// With a number that is not negative.
    #[must_use]
    pub fn unsigned(self, name: &str, value: impl Into<u64>) -> Self {
        self.with(name, Fact::Unsigned(value.into()))
    }
    /// With how many there are.
    #[must_use]
    pub fn count(self, name: &str, value: usize) -> Self {
        self.with(name, Fact::Unsigned(value as u64))
    }
    /// With text.
    #[must_use]
    pub fn text(self, name: &str, value: impl Display) -> Self {
        self.with(name, Fact::Text(value.to_string()))
    }
    /// With text, if there is any.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }
    /// With yes or no.
    #[must_use]
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.with(name, Fact::Flag(value))
    }
    /// With names and values of its own.
    #[must_use]
    pub fn map(self, name: &str, values: Self) -> Self {
        self.with(name, Fact::Map(values))
    }
    /// With a list.
    #[must_use]
    pub fn list(self, name: &str, values: Vec<Self>) -> Self {
        self.with(name, Fact::List(values))
    }

    fn with(mut self, name: &str, fact: Fact) -> Self {
        self.0.push((name.to_owned(), fact));
        self
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// What was read.
    Row {
        /// What it is.
        kind: &'static str,
        /// What it says.
        facts: Facts,
    },
    /// What can't be read, or contradicts itself.
    Corrupt {
        /// What it should be.
        kind: &'static str,
        /// What is wrong.
        reason: String,
        /// Its key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
}

impl Inspected {
    /// What was read.
    pub fn row(kind: &'static str, facts: Facts) -> Self {
        Self::Row { kind, facts }
    }

    /// A row that can't be decoded.
    pub fn corrupt(row: &Row, corrupt: &Corrupt) -> Self {
        Self::Corrupt {
            kind: corrupt.family,
            reason: corrupt.reason.to_owned(),
            key: row.key.clone(),
            value: row.value.clone(),
        }
    }

    /// Whether it can't be read.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}
