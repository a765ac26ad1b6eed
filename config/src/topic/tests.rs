use proptest::prelude::*;

use super::*;
use crate::definition::Support;

fn layer(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    validate(&BTreeMap::new(), &layer(pairs)).expect_err("refused").to_string()
}

fn resolved(inherited: &[(&str, &str)], overrides: &[(&str, &str)]) -> TopicConfig {
    TopicConfig::resolve(&layer(inherited), &layer(overrides)).expect("good options")
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_valid() {
    let names: Vec<&str> = DEFINITIONS.iter().map(|definition| definition.option.name).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), 33, "as many as Kafka 4.1 has");
    for definition in DEFINITIONS {
        let option = &definition.option;
        let default = option.default.expect("every topic option has a default");
        option.parse(default).expect(option.name);
        for synonym in definition.synonyms {
            let broker = crate::broker::definition(synonym.name).expect(synonym.name);
            if let Some(text) = broker.option.default {
                let inherited = synonym.convert(text).expect("a readable default");
                assert_eq!(inherited, default, "{} from {}", option.name, synonym.name);
            }
        }
    }
}

#[test]
fn values_are_refused_in_kafkas_words() {
    for (pairs, message) in [
        ([("nope", "5")].as_slice(), "Unknown topic config name: nope"),
        (
            &[("retention.ms", "abc")],
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (&[("retention.ms", "")], "Invalid value  for configuration retention.ms: Not a number of type LONG"),
        (
            &[("retention.ms", "-2")],
            "Invalid value -2 for configuration retention.ms: Value must be at least -1",
        ),
        (
            &[("cleanup.policy", "foo")],
            "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete",
        ),
        (
            &[("compression.type", "foo")],
            "Invalid value foo for configuration compression.type: String must be one of: uncompressed, zstd, lz4, \
             snappy, gzip, producer",
        ),
        (
            &[("min.cleanable.dirty.ratio", "2")],
            "Invalid value 2.0 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
        ),
        (
            &[("compression.gzip.level", "0")],
            "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1",
        ),
        (
            &[("compression.zstd.level", "23")],
            "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22",
        ),
        (
            &[("unclean.leader.election.enable", "yes")],
            "Invalid value yes for configuration unclean.leader.election.enable: Expected value to be either true or \
             false",
        ),
        (
            &[("leader.replication.throttled.replicas", "foo")],
            "Invalid value [foo] for configuration leader.replication.throttled.replicas: \
             leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the following \
             format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        ),
        (
            &[("max.message.bytes", "99999999999")],
            "Invalid value 99999999999 for configuration max.message.bytes: Not a number of type INT",
        ),
        (
            &[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")],
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
        ),
        (
            &[("remote.storage.enable", "true")],
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
             storage.",
        ),
    ] {
        assert_eq!(refusal(pairs), message);
    }
}

#[test]
fn values_are_read_as_kafka_reads_them() {
    let config = resolved(&[], &[("cleanup.policy", " compact , delete "), ("retention.ms", " 7 ")]);
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
    assert_eq!(config.retention, Some(Duration::from_millis(7)));
    let config = resolved(&[], &[("cleanup.policy", ""), ("retention.ms", "-1"), ("retention.bytes", "+5")]);
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: false, compact: false });
    assert_eq!((config.retention, config.retention_bytes), (None, Some(5)));
    let pairs =
        [("preallocate", "TRUE"), ("remote.storage.enable", "False"), ("remote.log.copy.disable", "true")];
    assert_eq!(validate(&BTreeMap::new(), &layer(&pairs)), Ok(()));
    assert_eq!(
        validate(&BTreeMap::new(), &layer(&[("follower.replication.throttled.replicas", "*")])),
        Ok(())
    );
}

#[test]
fn compression_carries_its_level() {
    let compression = |pairs: &[(&str, &str)]| resolved(&[], pairs).compression;
    assert_eq!(compression(&[]), Compression::Producer);
    assert_eq!(compression(&[("compression.type", "gzip")]), Compression::Gzip(-1));
    assert_eq!(
        compression(&[("compression.type", "lz4"), ("compression.lz4.level", "3")]),
        Compression::Lz4(3)
    );
    assert_eq!(compression(&[("compression.type", "zstd")]), Compression::Zstd(3));
    assert_eq!(compression(&[("compression.type", "snappy")]), Compression::Snappy);
    assert_eq!(compression(&[("compression.type", "uncompressed")]), Compression::Uncompressed);
}

#[test]
fn a_topics_own_options_come_first() {
    let inherited = [("max.message.bytes", "1"), ("message.timestamp.type", "LogAppendTime")];
    let config = resolved(&inherited, &[("max.message.bytes", "2")]);
    assert_eq!(config.max_message_bytes, 2);
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    let defaults = TopicConfig::default();
    assert_eq!(defaults.max_message_bytes, 1_048_588);
    assert_eq!(defaults.retention, Some(Duration::from_secs(7 * 24 * 3_600)));
    assert_eq!(defaults.cleanup_policy, CleanupPolicy { delete: true, compact: false });
    // What a topic inherits counts when its own options are checked.
    let lag = validate(&layer(&[("max.compaction.lag.ms", "5")]), &layer(&[("min.compaction.lag.ms", "6")]));
    assert!(matches!(lag, Err(ConfigError::Conflict { .. })));
}

proptest! {
    #[test]
    fn any_text_is_answered_and_what_is_valid_resolves(
        which in 0..DEFINITIONS.len(), text in "[a-z0-9.,:*+ -]{0,12}|[0-9-]{1,20}"
    ) {
        let option = &DEFINITIONS[which].option;
        let overrides = layer(&[(option.name, text.as_str())]);
        if validate(&BTreeMap::new(), &overrides).is_ok() {
            prop_assert!(TopicConfig::resolve(&BTreeMap::new(), &overrides).is_ok());
            let value = option.parse(&text).expect("it was valid");
            prop_assert_eq!(option.parse(&value.to_string()).expect("shown as it is read"), value);
        }
    }

    #[test]
    fn numbers_are_accepted_exactly_within_their_range(number: i64) {
        let valid = |name| validate(&BTreeMap::new(), &layer(&[(name, &number.to_string())])).is_ok();
        prop_assert_eq!(valid("retention.ms"), number >= -1);
        prop_assert_eq!(valid("max.message.bytes"), (0..=i64::from(i32::MAX)).contains(&number));
        prop_assert_eq!(valid("compression.zstd.level"), (-131_072..=22).contains(&number));
        prop_assert!(valid("retention.bytes"));
    }

    #[test]
    fn refused_options_accept_only_their_default(text in "[a-zA-Z]{0,6}") {
        for definition in DEFINITIONS.iter().filter(|one| matches!(one.option.support, Support::Refused(_))) {
            let accepted = definition.option.parse(&text).is_ok();
            prop_assert_eq!(accepted, text.eq_ignore_ascii_case("false"), "{}", definition.option.name);
        }
    }
}
