//! Requests written from the layouts of Kafka's protocol, and lies about their lengths.

use penstock_agent::wire::schema::{Field, Kind, Request};

/// A body, and where the lengths in it stand.
#[derive(Debug, Clone)]
pub struct Written {
    /// The body: small, well-formed, every string and array of one element.
    pub body: Vec<u8>,
    /// Its lengths and counts.
    pub lengths: Vec<Length>,
}

/// A length or count in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// The field, empty for a number of tagged fields.
    pub field: &'static str,
    /// Where it stands.
    pub at: usize,
    /// Its bytes: 2, 4, or 1 for a variable-length number.
    pub width: usize,
}

struct Scribe {
    written: Written,
    version: i16,
    flexible: bool,
}

/// Writes the smallest request that fills every field.
pub fn write(layout: &'static Request, version: i16) -> Written {
    let written = Written { body: Vec::new(), lengths: Vec::new() };
    let mut scribe = Scribe { written, version, flexible: layout.flexible.contains(version) };
    scribe.fields(layout.fields);
    scribe.written
}

impl Written {
    /// The body with one length replaced by each of the lies that fit its place.
    pub fn lies(&self, length: Length) -> Vec<Vec<u8>> {
        let lies: Vec<Vec<u8>> = match length.width {
            1 => vec![vec![0xFF, 0xFF, 0xFF, 0xFF, 0x0F], vec![0x80, 0x80, 0x40], vec![0xFF; 12]],
            2 => [i16::MAX, -2, i16::MIN].map(|lie| lie.to_be_bytes().to_vec()).to_vec(),
            _ => [i32::MAX, 1_000_000, -2, i32::MIN].map(|lie| lie.to_be_bytes().to_vec()).to_vec(),
        };
        let (before, after) = (&self.body[..length.at], &self.body[length.at + length.width..]);
        lies.into_iter().map(|lie| [before, &lie, after].concat()).collect()
    }
}

impl Scribe {
    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let here = |field: &&Field| field.versions.contains(version) && !field.tagged.contains(version);
        for field in fields.iter().filter(here) {
            self.value(field.name, &field.kind, field.nullable.contains(version));
        }
        if self.flexible {
            self.length("", 0, 1);
        }
    }

    fn value(&mut self, name: &'static str, kind: &'static Kind, nullable: bool) {
        match kind {
            Kind::Fixed(size) => self.written.body.extend(std::iter::repeat_n(0, *size)),
            Kind::Text => self.content(name, 2),
            Kind::Binary => self.content(name, 4),
            Kind::Array(element) => {
                self.counted(name, 1, 4);
                self.value(name, element, false);
            }
            Kind::Struct(fields, _) => {
                if nullable {
                    self.written.body.push(1);
                }
                self.fields(fields);
            }
        }
    }

    fn content(&mut self, name: &'static str, width: usize) {
        self.counted(name, 1, width);
        self.written.body.push(b'x');
    }

    /// A length, one higher where it is of variable length.
    fn counted(&mut self, name: &'static str, count: u8, width: usize) {
        if self.flexible { self.length(name, count + 1, 1) } else { self.length(name, count, width) }
    }

    fn length(&mut self, field: &'static str, value: u8, width: usize) {
        self.written.lengths.push(Length { field, at: self.written.body.len(), width });
        self.written.body.extend(std::iter::repeat_n(0, width - 1));
        self.written.body.push(value);
    }
}
