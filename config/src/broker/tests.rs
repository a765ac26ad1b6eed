use super::*;

fn layer(pairs: &[(&str, &str)]) -> Layer {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn broker(fixed: &[(&str, &str)], own: &[(&str, &str)], cluster: &[(&str, &str)]) -> BrokerConfig {
    BrokerConfig::new(layer(fixed)).expect("good options").with_dynamic(layer(own), layer(cluster))
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_valid() {
    let names: Vec<&str> = DEFINITIONS.iter().map(|definition| definition.option.name).collect();
    assert!(names.is_sorted());
    for definition in DEFINITIONS {
        let option = &definition.option;
        if let Some(default) = option.default {
            option.parse(default).expect(option.name);
        }
        let names = definition.names();
        assert!(names.contains(&option.name), "{} is among its own names", option.name);
        for name in names {
            assert!(super::definition(name).is_some(), "{name}");
        }
    }
}

#[test]
fn the_strongest_layer_wins() {
    let fixed = [("num.partitions", "4"), ("message.max.bytes", "1")];
    let config = broker(&fixed, &[("message.max.bytes", "3")], &[("message.max.bytes", "2")]);
    assert_eq!(config.integer("num.partitions"), 4);
    assert_eq!(config.integer("message.max.bytes"), 3);
    assert_eq!(config.text("log.retention.ms"), None);
    assert!(config.boolean("auto.create.topics.enable"));
    let sources: Vec<(i8, String)> = config
        .sources("message.max.bytes", &["message.max.bytes"])
        .into_iter()
        .map(|value| (value.source.wire(), value.value))
        .collect();
    let expected = [(2, "3"), (3, "2"), (4, "1"), (5, "1048588")];
    assert_eq!(sources, expected.map(|(source, value)| (source, value.to_owned())));
}

#[test]
fn a_stored_text_that_no_longer_passes_is_the_default() {
    let config = broker(&[], &[("message.max.bytes", "abc")], &[]);
    assert_eq!(config.integer("message.max.bytes"), 1_048_588);
}

#[test]
fn unknown_and_wrong_static_options_are_refused() {
    let error = |pairs| BrokerConfig::new(layer(pairs)).expect_err("refused").to_string();
    assert_eq!(error(&[("my.own", "1")]), "Unknown broker config name: my.own");
    assert_eq!(
        error(&[("num.partitions", "0")]),
        "Invalid value 0 for configuration num.partitions: Value must be at least 1"
    );
}

#[test]
fn topics_inherit_in_their_own_units() {
    let inherited = |fixed: &[(&str, &str)], own: &[(&str, &str)]| broker(fixed, own, &[]).topic_defaults();
    assert_eq!(inherited(&[], &[]), Layer::new());
    assert_eq!(inherited(&[("log.retention.hours", "2")], &[]), layer(&[("retention.ms", "7200000")]));
    assert_eq!(
        inherited(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")], &[]),
        layer(&[("retention.ms", "180000")])
    );
    assert_eq!(
        inherited(&[("log.retention.minutes", "3")], &[("log.retention.ms", "-5")]),
        layer(&[("retention.ms", "-1")])
    );
    assert_eq!(inherited(&[("log.retention.hours", "-1")], &[]), layer(&[("retention.ms", "-1")]));
    assert_eq!(
        inherited(&[("log.cleanup.policy", "compact"), ("log.roll.hours", "1")], &[]),
        layer(&[("cleanup.policy", "compact"), ("segment.ms", "3600000")])
    );
}
