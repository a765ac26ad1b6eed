//! A topic's options: Kafka 4.1's, each honoured, vacuous or refused ([`Support`]), and the typed view of them that
//! the write and read paths use.
//!
//! Owns names, defaults, ranges and how a topic's effective options follow from the broker's and its own. The
//! reference page `docs/topic-configs.md` is generated from this table. Deliberately absent: where options are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::definition::{ConfigError, Definition, Value};

mod table;
#[cfg(test)]
mod tests;

pub use table::DEFINITIONS;

/// A topic option and the broker options it inherits from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicDefinition {
    /// The option itself.
    pub option: Definition,
    /// The broker options that give its default, the strongest first.
    pub synonyms: &'static [Synonym],
}

/// A broker option that gives the default of a topic option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker option.
    pub name: &'static str,
    /// How its text becomes the topic option's.
    pub conversion: Conversion,
}

/// How a broker option's text becomes a topic option's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// As it is.
    Same,
    /// A time in units of so many milliseconds; any time below zero is -1.
    Milliseconds(i64),
}

impl Synonym {
    /// The broker option's text as the topic option's; `None` if it can't be read.
    pub fn convert(&self, text: &str) -> Option<String> {
        match self.conversion {
            Conversion::Same => Some(text.to_owned()),
            Conversion::Milliseconds(unit) => {
                let number = text.trim().parse::<i64>().ok()?;
                Some(if number < 0 { -1 } else { number.saturating_mul(unit) }.to_string())
            }
        }
    }
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// They are deleted by age and size.
    pub delete: bool,
    /// All but the newest of each key are deleted.
    pub compact: bool,
}

/// How batches are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Without compression.
    Uncompressed,
    /// At a level of 1 to 9, or -1 for the codec's own default.
    Gzip(i32),
    /// There are no levels.
    Snappy,
    /// At a level of 1 to 17.
    Lz4(i32),
    /// At a level of -131072 to 22.
    Zstd(i32),
}

/// Whose clock a record's timestamp is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// A topic's options in force: the topic's own over the broker's over the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with the level that belongs to it.
    pub compression: Compression,
    /// `delete.retention.ms`: how long a compacted topic keeps tombstones.
    pub delete_retention: Duration,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag: Duration,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag: Duration,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `max.message.bytes`: of one batch, as the producer sent it.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far below the broker's clock a record's may be, in milliseconds.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far above the broker's clock a record's may be, in milliseconds.
    pub message_timestamp_after_max_ms: i64,
    /// `retention.ms`; `None`: for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes`, of each partition; `None`: as much as there is.
    pub retention_bytes: Option<u64>,
    /// `segment.ms`: in a compacted topic, what was written waits no longer to be compacted.
    pub segment: Duration,
    /// `segment.bytes`: in a compacted topic, as much of a partition doesn't wait to be compacted.
    pub segment_bytes: u64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::resolve(&BTreeMap::new(), &BTreeMap::new()).expect("the defaults are valid")
    }
}

impl TopicConfig {
    /// The options in force for a topic with `overrides` of its own on a broker whose topic defaults are
    /// `inherited` (by the topic options' names; what is missing has its own default).
    ///
    /// # Errors
    /// The first value that can't be read.
    pub fn resolve(
        inherited: &BTreeMap<String, String>,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let values = Values { inherited, overrides };
        let policies = values.list("cleanup.policy")?;
        Ok(Self {
            cleanup_policy: CleanupPolicy {
                delete: policies.iter().any(|policy| policy == "delete"),
                compact: policies.iter().any(|policy| policy == "compact"),
            },
            compression: values.compression()?,
            delete_retention: values.duration("delete.retention.ms")?,
            max_compaction_lag: values.duration("max.compaction.lag.ms")?,
            min_compaction_lag: values.duration("min.compaction.lag.ms")?,
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio")?,
            max_message_bytes: usize::try_from(values.integer("max.message.bytes")?).unwrap_or(0),
            message_timestamp_type: match values.string("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: values.integer("message.timestamp.before.max.ms")?,
            message_timestamp_after_max_ms: values.integer("message.timestamp.after.max.ms")?,
            retention: u64::try_from(values.integer("retention.ms")?).ok().map(Duration::from_millis),
            retention_bytes: u64::try_from(values.integer("retention.bytes")?).ok(),
            segment: values.duration("segment.ms")?,
            segment_bytes: u64::try_from(values.integer("segment.bytes")?).unwrap_or(u64::MAX),
        })
    }
}

/// The definition of the topic option `name`.
pub fn definition(name: &str) -> Option<&'static TopicDefinition> {
    let found = DEFINITIONS.binary_search_by(|definition| definition.option.name.cmp(name)).ok()?;
    DEFINITIONS.get(found)
}

/// Checks the options that a topic is to have: names, values, and that they don't exclude one another.
///
/// # Errors
/// The first one that is wrong, by name.
pub fn validate(
    inherited: &BTreeMap<String, String>,
    overrides: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        let definition =
            definition(name).ok_or_else(|| ConfigError::UnknownTopicConfig { name: name.clone() })?;
        definition.option.parse(value)?;
    }
    let values = Values { inherited, overrides };
    let least = values.integer("min.compaction.lag.ms")?;
    let most = values.integer("max.compaction.lag.ms")?;
    if least > most {
        return Err(ConfigError::Conflict {
            reason: format!(
                "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
            ),
        });
    }
    Ok(())
}

struct Values<'a> {
    inherited: &'a BTreeMap<String, String>,
    overrides: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    fn value(&self, name: &str) -> Result<Value, ConfigError> {
        let definition =
            definition(name).ok_or_else(|| ConfigError::UnknownTopicConfig { name: name.to_owned() })?;
        let text = self.overrides.get(name).or_else(|| self.inherited.get(name)).map(String::as_str);
        definition.option.parse(text.or(definition.option.default).unwrap_or_default())
    }

    fn mistyped(name: &str, value: &Value) -> ConfigError {
        ConfigError::InvalidValue {
            name: name.to_owned(),
            value: value.to_string(),
            reason: "Unexpected type".to_owned(),
        }
    }

    fn integer(&self, name: &str) -> Result<i64, ConfigError> {
        match self.value(name)? {
            Value::Integer(number) => Ok(number),
            value => Err(Self::mistyped(name, &value)),
        }
    }

    fn duration(&self, name: &str) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(u64::try_from(self.integer(name)?).unwrap_or(0)))
    }

    fn double(&self, name: &str) -> Result<f64, ConfigError> {
        match self.value(name)? {
            Value::Double(number) => Ok(number),
            value => Err(Self::mistyped(name, &value)),
        }
    }

    fn string(&self, name: &str) -> Result<String, ConfigError> {
        match self.value(name)? {
            Value::String(text) => Ok(text),
            value => Err(Self::mistyped(name, &value)),
        }
    }

    fn list(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(name)? {
            Value::List(items) => Ok(items),
            value => Err(Self::mistyped(name, &value)),
        }
    }

    fn compression(&self) -> Result<Compression, ConfigError> {
        let level = |name| Ok(i32::try_from(self.integer(name)?).unwrap_or(-1));
        Ok(match self.string("compression.type")?.as_str() {
            "uncompressed" => Compression::Uncompressed,
            "gzip" => Compression::Gzip(level("compression.gzip.level")?),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4(level("compression.lz4.level")?),
            "zstd" => Compression::Zstd(level("compression.zstd.level")?),
            _ => Compression::Producer,
        })
    }
}
