//! Options as DescribeConfigs and CreateTopics show them: value, source, and every place that gives a value.

use std::collections::BTreeSet;

use penstock_config::broker::{self, BrokerConfig, ConfigSource, Layer, Mutability, SourcedValue};
use penstock_config::definition::ConfigType;
use penstock_config::topic::{self, TopicDefinition};

/// One option as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value, if it has one.
    pub(crate) value: Option<String>,
    /// Whether it needs a restart to change.
    pub(crate) read_only: bool,
    /// Where the value comes from.
    pub(crate) source: ConfigSource,
    /// Every place that gives a value, the strongest first.
    pub(crate) synonyms: Vec<SourcedValue>,
    /// Its type.
    pub(crate) kind: ConfigType,
    /// What it does.
    pub(crate) documentation: &'static str,
}

fn chosen(name: &str, names: &BTreeSet<&str>) -> bool {
    names.is_empty() || names.contains(name)
}

fn strongest(synonyms: &[SourcedValue]) -> ConfigSource {
    synonyms.first().map_or(ConfigSource::Default, |value| value.source)
}

/// The options of a topic with `overrides` of its own, by name; only `names`, if there are any.
pub(crate) fn topic_entries(broker: &BrokerConfig, overrides: &Layer, names: &BTreeSet<&str>) -> Vec<Entry> {
    let inherited = broker.topic_defaults();
    let definitions = topic::DEFINITIONS.iter().filter(|definition| chosen(definition.option.name, names));
    definitions.map(|definition| topic_entry(broker, &inherited, overrides, definition)).collect()
}

fn topic_entry(
    broker: &BrokerConfig,
    inherited: &Layer,
    overrides: &Layer,
    definition: &'static TopicDefinition,
) -> Entry {
    let option = &definition.option;
    // As Kafka shows it: what it was read as, not as it was written ("1.0" for "1").
    let read = |text: &String| option.parse(text).map_or_else(|_| text.clone(), |value| value.to_string());
    let own = overrides.get(option.name).map(read);
    let value = own.as_ref().or_else(|| inherited.get(option.name)).map(String::as_str).or(option.default);
    let value = value.map(str::to_owned);
    let names: Vec<&str> = definition.synonyms.iter().map(|synonym| synonym.name).collect();
    let mut synonyms = names.first().map(|anchor| broker.sources(anchor, &names)).unwrap_or_default();
    if let Some(value) = own {
        let own = SourcedValue { name: option.name.to_owned(), value, source: ConfigSource::DynamicTopic };
        synonyms.insert(0, own);
    }
    Entry {
        name: option.name,
        value,
        read_only: false,
        source: strongest(&synonyms),
        synonyms,
        kind: option.kind,
        documentation: option.documentation,
    }
}

/// The options of a broker, by name; only `names`, if there are any.
pub(crate) fn broker_entries(broker: &BrokerConfig, names: &BTreeSet<&str>) -> Vec<Entry> {
    let definitions = broker::DEFINITIONS.iter().filter(|definition| chosen(definition.option.name, names));
    definitions
        .map(|definition| {
            let option = &definition.option;
            let synonyms = broker.sources(option.name, &definition.names());
            Entry {
                name: option.name,
                value: broker.text(option.name).map(str::to_owned),
                read_only: definition.mutability == Mutability::ReadOnly,
                source: strongest(&synonyms),
                synonyms,
                kind: option.kind,
                documentation: option.documentation,
            }
        })
        .collect()
}

/// The cluster's dynamic options, by name; only `names`, if there are any.
pub(crate) fn cluster_entries(broker: &BrokerConfig, names: &BTreeSet<&str>) -> Vec<Entry> {
    let set = broker.cluster();
    let entries = broker_entries(broker, names).into_iter().filter_map(|mut entry| {
        entry.value = Some(set.get(entry.name)?.clone());
        entry.synonyms.retain(|value| value.source == ConfigSource::DynamicDefaultBroker);
        entry.source = ConfigSource::DynamicDefaultBroker;
        Some(entry)
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(pairs: &[(&str, &str)]) -> Layer {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn broker(fixed: &[(&str, &str)], own: &[(&str, &str)], cluster: &[(&str, &str)]) -> BrokerConfig {
        BrokerConfig::new(layer(fixed)).expect("good options").with_dynamic(layer(own), layer(cluster))
    }

    fn one(entries: Vec<Entry>) -> (Option<String>, i8, Vec<(String, String, i8)>) {
        let [entry] = <[Entry; 1]>::try_from(entries).expect("one option");
        let synonyms = entry.synonyms.into_iter().map(|value| (value.name, value.value, value.source.wire()));
        (entry.value, entry.source.wire(), synonyms.collect())
    }

    fn synonym(name: &str, value: &str, source: i8) -> (String, String, i8) {
        (name.to_owned(), value.to_owned(), source)
    }

    #[test]
    fn a_topics_synonyms_are_kafkas() {
        let broker = broker(
            &[],
            &[("message.max.bytes", "2000000")],
            &[("message.max.bytes", "3000000"), ("log.retention.ms", "60000")],
        );
        let entry =
            |name, own: &[(&str, &str)]| one(topic_entries(&broker, &layer(own), &BTreeSet::from([name])));
        assert_eq!(
            entry("max.message.bytes", &[]),
            (
                Some("2000000".to_owned()),
                2,
                vec![
                    synonym("message.max.bytes", "2000000", 2),
                    synonym("message.max.bytes", "3000000", 3),
                    synonym("message.max.bytes", "1048588", 5),
                ]
            )
        );
        let inherited =
            vec![synonym("log.retention.ms", "60000", 3), synonym("log.retention.hours", "168", 5)];
        assert_eq!(entry("retention.ms", &[]), (Some("60000".to_owned()), 3, inherited.clone()));
        let mut own = inherited;
        own.insert(0, synonym("retention.ms", "5", 1));
        assert_eq!(entry("retention.ms", &[("retention.ms", " 5")]), (Some("5".to_owned()), 1, own));
        assert_eq!(entry("remote.storage.enable", &[]), (Some("false".to_owned()), 5, Vec::new()));
    }

    #[test]
    fn a_value_in_other_units_has_no_source() {
        let broker = broker(&[("log.retention.hours", "2")], &[], &[]);
        let entry = |name| one(topic_entries(&broker, &Layer::new(), &BTreeSet::from([name])));
        assert_eq!(entry("retention.ms"), (Some("7200000".to_owned()), 5, Vec::new()));
        assert_eq!(entry("segment.ms"), (Some("604800000".to_owned()), 5, Vec::new()));
        assert_eq!(entry("flush.ms"), (Some("9223372036854775807".to_owned()), 5, Vec::new()));
        let entry = |name| one(broker_entries(&broker, &BTreeSet::from([name])));
        assert_eq!(entry("log.retention.ms"), (None, 5, Vec::new()));
        assert_eq!(
            entry("log.retention.hours"),
            (
                Some("2".to_owned()),
                4,
                vec![synonym("log.retention.hours", "2", 4), synonym("log.retention.hours", "168", 5)]
            )
        );
    }

    #[test]
    fn the_clusters_options_are_those_that_were_set() {
        let broker = broker(
            &[("message.max.bytes", "1")],
            &[("message.max.bytes", "2")],
            &[("message.max.bytes", "3"), ("log.retention.ms", "4")],
        );
        assert_eq!(cluster_entries(&broker, &BTreeSet::new()).len(), 2);
        let entry = one(cluster_entries(&broker, &BTreeSet::from(["message.max.bytes"])));
        assert_eq!(entry, (Some("3".to_owned()), 3, vec![synonym("message.max.bytes", "3", 3)]));
    }
}
