//! A broker's options under Kafka's names, in Kafka's layers: the broker's own dynamic ones over the cluster's
//! dynamic default over the static ones (file, environment, flags) over the defaults.
//!
//! Owns the table of broker options (those of Kafka 4.1 that mean something here or that tools ask for), the rules of
//! which may be changed at runtime, and the order in which DescribeConfigs lists where a value comes from.
//! Deliberately absent: how the dynamic layers are kept (the metadata crate's business) and the agent's options that
//! Kafka doesn't have.

use std::collections::BTreeMap;

use crate::definition::{ConfigError, Definition, Value};
use crate::topic;

mod table;
#[cfg(test)]
mod tests;

pub use table::DEFINITIONS;

/// Options and their texts.
pub type Layer = BTreeMap<String, String>;

/// Whether an option can be changed while brokers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// Only by a restart.
    ReadOnly,
    /// For the cluster or for one broker.
    ClusterWide,
}

/// A broker option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrokerDefinition {
    /// The option itself.
    pub option: Definition,
    /// Whether it can be changed at runtime.
    pub mutability: Mutability,
    /// Options that say the same in other units, the strongest first, itself among them; empty for most.
    pub alternatives: &'static [&'static str],
}

impl BrokerDefinition {
    /// The names that its value may come from, the strongest first.
    pub fn names(&self) -> Vec<&'static str> {
        if self.alternatives.is_empty() { vec![self.option.name] } else { self.alternatives.to_vec() }
    }
}

/// Where a value comes from (KIP-226), the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigSource {
    /// The topic's own.
    DynamicTopic,
    /// The broker's own, set at runtime.
    DynamicBroker,
    /// The cluster's default, set at runtime.
    DynamicDefaultBroker,
    /// File, environment or flags.
    StaticBroker,
    /// Nowhere: the built-in default.
    Default,
}

impl ConfigSource {
    /// The number on the wire (DescribeConfigs).
    pub const fn wire(self) -> i8 {
        match self {
            Self::DynamicTopic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// One of the places that give an option a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcedValue {
    /// Under which option's name.
    pub name: String,
    /// The text.
    pub value: String,
    /// From where.
    pub source: ConfigSource,
}

/// The options in force at one broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerConfig {
    own: Layer,
    cluster: Layer,
    fixed: Layer,
}

impl BrokerConfig {
    /// A broker with nothing but static options.
    ///
    /// # Errors
    /// The first option that is unknown, wrong or refused.
    pub fn new(fixed: Layer) -> Result<Self, ConfigError> {
        validate(&fixed)?;
        Ok(Self { own: Layer::new(), cluster: Layer::new(), fixed })
    }

    /// The same broker under other dynamic options: its own and the cluster's default.
    #[must_use]
    pub fn with_dynamic(&self, own: Layer, cluster: Layer) -> Self {
        Self { own, cluster, fixed: self.fixed.clone() }
    }

    /// The broker's own dynamic options.
    pub fn own(&self) -> &Layer {
        &self.own
    }

    /// The cluster's dynamic default.
    pub fn cluster(&self) -> &Layer {
        &self.cluster
    }

    /// The text in force for the option of exactly this name; `None` for one without a value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.explicit(name).or_else(|| definition(name).and_then(|definition| definition.option.default))
    }

    fn explicit(&self, name: &str) -> Option<&str> {
        [&self.own, &self.cluster, &self.fixed]
            .into_iter()
            .find_map(|layer| layer.get(name))
            .map(String::as_str)
    }

    /// The number in force for an option that is one and has a default.
    ///
    /// # Panics
    /// For any other option: the caller names it in the source.
    pub fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Integer(number) => number,
            value => panic!("{name} is not a number but {value:?}"),
        }
    }

    /// Whether an option that is a switch is on.
    ///
    /// # Panics
    /// For any other option: the caller names it in the source.
    pub fn boolean(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Boolean(value) => value,
            value => panic!("{name} is not a switch but {value:?}"),
        }
    }

    /// What is in force; a stored text that no longer passes falls back to the default.
    fn value(&self, name: &str) -> Value {
        let definition = definition(name).unwrap_or_else(|| panic!("{name} is an option"));
        let parse = |text: &str| definition.option.parse(text).ok();
        let explicit = self.explicit(name).and_then(parse);
        explicit
            .or_else(|| definition.option.default.and_then(parse))
            .unwrap_or_else(|| panic!("{name} has a valid default"))
    }

    /// Every place that gives a value to one of `names`, the strongest first, as DescribeConfigs lists them for the
    /// option `anchor`: from the first that stands under that very name on.
    pub fn sources(&self, anchor: &str, names: &[&str]) -> Vec<SourcedValue> {
        let layers = [
            (&self.own, ConfigSource::DynamicBroker),
            (&self.cluster, ConfigSource::DynamicDefaultBroker),
            (&self.fixed, ConfigSource::StaticBroker),
        ];
        let mut found = Vec::new();
        for (layer, source) in layers {
            for name in names {
                if let Some(value) = layer.get(*name) {
                    found.push(SourcedValue { name: (*name).to_owned(), value: value.clone(), source });
                }
            }
        }
        for name in names {
            if let Some(value) = definition(name).and_then(|definition| definition.option.default) {
                let value = value.to_owned();
                found.push(SourcedValue { name: (*name).to_owned(), value, source: ConfigSource::Default });
            }
        }
        found.into_iter().skip_while(|value| value.name != anchor).collect()
    }

    /// The topic options that this broker's options set, by the topic options' names.
    pub fn topic_defaults(&self) -> Layer {
        let mut defaults = Layer::new();
        for definition in topic::DEFINITIONS {
            let explicit =
                definition.synonyms.iter().find_map(|synonym| Some((synonym, self.explicit(synonym.name)?)));
            if let Some((synonym, text)) = explicit
                && let Some(text) = synonym.convert(text)
            {
                defaults.insert(definition.option.name.to_owned(), text);
            }
        }
        defaults
    }
}

/// The definition of the broker option `name`.
pub fn definition(name: &str) -> Option<&'static BrokerDefinition> {
    let found = DEFINITIONS.binary_search_by(|definition| definition.option.name.cmp(name)).ok()?;
    DEFINITIONS.get(found)
}

/// Checks options: names and values.
///
/// # Errors
/// The first one that is wrong, by name.
pub fn validate(layer: &Layer) -> Result<(), ConfigError> {
    for (name, value) in layer {
        let definition =
            definition(name).ok_or_else(|| ConfigError::UnknownBrokerConfig { name: name.clone() })?;
        definition.option.parse(value)?;
    }
    Ok(())
}
