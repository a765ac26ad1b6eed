//! How a record is printed.

use std::io::{self, Write};
use std::str::FromStr;

use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde_json::{Map, Value, json};

/// A line with fields of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, behind) = rest.split_at(at);
            push_text(&mut parts, before);
            let end = behind.find('}').ok_or("a { has no }")?;
            parts.push(match &behind[1..end] {
                "topic" => Part::Topic,
                "partition" => Part::Partition,
                "offset" => Part::Offset,
                "timestamp" => Part::Timestamp,
                "key" => Part::Key,
                "value" => Part::Value,
                "headers" => Part::Headers,
                other => return Err(format!("{{{other}}} is not a field of a record")),
            });
            rest = &behind[end + 1..];
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if text.is_empty() {
        return;
    }
    let mut unescaped = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, characters.as_str().chars().next()) {
            ('\\', Some('n')) => unescaped.push('\n'),
            ('\\', Some('t')) => unescaped.push('\t'),
            ('\\', Some('\\')) => unescaped.push('\\'),
            _ => {
                unescaped.push(character);
                continue;
            }
        }
        characters.next();
    }
    parts.push(Part::Text(unescaped));
}

impl Template {
    /// Writes a record.
    pub(super) fn write(&self, output: &mut impl Write, message: &BorrowedMessage<'_>) -> io::Result<()> {
        for part in &self.0 {
            match part {
                Part::Text(text) => output.write_all(text.as_bytes())?,
                Part::Topic => output.write_all(message.topic().as_bytes())?,
                Part::Partition => write!(output, "{}", message.partition())?,
                Part::Offset => write!(output, "{}", message.offset())?,
                Part::Timestamp => write!(output, "{}", message.timestamp().to_millis().unwrap_or(-1))?,
                Part::Key => output.write_all(message.key().unwrap_or_default())?,
                Part::Value => output.write_all(message.payload().unwrap_or_default())?,
                Part::Headers => write_headers(output, message)?,
            }
        }
        Ok(())
    }
}

fn write_headers(output: &mut impl Write, message: &BorrowedMessage<'_>) -> io::Result<()> {
    for (index, header) in message.headers().into_iter().flat_map(Headers::iter).enumerate() {
        if index > 0 {
            output.write_all(b",")?;
        }
        write!(output, "{}=", header.key)?;
        output.write_all(header.value.unwrap_or_default())?;
    }
    Ok(())
}

/// Writes a record as one JSON object a line. Bytes that are not UTF-8 are in hexadecimal, in a field of that name:
/// `value_hex` instead of `value`.
pub(super) fn write_json(output: &mut impl Write, message: &BorrowedMessage<'_>) -> io::Result<()> {
    let mut record = Map::new();
    record.insert("topic".into(), json!(message.topic()));
    record.insert("partition".into(), json!(message.partition()));
    record.insert("offset".into(), json!(message.offset()));
    record.insert("timestamp".into(), json!(message.timestamp().to_millis()));
    insert_bytes(&mut record, "key", message.key());
    insert_bytes(&mut record, "value", message.payload());
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers: Vec<Value> = headers
        .map(|header| {
            let mut object = Map::new();
            object.insert("key".into(), json!(header.key));
            insert_bytes(&mut object, "value", header.value);
            Value::Object(object)
        })
        .collect();
    record.insert("headers".into(), Value::Array(headers));
    writeln!(output, "{}", Value::Object(record))
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((Ok(text), _)) => object.insert(name.to_owned(), json!(text)),
        Some((Err(_), bytes)) => {
            let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), json!(hexadecimal))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read() {
        let template: Template = r"{key}\t{value}\\n!\n".parse().expect("valid");
        let expected = vec![Part::Key, Part::Text("\t".into()), Part::Value, Part::Text("\\n!\n".into())];
        assert_eq!(template, Template(expected));
        assert!("{key".parse::<Template>().is_err());
        assert!("{nothing}".parse::<Template>().is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_hexadecimal() {
        let mut object = Map::new();
        insert_bytes(&mut object, "key", None);
        insert_bytes(&mut object, "value", Some(&[0xFF, 0x01]));
        assert_eq!(Value::Object(object).to_string(), r#"{"key":null,"value_hex":"ff01"}"#);
    }
}
